"""Who is told of what, in which order, under which id, and what a failure says."""

from decimal import Decimal
from typing import Any

import pytest

from processors.strategies.base import Strategy
from processors.strategies.context import Context
from processors.strategies.processor import Strategies, StrategyError
from schemas import Bar, Event, Fill, Heartbeat, Record, Split, Unreadable
from support.strategies import (
    START,
    FakeView,
    alone,
    bar,
    fill,
    market,
    order_changed,
    quote,
    setting,
    trade,
)


class Everything(Strategy):
    """Emits `times` targets on whatever happens."""

    def __init__(self, times: int = 1) -> None:
        self.times = times
        self.heard: list[str] = []

    def hear(self, event: Any, ctx: Context) -> None:
        self.heard.append(type(event).__name__)
        for _ in range(self.times):
            ctx.target(ctx.symbols[0], weight=1)

    on_bar = on_quote = on_trade = on_split = on_fill = on_order = hear


class Bars(Strategy):
    warm_up = 2

    def on_bar(self, bar: Any, ctx: Context) -> None:
        ctx.target(bar.symbol, weight=1)


class Quotes(Bars):
    def on_quote(self, quote: Any, ctx: Context) -> None:
        ctx.target(quote.symbol, weight=1)

    on_bar = Strategy.on_bar


def ids(events: Any) -> list[str]:
    return [event.id for event in events]


def split(offset: int, symbol: str = "SPY") -> Record:
    event = Split(symbol=symbol, ts=START + offset, ex="2013-10-08", num=2, den=1, source="s", row=offset)
    return market("market.status", offset, event)


def test_a_proposal_bears_strategy_version_cause_and_ordinal() -> None:
    strategies = alone(Everything(2), version="v7")
    first, second = strategies.apply(quote(41))
    assert ids([first, second]) == ["one/v7/market.quotes/2/41/0", "one/v7/market.quotes/2/41/1"]
    assert (first.cause, first.source, first.position, first.ordinal) == (
        "market.quotes/2/41",
        "market.quotes/2",
        41,
        0,
    )
    assert (first.account, first.strategy, first.version, first.ts) == (
        "acc",
        "one",
        "v7",
        quote(41).event.ts,
    )
    assert ids(strategies.apply(quote(42)))[0].endswith("/42/0")


def test_a_proposal_on_a_decision_names_its_seq() -> None:
    strategies = alone(Everything())
    strategies.apply(bar(9, 1))
    (made,) = strategies.apply(fill(12))
    assert (made.id, made.cause, made.source, made.position) == (
        "one/1/acc:12/0",
        "acc:12",
        "decisions/acc",
        12,
    )
    assert made.ts == fill(12).event.ts
    assert ids(strategies.apply(order_changed(13))) == ["one/1/acc:13/0"]


def test_members_are_called_in_order_of_name() -> None:
    members = [(setting(name), Everything()) for name in ("b", "c", "a")]
    made = Strategies(members, FakeView()).apply(bar(1, 1))
    assert ids(made) == [f"{name}/1/market.bars/2/1/0" for name in "abc"]


@pytest.mark.parametrize(
    ("record", "heard"),
    [
        (quote(5), ["Quote"]),
        (bar(5, 1), ["Bar"]),
        (trade(5), ["Trade"]),
        (split(5), ["Split"]),
        (fill(5), ["Fill"]),
        (order_changed(5), ["OrderChanged"]),
        (quote(5, "IBM"), []),
        (split(5, "IBM"), []),
        (quote(5, backfilled=True), []),
        (bar(5, 1, backfilled=True), []),
        (trade(5, backfilled=True), []),
        (fill(5, strategy="two"), []),
        (fill(5, account="other"), []),
        (order_changed(5, strategy="two"), []),
        (market("market.status", 5, Heartbeat(ts=START, source="s", row=5)), []),
        (Record("market.quotes", 0, 1, b"", b"", 0, Unreadable("x")), []),
    ],
)
def test_dispatch(record: Record, heard: list[str]) -> None:
    strategy = Everything()
    made = alone(strategy).apply(record)
    assert strategy.heard == heard
    assert len(made) == len(heard)


def test_nothing_emitted_is_an_empty_tuple() -> None:
    assert alone(Everything(0)).apply(quote(1)) == ()


def test_a_late_quote_is_not_delivered() -> None:
    strategy = Everything()
    strategies = alone(strategy)
    for record in (quote(5), quote(6, at=4), quote(7, at=5), quote(8, at=6, backfilled=True), quote(9, at=5)):
        strategies.apply(record)
    assert strategy.heard == ["Quote"] * 3


def test_time_is_the_greatest_seen_on_the_market() -> None:
    class Clock(Strategy):
        def on_fill(self, fill: Fill, ctx: Context) -> None:
            self.seen = ctx.now

        def on_bar(self, bar: Bar, ctx: Context) -> None:
            self.seen = ctx.now

    strategy = Clock()
    strategies = alone(strategy)
    strategies.apply(market("market.status", 1, Heartbeat(ts=START + 77, source="s", row=1)))
    strategies.apply(fill(1))
    assert strategy.seen == START + 77
    strategies.apply(quote(100, "IBM"))
    strategies.apply(bar(50, 1))
    assert strategy.seen == quote(100).event.ts


def test_a_proposal_bears_the_time_of_what_it_was_made_on() -> None:
    """Of a late quote that is not the market's time: the gateway counts its age from there."""
    strategies = alone(Everything())
    strategies.apply(quote(100, "IBM"))
    (made,) = strategies.apply(quote(50))
    assert made.ts == quote(50).event.ts < quote(100).event.ts


