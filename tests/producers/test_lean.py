from __future__ import annotations

from collections import Counter
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producers.marketdata.drafts import Scale
from producers.marketdata.lean import LeanReader
from producers.sessions import midnight
from schemas import Bar, CashDividend, Event, Quote, SessionClosed, SessionOpened, Split, canonical
from support.lean import SAMPLE, lean_folder

MONDAY, TUESDAY, WEDNESDAY = date(2013, 10, 7), date(2013, 10, 8), date(2013, 10, 9)
FOUR = ("SPY", "IBM", "BAC", "AIG")
MINUTE = 60 * 10**9
HOUR = 60 * MINUTE


def read(folder: Path, symbols: tuple[str, ...], first: date, last: date, **options: Any) -> list[Event]:
    reader = LeanReader(folder, symbols, first, last, **options)
    reader.check()
    return list(reader.events())


def new_york(day: date, hours: int, minutes: int = 0) -> int:
    return midnight(day) + hours * HOUR + minutes * MINUTE


def numbers(*texts: str | None) -> list[Decimal | None]:
    return [None if text is None else Decimal(text) for text in texts]


def prices(bar: Bar) -> list[Decimal | None]:
    return [
        *(bar.open, bar.high, bar.low, bar.close, bar.volume),
        *(bar.bid_open, bar.bid_high, bar.bid_low, bar.bid_close),
        *(bar.ask_open, bar.ask_high, bar.ask_low, bar.ask_close),
    ]


def merge_key(event: Any) -> tuple[int, int, str, int]:
    ranks = {SessionOpened: 0, Split: 1, CashDividend: 1, Quote: 2, Bar: 4, SessionClosed: 6}
    return event.ts, ranks[type(event)], event.symbol, event.row


def test_the_first_bar_of_spy() -> None:
    reader = LeanReader(SAMPLE, ["spy"], MONDAY, WEDNESDAY)
    events = reader.events()
    assert next(events) == SessionOpened(
        session="2013-10-07",
        ts=new_york(MONDAY, 9, 30),
        close=new_york(MONDAY, 16),
        extended_open=new_york(MONDAY, 4),
        extended_close=new_york(MONDAY, 20),
        source=reader.source,
        row=1,
    )
    assert next(events) == Quote(
        symbol="SPY",
        ts=new_york(MONDAY, 9, 31),
        bid=Decimal("167.44"),
        bid_size=Decimal(4400),
        ask=Decimal("167.45"),
        ask_size=Decimal(1400),
        source=reader.source,
        row=2,
        feed="lean",
        bar=True,
    )
    bar = next(events)
    assert isinstance(bar, Bar)
    assert (bar.symbol, bar.ts, bar.period, bar.row) == ("SPY", new_york(MONDAY, 9, 31), MINUTE, 3)
    assert (bar.feed, bar.source, bar.backfilled) == ("lean", reader.source, False)
    assert prices(bar) == [
        *numbers("167.43", "167.52", "167.41", "167.44", "816453"),
        *numbers("167.41", "167.52", "167.41", "167.44"),
        *numbers("167.41", "167.53", "167.41", "167.45"),
    ]


def test_a_session_of_minutes() -> None:
    events = read(SAMPLE, ("SPY",), MONDAY, MONDAY)
    assert Counter(type(e).__name__ for e in events) == {
        "SessionOpened": 1,
        "Quote": 390,
        "Bar": 390,
        "SessionClosed": 1,
    }
    last_bar, closed = events[-2:]
    assert isinstance(last_bar, Bar)
    assert last_bar.close == Decimal("167.42")
    assert isinstance(closed, SessionClosed)
    assert last_bar.ts == closed.ts == new_york(MONDAY, 16)


@pytest.mark.parametrize("options", [{}, {"hours": "extended"}, {"adjusted": True}])
def test_events_are_in_the_order_of_the_log_and_rows_count(options: dict[str, Any]) -> None:
    events: list[Any] = read(SAMPLE, FOUR, MONDAY, WEDNESDAY, **options)
    assert [e.row for e in events] == list(range(1, len(events) + 1))
    assert events == sorted(events, key=merge_key)
    assert len({e.source for e in events}) == 1


