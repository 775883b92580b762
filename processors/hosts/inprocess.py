"""The in-process host: one core partition on an embedded log, batch by batch, to the end of its inputs.

A batch is one append: the decisions it led to, the order it took its inputs in, and now and then a
snapshot. Whatever is killed between two appends is done again, with the same result.
"""

from __future__ import annotations

import base64
import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice

from eventlog.contract import EventLog, Writer
from processors.hosts.journal import journal_records, make_batch, make_snapshot
from processors.hosts.merge import Merge, Stream, input_streams
from processors.hosts.recovery import Recovered, recover
from processors.hosts.replay import Build
from processors.pipeline import Pipeline
from processors.strategies.processor import StrategyError
from schemas import (
    Configured,
    DeadLetter,
    Event,
    NewRecord,
    Record,
    Snapshot,
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

        A `StrategyError` passes through. What came before the input it failed on is committed, with
        a snapshot, so that a corrected strategy can go on from there in an epoch of its own.
        """
        with (
            exact(),
            _rare_collections(),
            self.log.writer(f"core-{self.partition}", take_over=self._take_over) as writer,
        ):
            worker = self._worker(writer)
            try:
                self._take_all(worker, progress, stop)
            except StrategyError:
                self._keep(writer, worker.pending)
                raise
            return Ran(worker.core.pipeline, worker.taken, worker.decisions, worker.core.replayed)

    def _worker(self, writer: Writer) -> _Worker:
        """A worker that goes on where the log ends; in a new epoch, its configuration is written."""
        core = recover(self.log, self.partition, self._configured, self._build)
        if core.new_epoch:
            opened = evolve(self._configured, epoch=core.epoch)
            writer.append(journal_records([opened], self.partition))
        streams = input_streams(self.log, self.partition, core.pipeline.inputs)
        starts = {stream: self.log.bounds(*stream)[0] for stream in streams}
        positions = starts | {s: core.positions[s] for s in streams if s in core.positions}
        return _Worker(
            writer, core, self.partition, self._configured.settings.snapshot_every, streams, positions
        )

    def _take_all(
        self, worker: _Worker, progress: Callable[[Progress], None] | None, stop: Callable[[], bool]
    ) -> None:
        bounds = {stream: self.log.bounds(*stream) for stream in worker.streams}
        ends = {stream: end for stream, (_, end) in bounds.items()}
        before_run = sum(worker.positions[s] - first for s, (first, _) in bounds.items())
        total = sum(end - first for first, end in bounds.values())

        def report() -> None:
            if progress is not None:
                progress(Progress(before_run + worker.taken, total, worker.core.pipeline.now))

        for source, record in Merge(self.log, worker.streams, dict(worker.positions), ends):
            worker.take(source, record)
            if worker.pending >= self._batch_size:
                worker.commit()
                report()
                if stop():
                    break
        worker.finish()
        report()

    def _keep(self, writer: Writer, count: int) -> None:
        """After a failure: do the `count` inputs again that were taken well, and commit them.

        The pipeline that failed is half way through an input, so another one is recovered. Where
        that fails too, nothing is lost: the log stands at its last batch, and the first error counts.
        """
        with suppress(Exception):
            worker = self._worker(writer)
            ends = {stream: self.log.bounds(*stream)[1] for stream in worker.streams}
            inputs = Merge(self.log, worker.streams, dict(worker.positions), ends)
            for source, record in islice(inputs, count):
                worker.take(source, record)
            worker.finish()


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
        self.core, self.streams, self.positions = core, streams, positions
        self.taken = 0
        self.decisions = 0
        self._writer, self._partition = writer, partition
        self._snapshot_every = snapshot_every
        self._since_snapshot = core.replayed
        self._before = dict(positions)
        self._order = bytearray()
        self._made: list[NewRecord] = []
        self._dead: list[Event] = []

    @property
    def pending(self) -> int:
        """Inputs applied and not yet committed."""
        return len(self._order)

    def take(self, source: int, record: Record) -> None:
        """Apply one input."""
        made = self.core.pipeline.apply(record)
        self._order.append(source)
        self.positions[self.streams[source]] = record.offset + 1
        if made:
            self._made.extend(decision_record(event, self._partition) for event in made)
        if type(record.event) is Unreadable:
            self._dead.append(_dead_letter(record, record.event))

    def commit(self) -> None:
        """Append what is pending: decisions, the batch, and a snapshot when one is due."""
        core = self.core
        batch = make_batch(
            self._partition,
            core.next_batch,
            core.epoch,
            self.streams,
            self._before,
            bytes(self._order),
            self.positions,
            core.pipeline.seqs,
            core.pipeline.now,
        )
        self._since_snapshot += len(self._order)
        due = self._since_snapshot >= self._snapshot_every
        journal = [*self._dead, batch, *(self._snapshot(batch.number) if due else ())]
        self._writer.append([*self._made, *journal_records(journal, self._partition)])
        self._since_snapshot = 0 if due else self._since_snapshot
        self.taken += len(self._order)
        self.decisions += len(self._made)
        core.next_batch += 1
        self._before = dict(self.positions)
        self._order.clear()
        self._made.clear()
        self._dead.clear()

    def finish(self) -> None:
        """Commit what is pending, and a snapshot of the end: another configuration may begin there."""
        if self._order:
            self.commit()
        if self._since_snapshot:
            self._writer.append(journal_records(self._snapshot(self.core.next_batch - 1), self._partition))
            self._since_snapshot = 0

    def _snapshot(self, batch: int) -> list[Snapshot]:
        return make_snapshot(self._partition, self.core.epoch, batch, self.core.pipeline.snapshot())


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
