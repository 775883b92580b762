"""Seals: a digest that rolls over each partition's records.

Records are taken in blocks of `BLOCK` by count, from the partition's start, so that the digest
depends on nothing but the records: not on batches, restarts or closes.

    D_0     = 32 zero bytes
    D_{k+1} = BLAKE2b-256(D_k, then for each record of block k: len(key), key, len(value), value)

with lengths in 8 bytes, big-endian. Inside a block the rolled digest is the same function of the
records of the block so far; at a block's end it is D.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from struct import Struct

from schemas import Record, Seal

BLOCK = 4096
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

    def add(self, pairs: Sequence[tuple[bytes, bytes]], next: int) -> bool:
        """Add records (key, value) of the open block, at most `room`; True when it is full now."""
        if not pairs:
            return False
        parts: list[bytes] = []
        for key, value in pairs:
            parts += (_LENGTH(len(key)), key, _LENGTH(len(value)), value)
        self._open.update(b"".join(parts))
        self.count += len(pairs)
        self.next = next
        if self.count % BLOCK:
            return False
        self.boundary = self._open.digest()
        self._open = hashlib.blake2b(self.boundary, digest_size=32)
        return True

    def follow(self, records: Iterable[Record]) -> Iterable[bytes]:
        """Add stored records of any number; gives the digest at each block boundary passed."""
        waiting: list[Record] = []
        for record in records:
            waiting.append(record)
            if len(waiting) == self.room():
                self.add([(r.key, r.value) for r in waiting], record.offset + 1)
                waiting = []
                yield self.boundary
        if waiting:
            self.add([(r.key, r.value) for r in waiting], waiting[-1].offset + 1)


def make_seal(topic: str, partition: int, first: int, chain: Chain) -> Seal:
    """The seal of a partition up to where its chain is; `first` is where the seal before ended."""
    return Seal(
        sealed=topic,
        partition=partition,
        first=first,
        next=chain.next,
        count=chain.count,
        digest=chain.digest.hex(),
    )