def test_counts_of_three_sessions() -> None:
    regular = Counter(type(e) for e in read(SAMPLE, FOUR, MONDAY, WEDNESDAY))
    assert regular == {SessionOpened: 3, Quote: 4680, Bar: 4680, SessionClosed: 3}
    extended = Counter(type(e) for e in read(SAMPLE, FOUR, MONDAY, WEDNESDAY, hours="extended"))
    assert extended == {SessionOpened: 3, Quote: 7911, Bar: 8089, SessionClosed: 3}


def test_extended_hours_lie_around_the_session() -> None:
    events: list[Any] = read(SAMPLE, ("IBM",), WEDNESDAY, WEDNESDAY, hours="extended")
    quote, bar = events[:2]
    assert isinstance(quote, Quote)
    assert quote.ts == new_york(WEDNESDAY, 4, 1)
    assert [quote.bid, quote.ask] == numbers("175", "184.83")
    assert isinstance(bar, Bar)
    assert prices(bar)[:5] == [None] * 5
    assert bar.ask_low == Decimal("184.83")
    (opened,) = [e for e in events if isinstance(e, SessionOpened)]
    (closed,) = [e for e in events if isinstance(e, SessionClosed)]
    assert opened.ts == new_york(WEDNESDAY, 9, 30)
    assert closed.ts == new_york(WEDNESDAY, 16)
    assert events[0].ts < opened.ts < closed.ts < events[-1].ts


def test_a_bar_without_a_quote_makes_no_quote(tmp_path: Path) -> None:
    trades = "34200000,1000000,1010000,990000,1000000,5\n34320000,1000000,1000000,1000000,1000000,7\n"
    quotes = "34200000,999900,999900,999900,999900,3,1000100,1000100,1000100,1000100,4\n"
    folder = lean_folder(tmp_path, {"minute/abc/20131007_trade": trades, "minute/abc/20131007_quote": quotes})
    _, quote, first, second, _ = read(folder, ("ABC",), MONDAY, MONDAY)
    assert isinstance(quote, Quote)
    assert isinstance(first, Bar)
    assert isinstance(second, Bar)
    assert second.ts == new_york(MONDAY, 9, 33)
    assert [second.volume, second.bid_close, second.ask_close] == numbers("7", None, None)


@pytest.mark.parametrize("side", [",,,,", ",,,,0", "0,0,0,0,0", "0,0,0,0,100"])
def test_an_empty_side_is_none(tmp_path: Path, side: str) -> None:
    folder = lean_folder(
        tmp_path, {"minute/abc/20131007_quote": f"34200000,{side},1000100,1000200,1000000,1000100,0\r\n"}
    )
    _, quote, bar, _ = read(folder, ("ABC",), MONDAY, MONDAY)
    assert isinstance(quote, Quote)
    assert [quote.bid, quote.bid_size, quote.ask, quote.ask_size] == numbers(None, None, "100.01", "0")
    assert isinstance(bar, Bar)
    assert [bar.bid_open, bar.bid_close, bar.ask_low] == numbers(None, None, "100")


def test_regular_hours_of_a_half_day_end_at_one(tmp_path: Path) -> None:
    half_day = date(2013, 11, 29)
    row = "{},1000000,1000000,1000000,1000000,1\n"
    begins = [34_140_000, 34_200_000, 46_740_000, 46_800_000]  # 09:29, 09:30, 12:59, 13:00
    folder = lean_folder(tmp_path, {"minute/abc/20131129_trade": "".join(row.format(ms) for ms in begins)})
    events: list[Any] = read(folder, ("ABC",), half_day, half_day)
    assert [e.ts - midnight(half_day) for e in events if isinstance(e, Bar)] == [
        9 * HOUR + 31 * MINUTE,
        13 * HOUR,
    ]
    assert len(read(folder, ("ABC",), half_day, half_day, hours="extended")) == 6


def test_holidays_and_week_ends_need_no_files(tmp_path: Path) -> None:
    row = "34200000,1000000,1000000,1000000,1000000,1\n"
    days = ["20130328", "20130401"]  # Good Friday and a week-end between
    folder = lean_folder(tmp_path, {f"minute/abc/{day}_trade": row for day in days})
    events = read(folder, ("ABC",), date(2013, 3, 28), date(2013, 4, 1))
    opened = [e.session for e in events if isinstance(e, SessionOpened)]
    assert opened == ["2013-03-28", "2013-04-01"]


