"""How a log stands: its accounts, what is wrong with them, how fresh and how well kept it is."""

from __future__ import annotations

import time as clock
from pathlib import Path
from typing import Any

import msgspec

from eventlog import LogReader, inspect
from processors.hosts.journal import configurations, last
from processors.hosts.state import state_at
from processors.pipeline import Pipeline
from schemas import TOPICS, Batch
from tape.asking import AskError, account_at
from tape.logs import is_log
from tape.topics import iso
from tape.wiring import build, installed

BREACHES = 5
HEALTHY, UNHEALTHY = 0, 1
BEHIND_S = 5.0
"""A core that runs decides what is written in less."""
RUNS = Path("runs")


def newest_log() -> str:
    """The log under runs/ that was written last. Raises `AskError` where there is none."""
    found = [file for file in RUNS.glob("**/*.sqlite") if is_log(file)]
    if not found:
        raise AskError("there is no log under runs/; name one, or make one with tape backtest")
    return f"sqlite:{max(found, key=lambda file: file.stat().st_mtime)}"


def standing(log: LogReader, behind_s: float = BEHIND_S) -> dict[str, Any]:
    """How the log stands; `exit` is 0 where nothing is wrong, 1 else, and `problems` says what.

    An input that is not decided `behind_s` after it was written is a problem.

    Raises `AskError` where it cannot be told: nothing has been decided on it.
    """
    accounts: list[dict[str, Any]] = []
    runs: list[dict[str, Any]] = []
    problems: list[str] = []
    freshness: list[dict[str, Any]] = []
    for partition in range(log.partitions("batches")):
        end = last(log, "batches", partition, Batch)
        if end is None:
            continue
        pipeline = state_at(log, partition, build)
        accounts += _accounts(pipeline, problems)
        undecided = sum(_records_from(log, (i.topic, i.partition), i.next) for i in end.inputs)
        freshness.append({"partition": partition, "market_time": iso(end.now), "undecided": undecided})
        if undecided and _longest_s(log, end) >= behind_s:
            problems.append(f"partition {partition} has {undecided:,} inputs that are not decided yet")
        for epoch in configurations(log, partition):
            strategies = [s.name for s in epoch.settings.strategies]
            run = {"partition": partition, "epoch": epoch.epoch, "strategies": strategies}
            runs.append({**run, "other_code": installed(epoch) or None})
    if not accounts:
        raise AskError(f"nothing has been decided on {log.url} yet, so that its state cannot be told")
    return {
        "exit": UNHEALTHY if problems else HEALTHY,
        "problems": problems,
        "log": log.url,
        "accounts": accounts,
        "breaches": _breaches(log),
        "runs": runs,
        "freshness": freshness,
        "unsealed": _unsealed(log),
        "dead_letters": sum(inspect.count(log, *s).records or 0 for s in _streams(log, "dead-letters")),
    }


def _accounts(pipeline: Pipeline, problems: list[str]) -> list[dict[str, Any]]:
    found = []
    for name, account in sorted(pipeline.accounts.desk.accounts.items()):
        found.append({**account_at(account, pipeline.now), "unread": sorted(account.unread)})
        if account.breaker.halts:
            problems.append(f"account {name} is HALTED: {', '.join(sorted(account.breaker.halts))}")
        if "stale" in account.breaker.reduces:
            problems.append(f"account {name} holds what is stale: {account.breaker.reduces['stale']}")
        if account.unread:
            problems.append(f"account {name} has unread records: {', '.join(sorted(account.unread))}")
    return found


def _streams(log: LogReader, topic: str) -> list[tuple[str, int]]:
    return [(topic, partition) for partition in range(log.partitions(topic))]


def _breaches(log: LogReader) -> list[dict[str, Any]]:
    records, _ = inspect.last(log, _streams(log, "risk.breaches"), BREACHES)
    return [
        {"id": inspect.identity(r), "time": iso(inspect.event_time(r)), "event": msgspec.json.decode(r.value)}
        for r in records
    ]


def _unsealed(log: LogReader) -> int:
    """Records behind the last seals."""
    seals, found = inspect.last_seals(log), 0
    for topic in TOPICS:
        for stream in _streams(log, topic) if topic != "seals" else ():
            seal: Any = seals[stream].event if stream in seals else None
            found += _records_from(log, stream, seal.next if seal is not None else 0)
    return found


def _longest_s(log: LogReader, end: Batch) -> float:
    """How long ago (s) the first of the inputs that are not decided was written."""
    heads = [log.read(i.topic, i.partition, gte=i.next, limit=1) for i in end.inputs]
    written = [page[0].timestamp for page in heads if page]
    return (clock.time_ns() - min(written)) / 1e9 if written else 0.0


def _records_from(log: LogReader, stream: tuple[str, int], start: int) -> int:
    """How many records a partition has from offset `start` on; where offsets have holes, by reading."""
    first, end = log.bounds(*stream)
    start = max(first, start)
    if log.dense or not TOPICS[stream[0]].transactional:
        return max(0, end - start)
    found = 0
    while start < end and (page := log.read(*stream, gte=start, lt=end)):
        found += len(page)
        start = page[-1].offset + 1
    return found
