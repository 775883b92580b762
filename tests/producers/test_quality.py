from __future__ import annotations

import base64
from collections import Counter
from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producers.marketdata.lean import LeanReader
from producers.marketdata.quality import (
    BACK,
    CROSSED,
    MOVE,
    NOT_POSITIVE,
    Gate,
    QualitySettings,
    gap_max,
    imported_row,
)
from producers.marketdata.synthetic import SyntheticMarket
from schemas import (
    Bar,
    CashDividend,
    DeadLetter,
    Event,
    Quote,
    SessionClosed,
    SessionOpened,
    Split,
    Trade,
    TradingHalt,
    decode,
    evolve,
)
from support.lean import SAMPLE

SECOND = 10**9
OPEN, CLOSE = 1_000 * SECOND, 5_000 * SECOND


def trade(price: str, ts: int = 0, row: int = 1, symbol: str = "A") -> Trade:
    return Trade(symbol=symbol, ts=ts, price=Decimal(price), size=Decimal(1), source="s", row=row)


def quote(bid: str | None, ask: str | None, ts: int = 0, row: int = 1) -> Quote:
    sides: list[Decimal | None] = [None if text is None else Decimal(text) for text in (bid, ask)]
    return Quote(
        symbol="A", ts=ts, bid=sides[0], bid_size=None, ask=sides[1], ask_size=None, source="s", row=row
    )


def bar(prices: str, **sides: str) -> Bar:
    opened, high, low, close = map(Decimal, prices.split())
    given = {
        f"{side}_{part}": Decimal(text)
        for side, texts in sides.items()
        for part, text in zip(("open", "high", "low", "close"), texts.split(), strict=True)
    }
    return Bar(
        symbol="A",
        ts=0,
        period=60,
        open=opened,
        high=high,
        low=low,
        close=close,
        volume=None,
        source="s",
        row=1,
        **given,  # type: ignore[arg-type]  # prices all of them
    )


def split(num: int, den: int) -> Split:
    return Split(symbol="A", ts=0, ex="2014-06-09", num=num, den=den, source="s", row=1)


def dividend(amount: str) -> CashDividend:
    return CashDividend(
        symbol="A", ts=0, ex="2014-06-09", pay="2014-06-09", amount=Decimal(amount), source="s", row=1
    )


def reasons(events: list[Event], **settings: Any) -> list[str]:
    """What becomes of each event: "" or the reason it is set aside for."""
    gate = Gate(QualitySettings(**settings))
    passed = list(gate.filter(events))
    assert len(passed) == len(events)
    assert gate.report.accepted + gate.report.quarantined.total() == len(events)
    return [e.reason.partition(":")[0] if isinstance(e, DeadLetter) else "" for e in passed]


def prices(*texts: str) -> list[Event]:
    return [trade(text) for text in texts]


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        (prices("100", "130", "91"), ["", "", ""]),
        (prices("100", "130.01", "100"), ["", MOVE, ""]),
        (prices("100", "69.99", "70"), ["", MOVE, ""]),
        (prices("100", "1", "101", "1", "102"), ["", MOVE, "", MOVE, ""]),
        (prices("100", "50", "51", "52"), ["", MOVE, "", ""]),
        (prices("100", "50", "20", "100"), ["", MOVE, MOVE, ""]),
        (prices("1", "100", "101", "102"), ["", MOVE, "", ""]),
        ([trade("100"), trade("1", symbol="B"), trade("2", symbol="B")], ["", "", MOVE]),
        ([trade("100"), quote("50", "50.1"), quote("50", "50.1")], ["", MOVE, ""]),
        ([trade("100"), quote("0.01", "199999"), trade("101")], ["", "", ""]),
        ([trade("100"), quote("50", None), quote(None, "300"), trade("101")], ["", "", "", ""]),
        ([trade("100"), bar("100 131 100 100"), bar("100 101 100 100")], ["", MOVE, ""]),
        ([trade("100"), bar("50 50 50 50"), bar("50 50 50 50")], ["", MOVE, ""]),
        ([trade("100"), bar("100 100 100 100", bid="99 99 1 99", ask="101 101 101 101")], ["", MOVE]),
    ],
)
def test_a_move_from_the_last_accepted_and_the_last_seen(events: list[Event], expected: list[str]) -> None:
    assert reasons(events) == expected


