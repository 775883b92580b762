"""What a strategy remembers comes back to the type and the bit, or is refused by name."""

import json
import math
from collections import OrderedDict, defaultdict, deque
from collections.abc import Hashable
from datetime import date, datetime
from decimal import Decimal, getcontext
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.strategies.base import Strategy
from processors.strategies.context import Context
from processors.strategies.state import StateCodec, Stateful, dump, load_decimals, save_decimals
from schemas import Check, OrderDenied
from support.strategies import alone, bar, quote, working


class Ema(Stateful):
    def __init__(self, alpha: float) -> None:
        self.alpha = alpha
        self.value: float | None = None


class Count:
    """Keeps its state its own way."""

    def __init__(self) -> None:
        self.n = 0

    def save(self) -> Any:
        return (self.n, "times")

    def load(self, state: Any) -> None:
        self.n = state[0]


class Forgetful(Count):
    def __init__(self) -> None:
        super().__init__()
        self.step = 1


class Holder(Strategy):
    def __init__(self, **kept: Any) -> None:
        vars(self).update(kept)

    def on_bar(self, bar: Any, ctx: Context) -> None: ...


class Slotted(Holder):
    __slots__ = ("x",)


class Pair(NamedTuple):
    a: int


def codec() -> StateCodec:
    return StateCodec("one", __name__)


def there_and_back(value: Any) -> Any:
    return codec().decode(json.loads(dump(codec().encode(value))))


def spelled(value: Any) -> str:
    """The repr, with sets in one order."""
    if isinstance(value, frozenset):
        return f"{{{sorted(map(spelled, value))}}}"
    return str([*map(spelled, value)]) if isinstance(value, tuple) else repr(value)


def same(a: Any, b: Any) -> bool:
    """Equality that sees types, order, NaN, negative zero, trailing zeros and deque lengths."""
    if type(a) is not type(b):
        return False
    if isinstance(a, float):
        return (math.isnan(a) and math.isnan(b)) or (a == b and math.copysign(1, a) == math.copysign(1, b))
    if isinstance(a, Decimal):
        return str(a) == str(b)
    if isinstance(a, dict):
        return same(list(a.items()), list(b.items()))
    if isinstance(a, set | frozenset):
        return same(sorted(a, key=spelled), sorted(b, key=spelled))
    if isinstance(a, list | tuple | deque):
        lengths = not isinstance(a, deque) or a.maxlen == b.maxlen
        return lengths and len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, Ema):
        return same(vars(a), vars(b))
    return bool(a == b)


scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(),
    st.decimals(allow_nan=False),
    st.dates(),
)
hashables: st.SearchStrategy[Hashable] = st.recursive(
    scalars.filter(lambda x: not isinstance(x, float) or not math.isnan(x)),
    lambda inner: st.one_of(st.tuples(inner, inner), st.frozensets(inner, max_size=3)),
    max_leaves=4,
)


def emas(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Ema]:
    def make(value: Any) -> Ema:
        made = Ema(0.5)
        made.value = value
        return made

    return values.map(make)


def deques(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.builds(deque, st.lists(values, max_size=4), st.one_of(st.none(), st.integers(0, 5)))


values = st.recursive(
    st.one_of(scalars, hashables),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.tuples(inner, inner),
        st.dictionaries(hashables, inner, max_size=4),
        st.sets(hashables, max_size=4),
        deques(inner),
        emas(inner),
    ),
    max_leaves=12,
)


@given(values)
def test_every_supported_value_comes_back_as_it_was(value: Any) -> None:
    back = there_and_back(value)
    assert same(back, value)
    assert dump(codec().encode(back)) == dump(codec().encode(value))


@given(st.dictionaries(st.text(min_size=1), values, max_size=5))
def test_a_strategy_is_restored_with_its_attributes(kept: dict[str, Any]) -> None:
    before, strategy = alone(Holder(**kept)), Holder()
    after = alone(strategy)
    after.restore(before.snapshot())
    assert same(vars(strategy), kept)
    assert after.snapshot() == before.snapshot()


@given(st.lists(st.text(max_size=3), unique=True), st.randoms(use_true_random=False))
def test_a_set_has_one_text(members: list[str], shuffled: Any) -> None:
    other = members[:]
    shuffled.shuffle(other)
    assert dump(codec().encode(set(members))) == dump(codec().encode(set(other)))


def test_events_and_working_orders_come_back() -> None:
    denied = OrderDenied(
        account="a",
        seq=1,
        prev=0,
        cause="c",
        trace="t",
        ts=1,
        order="o",
        strategy="s",
        symbol="SPY",
        side="buy",
        quantity=Decimal("1.50"),
        reduces=False,
        quote="",
        checks=(Check(name="n", ok=False, value="1", limit="2"),),
    )
    kept = [denied, quote(1).event, bar(1, "1.10").event, working("o-1")]
    back = there_and_back(kept)
    assert back == kept
    assert [type(x) for x in back] == [type(x) for x in kept]
    assert str(back[2].close) == "1.10"


