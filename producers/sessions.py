"""Sessions of the US equity market: when it opens and closes, half days and holidays included."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from functools import lru_cache
from typing import Any, Literal, NamedTuple
from zoneinfo import ZoneInfo

NEW_YORK = ZoneInfo("America/New_York")
SECOND_NS = 1_000_000_000
Hours = Literal["regular", "extended"]
"""Which part of a day's data is read: the session, or the trade before and after it too."""

YEAR_MIN, YEAR_MAX = 1900, 2100
_DAY = timedelta(days=1)
_BLOCK_YEARS = 5  # to look up five costs hardly more than to look up one
_CALENDAR = "XNYS"
_REGULAR_CLOSE = time(16)
_EXTENDED_OPEN = time(4)
_EXTENDED_CLOSE = time(20)
_HALF_DAY_EXTENDED_CLOSE = time(17)


class Session(NamedTuple):
    """One trading day of New York; all times are UTC nanoseconds.

    Regular hours are [open, close); before and after them trade runs from `extended_open` (04:00)
    to `extended_close` (20:00, on a half day 17:00).
    """

    date: date
    open: int
    close: int
    extended_open: int
    extended_close: int


def sessions(first: date, last: date) -> list[Session]:
    """The sessions from `first` to `last`, both inclusive, in order; empty if there are none.

    The calendar's rules make sense from `YEAR_MIN` to `YEAR_MAX`.
    """
    if first > last:
        return []
    schedule = _calendar(first.year, last.year).schedule.loc[first.isoformat() : last.isoformat()]
    return [
        _session(day.date(), opened.value, closed.value)
        for day, opened, closed in zip(schedule.index, schedule["open"], schedule["close"], strict=True)
    ]


def midnight(day: date) -> int:
    """The UTC nanoseconds from which New York's clocks count on a session's `day`.

    On the two Sundays a year when clocks change there is no session.
    """
    return _new_york(day, time(0))


def _session(day: date, opened: int, closed: int) -> Session:
    half_day = closed < _new_york(day, _REGULAR_CLOSE)
    extended_close = _HALF_DAY_EXTENDED_CLOSE if half_day else _EXTENDED_CLOSE
    return Session(
        date=day,
        open=opened,
        close=closed,
        extended_open=_new_york(day, _EXTENDED_OPEN),
        extended_close=_new_york(day, extended_close),
    )


def _new_york(day: date, clock: time) -> int:
    return int(datetime.combine(day, clock, NEW_YORK).timestamp()) * SECOND_NS


@lru_cache(maxsize=8)
def _calendar(first_year: int, last_year: int) -> Any:
    """The calendar of whole years: without bounds the library knows the last twenty only."""
    import exchange_calendars  # takes a second

    return exchange_calendars.get_calendar(_CALENDAR, start=f"{first_year}-01-01", end=f"{last_year}-12-31")


class Calendar:
    """Days and sessions by instant, for a stream of times; years are looked up when they are needed."""

    def __init__(self) -> None:
        self._day, self._from, self._until = date.min, 0, 0
        self._blocks: dict[int, dict[date, Session]] = {}

    def day(self, ts: int) -> date:
        """New York's date at `ts` (UTC ns)."""
        if not self._from <= ts < self._until:
            self._day = datetime.fromtimestamp(ts // SECOND_NS, NEW_YORK).date()
            self._from, self._until = midnight(self._day), midnight(self._day + _DAY)
        return self._day

    def session(self, day: date) -> Session | None:
        """The session of a day, if there is one."""
        return self._block(day).get(day)

    def between(self, first: date, last: date) -> list[Session]:
        """The sessions from `first` to `last`, both inclusive, in order."""
        days = (first + timedelta(days=i) for i in range((last - first).days + 1))
        return [session for day in days if (session := self.session(day))]

    def _block(self, day: date) -> dict[date, Session]:
        year = day.year - day.year % _BLOCK_YEARS
        if year not in self._blocks:
            last = date(min(year + _BLOCK_YEARS - 1, YEAR_MAX), 12, 31)
            self._blocks[year] = {s.date: s for s in sessions(date(year, 1, 1), last)}
        return self._blocks[year]
