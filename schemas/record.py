"""A record: what a store keeps and a processor is given."""

from __future__ import annotations

import msgspec

from schemas.declare import Event


class Unreadable(msgspec.Struct, frozen=True, gc=False):
    """Stands in for the event of a record that cannot be decoded."""

    reason: str


class Record(msgspec.Struct, gc=False):
    """One record of a topic's partition.

    `timestamp` is the store's time of writing (UTC ns); it is part of no digest and no decision.
    `event` is what `value` says; the host fills it in before a processor sees the record.
    """

    topic: str
    partition: int
    offset: int
    key: bytes
    value: bytes
    timestamp: int = 0
    event: Event | Unreadable | None = None

    @property
    def place(self) -> str:
        """TOPIC/PARTITION/OFFSET, the identity of a market event."""
        return f"{self.topic}/{self.partition}/{self.offset}"


class NewRecord(msgspec.Struct, gc=False, frozen=True):
    """A record to be appended; the store gives it its offset."""

    topic: str
    partition: int
    key: bytes
    value: bytes
