"""What a strategy may say, how its numbers are taken, and what is refused in which words."""

import decimal
from collections.abc import Callable
from decimal import Decimal, getcontext, localcontext
from typing import Any

import pytest

from processors.strategies.base import Strategy
from processors.strategies.context import Context
from processors.strategies.processor import StrategyError
from schemas import EXACT, Proposal, exact
from support.strategies import FakeView, alone, bar, quote, working


def once(act: Callable[[Context], Any]) -> Strategy:
    """A strategy that does one thing on each quote."""

    class Once(Strategy):
        def on_quote(self, quote: Any, ctx: Context) -> None:
            act(ctx)

    return Once()


def proposals(act: Callable[[Context], Any], view: FakeView | None = None) -> list[Proposal]:
    with exact():
        made = alone(once(act), view, symbols=("SPY", "IBM")).apply(quote(7))
    assert all(isinstance(p, Proposal) for p in made)
    return list(made)  # type: ignore[arg-type]


def only(act: Callable[[Context], Any], view: FakeView | None = None) -> Proposal:
    (made,) = proposals(act, view)
    return made


def told(act: Callable[[Context], Any], view: FakeView | None = None) -> str:
    """The sentence that `act` is refused with."""
    with pytest.raises(StrategyError) as caught:
        proposals(act, view)
    assert type(caught.value.original) is ValueError
    return str(caught.value.original)


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        (0.1, "0.1"),
        (1, "1"),
        (-0.25, "-0.25"),
        (Decimal("0.50"), "0.5"),
        (0.1234565, "0.123456"),
        (0.1234575, "0.123458"),
        (1 / 3, "0.333333"),
        (1e-9, "0"),
        (-1e-9, "0"),
        (Decimal("0E+30"), "0"),
    ],
)
def test_weights_become_decimals_of_six_places(given: Any, taken: str) -> None:
    assert str(only(lambda ctx: ctx.target("SPY", weight=given)).weight) == taken


@pytest.mark.parametrize(
    ("given", "taken"), [(3, "3"), (2.5, "2.5"), (Decimal("1E+2"), "100"), (1e-7, "1E-7"), (-4, "-4")]
)
def test_shares_are_taken_exactly(given: Any, taken: str) -> None:
    assert str(only(lambda ctx: ctx.target("SPY", shares=given)).shares) == taken


def test_a_target_says_why() -> None:
    why = {"fast": 1.5, "n": 3, "up": True, "note": "x", "d": Decimal("1.50"), "odd": float("nan")}
    made = only(lambda ctx: ctx.target("SPY", weight=1, why=why, confidence=0.9))
    assert made.features == {"fast": "1.5", "n": "3", "up": "true", "note": "x", "d": "1.50", "odd": "nan"}
    assert (made.intent, made.confidence, made.shares) == ("target", Decimal("0.9"), None)


def test_an_order() -> None:
    made = only(
        lambda ctx: ctx.order("IBM", "sell", 5, "stop_limit", limit=99.5, stop=100, tif="gtc", extended=True)
    )
    assert (made.intent, made.symbol, made.side, made.quantity) == ("order", "IBM", "sell", Decimal(5))
    assert (made.order_type, made.limit, made.stop) == ("stop_limit", Decimal("99.5"), Decimal(100))
    assert (made.tif, made.extended) == ("gtc", True)


def test_cancel_and_replace_find_the_order() -> None:
    view = FakeView()
    view.orders = {"IBM": [working("o-1"), working("o-2")]}
    said: list[bool] = []

    def act(ctx: Context) -> None:
        said.extend(
            [
                ctx.cancel("o-2"),
                ctx.replace("o-1", limit=101),
                ctx.cancel("gone"),
                ctx.replace("gone", limit=1),
            ]
        )

    cancel, replace = proposals(act, view)
    assert said == [True, True, False, False]
    assert (cancel.intent, cancel.symbol, cancel.order) == ("cancel", "IBM", "o-2")
    assert (replace.intent, replace.order, replace.limit, replace.order_type) == (
        "replace",
        "o-1",
        Decimal(101),
        "limit",
    )


