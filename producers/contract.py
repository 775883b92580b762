"""What a producer asks of a log; every store of `eventlog` fulfils it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from schemas import NewRecord


class Partitioned(Protocol):
    """Knows how many partitions a topic has."""

    def partitions(self, topic: str) -> int: ...


class Appender(Protocol):
    """Appends records in their order: per partition at least, all or none where the store can."""

    def append(self, records: Sequence[NewRecord], /) -> object: ...
