"""The role `core` on Kafka: processes by partition, kills, hangs, two hosts, a parameter that changes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from eventlog import EventLog, create_log, open_log
from eventlog.kafka.broker import Broker
from processors.hosts.journal import configurations, last
from processors.hosts.live import LiveHost
from producers.operator import command_record
from schemas import DECISIONS, Batch, NewRecord, decode, evolve, new_record, partition_of
from support.runs import SPEC, busy_commands, busy_market, busy_settings, configured, verified
from tape.core import run_core
from tape.wiring import build

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(600)]

SERIAL = count(1)

HOST = """
import json, sys
from pathlib import Path
from support.runs import busy_settings, configured
from eventlog import open_log
from tape.core import run_core

url, folder = sys.argv[1], Path(sys.argv[2])
log = open_log(url, read_only=True)
seen = [""]

def every():
    return (folder / "every").read_text()

def configure(partition):
    seen[0] = every()
    made = configured(log, busy_settings(snapshot_every=int(seen[0])), partition)
    return made

def beats(beat):
    (folder / f"beat-{sys.argv[3]}.new").write_text(json.dumps(
        [beat.processed, beat.error, {f"{t}/{p}": at for (t, p), at in beat.positions.items()}]))
    (folder / f"beat-{sys.argv[3]}.new").replace(folder / f"beat-{sys.argv[3]}")

run_core(url, configure, beats=beats, stop=lambda: (folder / f"stop-{sys.argv[3]}").exists(),
         changed=lambda: seen[0] not in ("", every()))
print("ended", flush=True)
"""


@pytest.fixture
def url(broker: Broker) -> str:
    name = f"kafka://{broker.address}/core{next(SERIAL)}"
    create_log(name, SPEC).close()
    return name


class Host:
    """A core host in a process of its own, with its workers."""

    def __init__(self, url: str, folder: Path, name: str) -> None:
        self.folder, self.name = folder, name
        (folder / "every").touch()
        if not (folder / "every").read_text():
            (folder / "every").write_text("200")
        environment = os.environ | {"PYTHONPATH": f"{Path.cwd()}:{Path.cwd() / 'tests'}"}
        self.process = subprocess.Popen(
            [sys.executable, "-c", HOST, url, str(folder), name], env=environment, start_new_session=True
        )

    def children(self) -> list[int]:
        """Process ids of all of its processes, the spare one too."""
        command = ["pgrep", "-P", str(self.process.pid)]
        found = subprocess.run(command, capture_output=True, text=True, check=False)
        return [int(line) for line in found.stdout.split()]

    def workers(self) -> list[int]:
        """Process ids of those that run a partition."""
        return [pid for pid in self.children() if _name(pid).startswith("tape-core-")]

    def error(self) -> str:
        told = self.folder / f"beat-{self.name}"
        return str(json.loads(told.read_text())[1]) if told.exists() else ""

    def stop(self) -> None:
        (self.folder / f"stop-{self.name}").touch()
        assert self.process.wait(120) == 0

    def signal_all(self, number: signal.Signals) -> None:
        """To the host and its workers."""
        for pid in [self.process.pid, *self.children()]:
            os.kill(pid, number)


def _name(pid: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text()
    return ""


@contextmanager
def hosts(url: str, folder: Path, *names: str) -> Iterator[list[Host]]:
    started = [Host(url, folder, name) for name in names]
    try:
        yield started
    finally:
        for host in started:
            for pid in [*host.children(), host.process.pid]:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            host.process.wait()


def until(holds: Callable[[], bool], what: str, limit_s: float = 120) -> None:
    end = time.monotonic() + limit_s
    while not holds():
        assert time.monotonic() < end, f"not in {limit_s:.0f} s: {what}"
        time.sleep(0.1)


def pieces(log: EventLog, size: int) -> Iterator[list[NewRecord]]:
    market: list[NewRecord] = []
    for event in busy_market():
        symbol: str = event.symbol  # type: ignore[attr-defined]  # every market event has one
        market.append(new_record(event, partition_of(symbol, log.partitions(event.topic)), symbol))
    yield [command_record(command, log) for command in busy_commands()]
    for start in range(0, len(market), size):
        yield market[start : start + size]


def decided_up_to(log: EventLog, partition: int) -> dict[tuple[str, int], int]:
    end = last(log, "batches", partition, Batch)
    return {} if end is None else {(i.topic, i.partition): i.next for i in end.inputs}


def all_taken(log: EventLog) -> bool:
    """Whether both partitions have decided on all that there is."""
    for partition in range(2):
        positions = decided_up_to(log, partition)
        if not positions:
            return False
        for stream, position in positions.items():
            if log.read(*stream, gte=position, limit=1):
                return False
    return True


def check(url: str) -> None:
    """Each account's seqs without a gap or a repeat, and the log derives to itself."""
    with open_log(url, read_only=True) as log:
        seqs: dict[str, list[int]] = {}
        for topic in DECISIONS:
            for partition in range(2):
                for record in log.read(topic, partition, gte=0, limit=1 << 20):
                    event: Any = decode(topic, record.value)
                    seqs.setdefault(event.account, []).append(event.seq)
        assert len(seqs) == 3
        assert all(sorted(found) == list(range(1, len(found) + 1)) for found in seqs.values())
        assert verified(log).difference is None


def feed(url: str, size: int, between: Callable[[int], None]) -> None:
    with open_log(url) as log, log.writer("feed") as writer:
        for n, piece in enumerate(pieces(log, size)):
            writer.append(piece)
            between(n)


