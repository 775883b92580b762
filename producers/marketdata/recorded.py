"""Market data that stand in a log already: what one import has brought in, any number of runs can use."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from datetime import date
from functools import cached_property
from typing import Any

from eventlog import LogReader, open_log
from eventlog.heads import head_of
from producers.marketdata.drafts import ACTION, BAR, OTHER, QUOTE, SESSION_CLOSED, SESSION_OPENED, TRADE
from producers.marketdata.errors import BadRequest, BadRow, UnknownSymbol
from producers.sessions import Calendar
from schemas import (
    CORE_MARKET_INPUTS,
    EVERY_SYMBOL,
    Bar,
    CashDividend,
    Event,
    Quote,
    SessionClosed,
    SessionOpened,
    Split,
    Trade,
    Unreadable,
    decode,
    digest,
    evolve,
)

_FORMAT = "recorded 1"
_RANKS: dict[type, int] = {
    SessionOpened: SESSION_OPENED,
    Split: ACTION,
    CashDividend: ACTION,
    Quote: QUOTE,
    Trade: TRADE,
    Bar: BAR,
    SessionClosed: SESSION_CLOSED,
}
LOOK_EVERY = 5000


class RecordedReader:
    """The market events of a log, in the core's order, with rows of their own.

    `symbols` are those that are read, all if there are none; `first` and `last` the days (inclusive,
    of New York), all where there is none. What the log's import had left out stays out.

    Raises `LogError` for what is no log; `check` raises a `DataError` for a record that cannot be
    read, a symbol of which there is nothing, or an empty range.
    """

    def __init__(
        self,
        url: str,
        symbols: Collection[str] = (),
        first: date | None = None,
        last: date | None = None,
    ) -> None:
        if first and last and first > last:
            raise BadRequest(f"the range begins on {first}, after its end on {last}: exchange the two")
        self.url = url
        self.symbols = sorted({symbol.upper() for symbol in symbols})
        self.first, self.last = first, last
        self.period = 0
        """The longest period of a bar (ns), once `check` has been through."""
        with open_log(url, read_only=True) as log:
            self._heads = [head_of(log, stream) for stream in _streams(log)]
            self._id = log.id

    def check(self, progress: Callable[[int, int], None] | None = None) -> int:
        """Read every record once; how many events there are.

        `progress` is called with the records gone through so far, and all of them.
        """
        found, there = Counter[str](), set[str]()
        total = sum(head.count for head in self._heads)
        is_wanted = self._choice()
        for done, event in enumerate(self._recorded()):
            there.add(event.symbol)
            if is_wanted(event):
                found[event.symbol] += 1
                if type(event) is Bar:
                    self.period = max(self.period, event.period)
            if progress is not None and done % LOOK_EVERY == 0:
                progress(done, total)
        missing = [symbol for symbol in self.symbols if symbol not in there]
        if missing:
            have = ", ".join(sorted(there - {EVERY_SYMBOL})[:20]) or "nothing"
            raise UnknownSymbol(f"{self.url} has no data of {', '.join(missing)} (there is: {have})")
        if not found:
            raise BadRequest(f"{self.url} has no market data in that range: choose other dates")
        return found.total()

    @cached_property
    def source(self) -> str:
        """Twelve hexadecimal digits over the records there are and the choice among them."""
        heads = [(head.count, head.digest) for head in self._heads]
        return digest(repr((_FORMAT, self._id, heads, self.symbols, self.first, self.last)).encode())[:12]

    def events(self, source: str | None = None) -> Iterator[Event]:
        """All events by (ts, rank, symbol, row), `row` counting from 1 anew."""
        source = source or self.source
        for row, event in enumerate(filter(self._choice(), self._recorded()), start=1):
            yield evolve(event, source=source, row=row)

    def _choice(self) -> Callable[[Any], bool]:
        """Whether an event is of a wanted symbol and day."""
        symbols = {EVERY_SYMBOL, *self.symbols}
        first, last = self.first or date.min, self.last or date.max
        calendar = Calendar()

        def is_wanted(event: Any) -> bool:
            of_symbol = not self.symbols or event.symbol in symbols
            return of_symbol and first <= calendar.day(event.ts) <= last

        return is_wanted

    def _recorded(self) -> Iterator[Any]:
        with open_log(self.url, read_only=True) as log:
            streams = (
                _partition(log, *stream, head.next)
                for stream, head in zip(_streams(log), self._heads, strict=True)
            )
            yield from heapq.merge(*streams, key=_order)


def _streams(log: LogReader) -> list[tuple[str, int]]:
    return [(topic, p) for topic in CORE_MARKET_INPUTS for p in range(log.partitions(topic))]


def _partition(log: LogReader, topic: str, partition: int, end: int) -> Iterator[Any]:
    """What can be read of a partition up to `end`. Raises `BadRow`."""
    position = log.bounds(topic, partition)[0]
    while records := log.read(topic, partition, gte=position, lt=end):
        for record in records:
            event = decode(topic, record.value)
            if isinstance(event, Unreadable):
                raise BadRow(f"{log.url}: {record.place} cannot be read ({event.reason}): name other data")
            yield event
        position = records[-1].offset + 1


def _order(event: Any) -> tuple[int, int, str, int]:
    return event.ts, _RANKS.get(type(event), OTHER), event.symbol, event.row
