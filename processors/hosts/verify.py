"""Verify: does the log hold together, and do its facts lead to its decisions?

First the structure (seals, offsets, decoding: `eventlog.verify`), then every epoch of every core
partition is derived again in its recorded order and compared byte for byte.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from eventlog.contract import LogReader
from eventlog.errors import LogError

from processors.hosts.journal import batches, configurations, snapshots, state_of
from processors.hosts.replay import Build, Divergence, OrderBroken, Replay, Written
from schemas import Batch, Configured, Snapshot, exact


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
                _derive_partition(log, partition, build, installed, found, progress)
            except (Divergence, OrderBroken, LogError) as difference:
                found.difference = difference
                return found
    return found


def _derive_partition(
    log: LogReader,
    partition: int,
    build: Build,
    installed: Installed,
    found: Derived,
    progress: Callable[[int], None] | None,
) -> None:
    epochs = configurations(log, partition)
    done = list(batches(log, partition))
    written = Written(log, partition)
    if not epochs:
        written.expect_end()
        if done:
            raise OrderBroken(f"partition {partition} has batches and no configuration")
        return
    found.partitions += 1
    kept = {chunks[0].batch: chunks for chunks in snapshots(log, partition)}
    for configured in epochs:
        why = installed(configured)
        if why:
            found.not_derived.append(f"partition {partition}, epoch {configured.epoch}: {why}")
            return
        mine = [b for b in done if b.epoch == configured.epoch]
        _derive_epoch(log, configured, mine, kept, build, written, found, progress)
    written.expect_end()


def _derive_epoch(
    log: LogReader,
    configured: Configured,
    mine: list[Batch],
    kept: dict[int, tuple[Snapshot, ...]],
    build: Build,
    written: Written,
    found: Derived,
    progress: Callable[[int], None] | None,
) -> None:
    pipeline = build(configured)
    if mine and mine[0].number > 0:
        start = kept.get(mine[0].number - 1)
        if start is None:
            raise OrderBroken(f"epoch {configured.epoch} has no snapshot to begin from")
        pipeline.restore(state_of(start))
    replay = Replay(log, configured.partition, pipeline)
    for batch in mine:
        for _, decision in replay.apply(batch):
            written.expect(decision)
        replay.settle(batch)
        found.inputs += batch.records
        if batch.number in kept:
            _compare_snapshot(kept[batch.number], pipeline.snapshot())
            found.snapshots += 1
        if progress is not None:
            progress(batch.records)
    found.decisions += written.count
    written.count = 0


def _compare_snapshot(chunks: tuple[Snapshot, ...], derived: bytes) -> None:
    stored = state_of(chunks)
    if stored != derived:
        raise Divergence("snapshots", chunks[0].partition, None, derived[:2000], stored[:2000])
