"""A run that is killed or stopped, and goes on: nothing is lost, nothing counts twice.

Moments are chosen by what stands in the log, not by the clock, so that they hit the same parts of a
run on any machine: its import, its core, and the recovery of a core that had been killed before.
"""

from __future__ import annotations

import random
import shutil
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from support.busy import busy_backtest
from support.cli import end, log_in, query, records, start, tape, wait_until
from support.much import many

KILLS = many(20)
RUNS = KILLS // 4


@pytest.fixture(scope="module")
def args(tmp_path_factory: pytest.TempPathFactory) -> list[str | Path]:
    """The backtest, but for --out."""
    return busy_backtest(tmp_path_factory.mktemp("busy"))


@pytest.fixture(scope="module")
def undisturbed(args: list[str | Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The summary of a run that nobody disturbs."""
    folder = tmp_path_factory.mktemp("undisturbed")
    ran = tape(*args, "--out", folder)
    assert ran.code == 0, ran.err
    assert ran.json["fills"] > 500
    return {**ran.json, "facts": records(log_in(folder), "market.%"), "records": records(log_in(folder))}


def taken_hold_of(log: Path) -> int:
    """How often a core has begun, or begun to recover."""
    rows = query(log, "SELECT sum(epoch) FROM writers WHERE id LIKE 'core-%'")
    return rows[0][0] or 0 if rows else 0


def test_killed_at_many_moments(args: list[str | Path], undisturbed: dict[str, Any], tmp_path: Path) -> None:
    """Several runs, each killed four times: in its import, in its core, in a recovery."""

    def suffer(seed: int) -> list[str]:
        """Kill a run again and again, then let it end; in which part each kill hit it."""
        draw, out = random.Random(seed), tmp_path / str(seed)
        log = log_in(out)
        shares = sorted(draw.random() for _ in range(KILLS // RUNS - 1))
        shares.insert(draw.randrange(2, len(shares) + 1), -1)
        hit = [kill(out, log, share) for share in shares]
        ran = tape(*args, "--out", out, "--resume")
        assert ran.code == 0, ran.err
        assert ran.json["fingerprint"] == undisturbed["fingerprint"]
        assert ran.json["end_equity"] == undisturbed["end_equity"]
        assert records(log, "market.%") == undisturbed["facts"]
        assert tape("verify", log).code == 0
        return [part for part in hit if part]

    def kill(out: Path, log: Path, share: float) -> str:
        """Kill the run when that share of all records stands, or (below 0) when its core recovers."""
        begun = taken_hold_of(log)
        reached: Callable[[], bool] = (
            (lambda: taken_hold_of(log) > begun)
            if share < 0
            else (lambda: records(log) >= share * undisturbed["records"])
        )
        process = start(*args, "--out", out, "--resume")
        wait_until(process, reached)
        process.kill()
        if end(process).code != -signal.SIGKILL:
            return ""
        if share < 0:
            return "recovery" if records(log, "batches") else "core"
        return "core" if taken_hold_of(log) else "import"

    with ThreadPoolExecutor(2) as pool:
        hit = [part for parts in pool.map(suffer, range(RUNS)) for part in parts]
    assert len(hit) >= KILLS * 3 // 4
    assert set(hit) == {"import", "core", "recovery"}


def test_stopped_by_ctrl_c(args: list[str | Path], undisturbed: dict[str, Any], tmp_path: Path) -> None:
    """It says how to go on, the log verifies, goes on, and shows against a later head that it is shorter."""
    out, log = tmp_path / "out", log_in(tmp_path / "out")
    process = start(*args, "--out", out)
    assert wait_until(process, lambda: records(log, "batches") > 0)
    process.send_signal(signal.SIGINT)
    ran = end(process)
    assert ran.code == 130
    assert ran.err.splitlines()[-1] == f"tape: sqlite:{log}: stopped after a batch; go on with --resume"
    assert (ran.json["kind"], ran.json["exit"]) == ("Stopped", 130)
    assert tape("verify", log, "--head", out / "log.sqlite.head").code == 0

    copy = Path(shutil.copytree(out, tmp_path / "copy")) / "log.sqlite"
    assert tape(*args, "--out", out, "--resume").json["fingerprint"] == undisturbed["fingerprint"]
    shorter = tape("verify", copy, "--json", "--head", out / "log.sqlite.head")
    assert shorter.code == 1
    assert "the tail is truncated" in shorter.json["faults"][0]["reason"]
    alone = tape("verify", copy)
    assert alone.code == 0
    assert "cannot be told: no head kept elsewhere was given (--head)" in alone.out


def test_stopped_while_importing(args: list[str | Path], undisturbed: dict[str, Any], tmp_path: Path) -> None:
    log = log_in(tmp_path)
    process = start(*args, "--out", tmp_path)
    assert wait_until(process, lambda: records(log, "operator.commands") > 0)
    process.send_signal(signal.SIGTERM)
    ran = end(process)
    assert ran.code == 130
    assert "stopped while importing; go on with --resume" in ran.err
    assert tape("verify", log).code == 0
    assert tape(*args, "--out", tmp_path, "--resume").json["fingerprint"] == undisturbed["fingerprint"]
