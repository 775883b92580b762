"""LEAN tick files: trades as they were printed, and changes of the national best of one side.

A trade's row is time,price,size,exchange,condition,suspicious; a quote's is time,bid price,bid
size,ask price,ask size,exchange,condition,suspicious, where 0,0 is a side that has not changed
and `exchange` the venue that set the other. Suspicious rows are left out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from producers.marketdata.leanfiles import DAY_MS, bad_row, numbered_lines

_NUMBERS = "has a column that is not a whole number"
SUSPICIOUS, MERGED = "marked as suspicious", "merged with later ones of their millisecond"
"""Why rows are left out."""
_SUSPICIOUS = "has a last column that is neither 0 nor 1 (suspicious)"


class TickTrade(NamedTuple):
    """A trade at `ms`, milliseconds after midnight in New York; the price times 10,000."""

    ms: int
    price: int
    size: int
    exchange: str
    condition: str


class BestQuote(NamedTuple):
    """The national best bid and ask at the end of `ms`; a side not heard of yet that day has price 0."""

    ms: int
    bid: int
    bid_size: int
    ask: int
    ask_size: int


def tick_trades(path: Path, left_out: Counter[str] | None = None) -> Iterator[TickTrade]:
    """The trades of a day; `left_out` counts the other rows. Raises `DamagedFile`, `BadRow`."""
    for number, line, ms, columns in _rows(path, 6, Counter() if left_out is None else left_out):
        try:
            price, size = int(columns[1]), int(columns[2])
        except ValueError:
            raise bad_row(path, number, line, _NUMBERS) from None
        if price <= 0 or size < 0:
            raise bad_row(path, number, line, _fault_of_side(price, size))
        yield TickTrade(ms, price, size, columns[3], columns[4])


def best_quotes(path: Path, left_out: Counter[str] | None = None) -> Iterator[BestQuote]:
    """The national best after each millisecond with a change; `left_out` counts the other rows.

    Raises `DamagedFile`, `BadRow`.
    """
    left_out = Counter() if left_out is None else left_out
    at = -1
    bid = bid_size = ask = ask_size = 0
    for number, line, ms, columns in _rows(path, 8, left_out):
        if ms != at:
            if at >= 0:
                yield BestQuote(at, bid, bid_size, ask, ask_size)
            at = ms
        else:
            left_out[MERGED] += 1
        try:
            new_bid, new_bid_size = int(columns[1] or 0), int(columns[2] or 0)
            new_ask, new_ask_size = int(columns[3] or 0), int(columns[4] or 0)
        except ValueError:
            raise bad_row(path, number, line, _NUMBERS) from None
        if new_bid < 0 or new_bid_size < 0 or (not new_bid and new_bid_size):
            raise bad_row(path, number, line, _fault_of_side(new_bid, new_bid_size))
        if new_ask < 0 or new_ask_size < 0 or (not new_ask and new_ask_size):
            raise bad_row(path, number, line, _fault_of_side(new_ask, new_ask_size))
        if new_bid:
            bid, bid_size = new_bid, new_bid_size
        if new_ask:
            ask, ask_size = new_ask, new_ask_size
        if not new_bid and not new_ask:
            raise bad_row(path, number, line, "has neither a bid nor an ask")
    if at >= 0:
        yield BestQuote(at, bid, bid_size, ask, ask_size)


def _rows(path: Path, columns: int, left_out: Counter[str]) -> Iterator[tuple[int, str, int, list[str]]]:
    """Line number, line, milliseconds after midnight, and all columns, without the suspicious rows."""
    last = 0
    for number, line in numbered_lines(path):
        texts = line.split(",")
        if len(texts) != columns:
            raise bad_row(path, number, line, f"has {len(texts)} columns, not {columns}")
        try:
            ms = int(texts[0])
        except ValueError:
            raise bad_row(path, number, line, _NUMBERS) from None
        if not last <= ms < DAY_MS:
            fault = f"before the row before it ({last} ms)" if 0 <= ms < last else "outside the day"
            raise bad_row(path, number, line, f"is at {ms} ms, {fault}")
        last = ms
        if texts[-1] == "0":
            yield number, line, ms, texts
        elif texts[-1] == "1":
            left_out[SUSPICIOUS] += 1
        else:
            raise bad_row(path, number, line, _SUSPICIOUS)


def _fault_of_side(price: int, size: int) -> str:
    if size < 0:
        return f"has a negative size ({size})"
    return f"has a price that is not positive ({price})"