def test_the_bound_is_a_setting() -> None:
    assert reasons(prices("100", "55", "100"), move_max=Decimal("0.5")) == ["", "", MOVE]


@pytest.mark.parametrize(
    ("action", "after", "expected"),
    [
        (split(7, 1), "14.3", ""),
        (split(7, 1), "100", MOVE),
        (split(1, 20), "2000", ""),
        (split(1, 20), "100", MOVE),
        (dividend("40"), "60", ""),
        (dividend("40"), "100", MOVE),
        (dividend("100"), "3", ""),
    ],
)
def test_a_corporate_action_in_between(action: Event, after: str, expected: str) -> None:
    assert reasons([trade("100"), action, trade(after)]) == ["", "", expected]


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (trade("0"), NOT_POSITIVE),
        (trade("-1"), NOT_POSITIVE),
        (quote("0", "100"), NOT_POSITIVE),
        (quote("100", "-1"), NOT_POSITIVE),
        (quote(None, "0"), NOT_POSITIVE),
        (quote(None, None), ""),
        (bar("100 100 0 100"), NOT_POSITIVE),
        (bar("100 100 100 100", bid="1 1 1 -1", ask="2 2 2 2"), NOT_POSITIVE),
        (quote("100", "100"), ""),
        (quote("101", "100"), ""),
        (quote("101.1", "100"), CROSSED),
        (bar("100 100 100 100", bid="102 102 102 102", ask="100 100 100 100"), CROSSED),
    ],
)
def test_prices_that_cannot_be(event: Event, expected: str) -> None:
    assert reasons([event, trade("100")]) == [expected, ""]


def test_times_that_go_back() -> None:
    events = [
        trade("100", 5),
        trade("100", 4),
        trade("100", 5),
        quote("100", "101", 3),
        trade("9", 1, symbol="B"),
    ]
    assert reasons(events) == ["", BACK, "", "", ""]  # each symbol and topic has its own time


def test_what_is_backfilled_is_of_another_time() -> None:
    late = evolve(trade("50", 1), backfilled=True)
    wrong = evolve(trade("0", 1), backfilled=True)
    assert reasons([trade("100", 5), late, wrong, trade("101", 6)]) == ["", "", NOT_POSITIVE, ""]


def test_a_dead_letter_holds_the_event_and_where_it_came_from() -> None:
    bad = trade("131", row=7)
    _, letter = Gate().filter([trade("100"), bad])
    assert isinstance(letter, DeadLetter)
    assert letter.key == "A"
    assert letter.reason == "move: 131, last accepted 100, last seen 100"
    assert decode("market.trades", base64.b64decode(letter.bytes)) == bad
    assert imported_row(letter) == ("s", 7)
    assert imported_row(evolve(letter, place="market.trades/0/7")) is None


def test_everything_else_passes() -> None:
    events: list[Event] = [TradingHalt(symbol="A", ts=1, source="s", row=1), split(2, 1), dividend("1")]
    assert reasons(events) == ["", "", ""]


def session(*events: Event) -> Gate:
    opened = SessionOpened(
        session="d", ts=OPEN, close=CLOSE, extended_open=0, extended_close=CLOSE, source="s", row=1
    )
    gate = Gate(QualitySettings(gap_max=100 * SECOND))
    list(gate.filter([opened, *events, SessionClosed(session="d", ts=CLOSE, source="s", row=1)]))
    return gate


