"""The in-process host: one core partition on an embedded log, batch by batch, to the end of its inputs.

A batch is one append: the decisions it led to, the order it took its inputs in, and now and then a
snapshot. Whatever is killed between two appends is done again, with the same result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice

from eventlog.contract import EventLog, Writer
from processors.hosts.merge import Merge, Stream, input_streams
from processors.hosts.recovery import recover
from processors.hosts.replay import Build
from processors.hosts.worker import Worker, open_epoch, rare_collections
from processors.pipeline import Pipeline
from processors.strategies.processor import StrategyError
from schemas import (
    Configured,
    Record,
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
        self._bounds: dict[Stream, tuple[int, int]] = {}

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
            rare_collections(),
            self.log.writer(f"core-{self.partition}", take_over=self._take_over) as writer,
        ):
            worker = self._worker(writer)
            try:
                self._take_all(worker, progress, stop)
            except StrategyError:
                self._keep(writer, worker)
                raise
            return Ran(worker.core.pipeline, worker.taken, worker.decisions, worker.core.replayed)

    def _worker(self, writer: Writer) -> Worker:
        """A worker that goes on where the log ends; in a new epoch, its configuration is written."""
        core = recover(self.log, self.partition, self._configured, self._build)
        open_epoch(writer, core, self._configured)
        streams = input_streams(self.log, self.partition, core.pipeline.inputs)
        if not self._bounds:
            self._bounds = {stream: self.log.bounds(*stream) for stream in streams}
        firsts = {stream: first for stream, (first, _) in self._bounds.items()}
        return Worker(writer, core, self.partition, self._configured.settings.snapshot_every, firsts)

    def _inputs(self, worker: Worker) -> Iterator[tuple[int, Record]]:
        """What there is to take, in order, each with the index of its stream."""
        ends = {stream: end for stream, (_, end) in self._bounds.items()}
        return iter(Merge(self.log, worker.streams, worker.positions, ends))

    def _take_all(
        self, worker: Worker, progress: Callable[[Progress], None] | None, stop: Callable[[], bool]
    ) -> None:
        before_run = sum(worker.positions[s] - first for s, (first, _) in self._bounds.items())
        total = sum(end - first for first, end in self._bounds.values())

        def report() -> None:
            if progress is not None:
                progress(Progress(before_run + worker.taken, total, worker.core.pipeline.now))

        take, pending, full = worker.take, worker.order, self._batch_size
        for source, record in self._inputs(worker):
            take(source, record)
            if len(pending) >= full:
                worker.commit()
                report()
                if stop():
                    break
        worker.finish()
        report()

    def _keep(self, writer: Writer, failed: Worker) -> None:
        """After a failure: do the inputs again that were taken well, and commit them.

        The pipeline that failed is half way through an input, so another one is recovered. Where
        that fails too, nothing is lost: the log stands at its last batch, and the first error counts.
        """
        with suppress(Exception):
            worker = self._worker(writer)
            for source, record in islice(self._inputs(worker), len(failed.order)):
                worker.take(source, record)
            worker.finish()


def core_partition(log: EventLog, account: str) -> int:
    """The core partition an account belongs to."""
    return partition_of(account, log.partitions("operator.commands"))
