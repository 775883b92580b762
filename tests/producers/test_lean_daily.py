from __future__ import annotations

from collections import Counter
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from producers.marketdata.errors import BadRow, DataError, MissingDay, UnknownSymbol
from producers.marketdata.lean import LeanReader
from producers.sessions import sessions
from schemas import Bar, CashDividend, Event, SessionClosed, SessionOpened, Split
from support.lean import SAMPLE, lean_folder

MONDAY, TUESDAY, WEDNESDAY = date(2013, 10, 7), date(2013, 10, 8), date(2013, 10, 9)
FIRST, LAST = date(1998, 1, 1), date(2021, 3, 31)
FIVE = ("AAPL", "AIG", "BAC", "IBM", "SPY")
HOUR = 3600 * 10**9
ROWS = """20131007 00:00,1000000,1010000,990000,1005000,5
20131008 00:00,1005000,1005000,1005000,1005000,0
20131009 00:00,1005000,1020000,1000000,1000000,7
"""


def reader(folder: Path, symbols: tuple[str, ...], first: date, last: date, **options: Any) -> LeanReader:
    return LeanReader(folder, symbols, first, last, resolution="daily", **options)


def read(
    folder: Path, symbols: tuple[str, ...], first: date = MONDAY, last: date = WEDNESDAY, **options: Any
) -> list[Event]:
    made = reader(folder, symbols, first, last, **options)
    events = list(made.events())
    assert len(events) == made.check()
    return events


def test_a_bar_stands_at_the_close_of_its_session() -> None:
    opened, bar, closed = read(SAMPLE, ("IBM",), last=MONDAY)
    assert isinstance(opened, SessionOpened)
    assert isinstance(closed, SessionClosed)
    assert isinstance(bar, Bar)
    assert bar.ts == closed.ts == opened.close
    assert bar.period == bar.ts - opened.ts == 6.5 * HOUR
    assert (bar.open, bar.close, bar.volume) == (Decimal("182"), Decimal("182.01"), 3_908_081)
    assert bar.bid_close is None
    assert bar.ask_open is None


def test_a_half_day_ends_early() -> None:
    half_day = date(2013, 11, 29)
    (bar,) = [e for e in read(SAMPLE, ("IBM",), half_day, half_day) if isinstance(e, Bar)]
    assert bar.period == 3.5 * HOUR


def test_all_years_of_the_sample() -> None:
    events: list[Any] = read(SAMPLE, FIVE, FIRST, LAST)
    days = sessions(FIRST, LAST)
    assert Counter(type(e) for e in events) == {
        SessionOpened: len(days),
        Bar: 5 * len(days),
        SessionClosed: len(days),
        Split: 10,
        CashDividend: 390,
    }
    assert [e.row for e in events] == list(range(1, len(events) + 1))
    assert [e.ts for e in events] == sorted(e.ts for e in events)
    splits = {(e.symbol, e.ex): (e.num, e.den) for e in events if isinstance(e, Split)}
    assert splits["AAPL", "2014-06-09"] == (7, 1)
    assert splits["AAPL", "2020-08-31"] == (4, 1)
    assert splits["AIG", "2009-07-01"] == (1, 20)


def test_a_symbol_that_was_listed_later() -> None:
    with pytest.raises(MissingDay) as caught:
        reader(SAMPLE, ("GOOG",), date(2004, 8, 2), date(2004, 8, 31)).check()
    told = str(caught.value)
    assert told.startswith("no daily data of GOOG on 2004-08-02 (")
    assert told.endswith("(there is 2004-08-19 to 2021-03-31) or go on without it (--allow-missing)")
    events = read(SAMPLE, ("GOOG",), date(2004, 8, 2), date(2004, 8, 31), allow_missing=True)
    assert Counter(type(e) for e in events) == {SessionOpened: 22, Bar: 9, SessionClosed: 22}


def test_raw_prices_come_with_their_split_before_the_session() -> None:
    events = read(SAMPLE, ("AAPL",), date(2014, 6, 6), date(2014, 6, 9))
    assert [type(e) for e in events[2:]] == [SessionClosed, Split, SessionOpened, Bar, SessionClosed]
    closes = [e.close for e in events if isinstance(e, Bar)]
    assert closes == [Decimal("645.57"), Decimal("93.7")]


def test_adjusted_prices_do_not_jump_over_a_split() -> None:
    events = read(SAMPLE, ("AAPL",), date(2014, 6, 6), date(2014, 6, 9), adjusted=True)
    before, after = [e for e in events if isinstance(e, Bar)]
    assert not [e for e in events if isinstance(e, Split | CashDividend)]
    assert before.close == Decimal("645.57") * Decimal("0.9011818") * Decimal("0.03571430")
    assert after.close == Decimal("93.7") * Decimal("0.9011818") * Decimal("0.25")


