"""LEAN daily files: all days of a symbol in one zip, `YYYYMMDD HH:MM,open,high,low,close,volume`."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime
from pathlib import Path
from typing import NamedTuple

from producers.marketdata.leanfiles import Prices, bad_row, fault_of_bar, numbered_lines

_COLUMNS = 6
_TIME_LENGTH = len("YYYYMMDD HH:MM")


class DailyRow(NamedTuple):
    """What traded on `day`; prices times 10,000. `number` and `line` say where that stands."""

    day: date
    prices: Prices
    volume: int
    number: int
    line: str


def daily_rows(path: Path) -> Iterator[DailyRow]:
    """The rows of all days, in order. Raises `DamagedFile`, `BadRow`."""
    last = date.min
    for number, line in numbered_lines(path):
        texts = line.split(",")
        if len(texts) != _COLUMNS:
            raise bad_row(path, number, line, f"has {len(texts)} columns, not {_COLUMNS}")
        day = _day(texts[0])
        if day is None:
            raise bad_row(path, number, line, "does not begin with a time YYYYMMDD HH:MM")
        try:
            opened, high, low, close, volume = map(int, texts[1:])
        except ValueError:
            raise bad_row(path, number, line, "has a column that is not a whole number") from None
        prices = (opened, high, low, close)
        if fault := fault_of_bar(prices, volume):
            raise bad_row(path, number, line, fault)
        if day <= last:
            raise bad_row(path, number, line, f"is of {day}, not after the row before it ({last})")
        last = day
        yield DailyRow(day, prices, volume, number, line)


def _day(text: str) -> date | None:
    try:
        return datetime.fromisoformat(text).date() if len(text) == _TIME_LENGTH else None
    except ValueError:
        return None
