"""The order in which a core partition takes its inputs.

By the lowest (ts, rank, symbol, row) over the heads of all input partitions. A record that is older
than one before it in its own partition has to wait for that one, and then goes at once: over a page
this is a stable sort by each record's running maximum of keys, which is what `Merge` does.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Iterator, Sequence
from typing import Any

from eventlog.contract import LogReader
from eventlog.errors import LogError
from schemas import (
    CORE_MARKET_INPUTS,
    Bar,
    CashDividend,
    Quote,
    Record,
    SessionClosed,
    SessionOpened,
    Split,
    Trade,
    Unreadable,
    decode,
)

Key = tuple[int, int, str, int]
Stream = tuple[str, int]

MARKET = frozenset(CORE_MARKET_INPUTS)
REST = 5
RANKS: dict[type, int] = {
    SessionOpened: 0,
    Split: 1,
    CashDividend: 1,
    Quote: 2,
    Trade: 3,
    Bar: 4,
    SessionClosed: 6,
}
START: Key = (-1, 0, "", 0)
NEVER = 1 << 62

Waiting = tuple[int, int, str, int, int, int, Record]
"""Key, index of the input, count within it, and the record: sorted, the order of taking."""

INPUTS_MAX = 256
"""A batch names the source of a record in one byte."""


def input_streams(log: LogReader, partition: int, topics: Sequence[str]) -> list[Stream]:
    """The input partitions of a core partition: all of the market's, its own of the rest.

    Raises `LogError` where there are more than a batch can name.
    """
    streams: list[Stream] = []
    for topic in topics:
        if topic in CORE_MARKET_INPUTS:
            streams.extend((topic, p) for p in range(log.partitions(topic)))
        else:
            streams.append((topic, partition))
    if len(streams) > INPUTS_MAX:
        raise LogError(f"{log.url} has {len(streams)} input partitions; a core reads at most {INPUTS_MAX}")
    return streams


def key_of(record: Record, before: Key) -> Key:
    """Where a record stands in the order; one that cannot be read keeps its place in its partition."""
    event: Any = record.event
    kind = type(event)
    rank = RANKS.get(kind)
    if rank is not None:
        return (event.ts, rank, event.symbol, event.row)
    if kind is Unreadable:
        return before
    if record.topic in MARKET:
        return (event.ts, REST, event.symbol, event.row)
    return (event.ts, REST, "", 0)


class _Input:
    """One input partition: its next offset to read, and what was read and not yet taken."""

    def __init__(
        self, log: LogReader, index: int, stream: Stream, position: int, end: int, page: int
    ) -> None:
        self.log, self.stream, self.page = log, stream, page
        self.position, self.end = position, end
        self.index = index
        self.waiting: list[Waiting] = []
        self.last = START
        self.count = 0

    @property
    def exhausted(self) -> bool:
        return self.position >= self.end

    def fill(self) -> None:
        """Read the next page, decoded and keyed."""
        topic, partition = self.stream
        records = self.log.read(topic, partition, gte=self.position, lt=self.end, limit=self.page)
        if not records:
            self.position = self.end
            return
        last, index, count = self.last, self.index, self.count
        add = self.waiting.append
        for record in records:
            record.event = decode(topic, record.value)
            key = key_of(record, last)
            last = max(last, key)
            count += 1
            add(last + (index, count, record))  # noqa: RUF005  # half the time of unpacking
        self.last, self.count = last, count
        self.position = records[-1].offset + 1


class Merge:
    """Merges input partitions from given positions up to given ends."""

    def __init__(
        self,
        log: LogReader,
        streams: Sequence[Stream],
        positions: dict[Stream, int],
        ends: dict[Stream, int],
        page: int = 5000,
    ) -> None:
        self._inputs = [_Input(log, i, s, positions[s], ends[s], page) for i, s in enumerate(streams)]

    def __iter__(self) -> Iterator[tuple[int, Record]]:
        """Records in order, each with the index of its input."""
        while True:
            for each in self._inputs:
                if not each.waiting and not each.exhausted:
                    each.fill()
            open_inputs = [i for i in self._inputs if not i.exhausted]
            if not open_inputs:
                yield from self._take(None)
                return
            bound = min((i.last, i.index) for i in open_inputs)
            yield from self._take(bound)

    def _take(self, bound: tuple[Key, int] | None) -> list[tuple[int, Record]]:
        """What can be taken in order: all up to `bound`, beyond which more may still be read."""
        ready: list[Waiting] = []
        for each in self._inputs:
            waiting = each.waiting
            count = len(waiting) if bound is None else bisect(waiting, (*bound[0], bound[1], NEVER))
            ready += waiting[:count]
            del waiting[:count]
        ready.sort()
        return [(taken[4], taken[6]) for taken in ready]