def test_two_names_for_one_list_stay_two_names_for_one_list() -> None:
    inner: list[Any] = [1]
    whole: dict[str, Any] = {"a": inner, "b": (inner, Ema(0.1)), "c": deque([inner])}
    whole["self"] = whole
    back = there_and_back(whole)
    back["a"].append(2)
    assert back["b"][0] == back["c"][0] == [1, 2]
    assert back["self"] is back


def test_objects_with_save_and_load() -> None:
    count, ema = Count(), Ema(0.25)
    count.n, ema.value = 3, 1.5
    back = there_and_back({"count": count, "emas": {"SPY": ema}})
    assert (type(back["count"]), back["count"].n) == (Count, 3)
    assert (type(back["emas"]["SPY"]), vars(back["emas"]["SPY"])) == (Ema, {"alpha": 0.25, "value": 1.5})


def test_a_defaultdict_attribute_keeps_the_factory_that_init_gave_it() -> None:
    class Windows(Strategy):
        def __init__(self, length: int) -> None:
            self.closes: Any = defaultdict(lambda: deque(maxlen=length))

        def on_bar(self, bar: Any, ctx: Context) -> None:
            self.closes[bar.symbol].append(bar.close)

    before, strategy = alone(Windows(2), symbols=("SPY", "IBM")), Windows(2)
    for n in range(3):
        before.apply(bar(n, n + 1))
    after = alone(strategy, symbols=("SPY", "IBM"))
    after.restore(before.snapshot())
    after.apply(bar(9, 9, "IBM"))
    after.apply(bar(9, 9))
    assert strategy.closes == {"SPY": deque([3, 9]), "IBM": deque([9])}
    assert strategy.closes["IBM"].maxlen == 2


class Local:
    pass


@pytest.mark.parametrize(
    ("kept", "sentence"),
    [
        ({"f": print}, "its attribute f is of type builtin_function_or_method, which a snapshot cannot hold"),
        ({"x": {"SPY": [1, Local()]}}, f"its attribute x['SPY'][1] is of type {__name__}.Local, which"),
        ({"t": datetime(2020, 1, 1)}, "its attribute t is of type datetime.datetime"),
        ({"o": OrderedDict()}, "its attribute o is of type collections.OrderedDict"),
        ({"p": Pair(1)}, f"its attribute p is of type {__name__}.Pair"),
        ({"d": {"x": defaultdict(list)}}, "its attribute d['x'] is of type collections.defaultdict"),
        ({"s": {Ema(1)}}, f"its attribute s is of type {__name__}.Ema, which is in a set or a key"),
        (
            {"c": Forgetful()},
            f"its attribute c is of type {__name__}.Forgetful, whose load() leaves step unset",
        ),
    ],
)
def test_what_cannot_be_kept_is_named_at_the_start(kept: dict[str, Any], sentence: str) -> None:
    with pytest.raises(TypeError) as caught:
        alone(Holder(**kept))
    assert str(caught.value).startswith(f"strategy 'one' cannot be saved: {sentence}")
    assert str(caught.value).endswith("; override save() and load() to say what to keep")


def test_a_class_inside_a_function_is_refused() -> None:
    class Inner(Stateful):
        pass

    with pytest.raises(TypeError, match="a class that is not at the top level of its module"):
        alone(Holder(x=Inner()))


def test_slots_are_refused() -> None:
    with pytest.raises(TypeError, match="Slotted has __slots__"):
        alone(Slotted())


def test_a_load_that_changes_what_was_saved_is_refused() -> None:
    class Odd(Holder):
        def load(self, state: Any) -> None:
            self.n = state["n"] + 1

    with pytest.raises(TypeError, match=r"load\(save\(\)\) gives another state"):
        alone(Odd(n=1))


def test_own_save_and_load() -> None:
    class Own(Strategy):
        def __init__(self) -> None:
            self.step = len
            self.seen = 0

        def on_bar(self, bar: Any, ctx: Context) -> None:
            self.seen += self.step("x")

        def save(self) -> Any:
            return self.seen

        def load(self, state: Any) -> None:
            self.seen = state

    before, strategy = alone(Own()), Own()
    before.apply(bar(1, 1))
    after = alone(strategy)
    after.restore(before.snapshot())
    after.apply(bar(2, 1))
    assert strategy.seen == 2


def test_a_decimal_context_that_the_strategy_changed_comes_back() -> None:
    class Precise(Strategy):
        def __init__(self) -> None:
            self.third = Decimal(0)

        def on_bar(self, bar: Any, ctx: Context) -> None:
            if bar.row == 1:
                getcontext().prec = 5
            self.third = 1 / bar.close

    before, strategy = alone(Precise()), Precise()
    before.apply(bar(1, 3))
    after = alone(strategy)
    after.restore(before.snapshot())
    after.apply(bar(2, 3))
    assert str(strategy.third) == "0.33333"
    assert save_decimals(load_decimals(save_decimals(getcontext()))) == save_decimals(getcontext())


def test_a_date_is_not_a_datetime() -> None:
    assert there_and_back(date(2020, 1, 2)) == date(2020, 1, 2)
