"""From the log to a core that can go on: last configuration, last snapshot, the recorded order since.

1. Read the partition's configuration and batches to their end.
2. Restore the newest snapshot; without one, begin with an empty pipeline.
3. Apply the recorded order since, without output, and compare what it derives with what was written.
4. Go on from the positions of the last batch.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from eventlog.contract import LogReader
from eventlog.errors import LogError
from processors.hosts.journal import batches, configurations, snapshots, state_of
from processors.hosts.merge import Stream
from processors.hosts.replay import Build, Replay, Written
from processors.pipeline import Pipeline
from schemas import Batch, Configured, Snapshot, evolve


class ConfigurationChanged(LogError):
    """Code or settings are not those of the log's last epoch, which has not been closed by a snapshot."""


@dataclass
class Recovered:
    """A pipeline as it was after the last batch, and where it goes on."""

    pipeline: Pipeline
    epoch: int
    positions: dict[Stream, int] = field(default_factory=dict)
    next_batch: int = 0
    replayed: int = 0
    """Inputs that were applied again since the snapshot."""
    new_epoch: bool = False


def recover(log: LogReader, partition: int, configured: Configured, build: Build) -> Recovered:
    """Bring a core partition to where the log says it was. Raises `Divergence` where it cannot.

    `configured` is what the host is about to run. Where it is not what the last epoch says, a new
    epoch begins, from the old code's last snapshot, which must stand at the last batch.
    """
    epochs = configurations(log, partition)
    done = list(batches(log, partition))
    if not epochs:
        Written(log, partition).expect_end()
        return Recovered(build(configured), epoch=1, new_epoch=True)
    last = epochs[-1]
    newest = _newest_snapshot(log, partition)
    if same_configuration(last, configured):
        recovered = _replay(log, partition, last, done, newest, build)
        recovered.epoch = last.epoch
        return recovered
    if done and (newest is None or newest[0].batch != done[-1].number):
        raise ConfigurationChanged(
            f"{log.url}: epoch {last.epoch} of partition {partition} ran with other code or settings "
            f"({difference(last, configured)}) and has no snapshot at its end; "
            "finish it with what it was started with, or begin another log"
        )
    pipeline = build(configured)
    if newest is not None:
        pipeline.restore(state_of(newest))
    return Recovered(pipeline, last.epoch + 1, _positions(done), len(done), new_epoch=True)


def _newest_snapshot(log: LogReader, partition: int) -> tuple[Snapshot, ...] | None:
    newest = None
    for chunks in snapshots(log, partition):
        newest = chunks
    return newest


def _replay(
    log: LogReader,
    partition: int,
    configured: Configured,
    done: list[Batch],
    newest: tuple[Snapshot, ...] | None,
    build: Build,
) -> Recovered:
    pipeline = build(configured)
    since = done
    seqs: dict[str, int] = {}
    if newest is not None:
        pipeline.restore(state_of(newest))
        since = done[newest[0].batch + 1 :]
        seqs = done[newest[0].batch].seqs
    replay, written = Replay(log, partition, pipeline), Written(log, partition, seqs)
    for batch in since:
        for _, decision in replay.apply(batch):
            written.expect(decision)
        replay.settle(batch)
    written.expect_end()
    replayed = sum(batch.records for batch in since)
    return Recovered(pipeline, configured.epoch, _positions(done), len(done), replayed)


def _positions(done: list[Batch]) -> dict[Stream, int]:
    return {(i.topic, i.partition): i.next for i in done[-1].inputs} if done else {}


def same_configuration(one: Configured, other: Configured) -> bool:
    """Whether decisions are made by the same code with the same settings."""
    return evolve(one, epoch=0) == evolve(other, epoch=0)


def difference(one: Configured, other: Configured) -> str:
    """What differs between two configurations, for people."""
    found = []
    for name in ("components", "dependencies", "schemas", "log", "time"):
        if getattr(one, name) != getattr(other, name):
            found.append(name)
    for name in one.settings.__struct_fields__:  # type: ignore[attr-defined]
        before, after = getattr(one.settings, name), getattr(other.settings, name)
        if before != after:
            found.append(f"{name} {before} -> {after}")
    return "; ".join(found) or "nothing"
