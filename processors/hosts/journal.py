"""Batches and snapshots as they stand in the log: written by the host, read by recovery and verify."""

from __future__ import annotations

import base64
import hashlib
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import TypeVar

from eventlog.contract import LogReader
from eventlog.errors import LogDamaged
from processors.hosts.merge import Stream
from schemas import (
    Batch,
    BatchInput,
    Configured,
    Event,
    NewRecord,
    Snapshot,
    Unreadable,
    decode,
    new_record,
)

E = TypeVar("E", bound=Event)

CHUNK = 256 * 1024
"""Bytes of compressed state in one Snapshot record; base64 makes it a third more."""


def make_batch(
    partition: int,
    number: int,
    epoch: int,
    streams: Sequence[Stream],
    before: Mapping[Stream, int],
    order: bytes,
    after: Mapping[Stream, int],
    seqs: Mapping[str, int],
    now: int,
) -> Batch:
    """The batch that took `order` (one byte a record, the index of its stream) from `before` to `after`."""
    inputs = tuple(
        BatchInput(topic=t, partition=p, first=before[t, p], count=order.count(i), next=after[t, p])
        for i, (t, p) in enumerate(streams)
    )
    packed = base64.b64encode(zlib.compress(order, 6)).decode()
    return Batch(
        partition=partition,
        number=number,
        epoch=epoch,
        inputs=inputs,
        order=packed,
        records=len(order),
        seqs=dict(sorted(seqs.items())),
        now=now,
    )


def order_of(batch: Batch) -> bytes:
    """One byte a record: the index into the batch's inputs."""
    return zlib.decompress(base64.b64decode(batch.order))


def make_snapshot(partition: int, epoch: int, batch: int, state: bytes) -> list[Snapshot]:
    """The chunks of a state as it is after a batch."""
    digest = hashlib.blake2b(state, digest_size=32).hexdigest()
    packed = zlib.compress(state, 6)
    parts = [packed[i : i + CHUNK] for i in range(0, len(packed), CHUNK)]
    return [
        Snapshot(
            partition=partition,
            epoch=epoch,
            batch=batch,
            chunk=n,
            chunks=len(parts),
            digest=digest,
            data=base64.b64encode(part).decode(),
        )
        for n, part in enumerate(parts)
    ]


def state_of(chunks: Sequence[Snapshot]) -> bytes:
    """The state that the chunks hold. Raises `LogDamaged` where their digest does not fit."""
    state = zlib.decompress(b"".join(base64.b64decode(c.data) for c in chunks))
    if hashlib.blake2b(state, digest_size=32).hexdigest() != chunks[0].digest:
        raise LogDamaged(f"the snapshot after batch {chunks[0].batch} does not fit its digest")
    return state


def journal_records(events: Sequence[Event], partition: int) -> list[NewRecord]:
    """Records of the core's own topics, keyed by its partition."""
    return [new_record(event, partition, str(partition)) for event in events]


def read_all(
    log: LogReader, topic: str, partition: int, kind: type[E], gte: int = 0
) -> Iterator[tuple[int, E]]:
    """Every event of a journal topic with its offset. Raises `LogDamaged` where one cannot be read."""
    position, end = gte, log.bounds(topic, partition)[1]
    while position < end:
        records = log.read(topic, partition, gte=position, lt=end, limit=500)
        if not records:
            return
        for record in records:
            event = decode(topic, record.value)
            if isinstance(event, Unreadable) or not isinstance(event, kind):
                raise LogDamaged(f"{record.place} cannot be read: {event}")
            yield record.offset, event
        position = records[-1].offset + 1


def batches(log: LogReader, partition: int) -> Iterator[Batch]:
    """The partition's batches, checked to be numbered without a gap."""
    for due, (offset, batch) in enumerate(read_all(log, "batches", partition, Batch)):
        if batch.number != due:
            raise LogDamaged(f"batches/{partition}/{offset} has number {batch.number}; {due} was due")
        yield batch


def snapshots(log: LogReader, partition: int) -> Iterator[tuple[Snapshot, ...]]:
    """The partition's whole snapshots, oldest first."""
    chunks: list[Snapshot] = []
    for _, chunk in read_all(log, "snapshots", partition, Snapshot):
        if chunk.chunk == 0:
            chunks = []
        chunks.append(chunk)
        if len(chunks) == chunk.chunks:
            yield tuple(chunks)


def configurations(log: LogReader, partition: int) -> list[Configured]:
    """The partition's epochs, oldest first."""
    return [c for _, c in read_all(log, "configuration", partition, Configured)]
