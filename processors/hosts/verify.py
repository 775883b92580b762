"""Verify: does the log hold together, and do its facts lead to its decisions?

First the structure (seals, offsets, decoding: `eventlog.verify`), then every epoch of every core
partition is derived again in its recorded order and compared byte for byte.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import groupby

from eventlog.contract import LogReader
from eventlog.errors import LogError
from processors.hosts.journal import (
    Saved,
    batches,
    configurations,
    newest_snapshot,
    search,
    snapshots,
    state_of,
)
from processors.hosts.replay import Build, Divergence, OrderBroken, Replay, Written, restore
from processors.pipeline import Pipeline
from schemas import Batch, Configured, Snapshot, exact

SHOWN = 200
"""Bytes of a state that are shown before the first that differs, and from there on."""


@dataclass
class Derived:
    """What came of deriving a log's decisions again."""

    partitions: int = 0
    inputs: int = 0
    decisions: int = 0
    snapshots: int = 0
    difference: LogError | None = None
    not_derived: list[str] = field(default_factory=list)
    """Why an epoch could not be derived again."""


Installed = Callable[[Configured], str]
"""Why the installed code is not that of a configuration; "" where it is."""


def derive(
    log: LogReader,
    build: Build,
    installed: Installed,
    progress: Callable[[int], None] | None = None,
) -> Derived:
    """Follow the recorded order of every core partition. The first difference ends it."""
    found = Derived()
    with exact():
        for partition in range(log.partitions("configuration")):
            try:
                _Partition(log, partition, build, installed, found, progress).derive()
            except LogError as difference:
                found.difference = difference
                return found
    return found


class _Partition:
    """One core partition: its epochs, each derived with its own code and settings."""

    def __init__(
        self,
        log: LogReader,
        partition: int,
        build: Build,
        installed: Installed,
        found: Derived,
        progress: Callable[[int], None] | None,
    ) -> None:
        self.log, self.partition, self.found = log, partition, found
        self._build, self._installed, self._progress = build, installed, progress
        self._written = Written(log, partition)
        self._passed_over = False
        """The epoch before was not derived."""
        self._snapshots: Iterator[Saved] = snapshots(log, partition)
        self._snapshot = next(self._snapshots, None)
        """The next snapshot to be compared."""
        self._before: Batch | None = None

    def derive(self) -> None:
        """Follow all batches. Raises `Divergence`, `OrderBroken`, `LogDamaged`."""
        epochs = {c.epoch: c for c in configurations(self.log, self.partition)}
        self.found.partitions += bool(epochs)
        for number, mine in groupby(batches(self.log, self.partition), key=lambda b: b.epoch):
            configured = epochs.get(number)
            if configured is None or (self._before is not None and number < self._before.epoch):
                raise OrderBroken(f"partition {self.partition} has batches of epoch {number}, out of place")
            why = self._installed(configured)
            if why:
                self.found.not_derived.append(f"partition {self.partition}, epoch {number}: {why}")
                self._pass_over(mine)
            else:
                self._follow(configured, mine)
        if self._snapshot is not None:
            batch = self._snapshot[0].batch
            raise OrderBroken(f"partition {self.partition} has a snapshot after batch {batch}, out of place")
        if not self._passed_over:
            self._written.expect_end()

    def _pass_over(self, mine: Iterator[Batch]) -> None:
        """Leave out the batches of an epoch, and its snapshots."""
        for batch in mine:
            self._before = batch
            if self._snapshot_after(batch) is not None:
                self._snapshot = next(self._snapshots, None)
        self._passed_over = True

    def _follow(self, configured: Configured, mine: Iterator[Batch]) -> None:
        """Derive the batches of an epoch, and compare their decisions and snapshots."""
        pipeline = self._begin(configured)
        replay = Replay(self.log, self.partition, pipeline, self._before)
        if self._passed_over and self._before is not None:
            self._written.seek(self._before.seqs)
            self._passed_over = False
        for batch in mine:
            for decision in replay.apply(batch):
                self._written.expect(decision)
                self.found.decisions += 1
            self._before = batch
            self.found.inputs += batch.records
            self._compare_snapshot(batch, pipeline)
            if self._progress is not None:
                self._progress(batch.records)

    def _begin(self, configured: Configured) -> Pipeline:
        """The pipeline with which an epoch began: the first is empty, a later one has the state before."""
        pipeline = self._build(configured)
        if self._before is not None:
            chunks = newest_snapshot(self.log, self.partition, self._before.number)
            if chunks is None or chunks[0].batch != self._before.number:
                raise OrderBroken(
                    f"epoch {configured.epoch} of partition {self.partition} has no snapshot to begin from"
                )
            restore(pipeline, chunks)
        return pipeline

    def _snapshot_after(self, batch: Batch) -> Saved | None:
        """The snapshot that was taken after a batch, if there is one."""
        return (
            self._snapshot if self._snapshot is not None and self._snapshot[0].batch == batch.number else None
        )

    def _compare_snapshot(self, batch: Batch, pipeline: Pipeline) -> None:
        chunks = self._snapshot_after(batch)
        if chunks is None:
            return
        stored, derived = state_of(chunks), pipeline.snapshot()
        if stored != derived:
            place = search(self.log, "snapshots", self.partition, Snapshot, lambda s: s.batch >= batch.number)
            part = _around_first_difference(stored, derived)
            raise Divergence("snapshots", self.partition, place, derived[part], stored[part])
        self.found.snapshots += 1
        self._snapshot = next(self._snapshots, None)


def _around_first_difference(one: bytes, other: bytes) -> slice:
    """What of two states is shown: the bytes around the first that differs."""
    shorter = min(len(one), len(other))
    at = next((i for i in range(shorter) if one[i] != other[i]), shorter)
    return slice(max(at - SHOWN, 0), at + SHOWN)
