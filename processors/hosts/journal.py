"""Batches and snapshots as they stand in the log: written by the host, read by recovery and verify."""

from __future__ import annotations

import base64
import binascii
import hashlib
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar

from eventlog.contract import LogReader
from eventlog.errors import LogDamaged
from processors.hosts.merge import Stream
from schemas import (
    Batch,
    BatchInput,
    Configured,
    Event,
    Folded,
    NewRecord,
    Record,
    Snapshot,
    Unreadable,
    decode,
    new_record,
)

E = TypeVar("E")
Saved = tuple[Snapshot, ...]
"""The chunks of one snapshot, in order."""

CHUNK = 256 * 1024
"""Bytes of compressed state in one Snapshot record; base64 makes it a third more."""

PAGE = 50
"""Records of a journal topic read at once; a chunk of a snapshot is large."""


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


def order_of(batch: Batch | Folded) -> bytes:
    """One byte a record: the index into the batch's inputs. Raises `LogDamaged`."""
    order = _unpacked([batch.order], f"the order of batch {batch.number}")
    counts = [order.count(i) for i in range(len(batch.inputs))]
    if sum(counts) != len(order) or counts != [i.count for i in batch.inputs] or len(order) != batch.records:
        raise LogDamaged(f"the order of batch {batch.number} does not fit its counts")
    return order


def make_snapshot(partition: int, epoch: int, batch: int, state: bytes) -> list[Snapshot]:
    """The chunks of a state as it is after a batch."""
    packed = zlib.compress(state, 6)
    parts = [packed[i : i + CHUNK] for i in range(0, len(packed), CHUNK)]
    return [
        Snapshot(
            partition=partition,
            epoch=epoch,
            batch=batch,
            chunk=n,
            chunks=len(parts),
            digest=_digest(state),
            data=base64.b64encode(part).decode(),
        )
        for n, part in enumerate(parts)
    ]


def state_of(chunks: Saved) -> bytes:
    """The state that the chunks hold. Raises `LogDamaged` where they do not fit their digest."""
    name = f"the snapshot after batch {chunks[0].batch}"
    state = _unpacked([c.data for c in chunks], name)
    if _digest(state) != chunks[0].digest:
        raise LogDamaged(f"{name} does not fit its digest")
    return state


def _digest(state: bytes) -> str:
    return hashlib.blake2b(state, digest_size=32).hexdigest()


def journal_records(events: Sequence[Event], partition: int) -> list[NewRecord]:
    """Records of the core's own topics, keyed by its partition."""
    return [new_record(event, partition, str(partition)) for event in events]


# ---------------------------------------------------------------- reading


def event_of(record: Record, kind: type[E]) -> E:
    """What a record says, which must be of `kind`. Raises `LogDamaged`."""
    event = decode(record.topic, record.value)
    if isinstance(event, Unreadable) or not isinstance(event, kind):
        raise LogDamaged(f"{record.place} cannot be read: {event}")
    return event


def read_all(
    log: LogReader, topic: str, partition: int, kind: type[E], gte: int = 0
) -> Iterator[tuple[Record, E]]:
    """Every event of a topic from offset `gte` on, with its record. Raises `LogDamaged`."""
    position, end = gte, log.bounds(topic, partition)[1]
    while records := log.read(topic, partition, gte=position, lt=end, limit=PAGE):
        for record in records:
            yield record, event_of(record, kind)
        position = records[-1].offset + 1


def search(log: LogReader, topic: str, partition: int, kind: type[E], beyond: Callable[[E], bool]) -> int:
    """Where the events begin for which `beyond` holds; it holds for none before, and for all after.

    Halves the range of offsets, so that a long log is not read through. Raises `LogDamaged`.
    """
    low, high = log.bounds(topic, partition)
    while low < high:
        middle = (low + high) // 2
        found = log.read(topic, partition, gte=middle, lt=high, limit=1)
        if not found or beyond(event_of(found[0], kind)):
            high = middle
        else:
            low = found[0].offset + 1
    return low


def last(log: LogReader, topic: str, partition: int, kind: type[E], lt: int | None = None) -> E | None:
    """The last event of a topic, or the last below offset `lt`; None where there is none."""
    first, end = log.bounds(topic, partition)
    end, step = end if lt is None else lt, 1
    while end > first:
        start = max(first, end - step)
        found = log.read(topic, partition, gte=start, lt=end, limit=step)
        if found:
            return event_of(found[-1], kind)
        end, step = start, 2 * step
    return None


def batches(log: LogReader, partition: int, number: int = 0) -> Iterator[Batch]:
    """The partition's batches from `number` on, one by one, checked to be numbered without a gap."""
    start = search(log, "batches", partition, Batch, lambda b: b.number >= number)
    for due, (record, batch) in enumerate(read_all(log, "batches", partition, Batch, start), number):
        if batch.number != due:
            raise LogDamaged(f"{record.place} is batch {batch.number}; {due} is missing")
        yield batch


def snapshots(log: LogReader, partition: int, batch: int = 0) -> Iterator[Saved]:
    """The partition's snapshots after batch `batch` or a later one, oldest first."""
    chunks: list[Snapshot] = []
    start = search(log, "snapshots", partition, Snapshot, lambda s: s.batch >= batch)
    for record, chunk in read_all(log, "snapshots", partition, Snapshot, start):
        if chunk.chunk != len(chunks) or (chunks and chunk.batch != chunks[0].batch):
            raise LogDamaged(f"{record.place} is chunk {chunk.chunk}; chunk {len(chunks)} was due")
        chunks.append(chunk)
        if len(chunks) == chunk.chunks:
            yield tuple(chunks)
            chunks = []
    if chunks:
        raise LogDamaged(f"the last snapshot of partition {partition} lacks chunk {len(chunks)}")


def newest_snapshot(log: LogReader, partition: int, batch: int) -> Saved | None:
    """The last snapshot after batch `batch` or an earlier one; None where there is none."""
    end = search(log, "snapshots", partition, Snapshot, lambda s: s.batch > batch)
    chunk = last(log, "snapshots", partition, Snapshot, end)
    return None if chunk is None else next(snapshots(log, partition, chunk.batch))


def configurations(log: LogReader, partition: int) -> list[Configured]:
    """The partition's epochs, oldest first."""
    return [c for _, c in read_all(log, "configuration", partition, Configured)]


def _unpacked(parts: Sequence[str], name: str) -> bytes:
    try:
        return zlib.decompress(b"".join(base64.b64decode(part, validate=True) for part in parts))
    except (binascii.Error, zlib.error) as problem:
        raise LogDamaged(f"{name} cannot be unpacked: {problem}") from problem
