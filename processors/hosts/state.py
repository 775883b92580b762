"""The core's state at any moment: the nearest snapshot, and the recorded order from there."""

from __future__ import annotations

from collections.abc import Callable

from eventlog.contract import LogReader
from eventlog.errors import LogError

from processors.hosts.journal import batches, configurations, snapshots, state_of
from processors.hosts.replay import Build, Replay
from processors.pipeline import Pipeline
from schemas import Batch, Record, exact


class NoSuchMoment(LogError):
    """The log has no state for what was asked."""


def state_at(
    log: LogReader,
    partition: int,
    build: Build,
    *,
    account: str | None = None,
    seq: int | None = None,
    time: int | None = None,
) -> Pipeline:
    """The pipeline as it was after the input that led to decision `seq` of `account`, or after the
    last input whose market time is at or before `time` (UTC ns); with neither, at the end of the log.

    Raises `NoSuchMoment` where `seq` or `time` is outside of what the log holds.
    """
    done = list(batches(log, partition))
    if not done:
        raise NoSuchMoment(f"{log.url} has no batch in partition {partition}: nothing has been decided")
    if seq is not None:
        if account is None:
            raise ValueError("a seq needs its account")
        last = done[-1].seqs.get(account, 0)
        if not 1 <= seq <= last:
            raise NoSuchMoment(f"account {account} has decisions 1 to {last}; {seq} was asked for")
    with exact():
        return _follow(log, partition, build, done, _before(account, seq, time), _reached(account, seq, time))


def _before(account: str | None, seq: int | None, time: int | None) -> Callable[[Batch], bool]:
    """Whether the state after a batch is before the moment, or at it."""
    if seq is not None and account is not None:
        return lambda batch: batch.seqs.get(account, 0) < seq
    if time is not None:
        return lambda batch: batch.now <= time
    return lambda batch: True


def _reached(
    account: str | None, seq: int | None, time: int | None
) -> Callable[[Pipeline, Record | None], bool]:
    """Whether to stop: after the last input (seq), or before the next one (time)."""
    if seq is not None and account is not None:
        return lambda pipeline, record: record is None and pipeline.seqs.get(account, 0) >= seq
    if time is not None:
        return lambda pipeline, record: record is not None and _ts(record) > time
    return lambda pipeline, record: False


def _ts(record: Record) -> int:
    return int(getattr(record.event, "ts", 0)) if record.topic.startswith("market.") else 0


def _follow(
    log: LogReader,
    partition: int,
    build: Build,
    done: list[Batch],
    before: Callable[[Batch], bool],
    reached: Callable[[Pipeline, Record | None], bool],
) -> Pipeline:
    chosen = None
    for chunks in snapshots(log, partition):
        if before(done[chunks[0].batch]):
            chosen = chunks
    epochs = {c.epoch: c for c in configurations(log, partition)}
    start = 0 if chosen is None else chosen[0].batch + 1
    first = done[min(start, len(done) - 1)]
    pipeline = build(epochs[first.epoch])
    if chosen is not None:
        pipeline.restore(state_of(chosen))
    replay = Replay(log, partition, pipeline)
    for batch in done[start:]:
        for record in replay.records(batch):
            if reached(pipeline, record):
                return pipeline
            pipeline.apply(record)
            if reached(pipeline, None):
                return pipeline
    return pipeline
