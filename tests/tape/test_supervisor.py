"""The supervisor, with real processes: killed ones start again, none outlives it, the end has an order."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tape.supervisor import Spec, Supervisor, Told

ROOT = Path(__file__).parents[2]
WORKER = """
import signal, sys, time
from pathlib import Path
from tape.supervisor import die_with_parent
die_with_parent()
name, ready, order = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
def end(number, frame):
    with order.open("a") as file:
        file.write(name + "\\n")
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
ready.touch()
while True:
    time.sleep(0.05)
"""
STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1); time.sleep(600)"
SUPERVISING = """
import sys, time
from pathlib import Path
from tape.supervisor import Spec, Supervisor
folder = Path(sys.argv[1])
kept = Supervisor([Spec(name, [sys.executable, "-c", sys.argv[2], name, "{ready}", str(folder / "order")])
                   for name in ("a", "b")], folder)
while True:
    kept.step()
    (folder / "pids.new").write_text(" ".join(str(c.pid) for c in kept.children if c.state == "running"))
    (folder / "pids.new").replace(folder / "pids")
    time.sleep(0.05)
"""


def worker(name: str, folder: Path, rank: int = 0) -> Spec:
    return Spec(name, [sys.executable, "-c", WORKER, name, "{ready}", str(folder / "order")], rank)


@contextmanager
def supervised(*specs: Spec, folder: Path, backoff_s: tuple[float, ...] = (0.05,)) -> Iterator[Supervisor]:
    kept = Supervisor(specs, folder, backoff_s)
    try:
        yield kept
    finally:
        kept.kill()


def step_until(kept: Supervisor, holds: Callable[[list[Told]], bool], limit_s: float = 60) -> list[Told]:
    """Step until it holds for all that was told."""
    told: list[Told] = []
    end = time.monotonic() + limit_s
    while not holds(told):
        assert time.monotonic() < end, told
        told += kept.step()
        time.sleep(0.01)
    return told


def runs(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


def test_a_killed_process_starts_again(tmp_path: Path) -> None:
    with supervised(worker("a", tmp_path), worker("b", tmp_path), folder=tmp_path) as kept:
        step_until(kept, lambda told: kept.is_ready)
        a, b = kept.children
        first, other = a.pid, b.pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        told = step_until(kept, lambda told: bool(told) and kept.is_ready)
        assert [t.what for t in told] == ["died", "started", "ready"]
        assert (told[0].code, told[0].error) == (-9, "killed by SIGKILL")
        assert (a.starts, b.starts, b.pid) == (2, 1, other)
        assert a.pid not in (None, first)


def test_what_it_said_last_and_how_long_it_waits(tmp_path: Path) -> None:
    spec = Spec("a", [sys.executable, "-c", "import sys; sys.exit('tape: the disk is full')"])
    with supervised(spec, folder=tmp_path, backoff_s=(0.01, 0.02, 0.04)) as kept:
        died = [
            t
            for t in step_until(kept, lambda told: sum(t.what == "died" for t in told) == 5)
            if t.what == "died"
        ]
        assert [t.again_s for t in died] == [0.01, 0.02, 0.04, 0.04, 0.04]
        assert {(t.code, t.error) for t in died} == {(1, "exit code 1: the disk is full")}


def test_the_end_has_an_order(tmp_path: Path) -> None:
    specs = [worker("last", tmp_path, 2), worker("first", tmp_path, 0), worker("middle", tmp_path, 1)]
    with supervised(*specs, folder=tmp_path) as kept:
        step_until(kept, lambda told: kept.is_ready)
        pids = [c.pid for c in kept.children]
        assert [(t.what, t.name, t.code) for t in kept.stop()] == [
            ("stopped", name, 0) for name in ("first", "middle", "last")
        ]
        assert (tmp_path / "order").read_text().split() == ["first", "middle", "last"]
        assert not any(runs(pid) for pid in pids if pid is not None)
        assert kept.stop() == []


def test_one_that_does_not_end_is_killed(tmp_path: Path) -> None:
    with supervised(Spec("deaf", [sys.executable, "-u", "-c", STUBBORN]), folder=tmp_path) as kept:
        step_until(kept, lambda told: kept.log_of("deaf").exists() and bool(kept.log_of("deaf").read_text()))
        (told,) = kept.stop(timeout_s=0.2)
        assert (told.what, told.name) == ("killed", "deaf")
        assert not runs(told.pid)


def test_nothing_outlives_a_supervisor_that_is_killed(tmp_path: Path) -> None:
    supervising = subprocess.Popen([sys.executable, "-c", SUPERVISING, str(tmp_path), WORKER])
    try:
        pids: list[int] = []
        end = time.monotonic() + 60
        while len(pids) < 2:
            assert time.monotonic() < end
            assert supervising.poll() is None
            time.sleep(0.05)
            if (tmp_path / "pids").exists():
                pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
        assert all(map(runs, pids))
    finally:
        supervising.kill()
        supervising.wait()
    end = time.monotonic() + 30
    while any(map(runs, pids)):
        assert time.monotonic() < end
        time.sleep(0.05)
    assert not (tmp_path / "order").exists(), "they were killed, not asked"
