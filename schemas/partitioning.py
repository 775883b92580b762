"""Which partition a key belongs to, the same in every store.

Kafka's Java client hashes keys with 32-bit murmur2 (seed 0x9747b28c) and takes the low 31
bits modulo the partition count; we compute it ourselves so that a log has the same layout in
SQLite, in Kafka and whatever client writes it.
"""

from __future__ import annotations

from functools import lru_cache

_M = 0x5BD1E995
_MASK = 0xFFFFFFFF


def murmur2(data: bytes) -> int:
    """Unsigned 32-bit murmur2 of `data`, as Kafka's `Utils.murmur2` computes it."""
    length = len(data)
    h = (0x9747B28C ^ length) & _MASK
    whole = length & ~3
    for i in range(0, whole, 4):
        k = int.from_bytes(data[i : i + 4], "little") * _M & _MASK
        k = (k ^ (k >> 24)) * _M & _MASK
        h = h * _M & _MASK ^ k
    if length > whole:
        h ^= int.from_bytes(data[whole:], "little")
        h = h * _M & _MASK
    h = (h ^ (h >> 13)) * _M & _MASK
    return h ^ (h >> 15)


@lru_cache(maxsize=65536)
def partition_of(key: str, partitions: int) -> int:
    """The partition of `key` among `partitions`."""
    return (murmur2(key.encode()) & 0x7FFFFFFF) % partitions
