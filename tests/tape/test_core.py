"""The role `core` on an embedded log: what its beats say when a process dies, two hosts, its end."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

import tape.core
from eventlog import EventLog, open_log
from eventlog.roles import Beat
from support.runs import busy_log, busy_settings, configured
from tape.core import run_core

LIMIT_S = 60


def workers() -> list[int]:
    """Process ids of the partitions that this process runs."""
    found = subprocess.run(["pgrep", "-P", str(os.getpid())], capture_output=True, text=True, check=False)
    running = []
    for child in map(int, found.stdout.split()):
        with suppress(OSError):
            if Path(f"/proc/{child}/comm").read_text().startswith("tape-core-"):
                running.append(child)
    return running


def wait(holds: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + LIMIT_S
    while not holds():
        assert time.monotonic() < end, f"it never came to that: {what}"
        time.sleep(0.05)


class Host:
    """A core host in a thread, and its beats."""

    def __init__(self, url: str) -> None:
        self.beats: list[Beat] = []
        self.stop = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(url,))
        self._thread.start()

    def _run(self, url: str) -> None:
        with open_log(url, read_only=True) as log:
            run_core(
                url,
                lambda partition: configured(log, busy_settings(), partition),
                beats=self.beats.append,
                stop=self.stop.is_set,
            )

    @property
    def runs(self) -> bool:
        """Whether it has said how far it is, and of no failure."""
        return bool(self.beats) and bool(self.beats[-1].positions) and not self.beats[-1].error

    def end(self) -> None:
        self.stop.set()
        self._thread.join()


@contextmanager
def running(url: str) -> Iterator[Host]:
    host = Host(url)
    try:
        yield host
    finally:
        host.end()


@pytest.fixture
def log(tmp_path: Path) -> Iterator[EventLog]:
    with busy_log(tmp_path) as made:
        yield made


def test_a_failure_is_told_until_it_is_mended(log: EventLog) -> None:
    with running(log.url) as host:
        for _ in range(2):
            wait(lambda: host.runs, "it runs, and says of no failure")
            before = len(host.beats)
            os.kill(workers()[0], signal.SIGKILL)
            wait(lambda: "was killed" in host.beats[-1].error, "the failure is told")
        wait(lambda: host.runs, "it runs again")
        down = host.beats[before:]
    assert all(beat.positions for beat in down), "one that is down is behind, and does not count as done"


def test_second_host_of_an_embedded_log_waits(log: EventLog) -> None:
    with running(log.url) as first:
        wait(lambda: first.runs, "the first runs")
        with running(log.url) as second:
            wait(lambda: any("is held by" in beat.error for beat in second.beats), "the second is refused")
            first.end()
            assert first.runs
            wait(lambda: second.runs, "the second takes what the first has left")


def test_partitions_end_before_the_group_is_left(log: EventLog, monkeypatch: pytest.MonkeyPatch) -> None:
    left: list[list[int]] = []

    class Owner(tape.core._All):
        def __exit__(self, *problem: object) -> None:
            left.append(workers())

    monkeypatch.setattr(tape.core, "_owner", lambda log, release: Owner(log))
    with running(log.url) as host:
        wait(lambda: host.runs, "it runs")
    assert left == [[]]