@pytest.mark.parametrize("day", [date(2013, 3, 8), date(2013, 3, 11), date(2013, 11, 1), date(2013, 11, 4)])
def test_times_follow_new_yorks_clocks(tmp_path: Path, day: date) -> None:
    row = "34200000,1000000,1000000,1000000,1000000,1\n"
    folder = lean_folder(tmp_path, {f"minute/abc/{day:%Y%m%d}_trade": row})
    opened, bar, _ = read(folder, ("ABC",), day, day)
    assert isinstance(opened, SessionOpened)
    assert isinstance(bar, Bar)
    assert bar.ts == opened.ts + MINUTE


def test_second_files_are_read_alike(tmp_path: Path) -> None:
    row = "34200000,1000000,1000000,1000000,1000000,1\n"
    folder = lean_folder(tmp_path, {"second/abc/20131007_trade": row})
    _, bar, _ = read(folder, ("ABC",), MONDAY, MONDAY, resolution="second")
    assert isinstance(bar, Bar)
    assert (bar.ts, bar.period) == (new_york(MONDAY, 9, 30) + 10**9, 10**9)


def test_the_split_of_aapl_comes_before_all_of_its_day() -> None:
    events: list[Any] = read(SAMPLE, ("AAPL",), date(2014, 6, 5), date(2014, 6, 9), hours="extended")
    (split,) = [e for e in events if isinstance(e, Split)]
    assert (split.symbol, split.ex, split.num, split.den) == ("AAPL", "2014-06-09", 7, 1)
    assert split.ts == new_york(date(2014, 6, 9), 4)
    i = events.index(split)
    assert events[i - 1].ts < new_york(date(2014, 6, 7), 0) < split.ts < events[i + 1].ts
    assert not [e for e in events if isinstance(e, CashDividend)]


def test_aapl_around_its_split() -> None:
    events: list[Any] = read(SAMPLE, ("AAPL",), date(2014, 6, 6), date(2014, 6, 9))
    split = next(i for i, e in enumerate(events) if isinstance(e, Split))
    before, (opened, quote, bar) = events[split - 2], events[split + 1 : split + 4]
    assert isinstance(before, Bar)
    assert before.close == Decimal("645.57")
    assert isinstance(opened, SessionOpened)
    assert [quote.bid, quote.ask] == numbers("92.71", "92.74")
    assert prices(bar)[:5] == numbers("92.69", "92.95", "92.5", "92.72", "2467914")


SPLIT = "20131004,1,0.5,100\n20501231,1,1,0\n"
FLAT_DAY = "34200000,1000000,1000000,1000000,1000000,1\n"


def actions(tmp_path: Path, factors: str, first: date, last: date) -> list[Any]:
    days = [first + timedelta(days=i) for i in range((last - first).days + 1)]
    files = {f"minute/abc/{day:%Y%m%d}_trade": FLAT_DAY for day in days}
    folder = lean_folder(tmp_path, files, {"abc": factors})
    return [e for e in read(folder, ("ABC",), first, last) if isinstance(e, Split | CashDividend)]


def test_a_dividend_is_paid_at_the_session_after_its_row(tmp_path: Path) -> None:
    factors = "20131004,0.99,1,100\n20131008,0.995,1,60\n20501231,1,1,0\n"
    friday, wednesday = actions(tmp_path, factors, MONDAY, WEDNESDAY)
    assert (friday.ex, friday.pay, friday.amount) == ("2013-10-07", "2013-10-07", Decimal("0.5"))
    assert friday.ts == new_york(MONDAY, 4)
    assert (wednesday.ex, wednesday.amount) == ("2013-10-09", Decimal("0.3"))


def test_split_and_dividend_of_one_day(tmp_path: Path) -> None:
    split, dividend = actions(tmp_path, "20131007,0.99,2,100\n20501231,1,1,0\n", MONDAY, WEDNESDAY)
    assert (type(split), split.num, split.den) == (Split, 1, 2)
    assert (type(dividend), dividend.amount) == (CashDividend, Decimal(2))
    assert dividend.row == split.row + 1


@pytest.mark.parametrize("row", ["20131003", "20131009", "19980102", "20401231"])
def test_what_happens_outside_the_range_is_left_out(tmp_path: Path, row: str) -> None:
    assert actions(tmp_path, f"{row},0.99,0.5,100\n20501231,1,1,0\n", MONDAY, WEDNESDAY) == []


def test_without_a_factor_file_there_are_no_actions(tmp_path: Path) -> None:
    folder = lean_folder(tmp_path, {"minute/abc/20131007_trade": FLAT_DAY})
    assert len(read(folder, ("ABC",), MONDAY, MONDAY)) == 3


