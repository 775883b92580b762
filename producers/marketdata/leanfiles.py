"""LEAN data files: a zip with one CSV whose rows are whole numbers, prices times 10,000.

Everything is checked while it is read, in whole numbers; nothing here knows of events.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from producers.marketdata.errors import BadRow, DamagedFile

DAY_MS = 24 * 60 * 60 * 1000
_CORRECT = "correct the row, or replace the file"
_RESTORE = "replace it with an intact copy"

Prices = tuple[int, int, int, int]
"""Open, high, low, close, times 10,000."""


class TradeRow(NamedTuple):
    """What traded in the bar that begins at `ms`, milliseconds after midnight in New York."""

    ms: int
    prices: Prices
    volume: int


class QuoteRow(NamedTuple):
    """Best bid and ask over the bar that begins at `ms`, and their last sizes; an empty side is None."""

    ms: int
    bid: Prices | None
    bid_size: int
    ask: Prices | None
    ask_size: int


def read_file(path: Path) -> bytes:
    """The bytes of a file. Raises `DamagedFile` if they cannot be read."""
    try:
        return path.read_bytes()
    except OSError as problem:
        raise DamagedFile(f"{path} cannot be read: {problem}; {_RESTORE}") from problem


def numbered_lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of the one file in a zip, counted from 1; only the zip itself is in memory.

    Raises `DamagedFile` if there is no such thing, or nothing in it.
    """
    packed = io.BytesIO(read_file(path))
    number = 0
    try:
        with zipfile.ZipFile(packed) as archive:
            names = archive.namelist()
            if len(names) != 1:
                raise DamagedFile(f"{path} holds {len(names)} files where one is expected: {_RESTORE}")
            with io.TextIOWrapper(archive.open(names[0]), "ascii") as text:
                for number, line in enumerate(text, start=1):
                    yield number, line.rstrip("\n")
    except (OSError, EOFError, RuntimeError, ValueError, zipfile.BadZipFile, zlib.error) as problem:
        raise DamagedFile(f"{path} cannot be read: {problem}; {_RESTORE}") from problem
    if not number:
        raise DamagedFile(f"{path} holds no rows: {_RESTORE}")


def trade_rows(path: Path) -> Iterator[TradeRow]:
    """The rows time,open,high,low,close,volume. Raises `DamagedFile`, `BadRow`."""
    for number, line, ms, numbers in _rows(path, columns=6):
        opened, high, low, close, volume = numbers
        prices = (opened, high, low, close)
        if fault := fault_of_bar(prices, volume):
            raise bad_row(path, number, line, fault)
        yield TradeRow(ms, prices, volume)


def quote_rows(path: Path) -> Iterator[QuoteRow]:
    """The rows time, bid open,high,low,close,size, ask open,high,low,close,size.

    A side whose prices are all empty or zero is an empty side. Raises `DamagedFile`, `BadRow`.
    """
    for number, line, ms, numbers in _rows(path, columns=11):
        bo, bh, bl, bc, bid_size, ao, ah, al, ac, ask_size = numbers
        bid = (bo, bh, bl, bc) if bo or bh or bl or bc else None
        ask = (ao, ah, al, ac) if ao or ah or al or ac else None
        if fault := (bid and fault_of_bar(bid, bid_size)) or (ask and fault_of_bar(ask, ask_size)):
            raise bad_row(path, number, line, fault)
        yield QuoteRow(ms, bid, bid_size, ask, ask_size)


def _rows(path: Path, columns: int) -> Iterator[tuple[int, str, int, list[int]]]:
    """Line number, line, milliseconds after midnight, and the other columns, an empty one as 0."""
    last = -1
    for number, line in numbered_lines(path):
        texts = line.split(",")
        if len(texts) != columns:
            raise bad_row(path, number, line, f"has {len(texts)} columns, not {columns}")
        try:
            ms, numbers = int(texts[0]), [int(text or 0) for text in texts[1:]]
        except ValueError:
            raise bad_row(path, number, line, "has a column that is not a whole number") from None
        if not last < ms < DAY_MS:
            raise bad_row(path, number, line, _fault_of_time(ms, last))
        last = ms
        yield number, line, ms, numbers


def _fault_of_time(ms: int, last: int) -> str:
    """What is wrong with the time of a bar that does not ascend within the day."""
    if 0 <= ms <= last:
        return f"begins at {ms} ms, not after the row before it ({last} ms)"
    return f"begins at {ms} ms, outside the day"


def fault_of_bar(prices: Prices, size: int) -> str:
    """What is wrong with open, high, low, close and a size; nothing is ""."""
    opened, high, low, close = prices
    if 0 < low <= opened <= high and low <= close <= high and size >= 0:
        return ""
    if min(prices) <= 0:
        return f"has a price that is not positive ({min(prices)})"
    if low > high:
        return f"has its high ({high}) below its low ({low})"
    if size < 0:
        return f"has a negative size ({size})"
    return f"has its open ({opened}) or close ({close}) outside its low and high ({low}, {high})"


def bad_row(path: Path, number: int, line: str, fault: str) -> BadRow:
    """The error of a row: where it stands, what it says, what is wrong with it, and the remedy."""
    return BadRow(f"{path} line {number}: {line!r} {fault}; {_CORRECT}")
