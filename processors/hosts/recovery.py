"""From the log to a core that can go on: last configuration, last snapshot, the recorded order since.

1. Read the partition's configuration and batches to their end.
2. Restore the newest snapshot; without one, begin with an empty pipeline.
3. Apply the recorded order since, without output, and compare what it derives with what was written.
4. Go on from the positions of the last batch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from eventlog.contract import LogReader
from eventlog.errors import LogDamaged, LogError, LogMismatch
from processors.hosts.journal import Saved, batches, last, make_snapshot, newest_snapshot
from processors.hosts.merge import Stream
from processors.hosts.replay import Build, Written, from_snapshot, restore
from processors.pipeline import Pipeline
from schemas import Batch, Configured, Snapshot, StrategySetting, evolve

Installed = Callable[[Configured], str]
"""Why the installed code is not that of a configuration; "" where it is."""


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
    closing: Saved = ()
    """The snapshot at the end of the epoch before, where that has none in the log."""


def recover(
    log: LogReader,
    partition: int,
    configured: Configured,
    build: Build,
    *,
    installed: Installed | None = None,
    progress: Callable[[int], None] = lambda replayed: None,
) -> Recovered:
    """Bring a core partition to where the log says it was. Raises `Divergence` where it cannot, and
    `LogMismatch` where the configuration, or the log's last one, is of another log.

    `configured` is what the host is about to run. Where it is not what the last epoch says, a new
    epoch begins, from the old code's last snapshot, which must stand at the last batch; or, where
    `installed` says that the code of the epoch before is still there, from its state at that batch.
    `progress` is told how many inputs have been applied again.
    """
    epoch = last(log, "configuration", partition, Configured)
    for made in (configured, epoch):
        if made is not None and made.log != log.id:
            raise LogMismatch(
                f"{log.url} is log {log.id}, and the configuration of partition {partition} is of log "
                f"{made.log}: another log stands there now; start again what ran on the old one"
            )
    end = last(log, "batches", partition, Batch)
    _check_ends(log, partition, epoch, end)
    pipeline = build(configured)
    if epoch is None:
        Written(log, partition).expect_end()
        return Recovered(pipeline, 1, new_epoch=True)
    if same_configuration(epoch, configured):
        replayed = _replay(log, partition, epoch, end, pipeline, progress)
        return Recovered(pipeline, epoch.epoch, _positions(end), _next(end), replayed)
    crossed = Recovered(pipeline, epoch.epoch + 1, _positions(end), _next(end), new_epoch=True)
    if (
        end is not None
        and installed is not None
        and not _closed(log, partition, end)
        and not installed(epoch)
    ):
        old = build(epoch)
        _replay(log, partition, epoch, end, old, progress)
        crossed.closing = tuple(make_snapshot(partition, epoch.epoch, end.number, old.snapshot()))
        restore(pipeline, crossed.closing)
    else:
        _cross_epoch(log, epoch, configured, end, pipeline)
    return crossed


def _closed(log: LogReader, partition: int, end: Batch) -> bool:
    """Whether a snapshot stands at the last batch."""
    newest = newest_snapshot(log, partition, end.number)
    return newest is not None and newest[0].batch == end.number


def _check_ends(log: LogReader, partition: int, epoch: Configured | None, end: Batch | None) -> None:
    """A batch needs an epoch, and a snapshot a batch. Raises `LogDamaged`."""
    if epoch is None and end is not None:
        raise LogDamaged(f"{log.url}: partition {partition} has batches and no configuration")
    snapshot = last(log, "snapshots", partition, Snapshot)
    if snapshot is not None and snapshot.batch >= _next(end):
        raise LogDamaged(
            f"{log.url}: partition {partition} has a snapshot after batch {snapshot.batch}, "
            f"and {_next(end)} batches"
        )


def _next(end: Batch | None) -> int:
    return 0 if end is None else end.number + 1


def _positions(end: Batch | None) -> dict[Stream, int]:
    return {} if end is None else {(i.topic, i.partition): i.next for i in end.inputs}


def _replay(
    log: LogReader,
    partition: int,
    epoch: Configured,
    end: Batch | None,
    pipeline: Pipeline,
    progress: Callable[[int], None],
) -> int:
    """Follow the recorded order since the newest snapshot up to the last batch; the inputs applied."""
    replay, after = from_snapshot(log, partition, pipeline, _next(end) - 1)
    written = Written(log, partition, after.seqs if after is not None else None)
    replayed = 0
    for batch in batches(log, partition, _next(after)):
        if batch.epoch != epoch.epoch:
            raise LogDamaged(
                f"{log.url}: batch {batch.number} of epoch {batch.epoch} has no snapshot after it"
            )
        for decision in replay.apply(batch):
            written.expect(decision)
        replayed += batch.records
        progress(replayed)
    written.expect_end()
    return replayed


def _cross_epoch(
    log: LogReader, before: Configured, configured: Configured, end: Batch | None, pipeline: Pipeline
) -> None:
    """Take over the state in which the epoch before ended. Raises `ConfigurationChanged`."""
    partition = before.partition
    newest = newest_snapshot(log, partition, end.number) if end is not None else None
    if end is not None and (newest is None or newest[0].batch != end.number):
        raise ConfigurationChanged(
            f"{log.url}: epoch {before.epoch} of partition {partition} ran with other code or settings "
            f"({difference(before, configured)}) and has no snapshot at its end; "
            "finish it with what it was started with, or begin another log"
        )
    Written(log, partition, end.seqs if end is not None else None).expect_end()
    if newest is not None:
        restore(pipeline, newest)


def same_configuration(one: Configured, other: Configured) -> bool:
    """Whether decisions are made by the same code with the same settings, wherever its files lie."""
    return _anywhere(one) == _anywhere(other)


def _anywhere(configured: Configured) -> Configured:
    """Without the number of the epoch and the folders of the strategies' files."""
    settings = configured.settings
    strategies = tuple(evolve(s, kind=_file_name(s)) for s in settings.strategies)
    return evolve(configured, epoch=0, settings=evolve(settings, strategies=strategies))


