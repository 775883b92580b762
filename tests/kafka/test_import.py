"""An import into a log on Kafka is that into the embedded log, whatever is killed; sealed at its end."""

from __future__ import annotations

import random
import signal
import uuid
from pathlib import Path
from typing import Any

import pytest

from eventlog import open_log
from eventlog.errors import LogError
from eventlog.kafka import broker as kafka
from schemas import TOPICS
from support.cli import end, start, tape, wait_until
from support.much import many

pytestmark = pytest.mark.kafka

KILLS = many(10)
WRITTEN = (*(t for t in TOPICS if t.startswith("market.")), "dead-letters")


def name(broker: kafka.Broker) -> str:
    return f"kafka://{broker.address}/i{uuid.uuid4().hex[:12]}"


@pytest.fixture(scope="module")
def dirty(tmp_path_factory: pytest.TempPathFactory) -> list[str | Path]:
    """An import of forty thousand trades, one in a hundred at a price that cannot be."""
    draw = random.Random(5)
    file = tmp_path_factory.mktemp("data") / "trades.csv"
    with file.open("w") as text:
        text.write("ts,symbol,price,size\n")
        for n in range(40_000):
            price = draw.choice((1, 900)) if draw.random() < 0.01 else 100 + draw.randrange(100) / 100
            text.write(f"{1_381_152_600_000 + n * 300},{draw.choice('ABCDE')},{price},{n % 9 + 1}\n")
    return ["import", "--data", file, "--kind", "trades", "--time", "ms", "--json"]


@pytest.fixture(scope="module")
def embedded(dirty: list[str | Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The report of the import into the embedded log."""
    ran = tape(*dirty, "--log", tmp_path_factory.mktemp("embedded") / "m.sqlite")
    assert ran.code == 0, ran.err
    return ran.json


def stands(url: str) -> dict[str, list[tuple[bytes, bytes]]]:
    """Key and value of all that an import may write, by partition."""
    found = {}
    with open_log(url, read_only=True) as log:
        for topic in WRITTEN:
            for partition in range(log.partitions(topic)):
                rows, position = [], 0
                while page := log.read(topic, partition, gte=position):
                    rows += [(r.key, r.value) for r in page]
                    position = page[-1].offset + 1
                found[f"{topic}/{partition}"] = rows
    return found


def count(url: str) -> int:
    """How many offsets an import has taken; 0 while the log cannot be asked."""
    try:
        with open_log(url, read_only=True) as log:
            return sum(log.bounds(t, p)[1] for t in WRITTEN for p in range(log.partitions(t)))
    except LogError:
        return 0


def test_import_and_repeat(
    broker: kafka.Broker, dirty: list[str | Path], embedded: dict[str, Any], tmp_path: Path
) -> None:
    url = name(broker)
    ran = tape(*dirty, "--log", url, cwd=tmp_path)
    assert ran.code == 0, ran.err
    same = ("source", "events", "written", "skipped", "left_out")
    assert {f: ran.json[f] for f in same} == {f: embedded[f] for f in same}
    assert ran.json["quality"]["reasons"] == embedded["quality"]["reasons"]
    assert Path(ran.json["head"]) == tmp_path / "runs" / f"{url.rpartition('/')[2]}.head"
    assert stands(url) == stands(embedded["log"])
    verified = tape("verify", url, "--head", ran.json["head"], "--json")
    assert verified.code == 0, verified.out
    assert verified.json["unsealed"] == 0

    taken = count(url)
    again = tape(*dirty, "--log", url, cwd=tmp_path).json
    assert (again["written"], again["skipped"]) == ({}, embedded["events"])
    assert count(url) == taken


def test_killed_and_repeated_it_writes_nothing_twice(
    broker: kafka.Broker, dirty: list[str | Path], embedded: dict[str, Any], tmp_path: Path
) -> None:
    """Killed when so much is written, counting anew from the kill before; another may hold the id then."""
    url, draw, hit = name(broker), random.Random(3), 0
    for share in sorted(draw.random() for _ in range(KILLS)):
        process = start(*dirty, "--log", url, "--take-over", "--head", tmp_path / "head")
        wait_until(process, lambda: count(url) >= share * embedded["events"])  # noqa: B023
        process.kill()
        hit += end(process).code == -signal.SIGKILL
    assert hit >= KILLS * 7 // 10
    ran = tape(*dirty, "--log", url, "--take-over", "--head", tmp_path / "head")
    assert ran.code == 0, ran.err
    assert ran.json["skipped"] > 0
    assert stands(url) == stands(embedded["log"])
    assert tape("verify", url, "--head", tmp_path / "head").code == 0


def test_stopped_by_ctrl_c(
    broker: kafka.Broker, dirty: list[str | Path], embedded: dict[str, Any], tmp_path: Path
) -> None:
    url = name(broker)
    process = start(*dirty, "--log", url, "--head", tmp_path / "head")
    assert wait_until(process, lambda: count(url) > 0)
    process.send_signal(signal.SIGINT)
    ran = end(process)
    assert ran.code == 130
    assert ran.json["error"] == f"{url}: stopped while importing; repeat the command to go on"
    assert tape(*dirty, "--log", url, "--head", tmp_path / "head").code == 0
    assert stands(url) == stands(embedded["log"])


def test_no_broker(dirty: list[str | Path], tmp_path: Path) -> None:
    ran = tape(*dirty, "--log", "kafka://127.0.0.1:9/x", cwd=tmp_path)
    assert ran.code == 2
    assert ran.said.startswith("kafka://127.0.0.1:9/x: the broker does not answer")
    assert not any(tmp_path.iterdir())
