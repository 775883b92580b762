"""The order in which a core takes its inputs while they come.

By the lowest (ts, rank, symbol, row) over the heads, as in `merge`; for an input that is not known to be
at its end the others wait, but not for long. Whatever order that gives is recorded in the batch. A host
has one merge for the market and one for the rest, which goes first: a command waits for no quote.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Callable, Mapping, Sequence

from processors.hosts.merge import NEVER, START, Key, Stream, Waiting, key_of
from schemas import Record, decode

PATIENCE_S = 1.0
"""How long the oldest that waits may wait while other inputs go on giving."""


class LiveMerge:
    """Takes records as they come and hands them on in order, each with the index of its stream."""

    def __init__(
        self, streams: Mapping[Stream, int], wait_s: float, ends: Mapping[Stream, int] | None = None
    ) -> None:
        """`streams` with their indices; `wait_s` is how long one that gives nothing is waited for.

        What stands before `ends` is waited for as long as it takes: time must not come to be the present
        while what is old has still to be decided on.
        """
        self._index = dict(streams)
        self._last: dict[int, Key] = dict.fromkeys(streams.values(), START)
        self._waiting: dict[int, list[Waiting]] = {index: [] for index in streams.values()}
        self._counts = dict.fromkeys(streams.values(), 0)
        self._wait_s = wait_s
        self._behind = {stream: end for stream, end in (ends or {}).items() if stream in self._index}
        self._heard = self._handed = 0.0
        """When something came, and when something was last handed on (monotonic seconds)."""

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits."""
        return not any(self._waiting.values())

    def add(self, records: Sequence[Record], now_s: float) -> None:
        """Decode and keep what came."""
        if records:
            if self.is_empty:
                self._handed = now_s
            self._heard = now_s
        index_of, last, waiting, counts = self._index, self._last, self._waiting, self._counts
        for record in records:
            topic = record.topic
            index = index_of[topic, record.partition]
            record.event = decode(topic, record.value)
            before = last[index]
            key = key_of(record, before)
            if key > before:
                last[index] = before = key
            counts[index] += 1
            waiting[index].append(before + (index, counts[index], record))  # noqa: RUF005  # see `merge`
        if self._behind:
            self._catch_up(records)

    def _catch_up(self, records: Sequence[Record]) -> None:
        for record in records:
            stream = (record.topic, record.partition)
            if record.offset + 1 >= self._behind.get(stream, NEVER):
                del self._behind[stream]

    def ready(self, is_at_end: Callable[[Stream], bool], now_s: float) -> list[tuple[int, Record]]:
        """What can go now, in order."""
        waiting = self._waiting.values()
        open_inputs = [i for stream, i in self._index.items() if not is_at_end(stream)]
        if self._behind:  # of one whose offsets have holes only its end tells that nothing more comes
            self._behind = {s: end for s, end in self._behind.items() if not is_at_end(s)}
        is_late = now_s - self._heard >= self._wait_s or now_s - self._handed >= PATIENCE_S
        tired = is_late and not self._behind
        ready: list[Waiting] = []
        if tired or not open_inputs:
            for each in waiting:
                ready += each
                each.clear()
        else:
            bound, index = min((self._last[i], i) for i in open_inputs)
            for each in waiting:
                if each:
                    count = bisect(each, (*bound, index, NEVER))
                    ready += each[:count]
                    del each[:count]
        if ready:
            self._handed = now_s
            ready.sort()
        return [(taken[4], taken[6]) for taken in ready]
