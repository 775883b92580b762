"""The market as the simulated broker sees it: all partitions of a log, in the order of time."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Mapping
from typing import Any

from eventlog import LogReader
from eventlog.contract import Stream
from schemas import (
    CORE_MARKET_INPUTS,
    CashDividend,
    Record,
    SessionClosed,
    SessionOpened,
    Split,
    Unreadable,
    decode,
)

RANKS: dict[str, int] = {"market.quotes": 2, "market.trades": 3, "market.bars": 4, "market.status": 5}
STATUS_RANKS: dict[type, int] = {SessionOpened: 0, Split: 1, CashDividend: 1, SessionClosed: 6}

LACKING_S = 0.01
"""For so long a partition that holds more is waited for at a time."""

PAGE = 5000
"""Records that are read at a time."""

Head = tuple[int, int, int, Record]
"""Time, rank, index of the partition; the first record of the partition that has not been given out."""


class Market:
    """Market records in the order of their times, over the partitions that have something to give.

    A partition is waited for while it is known to hold more; one that is at its end is not.
    """

    def __init__(self, log: LogReader, positions: Mapping[Stream, int]) -> None:
        self._streams: list[Stream] = [
            (topic, p) for topic in CORE_MARKET_INPUTS for p in range(log.partitions(topic))
        ]
        self._index = {stream: index for index, stream in enumerate(self._streams)}
        bounds = {stream: log.bounds(*stream) for stream in self._streams}
        start = {stream: max(positions.get(stream, 0), bounds[stream][0]) for stream in self._streams}
        self._ends = {stream: end for stream, (_, end) in bounds.items() if start[stream] < end}
        """Partitions that have not been read yet to where they ended at the start."""
        self.positions = dict(start)
        """Of each partition, the next offset to be given out."""
        self._follower = log.follow(start)
        self._waiting: list[deque[Record]] = [deque() for _ in self._streams]
        self._heads: list[Head] = []
        self._empty = set(range(len(self._streams)))

    def is_ready(self) -> bool:
        """Whether all that stood in the log at the start has been given out."""
        for stream, end in list(self._ends.items()):
            if self.positions[stream] >= end:
                del self._ends[stream]
        return not self._ends

    def take(self, limit: int, timeout_s: float) -> list[Record]:
        """Up to `limit` records, decoded; waits so long for the first of them."""
        out = self._ordered(limit)
        if not out:
            wait_s = min(LACKING_S, timeout_s) if self._heads else timeout_s
            for record in self._follower.take(PAGE, wait_s):
                self._add(record)
            out = self._ordered(limit)
        return out

    def _ordered(self, limit: int) -> list[Record]:
        """What can be given out without reading on."""
        out: list[Record] = []
        lacks = self._lacks_any()
        while self._heads and len(out) < limit and not lacks:
            index, record = self._next()
            out.append(record)
            lacks = index in self._empty and not self._follower.is_at_end(self._streams[index])
        return out

    def _add(self, record: Record) -> None:
        record.event = decode(record.topic, record.value)
        index = self._index[record.topic, record.partition]
        self._waiting[index].append(record)
        if index in self._empty:
            self._empty.discard(index)
            heapq.heappush(self._heads, self._head(index, record))

    def close(self) -> None:
        """Let go of the log."""
        self._follower.close()

    def _lacks_any(self) -> bool:
        return any(not self._follower.is_at_end(self._streams[index]) for index in self._empty)

    def _next(self) -> tuple[int, Record]:
        index, record = self._heads[0][2:]
        waiting = self._waiting[index]
        waiting.popleft()
        if waiting:
            heapq.heapreplace(self._heads, self._head(index, waiting[0]))
        else:
            heapq.heappop(self._heads)
            self._empty.add(index)
        self.positions[self._streams[index]] = record.offset + 1
        return index, record

    @staticmethod
    def _head(index: int, record: Record) -> Head:
        event: Any = record.event
        if type(event) is Unreadable:
            return (0, 0, index, record)
        rank = RANKS[record.topic]
        return (event.ts, rank if rank < 5 else STATUS_RANKS.get(type(event), 5), index, record)