def _file_name(setting: StrategySetting) -> str:
    return setting.kind.replace("\\", "/").rpartition("/")[2]


def difference(one: Configured, other: Configured) -> str:
    """What differs between two configurations, for people."""
    found = []
    one, other = _anywhere(one), _anywhere(other)
    theirs, ours = ({c.name: c for c in each.components} for each in (one, other))
    changed = sorted(name for name in theirs | ours if theirs.get(name) != ours.get(name))
    if changed:
        found.append(f"code of {', '.join(changed)}")
    for name in ("dependencies", "schemas", "log", "time"):
        before, after = getattr(one, name), getattr(other, name)
        if before != after:
            found.append(name if name == "schemas" else f"{name} {before} -> {after}")
    for name in one.settings.__struct_fields__:  # type: ignore[attr-defined]
        before, after = getattr(one.settings, name), getattr(other.settings, name)
        if name == "strategies":
            found += _strategies_differ(before, after)
        elif before != after:
            found.append(f"{name} {before} -> {after}")
    return "; ".join(found) or "nothing"


def _strategies_differ(before: tuple[StrategySetting, ...], after: tuple[StrategySetting, ...]) -> list[str]:
    """What is said of strategies: which came, which went, and what of the rest is another."""
    old, new = ({s.name: s for s in each} for each in (before, after))
    found = [f"strategy {name} gone" for name in sorted(old.keys() - new.keys())]
    found += [f"strategy {name} added" for name in sorted(new.keys() - old.keys())]
    for name in sorted(old.keys() & new.keys()):
        for part in StrategySetting.__struct_fields__:  # type: ignore[attr-defined]
            was, now = getattr(old[name], part), getattr(new[name], part)
            if was != now:
                text = "source" if part == "digest" else f"{part} {was} -> {now}"
                found.append(f"strategy {name}: {text}")
    return found
