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
from processors.account.unread import problem
from processors.hosts.journal import journal_records, make_batch, make_snapshot
from processors.hosts.merge import Merge, Stream, input_streams
from processors.hosts.recovery import Recovered, recover
from processors.hosts.replay import Build
from processors.pipeline import Pipeline
from processors.strategies.processor import StrategyError
from schemas import (
    CORE_ACCOUNT_INPUTS,
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
                self._keep(writer, worker)
                raise
            return Ran(worker.core.pipeline, worker.taken, worker.decisions, worker.core.replayed)

    def _worker(self, writer: Writer) -> _Worker:
        """A worker that goes on where the log ends; in a new epoch, its configuration is written."""
        core = recover(self.log, self.partition, self._configured, self._build)
        if core.new_epoch:
            opened = evolve(self._configured, epoch=core.epoch)
            writer.append(journal_records([opened], self.partition))
        streams = input_streams(self.log, self.partition, core.pipeline.inputs)
        bounds = {stream: self.log.bounds(*stream) for stream in streams}
        return _Worker(writer, core, self.partition, self._configured.settings.snapshot_every, bounds)

    def _take_all(
        self, worker: _Worker, progress: Callable[[Progress], None] | None, stop: Callable[[], bool]
    ) -> None:
        before_run = sum(worker.positions[s] - first for s, (first, _) in worker.bounds.items())
        total = sum(end - first for first, end in worker.bounds.values())

        def report() -> None:
            if progress is not None:
                progress(Progress(before_run + worker.taken, total, worker.core.pipeline.now))

        take, pending, full = worker.take, worker.order, self._batch_size
        for source, record in worker.inputs(self.log):
            take(source, record)
            if len(pending) >= full:
                worker.commit()
                report()
                if stop():
                    break
        worker.finish()
        report()

    def _keep(self, writer: Writer, failed: _Worker) -> None:
        """After a failure: do the inputs again that were taken well, and commit them.

        The pipeline that failed is half way through an input, so another one is recovered. Where
        that fails too, nothing is lost: the log stands at its last batch, and the first error counts.
        """
        with suppress(Exception):
            worker = self._worker(writer)
            worker.bounds = failed.bounds
            for source, record in islice(worker.inputs(self.log), len(failed.order)):
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
        bounds: dict[Stream, tuple[int, int]],
    ) -> None:
        """`bounds` are the streams in order, with their first offsets and where to stop."""
        self.core, self.bounds, self.streams = core, bounds, list(bounds)
        self.order = bytearray()
        """The sources of the inputs applied and not yet committed."""
        self.taken = 0
        self.decisions = 0
        self._facts = {i for i, (topic, _) in enumerate(self.streams) if topic in CORE_ACCOUNT_INPUTS}
        self._writer, self._partition = writer, partition
        self._snapshot_every = snapshot_every
        self._since_snapshot = core.replayed
        self._next = [core.positions.get(stream, first) for stream, (first, _) in bounds.items()]
        """Of each stream, the next offset to read."""
        self._before = self.positions
        self._made: list[NewRecord] = []
        self._dead: list[Event] = []

    @property
    def positions(self) -> dict[Stream, int]:
        """The next offset of each stream."""
        return dict(zip(self.streams, self._next, strict=True))

    def inputs(self, log: EventLog) -> Iterator[tuple[int, Record]]:
        """What there is to take, in order, each with the index of its stream."""
        ends = {stream: end for stream, (_, end) in self.bounds.items()}
        return iter(Merge(log, self.streams, self.positions, ends))

    def take(self, source: int, record: Record) -> None:
        """Apply one input."""
        made = self.core.pipeline.apply(record)
        self.order.append(source)
        self._next[source] = record.offset + 1
        if made:
            self._made.extend(decision_record(event, self._partition) for event in made)
        if (type(record.event) is Unreadable or source in self._facts) and (why := problem(record)):
            self._dead.append(_dead_letter(record, why))

    def commit(self) -> None:
        """Append what is pending: decisions, the batch, and a snapshot when one is due."""
        core, positions = self.core, self.positions
        batch = make_batch(
            self._partition,
            core.next_batch,
            core.epoch,
            self.streams,
            self._before,
            bytes(self.order),
            positions,
            core.pipeline.seqs,
            core.pipeline.now,
        )
        self._since_snapshot += len(self.order)
        due = self._since_snapshot >= self._snapshot_every
        journal = [*self._dead, batch, *(self._snapshot(batch.number) if due else ())]
        self._writer.append([*self._made, *journal_records(journal, self._partition)])
        self._since_snapshot = 0 if due else self._since_snapshot
        self.taken += len(self.order)
        self.decisions += len(self._made)
        core.next_batch += 1
        self._before = positions
        self.order.clear()
        self._made.clear()
        self._dead.clear()

    def finish(self) -> None:
        """Commit what is pending, and a snapshot of the end: another configuration may begin there."""
        if self.order:
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


def _dead_letter(record: Record, reason: str) -> DeadLetter:
    return DeadLetter(
        place=record.place,
        key=base64.b64encode(record.key).decode(),
        bytes=base64.b64encode(record.value).decode(),
        reason=reason,
    )


def core_partition(log: EventLog, account: str) -> int:
    """The core partition an account belongs to."""
    return partition_of(account, log.partitions("operator.commands"))