def test_silence_in_session_is_reported() -> None:
    times = [500, 1_100, 1_200, 1_301, 4_950]
    gate = session(*(trade("100", ts * SECOND) for ts in times))
    assert gate.report.as_dict()["gaps"] == {
        "A": {"count": 2, "longest_s": 3649.0, "since": "1970-01-01T00:21:41+00:00"}
    }
    early = session(trade("100", 500 * SECOND), trade("100", 1_101 * SECOND))
    assert early.report.as_dict()["gaps"]["A"]["count"] == 2  # from the open, and up to the close


def test_a_session_without_a_word_is_counted() -> None:
    gate = session(trade("100", 500 * SECOND))
    assert gate.report.silent_sessions == {"A": 1}
    assert gate.report.gaps == {}


def test_gaps_follow_the_resolution() -> None:
    assert gap_max(0) == gap_max(SECOND) == 60 * SECOND
    assert gap_max(60 * SECOND) == 180 * SECOND


def test_the_report_counts_by_reason_and_symbol() -> None:
    gate = Gate()
    list(gate.filter([*prices("100", "1", "100", "0"), trade("-1", symbol="B")]))
    assert gate.report.as_dict() == {
        "accepted": 2,
        "quarantined": 3,
        "reasons": {"move": {"A": 1}, "not positive": {"A": 1, "B": 1}},
        "gaps": {},
        "silent_sessions": {},
    }


@pytest.mark.parametrize("name", ["move_max", "spread_max", "gap_max"])
def test_bounds_are_positive(name: str) -> None:
    with pytest.raises(ValueError, match="has a bound that is not positive"):
        QualitySettings(**{name: 0})  # type: ignore[arg-type]


@given(st.lists(st.integers(90, 110), min_size=1, max_size=60), st.data())
def test_one_wrong_tick_is_kept_out_wherever_it_comes(levels: list[int], data: st.DataObject) -> None:
    at = data.draw(st.integers(1, len(levels)))
    wrong = data.draw(st.sampled_from(["1", "50", "170", "100000"]))
    events = [trade(str(level)) for level in levels]
    events.insert(at, trade(wrong))
    assert [i for i, reason in enumerate(reasons(list(events))) if reason] == [at]


@given(st.lists(st.integers(90, 110), min_size=1, max_size=20), st.integers(2, 20))
def test_a_price_that_stays_is_believed_at_second_sight(levels: list[int], times: int) -> None:
    events = prices(*map(str, levels), *["500"] * times)
    assert reasons(events) == [""] * len(levels) + [MOVE] + [""] * (times - 1)


def letters(symbols: tuple[str, ...], first: date, last: date, **options: Any) -> list[DeadLetter]:
    events = LeanReader(SAMPLE, symbols, first, last, **options).events()
    return [e for e in Gate().filter(events) if isinstance(e, DeadLetter)]


def test_the_minutes_of_the_sample() -> None:
    assert letters(("SPY", "IBM", "BAC", "AIG"), date(2013, 10, 7), date(2013, 10, 9), hours="extended") == []
    told = letters(("AAPL",), date(2014, 6, 5), date(2014, 6, 9), hours="extended")
    assert [letter.reason for letter in told] == [
        "move: 1, last accepted 649.095, last seen 649.095",  # a bid of a dollar before the open
        "move: 645.57, last accepted 92.230, last seen 92.230",  # a price of before the split
    ]
    assert letters(("AAPL",), date(2014, 6, 5), date(2014, 6, 9)) == []


def test_the_days_of_the_sample() -> None:
    told = letters(("AAPL", "IBM", "SPY"), date(1998, 1, 2), date(2021, 3, 31), resolution="daily")
    assert Counter(letter.key for letter in told) == {"AAPL": 5, "IBM": 1}
    assert "move: 28.06, last accepted 53.38, last seen 53.38" in {letter.reason for letter in told}


def test_a_quiet_synthetic_market_passes_as_it_is() -> None:
    market = SyntheticMarket(("A", "B"), 1, date(2013, 10, 7), date(2013, 10, 8), rate_per_s=0.2)
    assert list(Gate().filter(market.events())) == list(market.events())
