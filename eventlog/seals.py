"""Seals: a digest that rolls over each partition's records.

Records are taken in blocks of `BLOCK` by count, from the partition's start, so that the digest
depends on nothing but the records: not on batches, restarts or closes.

    D_0     = 32 zero bytes
    D_{k+1} = BLAKE2b-256(D_k, then for each record of block k: len(key), key, len(value), value)

with lengths in 8 bytes, big-endian. Inside a block the rolled digest is the same function of the
records of the block so far; at a block's end it is D.

The digest is written down as a `Seal` when a block is full and at a clean close, in topic `seals`.
That topic is sealed like the others, by itself: at a close its seal is the last, and covers every
seal before it. A seal that holds proves every record before it, and so every seal before it too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from struct import Struct

from eventlog.contract import Stream
from schemas import NewRecord, Record, Seal, encode

BLOCK = 4096
SEALS: Stream = ("seals", 0)
"""Where seals stand."""
ZERO = bytes(32)
_LENGTH = Struct(">Q").pack


class Chain:
    """The rolling digest of one partition, from a block boundary on."""

    __slots__ = ("_open", "boundary", "count", "next")

    def __init__(self, boundary: bytes = ZERO, count: int = 0, next: int = 0) -> None:
        """At the block boundary after `count` records, with digest `boundary`; `next` is the next offset."""
        self.boundary = boundary
        self.count = count
        self.next = next
        self._open = hashlib.blake2b(boundary, digest_size=32)

    @property
    def digest(self) -> bytes:
        """The rolled digest of all records so far."""
        return self._open.digest() if self.count % BLOCK else self.boundary

    def room(self) -> int:
        """How many records the open block still takes."""
        return BLOCK - self.count % BLOCK

    def add(self, records: Sequence[Record | NewRecord], next: int) -> bool:
        """Add records of the open block, at most `room`; True when it is full now."""
        if not records:
            return False
        parts: list[bytes] = []
        for record in records:
            key, value = record.key, record.value
            parts += (_LENGTH(len(key)), key, _LENGTH(len(value)), value)
        self._open.update(b"".join(parts))
        self.count += len(records)
        self.next = next
        if self.count % BLOCK:
            return False
        self.boundary = self._open.digest()
        self._open = hashlib.blake2b(self.boundary, digest_size=32)
        return True

    def follow(self, records: Sequence[Record]) -> None:
        """Add stored records of any number."""
        start = 0
        while start < len(records):
            part = records[start : start + self.room()]
            self.add(part, part[-1].offset + 1)
            start += len(part)


def make_seal(stream: Stream, first: int, chain: Chain) -> Seal:
    """The seal of a partition up to where its chain is; `first` is where the seal before ended."""
    topic, partition = stream
    return Seal(
        sealed=topic,
        partition=partition,
        first=first,
        next=chain.next,
        count=chain.count,
        digest=chain.digest.hex(),
    )


def seal_record(seal: Seal) -> NewRecord:
    """The record of a seal; one of other bytes is not as it was written."""
    return NewRecord(*SEALS, f"{seal.sealed}/{seal.partition}".encode(), encode(seal))
