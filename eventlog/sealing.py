"""Sealing a log by reading it back: for stores that do not seal as they append."""

from __future__ import annotations

from eventlog.contract import LogReader, Stream, Writer
from eventlog.errors import LogDamaged
from eventlog.seals import BLOCK, SEALS, Chain, make_seal, seal_record
from schemas import TOPICS, NewRecord, Seal, decode


def seal(log: LogReader, writer: Writer) -> dict[Stream, Seal]:
    """Seal every partition up to its end, from where its last seal stands; the last seal of each."""
    last, boundaries = _last_seals(log)
    written: list[NewRecord] = []
    for topic in sorted(TOPICS):
        for partition in range(log.partitions(topic)):
            stream = (topic, partition)
            if stream != SEALS:
                written += _seal_stream(log, stream, last.get(stream), boundaries.get(stream))
    if written:
        writer.append(written)
        writer.append(_seal_stream(log, SEALS, last.get(SEALS), boundaries.get(SEALS)))
    return _last_seals(log)[0]


def _last_seals(log: LogReader) -> tuple[dict[Stream, Seal], dict[Stream, Seal]]:
    """The last seal of each stream, and the last that stands at a block's end."""
    last: dict[Stream, Seal] = {}
    boundaries: dict[Stream, Seal] = {}
    position = log.bounds(*SEALS)[0]
    while records := log.read(*SEALS, gte=position):
        for record in records:
            event = decode(record.topic, record.value)
            if not isinstance(event, Seal):
                raise LogDamaged(f"{record.place} is not a seal: {event}")
            last[event.sealed, event.partition] = event
            if event.count % BLOCK == 0:
                boundaries[event.sealed, event.partition] = event
        position = records[-1].offset + 1
    return last, boundaries


def _seal_stream(log: LogReader, stream: Stream, last: Seal | None, boundary: Seal | None) -> list[NewRecord]:
    first, end = log.bounds(*stream)
    sealed = last.next if last is not None else first
    if sealed >= end:
        return []
    chain = (
        Chain() if boundary is None else Chain(bytes.fromhex(boundary.digest), boundary.count, boundary.next)
    )
    position = first if boundary is None else boundary.next
    written = []
    while records := log.read(*stream, gte=position):
        for record in records:
            full = chain.add([record], record.offset + 1)
            if full and (last is None or chain.count > last.count):
                written.append(seal_record(make_seal(stream, sealed, chain)))
                sealed = chain.next
        position = records[-1].offset + 1
    if chain.next > sealed:
        written.append(seal_record(make_seal(stream, sealed, chain)))
    return written
