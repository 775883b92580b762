"""What `tape verify` does: structure, then decisions, then heads kept elsewhere."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from eventlog import Fault, SealReport, check_heads, check_seals, open_log
from processors.hosts.replay import Divergence
from processors.hosts.verify import Derived, derive
from tape.backtest import Stage
from tape.wiring import build, installed

HOLDS, DIFFERS, NOT_DERIVED = 0, 1, 2


def verify_log(place: str, head: Path | None, report: Callable[[Stage], None]) -> dict[str, Any]:
    """Verify a log; the findings, with `exit` as the command's exit code.

    Raises `LogError` where there is no log to read, `ValueError` for a head file that is not one.
    """
    url = place if place.startswith(("sqlite:", "kafka:")) else f"sqlite:{place}"
    heads = _read_heads(head)
    with open_log(url, read_only=True) as log:
        seals = check_seals(log, lambda done: report(Stage("seals", done, None)))
        faults = list(seals.faults)
        if heads is not None:
            faults += check_heads(log, heads)
        derived = Derived()
        if not faults:
            taken = 0

            def progress(count: int) -> None:
                nonlocal taken
                taken += count
                report(Stage("derive", taken, None))

            derived = derive(log, build, installed, progress)
        return _findings(log.url, log.id, seals, faults, derived, heads is not None)


def _read_heads(head: Path | None) -> dict[str, Any] | None:
    if head is None:
        return None
    try:
        found = json.loads(head.read_text(encoding="utf-8"))
    except (OSError, ValueError) as problem:
        raise ValueError(f"{head} is not a LOG.head file: {problem}") from problem
    if not isinstance(found, dict):
        raise ValueError(f"{head} is not a LOG.head file")
    return found


def _findings(
    url: str, log_id: str, seals: SealReport, faults: list[Fault], derived: Derived, had_head: bool
) -> dict[str, Any]:
    code = HOLDS
    if faults or derived.difference is not None:
        code = DIFFERS
    elif derived.not_derived:
        code = NOT_DERIVED
    return {
        "exit": code,
        "log": url,
        "log_id": log_id,
        "records": seals.records,
        "sealed": seals.sealed,
        "unsealed": seals.unsealed,
        "inputs": derived.inputs,
        "decisions": derived.decisions,
        "snapshots": derived.snapshots,
        "faults": [_fault(f) for f in faults],
        "difference": _difference(derived),
        "not_derived": derived.not_derived,
        "tail": "compared with the head given" if had_head else "not told: no head kept elsewhere was given",
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
