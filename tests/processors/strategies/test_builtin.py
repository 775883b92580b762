"""The built-in strategies against oracles, and that a restart between any two bars changes nothing."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.strategies.base import Strategy
from processors.strategies.builtin import BUILTIN, BuyAndHold, SmaCross, even_weight
from processors.strategies.processor import Strategies
from schemas import Record, Split
from support.strategies import START, FakeView, alone, bar, market, quote, working

SYMBOLS = ("SPY", "IBM")
prices = st.integers(900, 1100).map(lambda cents: Decimal(cents) / 100)
bars = st.lists(st.tuples(st.sampled_from(SYMBOLS), st.one_of(prices, st.none())), max_size=80)


def records(closes: list[tuple[str, Decimal | None]]) -> list[Record]:
    return [bar(n, close, symbol) for n, (symbol, close) in enumerate(closes)]


def targets(strategies: Strategies, inputs: list[Record]) -> list[tuple[int, str, Decimal]]:
    return [(r.offset, p.symbol, p.weight) for r in inputs for p in strategies.apply(r)]  # type: ignore[attr-defined]


def crossings(closes: list[tuple[str, Decimal | None]], fast: int, slow: int) -> list[tuple[int, str, bool]]:
    """Every crossing, from averages worked out anew at each bar."""
    found = []
    for symbol in SYMBOLS:
        seen: list[Decimal] = []
        side = None
        for n, (of, close) in enumerate(closes):
            if of != symbol or close is None:
                continue
            seen.append(close)
            if len(seen) < slow:
                continue
            gap = sum(seen[-fast:]) * slow - sum(seen[-slow:]) * fast
            if gap and side is not None and (gap > 0) != side:
                found.append((n, symbol, gap > 0))
            side = gap > 0 if gap else side
    return sorted(found)


@given(bars, st.integers(1, 4), st.integers(1, 5), st.booleans())
def test_sma_cross_agrees_with_brute_force(closes: Any, fast: int, more: int, short: bool) -> None:
    slow = fast + more
    strategies = alone(SmaCross(fast, slow, short=short), symbols=SYMBOLS)
    down = Decimal("-0.5") if short else Decimal(0)
    expected = [
        (n, symbol, Decimal("0.5") if up else down) for n, symbol, up in crossings(closes, fast, slow)
    ]
    assert targets(strategies, records(closes)) == expected


def test_sma_cross_by_hand() -> None:
    closes = [10, 10, 10, 9, 8, 9, 11, 12, 12, 12, 8]
    strategies = alone(SmaCross(1, 3, weight=Decimal("0.4")))
    made = [p for n, close in enumerate(closes) for p in strategies.apply(bar(n, close))]
    assert [(p.position, p.weight, p.features) for p in made] == [
        (5, Decimal("0.4"), {"fast": "9", "slow": "8.666666666666666666666666667"}),
        (10, Decimal(0), {"fast": "8", "slow": "10.66666666666666666666666667"}),
    ]


def test_sma_cross_passes_over_a_split() -> None:
    event = Split(symbol="SPY", ts=START, ex="2014-06-09", num=7, den=1, source="s", row=1)
    strategies = alone(SmaCross(2, 4))
    before = [bar(n, close) for n, close in enumerate([700, 693, 686, 693, 700, 707])]
    after = [bar(n, close) for n, close in enumerate([102, 103, 104, 98], start=6)]
    assert [n for n, _, _ in targets(strategies, before)] == [4]
    strategies.apply(market("market.status", 1, event))
    assert [n for n, _, _ in targets(strategies, after)] == [9]


@pytest.mark.parametrize(("fast", "slow"), [(0, 5), (5, 5), (6, 5)])
def test_sma_cross_needs_a_fast_below_the_slow(fast: int, slow: int) -> None:
    with pytest.raises(ValueError, match=f"fast is {fast} and slow is {slow}"):
        SmaCross(fast, slow)


@pytest.mark.parametrize(("n", "weight"), [(1, "1"), (3, "0.333333"), (6, "0.166666"), (7, "0.142857")])
def test_weights_never_exceed_the_whole(n: int, weight: str) -> None:
    assert even_weight(n) == Decimal(weight)


@pytest.mark.parametrize("first", [quote(1), bar(1, 100)])
def test_buy_and_hold_signals_until_it_holds_or_works(first: Record) -> None:
    view = FakeView()
    strategies = alone(BuyAndHold(), view, symbols=("SPY", "IBM", "BAC"))
    assert [p.weight for p in strategies.apply(first)] == [Decimal("0.333333")]  # type: ignore[attr-defined]
    assert len(strategies.apply(quote(2))) == 1, "refused: it asks again"
    view.orders = {"SPY": [working("o-1")]}
    assert strategies.apply(quote(3)) == ()
    view.orders, view.positions = {}, {"SPY": Decimal(5)}
    assert strategies.apply(bar(4, 100)) == ()
    assert len(strategies.apply(quote(5, "IBM"))) == 1


def test_buy_and_hold_with_a_weight() -> None:
    (made,) = alone(BuyAndHold(Decimal("0.9"))).apply(quote(1))
    assert made.weight == Decimal("0.9")  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", sorted(BUILTIN))
@given(bars, st.sets(st.integers(0, 80), max_size=6))
def test_a_restart_between_any_two_bars_changes_nothing(kind: str, closes: Any, restarts: set[int]) -> None:
    def make() -> Strategy:
        return SmaCross(2, 3) if BUILTIN[kind] is SmaCross else BUILTIN[kind]()

    straight, resumed = alone(make(), symbols=SYMBOLS), alone(make(), symbols=SYMBOLS)
    for n, record in enumerate(records(closes)):
        if n in restarts:
            kept = resumed.snapshot()
            resumed = alone(make(), symbols=SYMBOLS)
            resumed.restore(kept)
        assert list(resumed.apply(record)) == list(straight.apply(record))
        assert resumed.snapshot() == straight.snapshot()
