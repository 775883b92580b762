"""The core's state at any moment: the nearest snapshot, and the recorded order from there."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from eventlog.contract import LogReader
from eventlog.errors import LogError
from processors.hosts.journal import batches, configurations, event_of, last, search
from processors.hosts.replay import Build, OrderBroken, Replay, from_snapshot
from processors.pipeline import Pipeline
from schemas import CORE_MARKET_INPUTS, Batch, Record, Unreadable, exact


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
    """The pipeline as it was after the input that led to decision `seq` of `account`, or before the
    first input whose market time is after `time` (UTC ns); with neither, at the end of the log.

    Raises `NoSuchMoment` where `seq` or `time` is outside of what the log holds.
    """
    end = last(log, "batches", partition, Batch)
    if end is None:
        raise NoSuchMoment(f"{log.url} has no batch in partition {partition}: nothing has been decided")
    with exact():
        if seq is not None:
            return _at_seq(log, partition, build, end, account, seq)
        if time is not None:
            return _at_time(log, partition, build, end, time)
        return _after(log, partition, build, end.number, end.epoch)[0]


def _at_seq(
    log: LogReader, partition: int, build: Build, end: Batch, account: str | None, seq: int
) -> Pipeline:
    if account is None:
        raise ValueError("a seq needs its account")
    if account not in end.seqs:
        raise NoSuchMoment(f"{log.url} has no account {account} in partition {partition}")
    if not 1 <= seq <= end.seqs[account]:
        raise NoSuchMoment(f"account {account} has decisions 1 to {end.seqs[account]}; {seq} was asked for")
    batch = _first(log, partition, lambda b: b.seqs.get(account, 0) >= seq)
    pipeline, replay = _after(log, partition, build, batch.number - 1, batch.epoch)
    for record in replay.records(batch):
        replay.take(record)
        if pipeline.seqs.get(account, 0) >= seq:
            return pipeline
    raise OrderBroken(f"batch {batch.number} of partition {partition} does not lead to {account}:{seq}")


def _at_time(log: LogReader, partition: int, build: Build, end: Batch, time: int) -> Pipeline:
    if time > end.now:
        raise NoSuchMoment(f"{log.url} is decided up to {_utc(end.now)}; {_utc(time)} was asked for")
    if time == end.now:
        return _after(log, partition, build, end.number, end.epoch)[0]
    batch = _first(log, partition, lambda b: b.now > time)
    pipeline, replay = _after(log, partition, build, batch.number - 1, batch.epoch)
    for record in replay.records(batch):
        if _market_time(record) > time:
            break
        replay.take(record)
    if not pipeline.now:
        raise NoSuchMoment(f"{log.url} has no market event at or before {_utc(time)}")
    return pipeline


def _utc(ns: int) -> str:
    return datetime.fromtimestamp(ns // 1_000_000_000, UTC).isoformat()


def _market_time(record: Record) -> int:
    event: Any = record.event
    of_market = record.topic in CORE_MARKET_INPUTS and type(event) is not Unreadable
    return int(event.ts) if of_market else 0


def _first(log: LogReader, partition: int, beyond: Callable[[Batch], bool]) -> Batch:
    """The first batch that goes beyond; there is one."""
    start = search(log, "batches", partition, Batch, beyond)
    return event_of(log.read("batches", partition, gte=start, limit=1)[0], Batch)


def _after(log: LogReader, partition: int, build: Build, number: int, epoch: int) -> tuple[Pipeline, Replay]:
    """The pipeline of an epoch as it was after batch `number` (-1: at the start), and its replay."""
    (configured,) = (c for c in configurations(log, partition) if c.epoch == epoch)
    pipeline = build(configured)
    replay, after = from_snapshot(log, partition, pipeline, number)
    for batch in batches(log, partition, 0 if after is None else after.number + 1):
        if batch.number > number:
            break
        for _ in replay.apply(batch):
            pass
    return pipeline, replay
