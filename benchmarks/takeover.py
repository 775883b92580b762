"""How long a core partition stands still: its host killed or stopped, and a restart far behind its snapshot.

Seconds from the signal to the first batch that another host writes in the dead one's partition, while
quotes go on; and from the start of a core to its first batch, with a million inputs to apply again: since
the last snapshot, and since the beginning, where there is none.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.live import Figure, made_for, play, prepare
from eventlog import EventLog, open_log
from eventlog.kafka import broker
from eventlog.roles import Beat
from processors.hosts.journal import last
from processors.hosts.live import LiveHost
from schemas import Batch
from tape.core import run_core
from tape.wiring import build

BEHIND = 1_000_000
LIMIT_S = 120


def host(url: str) -> None:
    """A core host, until it is killed."""
    with open_log(url, read_only=True) as log:
        run_core(url, lambda p: made_for(log, p), beats=lambda beat: None, stop=lambda: False)


def _start(url: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", f"from benchmarks.takeover import host; host({url!r})"])


def _processes(of: subprocess.Popen[bytes]) -> list[int]:
    """Process ids of a host's partitions, and of its spare."""
    found = subprocess.run(["pgrep", "-P", str(of.pid)], capture_output=True, text=True, check=False)
    return [int(pid) for pid in found.stdout.split()]


def _number(log: EventLog, partition: int) -> int:
    end = last(log, "batches", partition, Batch)
    return -1 if end is None else end.number


def _advances(log: EventLog, partition: int, beyond: int) -> float:
    """Wait for a batch beyond a number; when it came (monotonic seconds)."""
    until = time.monotonic() + LIMIT_S
    while _number(log, partition) <= beyond:
        if time.monotonic() > until:
            raise TimeoutError(f"no batch in partition {partition} for {LIMIT_S} s")
        time.sleep(0.02)
    return time.monotonic()


def takeover(address: str, number: signal.Signals) -> float:
    """Seconds from a signal to one of two hosts to the other's first batch in its partition."""
    log = prepare(address, 2, 0, "wall")
    hosts = [_start(log.url), _start(log.url)]
    player = multiprocessing.get_context("spawn").Process(target=play, args=(log.url, 1000, LIMIT_S))
    player.start()
    try:
        while not all(len(_processes(each)) == 2 for each in hosts):
            time.sleep(0.1)
        for partition in range(2):
            _advances(log, partition, 20)
        pids = [hosts[0].pid, *_processes(hosts[0])]
        struck = time.monotonic()
        for pid in pids:
            os.kill(pid, number)
        time.sleep(0.5)
        before = [_number(log, partition) for partition in range(2)]
        time.sleep(1)
        (dead,) = (p for p in range(2) if _number(log, p) == before[p])
        return _advances(log, dead, before[dead]) - struck
    finally:
        for each in hosts:
            for pid in [*_processes(each), each.pid]:
                os.kill(pid, signal.SIGKILL)
            each.wait()
        player.kill()
        player.join()
        log.close()


class _Killed(Exception):
    """Ends a host as a kill would: nothing more is written."""


def restart(address: str, snapshot_every: int, killed_at: int) -> tuple[float, int]:
    """Seconds from a host's start to its first new batch, and how many inputs it had to apply again."""
    log = prepare(address, 1, killed_at + 100_000)
    made = made_for(log, 0, snapshot_every=snapshot_every)

    def kill(beat: Beat) -> None:
        if beat.processed >= killed_at:
            raise _Killed

    with contextlib.suppress(_Killed):
        LiveHost(log, 0, made, build).run(kill, lambda: False)
    before, started, replayed = _number(log, 0), time.monotonic(), 0

    def count(beat: Beat) -> None:
        nonlocal replayed
        if not beat.positions:
            replayed = beat.processed

    LiveHost(log, 0, made, build).run(count, lambda: _number(log, 0) > before)
    took = time.monotonic() - started
    log.close()
    return took, replayed


def run() -> list[Figure]:
    """All figures."""
    with tempfile.TemporaryDirectory(prefix="tape-bench-") as folder:
        address = broker.start(Path(folder)).address
        try:
            figures = [
                ("live: takeover after SIGKILL, to the first batch", takeover(address, signal.SIGKILL), "s"),
                ("live: takeover after SIGSTOP, to the first batch", takeover(address, signal.SIGSTOP), "s"),
            ]
            for every, killed_at, what in (
                (BEHIND, 2 * BEHIND - 60_000, "since a snapshot"),
                (10 * BEHIND, BEHIND, "from the beginning"),
            ):
                took, replayed = restart(address, every, killed_at)
                figures.append((f"live: restart, {replayed:,} inputs {what}", took, "s"))
            return figures
        finally:
            broker.stop(Path(folder))


if __name__ == "__main__":
    for name, value, unit in run():
        print(f"{name:60}{value:14,.2f} {unit}")