def test_killed_workers_and_hosts_go_on_from_the_log(url: str, tmp_path: Path) -> None:
    """Workers are killed by turns, the host itself twice: whoever comes next goes on."""
    with hosts(url, tmp_path, "one") as running, open_log(url, read_only=True) as log:

        def kill(n: int) -> None:
            time.sleep(0.2)
            workers = running[0].workers()
            if n % 3 == 2 and workers:
                os.kill(workers[n % len(workers)], signal.SIGKILL)
            if n in (5, 10):
                running[0].process.kill()
                running[0].process.wait()
                running[0] = Host(url, tmp_path, "one")

        feed(url, 60, kill)
        until(lambda: all_taken(log), "all decided")
        running[0].stop()
    check(url)


def test_workers_end_with_their_host(url: str, tmp_path: Path) -> None:
    with hosts(url, tmp_path, "one") as (host,):
        feed(url, 500, lambda n: None)
        until(lambda: len(host.workers()) == 2, "two workers")
        workers = host.children()
        host.process.kill()
        host.process.wait()
        until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers), "workers gone", 30)


def test_two_hosts_share_and_one_that_is_killed_is_followed(url: str, tmp_path: Path) -> None:
    with hosts(url, tmp_path, "one", "two") as (one, two), open_log(url, read_only=True) as log:
        with open_log(url) as writable, writable.writer("feed") as writer:
            (opening, *market) = pieces(log, 60)
            writer.append(opening)
            until(lambda: len(one.workers()) == len(two.workers()) == 1, "a partition each")
            writer.append(market[0])
            until(lambda: all_taken(log), "the first piece")
            one.signal_all(signal.SIGKILL)
            for piece in market[1:]:
                writer.append(piece)
            until(lambda: len(two.workers()) == 2, "both partitions with the second")
            until(lambda: all_taken(log), "all decided")
        two.stop()
    check(url)


def test_host_that_hangs_is_followed_and_writes_nothing_when_it_wakes(url: str, tmp_path: Path) -> None:
    """SIGSTOP to a host and its workers, SIGCONT when the other has taken over."""
    with hosts(url, tmp_path, "one", "two") as (one, two), open_log(url, read_only=True) as log:
        with open_log(url) as writable, writable.writer("feed") as writer:
            (opening, *market) = pieces(log, 60)
            writer.append(opening)
            until(lambda: len(one.workers()) == len(two.workers()) == 1, "a partition each")
            writer.append(market[0])
            one.signal_all(signal.SIGSTOP)
            for piece in market[1:]:
                writer.append(piece)
            until(lambda: len(two.workers()) == 2, "both partitions with the second")
            until(lambda: all_taken(log), "all decided")
            ends = {
                (topic, partition): log.bounds(topic, partition)[1]
                for topic in (*DECISIONS, "batches")
                for partition in range(2)
            }
            one.signal_all(signal.SIGCONT)
            time.sleep(3)
            found = {stream: log.read(*stream, gte=end) for stream, end in ends.items()}
            assert not any(found.values()), "the zombie wrote"
        one.stop()
        until(lambda: len(two.workers()) == 2, "both partitions with the second, still")
        two.stop()
    check(url)


def test_worker_that_hangs_is_killed_and_begun_again(url: str, tmp_path: Path) -> None:
    with hosts(url, tmp_path, "one") as (host,), open_log(url, read_only=True) as log:
        feed(url, 500, lambda n: None)
        until(lambda: len(host.workers()) == 2 and all_taken(log), "two workers")
        hung = host.workers()[0]
        os.kill(hung, signal.SIGSTOP)
        until(lambda: hung not in host.workers() and len(host.workers()) == 2, "another worker")
        assert "no sign" in host.error()
        host.stop()
    check(url)


def test_changed_setting_begins_an_epoch_while_it_runs(url: str, tmp_path: Path) -> None:
    with hosts(url, tmp_path, "one") as (host,), open_log(url, read_only=True) as log:

        def change(n: int) -> None:
            if n == 4:
                until(lambda: bool(decided_up_to(log, 0)), "something decided")
                (tmp_path / "every").write_text("300")
                until(lambda: len(configurations(log, 0)) == 2, "an epoch")

        feed(url, 100, change)
        until(lambda: all_taken(log), "all decided")
        host.stop()
        assert [c.settings.snapshot_every for c in configurations(log, 0)] == [200, 300]
    check(url)


def test_what_cannot_be_mended_ends_the_role(url: str) -> None:
    """A decision beyond the last batch: the partition stops, and says which record."""
    with open_log(url) as log:
        with log.writer("feed") as writer:
            (opening, market, *_) = pieces(log, 2000)
            writer.append(opening)
            writer.append(market)
        with log.writer("forger") as writer:
            made = configured(log, busy_settings(), 0)
            asked = iter(range(30))
            LiveHost(log, 0, made, build).run(lambda beat: None, lambda: next(asked, None) is None)
            stored = log.read("orders", 0, gte=0, limit=1)[0]
            forged: Any = decode("orders", stored.value)
            writer.append([new_record(evolve(forged, seq=1_000_000), 0, forged.account)])
        with pytest.raises(Exception, match=r"orders/0/\d+ differs"):
            run_core(
                url,
                lambda partition: configured(log, busy_settings(), partition),
                beats=lambda beat: None,
                stop=lambda: False,
            )
