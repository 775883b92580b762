"""What `tape verify` does: structure, then decisions, then heads kept elsewhere."""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from eventlog import Fault, LogReader, SealReport, check_heads, check_seals, open_log
from eventlog.errors import LogDamaged, LogError
from processors.hosts.replay import Divergence
from processors.hosts.verify import Derived, derive
from schemas import CORE_MARKET_INPUTS, TOPICS
from tape.errors import WrongInput
from tape.progress import Report, Stage
from tape.wiring import build, installed

HOLDS, DIFFERS, NOT_DERIVED = 0, 1, 2
TOLD = "compared with the head given"
NOT_TOLD = "whether it was cut off cannot be told: no head kept elsewhere was given (--head)"


class VerifyError(WrongInput):
    """What was given is no log, or no head of this log; the message says what to give."""


def verify_log(place: str, head: Path | None, report: Report) -> dict[str, Any]:
    """Verify a log; the findings, with `exit` as the command's exit code.

    Raises `VerifyError` for what is no log or no head of it, `LogDamaged` for a log that cannot be opened.
    """
    kept = None if head is None else _read_heads(head)
    with _open(place) as log:
        total = _ends(log, TOPICS)
        seals = check_seals(log, lambda done: report(Stage("seals", done, total)))
        faults = list(seals.faults)
        if kept is not None:
            faults += _check_heads(log, kept, head)
        derived = _derive(log, report)
        return _findings(log, seals, faults, derived, kept is not None)


def _open(place: str) -> LogReader:
    url = place if place.startswith(("sqlite:", "kafka:")) else f"sqlite:{place}"
    try:
        return open_log(url, read_only=True)
    except LogError as problem:
        path = Path(url.removeprefix("sqlite:"))
        if isinstance(problem, LogDamaged) and path.read_bytes()[:16] == b"SQLite format 3\0":
            raise
        if isinstance(problem, LogDamaged):
            raise VerifyError(f"{path} is not a log; name one that `tape backtest` printed") from problem
        raise VerifyError(str(problem)) from problem


def _ends(log: LogReader, topics: Iterable[str]) -> int:
    """How much there is to do, for the display; an end that is damaged is a fault, and is found as one."""
    total = 0
    for topic in topics:
        for partition in range(log.partitions(topic)):
            with suppress(LogDamaged):
                total += log.bounds(topic, partition)[1]
    return total


def _derive(log: LogReader, report: Report) -> Derived:
    """Derive the decisions again, also where seals do not hold: it shows which record it is."""
    inputs = (*CORE_MARKET_INPUTS, "operator.commands")
    total = _ends(log, inputs)
    taken = 0

    def progress(count: int) -> None:
        nonlocal taken
        taken += count
        report(Stage("derive", taken, total))

    try:
        return derive(log, build, installed, progress)
    except Exception as problem:  # facts that were tampered with lead code anywhere
        return Derived(not_derived=[f"deriving failed: {type(problem).__name__}: {problem}"])


def _read_heads(head: Path) -> dict[str, Any]:
    try:
        found = json.loads(head.read_text(encoding="utf-8"))
    except OSError as problem:
        raise VerifyError(f"head {head} cannot be read: {problem.strerror}") from problem
    except ValueError as problem:
        raise VerifyError(f"{head} is not a head: {problem}; give a LOG.head that a run wrote") from problem
    if not isinstance(found, dict) or "heads" not in found:
        raise VerifyError(f"{head} is not a head; give a LOG.head that a run wrote")
    return found


def _check_heads(log: LogReader, kept: dict[str, Any], head: Path | None) -> list[Fault]:
    try:
        return check_heads(log, kept)
    except LogError as problem:
        raise VerifyError(str(problem)) from problem
    except (KeyError, TypeError, ValueError) as problem:
        raise VerifyError(f"{head} is not a head; give a LOG.head that a run wrote") from problem


def _findings(
    log: LogReader, seals: SealReport, faults: list[Fault], derived: Derived, had_head: bool
) -> dict[str, Any]:
    code = HOLDS
    if faults or derived.difference is not None:
        code = DIFFERS
    elif derived.not_derived:
        code = NOT_DERIVED
    return {
        "exit": code,
        "log": log.url,
        "log_id": log.id,
        "records": seals.records,
        "sealed": seals.sealed,
        "unsealed": seals.unsealed,
        "seals": seals.records - seals.sealed - seals.unsealed,
        "inputs": derived.inputs,
        "decisions": derived.decisions,
        "snapshots": derived.snapshots,
        "faults": [_fault(f) for f in faults],
        "difference": _difference(derived),
        "not_derived": derived.not_derived,
        "tail": TOLD if had_head else NOT_TOLD,
    }


def _fault(fault: Fault) -> dict[str, Any]:
    return {
        "topic": fault.topic,
        "partition": fault.partition,
        "first": fault.first,
        "next": fault.next,
        "offset": fault.offset,
        "reason": fault.reason,
    }


def _difference(derived: Derived) -> dict[str, Any] | None:
    found = derived.difference
    if found is None:
        return None
    if not isinstance(found, Divergence):
        return {"reason": str(found)}
    return {
        "topic": found.topic,
        "partition": found.partition,
        "offset": found.offset,
        "stored": None if found.stored is None else found.stored.decode("utf-8", "replace"),
        "derived": None if found.derived is None else found.derived.decode("utf-8", "replace"),
        "reason": str(found),
    }