@pytest.mark.parametrize(
    ("act", "sentence"),
    [
        (lambda c: c.target("XYZ", weight=1), "'XYZ' is not one of this strategy's symbols (SPY, IBM)"),
        (lambda c: c.target("SPY"), "a target needs either weight= or shares="),
        (
            lambda c: c.target("SPY", weight=1, shares=1),
            "a target needs either weight= or shares=, not both",
        ),
        (lambda c: c.target("SPY", weight=float("nan")), "weight is nan; it must be a finite number"),
        (lambda c: c.target("SPY", shares=float("inf")), "shares is inf; it must be a finite number"),
        (lambda c: c.target("SPY", weight="1"), "weight is '1'; it must be a number"),
        (lambda c: c.target("SPY", weight=True), "weight is True; it must be a number"),
        (
            lambda c: c.target("SPY", shares=1e18),
            "shares is 1e+18; it has more than 18 digits before the point",
        ),
        (
            lambda c: c.target("SPY", shares=1e-19),
            "shares is 1e-19; it has more than 18 digits after the point",
        ),
        (
            lambda c: c.target("SPY", weight=1, why={"x": [1]}),
            "the feature 'x' is [1]; it must be a number or text",
        ),
        (lambda c: c.order("SPY", "long", 1), "side is 'long'; it must be 'buy' or 'sell'"),
        (
            lambda c: c.order("SPY", "buy", -1),
            "quantity is -1; it must be greater than zero; the direction is said by side",
        ),
        (
            lambda c: c.order("SPY", "buy", 1, "limt"),
            "order_type is 'limt'; it must be 'market', 'limit', 'stop' or 'stop_limit'",
        ),
        (
            lambda c: c.order("SPY", "buy", 1, tif="week"),
            "tif is 'week'; it must be 'day', 'gtc', 'ioc' or 'fok'",
        ),
        (lambda c: c.order("SPY", "buy", 1, "limit"), "a limit order needs limit="),
        (lambda c: c.order("SPY", "buy", 1, "stop_limit", limit=1), "a stop_limit order needs stop="),
        (
            lambda c: c.order("SPY", "buy", 1, limit=1),
            "a market order takes no limit=; say order_type='limit' or 'stop_limit'",
        ),
        (
            lambda c: c.order("SPY", "buy", 1, "limit", limit=0),
            "limit is 0; it must be greater than zero",
        ),
        (lambda c: c.replace("o-1"), "a replacement needs quantity=, limit= or stop="),
        (
            lambda c: c.replace("o-1", stop=5),
            "a limit order takes no stop=; say order_type='stop' or 'stop_limit'",
        ),
    ],
)
def test_refused_in_words(act: Callable[[Context], Any], sentence: str) -> None:
    view = FakeView()
    view.orders = {"SPY": [working("o-1")]}
    assert told(act, view) == sentence


def test_only_while_an_event_is_handled() -> None:
    kept: list[Context] = []
    proposals(kept.append)
    with pytest.raises(ValueError, match="only while it handles an event"):
        kept[0].target("SPY", weight=1)


def test_what_it_shows() -> None:
    view = FakeView()
    view.positions = {"SPY": Decimal(-3)}
    view.breaker = "REDUCING"
    seen: list[Any] = []
    proposals(lambda c: seen.extend([c.symbols, c.now, c.position("SPY"), c.equity, c.cash, c.state]), view)
    assert seen == [("SPY", "IBM"), quote(7).event.ts, -3, 100_000, 1000, "REDUCING"]  # type: ignore[union-attr]


def test_the_account_computes_exactly_and_the_strategy_as_usual() -> None:
    class View(FakeView):
        def equity(self, account: str) -> Decimal | None:
            return Decimal(10) ** 30 + 1

    def act(ctx: Context) -> None:
        assert Decimal(1) / 3 == Decimal("0." + "3" * 28)
        with localcontext(prec=5):
            assert ctx.equity == Decimal(10**30 + 1)
            assert str(Decimal(1) / 3) == "0.33333"
        ctx.target("SPY", weight=1)

    assert only(act, View()).weight == 1


def test_the_contexts_of_core_and_strategy_stay_apart() -> None:
    class Meddler(Strategy):
        def on_bar(self, bar: Any, ctx: Context) -> None:
            decimal.getcontext().prec = 5
            decimal.setcontext(decimal.Context(prec=3))
            if bar.close > 1:
                raise RuntimeError("no")

    with exact():
        strategies = alone(Meddler())
        strategies.apply(bar(1, 1))
        assert getcontext().prec == EXACT.prec == 38
        with pytest.raises(StrategyError):
            strategies.apply(bar(2, 2))
        assert getcontext().prec == EXACT.prec == 38
