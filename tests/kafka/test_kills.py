"""A backtest on Kafka that is killed, or whose broker is, goes on and comes to the same."""

from __future__ import annotations

import json
import random
import resource
import signal
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from eventlog import EventLog, open_log
from eventlog.errors import LogError
from eventlog.kafka import broker as kafka
from schemas import TOPICS
from support.busy import busy_backtest
from support.cli import Ran, end, start, tape, wait_until
from support.much import many

pytestmark = pytest.mark.kafka

KILLS = many(10)
OF_BROKER = 3
"""Each which kill hits the broker."""
TRIES = 40
FIGURES = ("fingerprint", "log_id", "end_equity", "cash", "realized", "fees", "income", "fills", "positions")


def name(broker: kafka.Broker) -> str:
    return f"kafka://{broker.address}/k{uuid.uuid4().hex[:12]}"


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of a broker that this module may kill."""
    folder = tmp_path_factory.mktemp("kafka")
    kafka.start(folder)
    yield folder
    kafka.stop(folder)


class Watched:
    """How much of a log stands, asked while others write it."""

    def __init__(self, url: str) -> None:
        self._url, self._log = url, None

    def written(self) -> int:
        """Offsets of the facts and of the batches; 0 while the log cannot be asked."""
        try:
            self._log = self._log or open_log(self._url, read_only=True)
            return sum(self._end(topic) for topic in ("market.quotes", "orders", "batches"))
        except LogError:
            return 0

    def _end(self, topic: str) -> int:
        log: EventLog = self._log
        return sum(log.bounds(topic, p)[1] for p in range(log.partitions(topic)))

    def close(self) -> None:
        if self._log is not None:
            self._log.close()


@pytest.mark.timeout(600)
def test_many_kills_the_brokers_among_them(own: Path, tmp_path: Path) -> None:
    """Killed in its import, its core and its recovery, the broker too; it always goes on from what stands."""
    args = busy_backtest(tmp_path)
    undisturbed = tape(*args, "--out", tmp_path / "sqlite").json
    whole = tape(*args, "--log", name(kafka.status(own)), "--out", tmp_path / "whole")
    assert {f: undisturbed[f] for f in FIGURES} == figures(whole)
    watched = Watched(whole.json["log"])
    total = watched.written()
    watched.close()

    url, draw, hits, finished = name(kafka.status(own)), random.Random(4), 0, 0
    for _ in range(TRIES):
        broker = hits % OF_BROKER == OF_BROKER - 1
        ran = kill(own, url, args, tmp_path / url[-12:], draw.uniform(0.02, 0.98) * total, broker)
        if ran is None:
            hits += 1
        else:  # it was quicker: the next one is hit in a log of its own
            assert figures(ran) == figures(whole)
            url, finished = name(kafka.status(own)), finished + 1
        if hits == KILLS:
            break
    assert hits == KILLS, f"{finished} runs finished before they could be killed"

    ran = tape(*args, "--log", url, "--out", tmp_path / url[-12:], "--resume")
    assert ran.code == 0, ran.err
    assert figures(ran) == figures(whole)
    assert facts(url) == facts(whole.json["log"]) == facts(undisturbed["log"])
    verified = tape("verify", url, "--head", ran.json["head"], "--json")
    assert verified.code == 0, verified.out


def figures(ran: Ran) -> dict[str, Any]:
    return {f: ran.json[f] for f in FIGURES}


def kill(own: Path, url: str, args: list[Any], out: Path, written: float, broker: bool) -> Ran | None:
    """Kill the run, or its broker, once it has written, and so much; its end if it was quicker."""
    watched = Watched(url)
    before = watched.written()
    process = start(*args, "--log", url, "--out", out, "--resume", "--take-over")
    wait_until(process, lambda: watched.written() > max(before, written))
    watched.close()
    if not broker:
        process.kill()
        ran = end(process)
        return None if ran.code == -signal.SIGKILL else ran
    if process.poll() is not None:
        return end(process)
    kafka.kill(kafka.status(own), signal.SIGKILL)
    ran = end(process)
    kafka.start(own)
    if ran.code == 0:
        return ran
    assert ran.code == 1
    assert ran.json["error"].startswith(url)
    assert "go on with --resume" in ran.said
    return None


def facts(url: str) -> dict[str, list[tuple[int, bytes, bytes]]]:
    """What stands on the market topics, by partition."""
    found = {}
    with open_log(url, read_only=True) as log:
        for topic in (t for t in TOPICS if t.startswith("market.")):
            for partition in range(log.partitions(topic)):
                rows, position = [], 0
                while page := log.read(topic, partition, gte=position):
                    rows += [(r.offset, r.key, r.value) for r in page]
                    position = page[-1].offset + 1
                found[f"{topic}/{partition}"] = rows
    return found


def test_stopped_by_ctrl_c(own: Path, tmp_path: Path) -> None:
    args = busy_backtest(tmp_path)
    url = name(kafka.status(own))
    process = start(*args, "--log", url, "--out", tmp_path / "out")
    watched = Watched(url)
    assert wait_until(process, lambda: watched.written() > 0)
    watched.close()
    process.send_signal(signal.SIGINT)
    ran = end(process)
    assert ran.code == 130
    assert json.loads(ran.out)["kind"] == "Stopped"
    resumed = tape(*args, "--log", url, "--out", tmp_path / "out", "--resume")
    assert resumed.json["fingerprint"] == tape(*args, "--out", tmp_path / "sqlite").json["fingerprint"]


def process_id(broker: kafka.Broker) -> int:
    """Of the broker, in a container too."""
    if broker.how == "process":
        return int(broker.handle)
    command = ["docker", "inspect", "--format", "{{.State.Pid}}", broker.handle]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


@pytest.mark.timeout(600)
def test_broker_without_room_leaves_the_log_whole(own: Path, tmp_path: Path) -> None:
    """From one moment on the broker can write no more to its files, as on a full disk."""
    args = busy_backtest(tmp_path)
    undisturbed = tape(*args, "--out", tmp_path / "sqlite").json
    url = name(kafka.status(own))
    watched = Watched(url)
    process = start(*args, "--log", url, "--out", tmp_path / "out")
    assert wait_until(process, lambda: watched.written() > 3000)
    watched.close()
    broker = kafka.status(own)
    assert broker is not None
    resource.prlimit(process_id(broker), resource.RLIMIT_FSIZE, (1, 1))
    ran = end(process)
    assert ran.code == 1
    assert ran.json["error"].startswith(url)
    assert "go on with --resume" in ran.said
    kafka.stop(own)
    kafka.start(own)
    resumed = tape(*args, "--log", url, "--out", tmp_path / "out", "--resume")
    assert {f: undisturbed[f] for f in FIGURES} == figures(resumed)
    assert tape("verify", url, "--head", resumed.json["head"]).code == 0
