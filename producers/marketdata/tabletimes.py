"""Times of tables: ISO 8601 or counted since 1970, read to UTC nanoseconds without loss.

A time without a zone is read in the one that is named; where clocks change, a time that comes
twice or not at all is an error, not a guess.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from producers.marketdata.errors import BadRequest
from producers.sessions import SECOND_NS, YEAR_MAX, YEAR_MIN

TimeFormat = Literal["iso", "s", "ms", "us", "ns", "date"]
"""ISO 8601, a count since 1970 in UTC, or the date of a session."""

UNITS = {"s": SECOND_NS, "ms": 1_000_000, "us": 1000, "ns": 1}
_MINUTE_NS = 60 * SECOND_NS
_DAY_NS = 24 * 60 * _MINUTE_NS
_NEAR_1970 = 60 * _DAY_NS
_EPOCH_DAY = date(1970, 1, 1).toordinal()
_EARLIEST = int(datetime(YEAR_MIN, 1, 1, tzinfo=UTC).timestamp()) * SECOND_NS
_LATEST = int(datetime(YEAR_MAX, 1, 1, tzinfo=UTC).timestamp()) * SECOND_NS
_ISO = re.compile(
    r"(\d{4}-?\d\d-?\d\d[T ]\d\d:?\d\d(?::?\d\d)?)(?:[.,](\d{1,9}))?\s?(Z|[+-]\d\d(?::?\d\d)?)?",
    re.ASCII | re.IGNORECASE,
)


def zone(name: str | None) -> ZoneInfo | None:
    """A time zone by its name. Raises `BadRequest`."""
    try:
        return ZoneInfo(name) if name else None
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise BadRequest(f"no time zone is named {name!r}: choose one like America/New_York or UTC") from None


def time_reader(form: TimeFormat, tz: ZoneInfo | None) -> Callable[[Any], int]:
    """What reads one value to UTC nanoseconds; it raises `ValueError` with the reason and the remedy.

    "date" is read to midnight UTC of the date, which is not yet an instant.
    """
    if form == "iso":
        return lambda value: iso(value, tz)
    if form == "date":
        return _date
    unit = UNITS[form]
    return lambda value: _counted(value, unit)


def iso(value: Any, tz: ZoneInfo | None) -> int:
    """A date and time in ISO 8601, to the nanosecond."""
    found = _ISO.fullmatch(value.strip()) if isinstance(value, str) else None
    if found is None:
        raise ValueError(
            "is not a time in ISO 8601 (2013-10-07T09:30:00.5-04:00): name its format with --time"
        )
    clock, fraction, offset = found.groups()
    seconds = _seconds(clock, offset.upper() if offset else None, tz)
    return seconds * SECOND_NS + (int(fraction.ljust(9, "0")) if fraction else 0)


def local(wall_ns: int, tz: ZoneInfo | None) -> int:
    """UTC nanoseconds of what a clock in `tz` shows, itself given as if it were UTC."""
    return wall_ns - _offset(wall_ns // _MINUTE_NS, tz)


def _counted(value: Any, unit: int) -> int:
    try:
        number = Decimal(str(value).strip())
        ns = number * unit
        whole = int(ns)
    except (InvalidOperation, ValueError, OverflowError):
        raise ValueError("is not a number of seconds, or parts of them, since 1970") from None
    if ns != whole:
        raise ValueError("has parts of a nanosecond")
    return _plausible(whole)


def _plausible(ts: int) -> int:
    """The commonest mistake is another unit: recent times then seem to be in January 1970, or far off."""
    if not _EARLIEST <= ts < _LATEST or 0 <= ts < _NEAR_1970:
        raise ValueError("is no time that data may have: is its unit another (--time s, ms, us or ns)?")
    return ts


@lru_cache(maxsize=4096)
def _seconds(clock: str, offset: str | None, tz: ZoneInfo | None) -> int:
    """Seconds since 1970; cached, since many ticks share a second."""
    try:
        at = datetime.fromisoformat(f"{clock}{offset or ''}")
    except ValueError as problem:
        raise ValueError(f"is no time: {problem}") from None
    if not YEAR_MIN <= at.year < YEAR_MAX:
        raise ValueError(f"is not in the years {YEAR_MIN} to {YEAR_MAX - 1}")
    if at.tzinfo is None:
        wall = int(at.replace(tzinfo=UTC).timestamp())
        return local(wall * SECOND_NS, tz) // SECOND_NS
    return int(at.timestamp())


@lru_cache(maxsize=4096)
def _offset(wall_minute: int, tz: ZoneInfo | None) -> int:
    """How far a clock in `tz` is ahead of UTC at a minute that it shows, in nanoseconds."""
    if tz is None:
        raise ValueError("has no zone: name the one it is in with --tz, for example --tz America/New_York")
    at = datetime(1970, 1, 1, tzinfo=tz) + timedelta(minutes=wall_minute)
    first, second = at.utcoffset(), at.replace(fold=1).utcoffset()
    if first is None or second is None or first != second:
        raise ValueError(
            f"comes twice or not at all in {tz}, whose clocks change then: give times with a zone"
        )
    return int(first.total_seconds()) * SECOND_NS


def midnight_utc(wall_ns: int) -> int:
    """A date given as the first instant of its day, without a zone. Raises `ValueError` for another."""
    if wall_ns % _DAY_NS:
        raise ValueError("is a time of day where a date is expected")
    return _in_years(wall_ns // _DAY_NS + _EPOCH_DAY) * _DAY_NS


def _date(value: Any) -> int:
    """A date, alone or with midnight after it, as many exports write it."""
    try:
        day = value if isinstance(value, date) else datetime.fromisoformat(str(value).strip())
    except ValueError:
        raise ValueError("is not a date (2013-10-07)") from None
    if isinstance(day, datetime) and day.time() != time():
        raise ValueError("is a time of day where a date is expected")
    return _in_years(day.toordinal()) * _DAY_NS


def _in_years(ordinal: int) -> int:
    """Days since 1970 of a day counted from the year 1."""
    if not date(YEAR_MIN, 1, 1).toordinal() <= ordinal < date(YEAR_MAX, 1, 1).toordinal():
        raise ValueError(f"is not in the years {YEAR_MIN} to {YEAR_MAX - 1}")
    return ordinal - _EPOCH_DAY
