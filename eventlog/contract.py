"""The contract of a log: what every store does, whatever it is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, Protocol, Self

from schemas import TOPICS, NewRecord, Record
from schemas.topics import Topic

Stream = tuple[str, int]
"""A topic's partition."""


@dataclass(frozen=True)
class LogSpec:
    """What is recorded in a log at its creation: its id, its source of time, its partition counts."""

    id: str
    time: Literal["wall", "data"]
    account_partitions: int = 4
    market_partitions: int = 4

    def partitions(self, topic: str) -> int:
        """How many partitions a topic of the catalogue has."""
        return self._count(TOPICS[topic])

    def _count(self, topic: Topic) -> int:
        return {"market": self.market_partitions, "account": self.account_partitions, "one": 1}[topic.spread]


class LogReader(Protocol):
    """Reads a log. Offsets increase; where topics are written in transactions they may have holes."""

    id: str
    url: str
    time: Literal["wall", "data"]
    dense: bool
    """Whether offsets have no holes in this store, so that a hole is a loss."""

    def partitions(self, topic: str) -> int:
        """How many partitions a topic has."""
        ...

    def read(
        self, topic: str, partition: int, *, gte: int, lt: int | None = None, limit: int = 5000
    ) -> list[Record]:
        """Committed records from offset `gte` on, below `lt`, at most `limit` of them, in order."""
        ...

    def bounds(self, topic: str, partition: int) -> tuple[int, int]:
        """The first offset there is, and the next to be written."""
        ...

    def wait(self, after: Mapping[Stream, int], timeout_s: float) -> bool:
        """Wait until a partition has a record at or beyond its offset in `after`; False: too long."""
        ...

    def follow(self, positions: Mapping[Stream, int]) -> Follower:
        """Read several partitions forward from these offsets, as their records come."""
        ...

    def close(self) -> None:
        """Let go of the store."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Follower(Protocol):
    """Reads several partitions forward: in order within each, as they come between them."""

    positions: dict[Stream, int]
    """Of each partition, the next offset to be given out."""

    def take(self, limit: int, timeout_s: float) -> list[Record]:
        """Up to `limit` committed records; waits so long for the first. Empty: there is none yet."""
        ...

    def is_at_end(self, stream: Stream) -> bool:
        """Whether all that the partition held when it was last looked at has been given out."""
        ...

    def close(self) -> None:
        """Let go."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Writer(Protocol):
    """Appends to a log. One holder of an id at a time; a newer one fences the older."""

    id: str

    def append(self, records: Sequence[NewRecord], /) -> None:
        """Append all of the records or none, in their order. Raises `WriterFenced`, `LogFull`."""
        ...

    def close(self) -> None:
        """Seal what is not sealed yet, and let go of the id."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class EventLog(LogReader, Protocol):
    """A log that can be written."""

    spec: LogSpec

    def writer(self, id: str, *, take_over: bool = False) -> Writer:
        """Become the holder of a writer id. Raises `WriterBusy` while another holder lives."""
        ...
