"""A backtest on Kafka that is killed, or whose broker is, goes on and comes to the same."""

from __future__ import annotations

import json
import random
import signal
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
from support.cli import end, start, tape, wait_until

pytestmark = pytest.mark.kafka

KILLS = 10
BROKER_KILLS = (2, 5, 8)
"""Which of them hit the broker."""
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
def test_ten_kills_the_brokers_among_them(own: Path, tmp_path: Path) -> None:
    """Killed in its import, its core and its recovery, the broker too; it always goes on from what stands."""
    args = busy_backtest(tmp_path)
    undisturbed = tape(*args, "--out", tmp_path / "sqlite").json
    whole = tape(*args, "--log", name(kafka.status(own)), "--out", tmp_path / "whole")
    assert whole.json["fingerprint"] == undisturbed["fingerprint"]
    watched = Watched(whole.json["log"])
    total = watched.written()
    watched.close()

    url, draw = name(kafka.status(own)), random.Random(4)
    shares = sorted(draw.uniform(0.02, 0.98) for _ in range(KILLS))
    hits = [
        kill(own, url, args, tmp_path, share * total, n in BROKER_KILLS) for n, share in enumerate(shares)
    ]
    assert sum(hits) >= KILLS * 7 // 10
    assert any(hits[n] for n in BROKER_KILLS)

    ran = tape(*args, "--log", url, "--out", tmp_path / "killed", "--resume")
    assert ran.code == 0, ran.err
    assert {f: ran.json[f] for f in FIGURES} == {f: undisturbed[f] for f in FIGURES}
    assert facts(url) == facts(whole.json["log"]) == facts(undisturbed["log"])
    verified = tape("verify", url, "--head", ran.json["head"], "--json")
    assert verified.code == 0, verified.out


def kill(own: Path, url: str, args: list[Any], folder: Path, written: float, broker: bool) -> bool:
    """Kill the run, or its broker, once it has written, and so much; whether it was still running."""
    watched = Watched(url)
    before = watched.written()
    process = start(*args, "--log", url, "--out", folder / "killed", "--resume", "--take-over")
    wait_until(process, lambda: watched.written() > max(before, written))
    watched.close()
    if not broker:
        process.kill()
        return end(process).code == -signal.SIGKILL
    was_running = process.poll() is None
    kafka.kill(kafka.status(own), signal.SIGKILL)
    ran = end(process)
    kafka.start(own)
    if was_running and ran.code:
        assert ran.code == 1
        assert ran.json["error"].startswith(url)
        assert "go on with --resume" in ran.said
    return was_running and ran.code == 1


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
