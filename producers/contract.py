"""What a producer asks of a log, which every store of `eventlog` fulfils, and what a reader of data gives."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from schemas import Event, NewRecord


class Partitioned(Protocol):
    """Knows how many partitions a topic has."""

    def partitions(self, topic: str) -> int: ...


class Appender(Protocol):
    """Appends records in their order: per partition at least, all or none where the store can."""

    def append(self, records: Sequence[NewRecord], /) -> object: ...


class Reader(Protocol):
    """Market events from somewhere, in the order of the log and the same each time."""

    @property
    def source(self) -> str:
        """A digest of all that the events are made of: the identity of an import."""
        ...

    def check(self, progress: Callable[[int, int], None] | None = None) -> int:
        """Go through everything once; how many events there are. Raises a `DataError`.

        `progress` is called with how much has been gone through, and how much there is.
        """
        ...

    def events(self, source: str | None = None) -> Iterator[Event]:
        """The events, `row` ascending from 1, said to be of `source` where another is wanted."""
        ...
