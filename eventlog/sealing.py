"""Sealing a log by reading it back: for stores that do not seal as they append."""

from __future__ import annotations

import time as clock
from collections.abc import Sequence

from eventlog.contract import EventLog, LogReader, Stream, Writer
from eventlog.errors import LogDamaged
from eventlog.roles import Beat, Beats, Stop
from eventlog.seals import BLOCK, SEALS, Chain, make_seal, seal_record
from schemas import TOPICS, NewRecord, Record, Seal, decode

WRITER = "seal"
EVERY_S = 10.0
"""How long what does not fill a block waits for its seal."""
POLL_S = 0.2


def run_seal(log: EventLog, *, beats: Beats, stop: Stop, every_s: float = EVERY_S) -> None:
    """Seal what comes until `stop`, then all there is. Raises `WriterBusy` while another sealer lives.

    The topic of the seals is sealed at the end, so that its seal covers all of them.
    """
    with log.writer(WRITER) as writer:
        sealing = _Sealing(log)
        with log.follow(sealing.positions) as follower:
            taken, due = 0, clock.monotonic() + every_s
            while not stop():
                records = follower.take(BLOCK, POLL_S)
                taken += len(records)
                written = sealing.add(records)
                if clock.monotonic() >= due:
                    written += sealing.tails()
                    due = clock.monotonic() + every_s
                if written:
                    writer.append(written)
                beats(Beat(taken, follower.positions))
        seal(log, writer)


class _Sealing:
    """The chains of all partitions but that of the seals, brought on as records come."""

    def __init__(self, log: LogReader) -> None:
        last, boundaries = _last_seals(log)
        self._chains: dict[Stream, Chain] = {}
        self._sealed: dict[Stream, int] = {}
        """Of each partition, the offset up to which it is sealed."""
        for topic in TOPICS:
            for stream in ((topic, partition) for partition in range(log.partitions(topic))):
                if stream != SEALS:
                    self._chains[stream] = _chain(boundaries.get(stream), log.bounds(*stream)[0])
                    before = last.get(stream)
                    self._sealed[stream] = self._chains[stream].next if before is None else before.next

    @property
    def positions(self) -> dict[Stream, int]:
        """Where reading begins: at the last full block."""
        return {stream: chain.next for stream, chain in self._chains.items()}

    def add(self, records: Sequence[Record]) -> list[NewRecord]:
        """The seals of the blocks that these records fill."""
        seals: list[NewRecord] = []
        for record in records:
            stream = (record.topic, record.partition)
            if self._chains[stream].add([record], record.offset + 1):
                seals += self._seal(stream)
        return seals

    def tails(self) -> list[NewRecord]:
        """Seals of what does not fill a block."""
        return [seal for stream in sorted(self._chains) for seal in self._seal(stream)]

    def _seal(self, stream: Stream) -> list[NewRecord]:
        chain, sealed = self._chains[stream], self._sealed[stream]
        if chain.next <= sealed:
            return []
        self._sealed[stream] = chain.next
        return [seal_record(make_seal(stream, sealed, chain))]


def _chain(boundary: Seal | None, first: int) -> Chain:
    """The chain of a partition at its last sealed block's end."""
    if boundary is None:
        return Chain(next=first)
    return Chain(bytes.fromhex(boundary.digest), boundary.count, boundary.next)


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
    chain = _chain(boundary, first)
    position = chain.next
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
