"""The in-process host: one core partition on an embedded log, batch by batch, to the end of its inputs.

A batch is one append: the decisions it led to, the order it took its inputs in, and now and then a
snapshot. Whatever is killed between two appends is done again, with the same result.
"""

from __future__ import annotations

import base64
import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from eventlog.contract import EventLog, Writer
from processors.hosts.journal import journal_records, make_batch, make_snapshot
from processors.hosts.merge import Merge, Stream, input_streams
from processors.hosts.recovery import Recovered, recover
from processors.hosts.replay import Build
from processors.pipeline import Pipeline
from schemas import (
    Configured,
    DeadLetter,
    Event,
    NewRecord,
    Record,
    Unreadable,
    encode,
    evolve,
    exact,
    partition_of,
)

BATCH = 5000
"""Inputs in one append."""


@dataclass(frozen=True)
class Progress:
    """How far a run is: inputs taken of those there are, and the market time (UTC ns)."""

    taken: int
    total: int
    now: int


@dataclass(frozen=True)
class Ran:
    """What a run did."""

    pipeline: Pipeline
    taken: int
    decisions: int
    replayed: int


class InProcessHost:
    """Runs a core partition. Use as: `InProcessHost(log, partition, configured, build).run()`."""

    def __init__(
        self,
        log: EventLog,
        partition: int,
        configured: Configured,
        build: Build,
        *,
        batch: int = BATCH,
        take_over: bool = False,
    ) -> None:
        self.log, self.partition = log, partition
        self._configured, self._build = configured, build
        self._batch_size, self._take_over = batch, take_over

    def run(
        self,
        progress: Callable[[Progress], None] | None = None,
        stop: Callable[[], bool] = lambda: False,
    ) -> Ran:
        """Take every input there is now, or until `stop` says so after a batch.

        Raises what a strategy raises (as `StrategyError`), with nothing of its batch written.
        """
        with (
            exact(),
            _rare_collections(),
            self.log.writer(f"core-{self.partition}", take_over=self._take_over) as writer,
        ):
            core = recover(self.log, self.partition, self._configured, self._build)
            if core.new_epoch:
                self._begin_epoch(writer, core)
            return self._take_all(writer, core, progress, stop)

    def _begin_epoch(self, writer: Writer, core: Recovered) -> None:
        opened = evolve(self._configured, epoch=core.epoch)
        writer.append(journal_records([opened], self.partition))

    def _take_all(
        self,
        writer: Writer,
        core: Recovered,
        progress: Callable[[Progress], None] | None,
        stop: Callable[[], bool],
    ) -> Ran:
        streams = input_streams(self.log, self.partition, core.pipeline.inputs)
        bounds = {stream: self.log.bounds(*stream) for stream in streams}
        positions = {s: core.positions.get(s, bounds[s][0]) for s in streams}
        ends = {s: bounds[s][1] for s in streams}
        before_run = sum(positions[s] - bounds[s][0] for s in streams)
        total = before_run + sum(ends[s] - positions[s] for s in streams)
        worker = _Worker(
            writer, core, self.partition, self._configured.settings.snapshot_every, streams, positions
        )
        worker.since_snapshot = core.replayed
        for source, record in Merge(self.log, streams, dict(positions), ends):
            worker.take(source, record)
            if worker.pending >= self._batch_size:
                worker.commit()
                if progress is not None:
                    progress(Progress(before_run + worker.taken, total, core.pipeline.now))
                if stop():
                    break
        worker.commit(snapshot=True)
        if progress is not None:
            progress(Progress(before_run + worker.taken, total, core.pipeline.now))
        return Ran(core.pipeline, worker.taken, worker.decisions, core.replayed)


class _Worker:
    """Applies records and commits them in batches."""

    def __init__(
        self,
        writer: Writer,
        core: Recovered,
        partition: int,
        snapshot_every: int,
        streams: list[Stream],
        positions: dict[Stream, int],
    ) -> None:
        self._writer, self._core, self._partition = writer, core, partition
        self._snapshot_every = snapshot_every
        self._streams, self._positions = streams, positions
        self._before = dict(positions)
        self._order = bytearray()
        self._records: list[NewRecord] = []
        self.since_snapshot = 0
        self.taken = 0
        self.decisions = 0

    @property
    def pending(self) -> int:
        """Inputs applied and not yet committed."""
        return len(self._order)

    def take(self, source: int, record: Record) -> None:
        """Apply one input."""
        made = self._core.pipeline.apply(record)
        self._order.append(source)
        self._positions[self._streams[source]] = record.offset + 1
        if made:
            self._records.extend(decision_record(event, self._partition) for event in made)
        if type(record.event) is Unreadable:
            self._records.extend(journal_records([_dead_letter(record, record.event)], self._partition))

    def commit(self, snapshot: bool = False) -> None:
        """Append what is pending: decisions, the batch, and a snapshot when one is due."""
        core = self._core
        if not self._order:
            return
        batch = make_batch(
            self._partition,
            core.next_batch,
            core.epoch,
            self._streams,
            self._before,
            bytes(self._order),
            self._positions,
            core.pipeline.seqs,
            core.pipeline.now,
        )
        journal: list[Event] = [batch]
        self.since_snapshot += len(self._order)
        if snapshot or self.since_snapshot >= self._snapshot_every:
            journal.extend(make_snapshot(self._partition, core.epoch, batch.number, core.pipeline.snapshot()))
            self.since_snapshot = 0
        self._writer.append([*self._records, *journal_records(journal, self._partition)])
        self.taken += len(self._order)
        self.decisions += len(self._records)
        core.next_batch += 1
        self._before = dict(self._positions)
        self._order.clear()
        self._records.clear()


@contextmanager
def _rare_collections() -> Iterator[None]:
    """Look for reference cycles rarely: events have none, and a scan of all pages read costs a third."""
    before = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(200_000, 20, 100)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


def decision_record(event: Event, partition: int) -> NewRecord:
    """A decision's record: it stands in the core's partition under its account."""
    account: str = event.account  # type: ignore[attr-defined]
    return NewRecord(event.topic, partition, account.encode(), encode(event))


def _dead_letter(record: Record, why: Unreadable) -> DeadLetter:
    return DeadLetter(
        place=record.place,
        key=base64.b64encode(record.key).decode(),
        bytes=base64.b64encode(record.value).decode(),
        reason=why.reason,
    )


def core_partition(log: EventLog, account: str) -> int:
    """The core partition an account belongs to."""
    return partition_of(account, log.partitions("operator.commands"))
