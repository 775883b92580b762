from __future__ import annotations

from datetime import UTC, date, datetime
from itertools import pairwise

import pytest

from producers.sessions import NEW_YORK, SECOND_NS, midnight, sessions


def new_york(ns: int) -> str:
    return datetime.fromtimestamp(ns // SECOND_NS, NEW_YORK).strftime("%H:%M")


def utc(ns: int) -> str:
    return datetime.fromtimestamp(ns // SECOND_NS, UTC).isoformat(timespec="minutes")


@pytest.mark.parametrize(
    ("day", "close", "extended_close"),
    [
        (date(1998, 1, 2), "16:00", "20:00"),
        (date(2013, 7, 3), "13:00", "17:00"),
        (date(2013, 10, 7), "16:00", "20:00"),
        (date(2013, 11, 27), "16:00", "20:00"),
        (date(2013, 11, 29), "13:00", "17:00"),
        (date(2013, 12, 24), "13:00", "17:00"),
        (date(2026, 11, 27), "13:00", "17:00"),
        (date(2026, 12, 31), "16:00", "20:00"),
    ],
)
def test_hours_of_a_day(day: date, close: str, extended_close: str) -> None:
    (session,) = sessions(day, day)
    assert session.date == day
    times = (session.extended_open, session.open, session.close, session.extended_close)
    assert [new_york(ts) for ts in times] == ["04:00", "09:30", close, extended_close]


@pytest.mark.parametrize(
    "day",
    [
        date(2013, 10, 5),  # a Saturday
        date(2013, 3, 29),  # Good Friday
        date(2013, 11, 28),  # Thanksgiving
        date(2012, 10, 29),  # a hurricane
        date(2001, 9, 12),
        date(2022, 6, 20),  # Juneteenth, observed
        date(2026, 7, 3),  # Independence Day, observed
    ],
)
def test_no_session(day: date) -> None:
    assert sessions(day, day) == []


@pytest.mark.parametrize(
    ("day", "opened"),
    [
        (date(2013, 3, 8), "2013-03-08T14:30+00:00"),
        (date(2013, 3, 11), "2013-03-11T13:30+00:00"),
        (date(2013, 11, 1), "2013-11-01T13:30+00:00"),
        (date(2013, 11, 4), "2013-11-04T14:30+00:00"),
    ],
)
def test_the_open_moves_with_new_yorks_clocks(day: date, opened: str) -> None:
    (session,) = sessions(day, day)
    assert utc(session.open) == opened
    assert session.extended_open - midnight(day) == 4 * 3600 * SECOND_NS


def test_both_ends_are_included_and_years_are_crossed() -> None:
    days = [s.date for s in sessions(date(2013, 12, 30), date(2014, 1, 2))]
    assert days == [date(2013, 12, 30), date(2013, 12, 31), date(2014, 1, 2)]


def test_an_inverted_range_is_empty() -> None:
    assert sessions(date(2013, 10, 9), date(2013, 10, 7)) == []


def test_all_years_are_in_order() -> None:
    every = sessions(date(1998, 1, 1), date(2026, 12, 31))
    assert len(every) == 7294
    for before, after in pairwise(every):
        assert before.extended_open < before.open < before.close < before.extended_close < after.extended_open