def test_the_dividends_of_spy_in_a_year() -> None:
    events = read(SAMPLE, ("SPY",), date(2013, 1, 1), date(2013, 12, 31))
    paid = {e.ex: str(e.amount) for e in events if isinstance(e, CashDividend)}
    assert paid == {  # what the factors say; paid were 0.69372, 0.83921, 0.83831 and 0.98033
        "2013-03-15": "0.7",
        "2013-06-21": "0.84",
        "2013-09-20": "0.84",
        "2013-12-20": "0.99",
    }


def daily(tmp_path: Path, rows: str) -> Path:
    return lean_folder(tmp_path, {"daily/abc": rows})


def test_later_days_in_the_file_leave_the_source_as_it_is(tmp_path: Path) -> None:
    short = daily(tmp_path / "short", ROWS)
    longer = daily(tmp_path / "longer", f"20131004 00:00,1,1,1,1,1\n{ROWS}20131010 00:00,1,1,1,1,1\n")
    other = daily(tmp_path / "other", ROWS.replace(",7", ",8"))
    sources = [reader(folder, ("ABC",), MONDAY, WEDNESDAY).source for folder in (short, longer, other)]
    assert sources[0] == sources[1] != sources[2]
    assert read(short, ("ABC",)) == read(longer, ("ABC",))


def refuse(kind: type[DataError], told: str, folder: Path, **options: Any) -> None:
    """Both `check` and `events` say what `told` says after the path."""
    for read_all in (LeanReader.check, lambda r: list(r.events())):
        with pytest.raises(kind) as caught:
            read_all(reader(folder, ("ABC",), MONDAY, WEDNESDAY, **options))
        assert told in str(caught.value)


GOOD = "20131007 00:00,1,1,1,1,1"
BAD = [
    ("20131007 00:00,1,1,1,1,1", "is of 2013-10-07, not after the row before it (2013-10-07)"),
    ("20131008,1,1,1,1,1", "does not begin with a time YYYYMMDD HH:MM"),
    ("20131308 00:00,1,1,1,1,1", "does not begin with a time YYYYMMDD HH:MM"),
    ("20131008 00:00,1,1,1,1", "has 5 columns, not 6"),
    ("20131008 00:00,1,1,1,1,", "has a column that is not a whole number"),
    ("20131008 00:00,0,1,0,1,1", "has a price that is not positive (0)"),
    ("20131008 00:00,3,2,1,1,1", "has its open (3) or close (1) outside its low and high (1, 2)"),
    ("20211008 00:00,1,1,1,1,-1", "has a negative size (-1)"),
]


@pytest.mark.parametrize(("row", "fault"), BAD)
def test_a_bad_row_is_named(tmp_path: Path, row: str, fault: str) -> None:
    folder = daily(tmp_path, f"{GOOD}\n{row}\n")
    refuse(BadRow, f"abc.zip line 2: {row!r} {fault}; correct the row", folder, allow_missing=True)


def test_a_row_of_no_session(tmp_path: Path) -> None:
    sunday = "20131006 00:00,1,1,1,1,1"
    folder = daily(tmp_path, f"20131004 00:00,1,1,1,1,1\n{sunday}\n{ROWS}")
    told = f"abc.zip line 2: {sunday!r} is of 2013-10-06, on which the US market had no session; correct"
    with pytest.raises(BadRow) as caught:
        reader(folder, ("ABC",), date(2013, 10, 4), WEDNESDAY).check()
    assert told in str(caught.value)
    assert reader(folder, ("ABC",), MONDAY, WEDNESDAY).check() == 9  # the range begins after it


def test_a_missing_row(tmp_path: Path) -> None:
    folder = daily(tmp_path, "".join(ROWS.splitlines(keepends=True)[::2]))
    refuse(MissingDay, "no daily data of ABC on 2013-10-08 (", folder)
    events = read(folder, ("ABC",), allow_missing=True)
    assert Counter(type(e) for e in events) == {SessionOpened: 3, Bar: 2, SessionClosed: 3}


@pytest.mark.parametrize("allow_missing", [True, False])
def test_nothing_in_the_range(tmp_path: Path, allow_missing: bool) -> None:
    folder = daily(tmp_path, "20131004 00:00,1,1,1,1,1\n20131010 00:00,1,1,1,1,1\n")
    told = "choose dates within what is there, " if allow_missing else "(there is "
    refuse(MissingDay, f"{told}2013-10-04 to 2013-10-10", folder, allow_missing=allow_missing)


def test_an_unknown_symbol() -> None:
    with pytest.raises(
        UnknownSymbol, match=r"has no data of MSFT \(there is: AAPL, AIG, BAC, GOOG, IBM, SPY\)"
    ):
        reader(SAMPLE, ("MSFT",), MONDAY, MONDAY)
