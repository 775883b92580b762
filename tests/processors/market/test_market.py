"""Marks, bars and gaps: tables of cases, and what holds of any market."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from decimal import Decimal
from itertools import pairwise
from random import Random
from typing import Any

import msgspec
import pytest

from processors.market.processor import MarketProcessor
from processors.market.settings import MINUTE, SECOND, MarketSettings
from schemas import (
    Bar,
    Event,
    FeedGap,
    FeedRecovered,
    Mark,
    Record,
    Trade,
    TradeCancel,
    TradeCorrection,
    TradingHalt,
    TradingResume,
    encode,
    evolve,
    exact,
)
from support.market import at, quote, session_closed, session_opened, trade
from support.refolds import beat, noise

MS = 1_000_000
TEN = at("10:00")


def named(ts: int, price: str, size: int, id: str) -> Trade:
    made: Trade = evolve(trade(ts, price, size), id=id)
    return made


def fold(events: Sequence[Any], processor: MarketProcessor | None = None, **settings: Any) -> list[Any]:
    """What events lead to; the nth of them stands at offset n."""
    made = processor or MarketProcessor(MarketSettings(**settings))
    out: list[Event] = []
    with exact():
        for offset, event in enumerate(events):
            out += made.apply(Record(event.topic, 0, offset, b"", b"", event=event))
    return out


def of(kind: type, events: Sequence[Any]) -> list[Any]:
    return [event for event in events if type(event) is kind]


def shown(mark: Mark) -> tuple[int, str, str]:
    """When (ms after ten), bid, and the offset of what is shown."""
    return (mark.ts - TEN) // MS, str(mark.bid), mark.quote


@pytest.mark.parametrize(
    ("quotes", "expected"),
    [
        # ms, bid, ask -> ms of the mark, offset of the quote (the session's opening stands at 0)
        ([(0, "100", "100.02")], [(0, 1)]),
        ([(0, "100", "100.02"), (30, "100.01", "100.03")], [(0, 1), (100, 2)]),
        ([(0, "100", "100.02"), (30, "100.01", "100.03"), (60, "100", "100.03")], [(0, 1), (100, 3)]),
        ([(0, "100", "100.02"), (30, "100.10", "100.12")], [(0, 1), (30, 2)]),  # 10 bps: at once
        ([(0, "100", "100.02"), (30, "100.05", "100.07")], [(0, 1), (100, 2)]),  # just below 5 bps
        ([(0, "100", "100.02"), (130, "100.01", "100.02")], [(0, 1), (130, 2)]),
        ([(0, "100", "100.02"), (30, "100.03", "100.01")], [(0, 1)]),  # crossed
        ([(0, "100", "100.02"), (30, "100.5", "120")], [(0, 1)]),  # too wide
        ([(0, "100", "100.02"), (30, None, "100.02")], [(0, 1)]),  # one side
        ([(50, "100", "100.02"), (30, "101", "101.02")], [(50, 1)]),  # older than the last
    ],
)
def test_marks(quotes: list[tuple[int, str | None, str]], expected: list[tuple[int, int]]) -> None:
    events = [session_opened(), *(quote(TEN + ms * MS, bid, ask) for ms, bid, ask in quotes)]
    marks = of(Mark, fold([*events, beat(TEN + SECOND)]))
    assert [((m.ts - TEN) // MS, int(m.quote.rpartition("/")[2])) for m in marks] == expected


def test_no_mark_of_a_backfilled_quote_or_out_of_session() -> None:
    early, late = quote(at("09:00"), 10, 11), quote(at("17:00"), 10, "10.01")
    backfilled = quote(TEN, 10, "10.01", backfilled=True)
    events = [early, session_opened(), backfilled, session_closed(), late, beat(at("18:00"))]
    assert of(Mark, fold(events)) == []
    assert len(of(Mark, fold(events, mark_extended=True))) == 1


def test_a_mark_shows_the_last_trade_and_names_it_where_there_is_no_quote() -> None:
    events = [
        session_opened(),
        trade(TEN, 50),
        quote(TEN + SECOND, "50", "50.02"),
        trade(TEN + 2 * SECOND, 51),
    ]
    marks = of(Mark, fold(events))
    assert [(str(m.bid), str(m.last), m.quote) for m in marks] == [
        ("None", "50", "market.trades/0/1"),
        ("50", "50", "market.quotes/0/2"),
        ("50", "51", "market.quotes/0/2"),
    ]


def rows(bars: Sequence[Bar], period: int) -> list[str]:
    """Seconds after ten of the end, open, high, low, close, volume, and R for a revision."""
    return [
        f"{(b.ts - TEN) / SECOND:g} {b.open} {b.high} {b.low} {b.close} {b.volume}{' R' * b.backfilled}"
        for b in bars
        if b.period == period
    ]


def test_a_bar_holds_its_start_and_not_its_end_and_comes_out_when_time_passes_it() -> None:
    trades = [trade(TEN, 10, 5), trade(TEN + 999 * MS, 9, 1), trade(TEN + SECOND, 11, 2)]
    assert of(Bar, fold(trades[:2])) == []
    assert rows(of(Bar, fold(trades)), SECOND) == ["1 10 10 9 9 6"]
    bars = of(Bar, fold([*trades, beat(TEN + MINUTE)]))
    assert rows(bars, SECOND) == ["1 10 10 9 9 6", "2 11 11 11 11 2"]
    assert rows(bars, MINUTE) == ["60 10 11 9 11 8"]
    assert [b.row for b in bars] == [1, 2, 3]


def test_an_allowance_waits_for_late_trades() -> None:
    late = [trade(TEN + 500 * MS, 10, 5), trade(TEN + 1100 * MS, 11, 1), trade(TEN + 400 * MS, 9, 2)]
    events = [*late, beat(TEN + 3 * SECOND)]
    assert rows(of(Bar, fold(events)), SECOND) == ["1 10 10 10 10 5", "1 9 10 9 10 7 R", "2 11 11 11 11 1"]
    patient = of(Bar, fold(events, bar_allowance=SECOND))
    assert rows(patient, SECOND) == ["1 9 10 9 10 7", "2 11 11 11 11 1"]


def test_a_late_trade_a_correction_and_a_cancel_come_out_as_revised_bars() -> None:
    fix = TradeCorrection(
        symbol="SPY", ts=TEN + 3 * SECOND, id="b", price=Decimal(20), size=Decimal(7), source="", row=0
    )
    off = TradeCancel(symbol="SPY", ts=TEN + 4 * SECOND, id="a", source="", row=0)
    events = [named(TEN, "10", 5, "a"), named(TEN + MS, "12", 1, "b"), beat(TEN + SECOND)]
    bars = of(Bar, fold([*events, fix, off, evolve(off, id="b")], periods=(SECOND,)))
    assert rows(bars, SECOND) == [
        "1 10 12 10 12 6",
        "1 10 20 10 20 12 R",
        "1 20 20 20 20 7 R",
        "1 None None None None None R",
    ]


def test_beyond_what_is_kept_and_for_trades_never_seen_nothing_changes_and_it_is_counted() -> None:
    processor = MarketProcessor(MarketSettings(keep=MINUTE))
    off = TradeCancel(symbol="SPY", ts=TEN + 70 * SECOND, id="a", source="", row=0)
    events = [named(TEN, "10", 5, "a"), beat(TEN + 70 * SECOND), off, evolve(off, id="x"), trade(TEN, 9)]
    assert len(of(Bar, fold(events, processor))) == 2
    assert (processor.state.too_late, processor.state.unknown) == (2, 1)


def test_bids_and_asks_of_a_bar_are_those_that_held_in_it() -> None:
    quotes = [quote(TEN - SECOND, 9, 12), quote(TEN + 100 * MS, 10, 11), quote(TEN + 200 * MS, 8, 11)]
    [bar] = of(Bar, fold([*quotes, trade(TEN + 300 * MS, 10), beat(TEN + SECOND)], periods=(SECOND,)))
    assert [str(p) for p in (bar.bid_open, bar.bid_high, bar.bid_low, bar.bid_close)] == ["9", "10", "8", "8"]
    assert [str(p) for p in (bar.ask_open, bar.ask_high, bar.ask_low, bar.ask_close)] == [
        "12",
        "12",
        "11",
        "11",
    ]


@pytest.mark.parametrize(("vendor", "symbols"), [((), {"SPY", "IBM"}), (("SPY",), {"IBM"}), (("*",), set())])
def test_a_symbol_with_a_vendors_bars_gets_none(vendor: tuple[str, ...], symbols: set[str]) -> None:
    trades = [trade(TEN, 10), trade(TEN, 20, symbol="IBM"), beat(TEN + MINUTE)]
    assert {bar.symbol for bar in of(Bar, fold(trades, vendor_bars=vendor))} == symbols


def told(events: Sequence[Any]) -> list[tuple[str, str, float]]:
    """Gaps and recoveries: what, of which symbol, seconds after ten."""
    return [
        (type(e).__name__, e.symbol, (e.ts - TEN) / SECOND)
        for e in events
        if type(e) in (FeedGap, FeedRecovered)
    ]


def test_a_feed_that_is_mute_in_session_and_speaks_again() -> None:
    events = [session_opened(), quote(TEN, 10, 11), *(beat(TEN + n * SECOND) for n in range(1, 9))]
    out = fold([*events, quote(TEN + 9 * SECOND, 10, 11), beat(TEN + 12 * SECOND)])
    assert told(out) == [("FeedGap", "*", 5), ("FeedRecovered", "*", 9)]
    assert of(FeedGap, out)[0].since == TEN
    assert told(fold([*events[1:], quote(TEN + 9 * SECOND, 10, 11)])) == []  # no session


def test_silence_counts_from_the_open_and_nobody_has_to_speak_after_the_close() -> None:
    opened, closed = at("09:30"), at("16:00")
    events = [quote(at("09:00"), 10, 11), session_opened(), beat(opened + 4 * SECOND)]
    assert told(fold(events)) == []
    assert [e[0] for e in told(fold([*events, beat(opened + 5 * SECOND)]))] == ["FeedGap"]
    speaking = quote(closed - SECOND, 10, 11)
    end = [quote(at("09:30"), 10, 11), speaking, session_closed(), beat(closed + MINUTE)]
    gaps = told(fold([session_opened(), *end]))
    assert [e[0] for e in gaps] == ["FeedGap", "FeedRecovered"]  # between its two quotes, not after the close


def test_only_symbols_that_are_watched_can_be_stale_and_not_while_they_are_halted() -> None:
    busy = [quote(TEN + n * SECOND, 10, 11, symbol="IBM") for n in range(300)]
    opened = evolve(session_opened(), ts=TEN)
    assert told(fold([opened, *busy])) == []
    assert told(fold([opened, *busy], expected={"SPY": SECOND})) == [("FeedGap", "SPY", 60)]
    assert told(fold([opened, *busy], expected={"SPY": 50 * SECOND})) == [("FeedGap", "SPY", 150)]
    halt = TradingHalt(symbol="SPY", ts=TEN, source="", row=0)
    assert told(fold([opened, halt, *busy], expected={"SPY": SECOND})) == []
    resume = TradingResume(symbol="SPY", ts=TEN + 100 * SECOND, source="", row=0)
    resumed = [opened, halt, *busy[:100], resume, *busy[100:]]
    assert told(fold(resumed, expected={"SPY": SECOND})) == [("FeedGap", "SPY", 160)]


def volumes(events: Sequence[Any]) -> Counter[str]:
    """What traded, corrections and cancels taken into account."""
    sizes: dict[tuple[str, str], Any] = {}
    for n, e in enumerate(events):
        if type(e) is Trade:
            sizes[e.symbol, e.id or f"#{n}"] = e.size
        elif type(e) is TradeCorrection and (e.symbol, e.id) in sizes:
            sizes[e.symbol, e.id] = e.size
        elif type(e) is TradeCancel:
            sizes.pop((e.symbol, e.id), None)
    total: Counter[str] = Counter()
    for (symbol, _), size in sizes.items():
        total[symbol] += size
    return total


@pytest.mark.parametrize("seed", range(12))
def test_the_last_rows_of_all_bars_hold_exactly_what_traded(seed: int) -> None:
    events = noise(seed)
    bars = of(Bar, fold(events, bar_allowance=seed % 3 * SECOND))
    for period in (SECOND, MINUTE):
        last = {(b.symbol, b.ts): b for b in bars if b.period == period}
        made: Counter[str] = Counter()
        for (symbol, _), bar in last.items():
            made[symbol] += bar.volume or 0
        assert made == volumes(events)
        for bar in last.values():
            if bar.open is not None:
                assert bar.low <= min(bar.open, bar.close) <= max(bar.open, bar.close) <= bar.high


@pytest.mark.parametrize("seed", range(8))
def test_restored_between_any_two_inputs_it_goes_on_as_if_nothing_had_been(seed: int) -> None:
    events, random = noise(seed, 1200), Random(seed)
    settings = MarketSettings(expected={"SPY": SECOND}, keep=MINUTE)
    expected_from = MarketProcessor(settings)
    expected = [encode(e) for e in fold(events, expected_from)]
    out: list[bytes] = []
    processor = MarketProcessor(settings)
    with exact():
        for offset, event in enumerate(events):
            if random.random() < 0.05:
                state = processor.snapshot()
                processor = MarketProcessor(settings)
                processor.restore(state)
                assert processor.snapshot() == state
            out += [encode(e) for e in processor.apply(Record(event.topic, 0, offset, b"", b"", event=event))]
    assert out == expected
    assert processor.snapshot() == expected_from.snapshot()


@pytest.mark.parametrize("seed", range(8))
def test_marks_are_at_least_an_interval_apart_unless_it_moved_and_the_last_state_is_shown(seed: int) -> None:
    events = noise(seed)
    marks: dict[str, list[Mark]] = {}
    for mark in of(Mark, fold(events, mark_move_bps=Decimal(10**6))):
        marks.setdefault(mark.symbol, []).append(mark)
    assert set(marks) == {"SPY", "IBM", "BAC"}
    for symbol, some in marks.items():
        whole = [mark for mark in some if mark.bid is not None and mark.last is not None]
        assert min(b.ts - a.ts for a, b in pairwise(whole)) >= 100 * MS
        last = max((e.ts for e in events if type(e) is Trade and e.symbol == symbol), default=0)
        prints = [e for e in events if type(e) is Trade and e.symbol == symbol and e.ts == last]
        assert some[-1].last == prints[-1].price


def test_settings_name_the_output_and_go_through_text() -> None:
    settings = MarketSettings(expected={"SPY": SECOND}, vendor_bars=("IBM",))
    assert MarketSettings.of(settings.text) == settings
    assert settings.source != MarketSettings().source
    with pytest.raises(msgspec.ValidationError):
        MarketSettings.of('{"mark_intervall":1}')