def test_nobody_is_called_before_his_account_is_open() -> None:
    view, strategy = FakeView(), Everything()
    view.open = False
    strategies = alone(strategy, view)
    assert strategies.apply(quote(5)) == ()
    view.open = True
    assert strategies.apply(quote(6, at=4)) == (), "late, although the one before was not delivered"
    assert len(strategies.apply(quote(7))) == 1


def test_what_is_not_overridden_is_not_asked_for() -> None:
    assert alone(Bars()).apply(quote(1)) == ()
    with pytest.raises(ValueError, match="strategy 'one' wants nothing"):
        alone(Strategy())


@pytest.mark.parametrize(("strategy", "make"), [(Bars(), lambda n, s: bar(n, 1, s)), (Quotes(), quote)])
def test_warm_up_drops_proposals_symbol_by_symbol(strategy: Strategy, make: Any) -> None:
    strategies = alone(strategy, symbols=("SPY", "IBM"))
    made = [
        len(strategies.apply(make(n, s))) for n, s in enumerate(["SPY", "SPY", "IBM", "SPY", "IBM", "IBM"])
    ]
    assert made == [0, 0, 0, 1, 0, 1]


def test_a_warm_up_goes_on_after_a_restart() -> None:
    before, after = alone(Bars()), alone(Bars())
    before.apply(bar(1, 1))
    after.restore(before.snapshot())
    assert [len(after.apply(bar(n, 1))) for n in (2, 3)] == [0, 1]


@pytest.mark.parametrize(
    ("changes", "heard"),
    [
        ({}, 2),
        ({"digest": "another"}, 2),
        ({"kind": "elsewhere/test"}, 2),
        ({"kind": "other"}, 1),
        ({"version": "2"}, 1),
        ({"params": {"times": "2"}}, 1),
        ({"symbols": ("SPY", "IBM")}, 1),
        ({"name": "other"}, 1),
    ],
)
def test_a_strategy_set_up_otherwise_starts_anew(changes: dict[str, Any], heard: int) -> None:
    before, strategy = alone(Everything()), Everything()
    before.apply(quote(1))
    after = alone(strategy, **changes)
    after.apply(quote(1))
    after.restore(before.snapshot())
    after.apply(quote(2))
    assert len(strategy.heard) == heard


@pytest.mark.parametrize(
    ("members", "sentence"),
    [
        ([(setting(), Bars()), (setting(), Bars())], "two strategies are named 'one'"),
        ([(setting(symbols=()), Bars())], "'one' needs symbols"),
        ([(setting(symbols=("A", "A")), Bars())], "'one' needs symbols, each of them once"),
        ([(setting(), same := Bars()), (setting("two"), same)], "'two' shares its object with another"),
    ],
)
def test_refused_at_the_start(members: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        Strategies(members, FakeView())


def test_a_warm_up_needs_something_to_count() -> None:
    class Fills(Strategy):
        warm_up = 1

        def on_fill(self, fill: Any, ctx: Context) -> None: ...

    with pytest.raises(ValueError, match="has a warm_up but wants no bars"):
        alone(Fills())


class Broken(Strategy):
    def on_quote(self, quote: Any, ctx: Context) -> None:
        self.ratio(quote)

    def ratio(self, quote: Any) -> Decimal:
        return quote.bid / (quote.ask - quote.ask)  # line of the division

    def on_fill(self, fill: Any, ctx: Context) -> None:
        ctx.target("XYZ", weight=1)  # line of the target


def line_of(text: str) -> int:
    with open(__file__) as source:
        return next(n for n, line in enumerate(source, 1) if line.endswith(f"# line of the {text}\n"))


@pytest.mark.parametrize(
    ("record", "start", "end"),
    [
        (
            quote(5),
            "strategy 'one' failed on Quote of SPY at 2013-10-07T13:30:05.000000000Z (market.quotes/2/5): "
            "DivisionByZero: [<class 'decimal.DivisionByZero'>], in ",
            "test_processor.py line {division}",
        ),
        (
            fill(8),
            "strategy 'one' failed on Fill of SPY at 2013-10-07T13:30:00.000000000Z (acc:8): "
            "ValueError: 'XYZ' is not one of this strategy's symbols (SPY), in ",
            "test_processor.py line {target}",
        ),
    ],
)
def test_a_failure_names_strategy_event_and_line(record: Record, start: str, end: str) -> None:
    with pytest.raises(StrategyError) as caught:
        alone(Broken()).apply(record)
    said = str(caught.value)
    assert said.startswith(start)
    assert said.endswith(end.format(division=line_of("division"), target=line_of("target")))
    assert caught.value.__cause__ is caught.value.original


def test_a_handler_with_the_wrong_arguments_is_named_by_its_definition() -> None:
    class Short(Strategy):
        def on_quote(self, quote: Any) -> None: ...  # type: ignore[override]

    with pytest.raises(StrategyError, match="takes 2 positional arguments") as caught:
        alone(Short()).apply(quote(1))
    assert caught.value.file.endswith("test_processor.py")


def test_a_snapshot_is_the_same_for_the_same_inputs() -> None:
    made: list[bytes] = []
    events: list[list[Event]] = []
    for _ in range(2):
        strategies = alone(Everything())
        events.append([p for n in range(5) for p in strategies.apply(quote(n))])
        made.append(strategies.snapshot())
    assert made[0] == made[1]
    assert events[0] == events[1]
