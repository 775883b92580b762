"""Reading several partitions forward through the contract's `read` and `wait`: for stores without a way
of their own."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Self

from eventlog.contract import LogReader, Stream
from schemas import Record


class PagedFollower:
    """A `Follower` that asks for a page of each partition in turn."""

    def __init__(self, log: LogReader, positions: Mapping[Stream, int]) -> None:
        self.positions = dict(positions)
        self._log = log
        self._turn = 0
        self._at_end: set[Stream] = set()

    def take(self, limit: int, timeout_s: float) -> list[Record]:
        """Each partition that has something gets a share of the page; the next call begins with another."""
        records = self._page(limit)
        if not records and timeout_s > 0 and self.positions and self._log.wait(self.positions, timeout_s):
            records = self._page(limit)
        return records

    def _page(self, limit: int) -> list[Record]:
        streams = list(self.positions)
        self._turn = (self._turn + 1) % max(len(streams), 1)
        share = max(limit // max(len(streams), 1), 1)
        records: list[Record] = []
        for stream in (*streams[self._turn :], *streams[: self._turn]):
            wanted = min(share, limit - len(records))
            if not wanted:
                break
            found = self._log.read(*stream, gte=self.positions[stream], limit=wanted)
            if len(found) < wanted:
                self._at_end.add(stream)
            else:
                self._at_end.discard(stream)
            if found:
                self.positions[stream] = found[-1].offset + 1
                records += found
        return records

    def is_at_end(self, stream: Stream) -> bool:
        return stream in self._at_end

    def close(self) -> None:
        """Nothing is held between two pages."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
