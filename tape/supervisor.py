"""Processes that are kept running: started, watched, started again with backoff, ended in order."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import time as clock
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

PARENT = "TAPE_SUPERVISOR_PID"
"""The environment variable by which a process knows whom it must not outlive."""
BACKOFF_S = (1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
MENDED_S = 60.0
"""After so long without an end, the next one is the first again."""
STOP_S = 30.0
"""How long a process may take to end when asked to."""
POLL_S = 0.05
PR_SET_PDEATHSIG = 1
TAIL = 4000

State = Literal["waiting", "starting", "running", "stopped"]


def die_with_parent() -> None:
    """Have this process killed when the supervisor that started it dies; without one, nothing."""
    parent = os.environ.pop(PARENT, None)  # it is nothing to the processes that we start
    if parent is None:
        return
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(parent):
        os._exit(1)  # it died while we started


@dataclass(frozen=True)
class Spec:
    """A process to keep running. `rank` orders the end: the lowest goes first, equals together."""

    name: str
    command: Sequence[str]
    rank: int = 0
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Child:
    """What is known of a process. `error` is the last thing it said before it ended by itself."""

    spec: Spec
    state: State = "waiting"
    pid: int | None = None
    starts: int = 0
    error: str = ""
    process: subprocess.Popen[bytes] | None = None
    failures: int = 0
    started: float = 0.0
    not_before: float = 0.0


@dataclass(frozen=True)
class Told:
    """Something that has happened to a process."""

    what: Literal["started", "ready", "died", "stopped", "killed"]
    name: str
    pid: int
    code: int | None = None
    error: str = ""
    again_s: float | None = None
    """When it is started again."""


class Supervisor:
    """Keeps processes running. Not for several threads: whoever starts them must not end before them.

    Each gets a file for its standard error, `NAME.log`, and one that it makes when it is ready,
    `NAME.ready`, whose path takes the place of "{ready}" in its command.
    """

    def __init__(self, specs: Sequence[Spec], folder: Path, backoff_s: Sequence[float] = BACKOFF_S) -> None:
        self.children = [Child(spec) for spec in specs]
        self._folder, self._backoff_s = folder, backoff_s
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def is_ready(self) -> bool:
        """Whether all are."""
        return all(child.state == "running" for child in self.children)

    def log_of(self, name: str) -> Path:
        """The file of what a process says."""
        return self._folder / f"{name}.log"

    def step(self) -> list[Told]:
        """Look after all of them once: what has happened."""
        return [told for child in self.children for told in self._look_after(child)]

    def _look_after(self, child: Child) -> list[Told]:
        now = clock.monotonic()
        if child.process is None:
            return [self._start(child, now)] if now >= child.not_before else []
        code = child.process.poll()
        if code is not None:
            return [self._bury(child, code, now)]
        if now - child.started > MENDED_S:
            child.failures = 0
        if child.state == "starting" and self._ready(child).exists():
            child.state = "running"
            return [Told("ready", child.spec.name, child.process.pid)]
        return []

    def _ready(self, child: Child) -> Path:
        return self._folder / f"{child.spec.name}.ready"

    def _start(self, child: Child, now: float) -> Told:
        ready = self._ready(child)
        ready.unlink(missing_ok=True)
        command = [str(ready) if part == "{ready}" else part for part in child.spec.command]
        with self.log_of(child.spec.name).open("ab") as output:
            child.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=os.environ | child.spec.environment | {PARENT: str(os.getpid())},
                start_new_session=True,  # Ctrl-C is for the supervisor, who ends them in order
            )
        child.state, child.pid, child.started = "starting", child.process.pid, now
        child.starts += 1
        return Told("started", child.spec.name, child.process.pid)

    def _bury(self, child: Child, code: int, now: float) -> Told:
        assert child.process is not None
        wait = self._backoff_s[min(child.failures, len(self._backoff_s) - 1)]
        child.failures += 1
        child.not_before = now + wait
        child.error = _why(code, self.log_of(child.spec.name))
        told = Told("died", child.spec.name, child.process.pid, code, child.error, wait)
        child.state, child.pid, child.process = "waiting", None, None
        return told

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to all that run."""
        for child in self.children:
            if child.process is not None:
                _signal(child, number)

    def stop(self, timeout_s: float = STOP_S) -> list[Told]:
        """End all of them, by rank; those that take too long are killed."""
        told: list[Told] = []
        for rank in sorted({child.spec.rank for child in self.children}):
            ending = [child for child in self.children if child.spec.rank == rank and child.process]
            for child in ending:
                _signal(child, signal.SIGTERM)
            until = clock.monotonic() + timeout_s
            told += [self._await_end(child, until) for child in ending]
        for child in self.children:
            child.state = "stopped"
        return told

    def kill(self) -> None:
        """Kill all of them at once."""
        for child in self.children:
            if child.process is not None:
                _signal(child, signal.SIGKILL)
                child.process.wait()
            child.process, child.state = None, "stopped"

    def _await_end(self, child: Child, until: float) -> Told:
        assert child.process is not None
        pid = child.process.pid
        try:
            code = child.process.wait(max(until - clock.monotonic(), POLL_S))
        except subprocess.TimeoutExpired:
            _signal(child, signal.SIGKILL)
            child.process.wait()
            child.process = child.pid = None
            return Told("killed", child.spec.name, pid, error="it did not end when asked to")
        child.process = child.pid = None
        return Told("stopped", child.spec.name, pid, code)


def _signal(child: Child, number: signal.Signals) -> None:
    assert child.process is not None
    child.process.send_signal(number)  # nothing where it has ended


def _why(code: int, log: Path) -> str:
    """Why a process has ended: the signal, or the last thing it said."""
    if code < 0:
        return f"killed by {signal.Signals(-code).name}"
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL))
            lines = file.read().decode(errors="replace").strip().splitlines()
    except OSError:
        lines = []
    said = lines[-1].removeprefix("tape: ") if lines else ""
    try:
        told = json.loads(said)
        said = f"{told['event']}: {told.get('error', '')}".rstrip(": ")
    except (ValueError, KeyError, TypeError):
        pass
    return f"exit code {code}: {said}" if said else f"exit code {code}"