def test_adjusted_prices_are_exact() -> None:
    _, quote, bar, *_ = read(SAMPLE, ("SPY",), MONDAY, MONDAY, adjusted=True)
    assert isinstance(quote, Quote)
    assert str(quote.ask) == "144.78172417"
    assert quote.ask_size == 1400
    assert isinstance(bar, Bar)
    assert bar.close == Decimal("167.44") * Decimal("0.8646266")


def test_adjusted_data_has_no_actions_and_no_jump() -> None:
    events = read(SAMPLE, ("AAPL",), date(2014, 6, 6), date(2014, 6, 9), adjusted=True)
    assert not [e for e in events if isinstance(e, Split | CashDividend)]
    bars = [e for e in events if isinstance(e, Bar)]
    friday, monday = bars[389], bars[390]
    assert friday.close == canonical(Decimal("645.57") * Decimal("0.9011818") * Decimal("0.03571430"))
    assert monday.open == canonical(Decimal("92.69") * Decimal("0.9011818") * Decimal("0.25"))
    assert monday.volume == 2467914 * 4


@given(
    price=st.integers(1, 10**12),
    price_factor=st.integers(1, 10**7),
    split_factor=st.integers(1, 10**9),
    size=st.integers(0, 10**9),
)
def test_any_price_is_scaled_exactly(price: int, price_factor: int, split_factor: int, size: int) -> None:
    p, s = Decimal(price_factor).scaleb(-7), Decimal(split_factor).scaleb(-8)
    scale = Scale(p, s)
    made = scale.bar((price, price, price, price))[0]
    assert made * 10**19 == price * price_factor * split_factor
    assert str(made) == str(canonical(made))
    assert abs(scale.size(size) * s - size) <= s / 2


def test_half_a_share_is_rounded_to_even() -> None:
    assert [Scale(Decimal(1), Decimal(2)).size(n) for n in (1, 3, 5)] == [0, 2, 2]


def source(folder: Path = SAMPLE, symbols: tuple[str, ...] = FOUR, **options: Any) -> str:
    first, last = options.pop("first", MONDAY), options.pop("last", TUESDAY)
    return LeanReader(folder, symbols, first, last, **options).source


def test_the_source_is_the_same_each_time_and_wherever_the_data_lies(tmp_path: Path) -> None:
    assert source() == source() == source(symbols=("aig", "BAC", "IBM", "SPY", "SPY"))
    assert source() == source(SAMPLE / "equity" / "usa")
    assert len(source()) == 12
    files = {"minute/abc/20131007_trade": FLAT_DAY}
    one, two = lean_folder(tmp_path / "one", files), lean_folder(tmp_path / "two", files)
    assert source(one, ("ABC",), last=MONDAY) == source(two, ("ABC",), last=MONDAY)


def test_the_source_ignores_what_changes_no_event() -> None:
    saturday = date(2013, 10, 5)
    assert source() == source(first=saturday) == source(allow_missing=True)


def test_the_source_differs_where_events_differ(tmp_path: Path) -> None:
    options: list[dict[str, Any]] = [
        {},
        {"symbols": ("SPY",)},
        {"last": WEDNESDAY},
        {"adjusted": True},
        {"hours": "extended"},
    ]
    assert len({source(**o) for o in options}) == len(options)
    contents = [FLAT_DAY, FLAT_DAY.replace(",1\n", ",2\n")]
    folders = [
        lean_folder(tmp_path / str(i), {"minute/abc/20131007_trade": text}) for i, text in enumerate(contents)
    ]
    folders.append(lean_folder(tmp_path / "3", {"minute/abc/20131007_trade": FLAT_DAY}, {"abc": SPLIT}))
    assert len({source(folder, ("ABC",), last=MONDAY) for folder in folders}) == 3


def test_two_readings_are_the_same() -> None:
    assert read(SAMPLE, FOUR, MONDAY, TUESDAY) == read(SAMPLE, FOUR, MONDAY, TUESDAY)


def test_a_missing_day_can_be_allowed(tmp_path: Path) -> None:
    folder = lean_folder(
        tmp_path, {"minute/abc/20131007_trade": FLAT_DAY, "minute/abc/20131009_trade": FLAT_DAY}
    )
    events = read(folder, ("ABC",), MONDAY, WEDNESDAY, allow_missing=True)
    assert [type(e) for e in events].count(SessionOpened) == 3
    assert [type(e) for e in events].count(Bar) == 2
