"""The whole plane under `tape up`, while Kafka stands still or Postgres is gone."""

from __future__ import annotations

import json
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from eventlog import check_seals, open_log
from eventlog.errors import LogError
from eventlog.kafka import broker as kafka
from projections.postgres import server
from schemas import Fill, Filled, decode
from support.cli import start, tape
from support.lean import SAMPLE
from support.postgres import ask, check, project, tables

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(900)]

CONFIG = f"""
time = "data"
account_partitions = 1
market_partitions = 1
[core]
simulated = false
[[accounts]]
id = "one"
cash = 100_000
[[strategies]]
name = "cross"
kind = "sma-cross"
account = "one"
symbols = ["SPY", "IBM", "AIG"]
params = {{ fast = 2, slow = 5 }}
[market]
[feed]
data = "{SAMPLE}"
symbols = ["SPY", "IBM", "AIG"]
from = 2013-10-07
to = 2013-10-09
speed = 300
[broker]
folder = "books"
"""
SILENT_S = 8
"""Longer than a transaction, a session and a request may last."""


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Path]:
    """The folder of a broker that the test stops."""
    folder = tmp_path / "kafka"
    yield folder
    kafka.stop(folder)


@pytest.fixture
def postgres() -> Iterator[Path]:
    """The folder of a Postgres that the test kills."""
    folder = Path(tempfile.mkdtemp(prefix="tape-postgres-"))
    server.start(folder)
    yield folder
    server.stop(folder)
    shutil.rmtree(folder)


def until(holds: Callable[[], bool], what: str, limit_s: float = 240) -> None:
    end = time.monotonic() + limit_s
    while not holds():
        assert time.monotonic() < end, f"not in {limit_s:.0f} s: {what}"
        time.sleep(0.3)


def fills(url: str) -> int:
    """How many there are; -1 while the broker does not answer."""
    try:
        with open_log(url, read_only=True) as log:
            return len(log.read("fills", 0, gte=0, limit=1 << 20))
    except LogError:
        return -1


def brought(dsn: str) -> int:
    """Decisions that are in Postgres; -1 while it does not answer."""
    try:
        return int(ask(dsn, "SELECT coalesce(sum(decisions), 0) FROM trading.progress")[0][0])
    except psycopg.Error:
        return -1


@contextmanager
def plane(url: str, dsn: str, folder: Path) -> Iterator[Any]:
    """`tape up` with every role; what it tells goes to a file."""
    (folder / "tape.toml").write_text(CONFIG + f'url = "http://127.0.0.1:{kafka.free_port()}"\n')
    with (folder / "said").open("w") as said:
        common = ("--config", folder / "tape.toml", "--log", url, "--out", folder / "out", "--json")
        process = start("up", *common, env=os.environ | {"TAPE_POSTGRES_DSN": dsn}, stdout=said)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.soak
def test_all_go_on_when_kafka_stood_still_or_postgres_was_gone(
    own: Path, postgres: Path, tmp_path: Path
) -> None:
    """Kafka stands still, then Postgres is killed: every role goes on. The soak kills Kafka."""
    dsn = server.start(postgres).dsn
    url = f"kafka://{kafka.start(own).address}/faults"
    with plane(url, dsn, tmp_path) as process:

        def go_on(what: str) -> None:
            had, known = max(fills(url), 0), max(brought(dsn), 0)
            until(lambda: fills(url) > had + 1, f"fills after {what}")
            until(lambda: brought(dsn) > known + 1, f"rows after {what}")

        go_on("the start")
        found = kafka.status(own)
        assert found is not None
        kafka.kill(found, signal.SIGSTOP)
        time.sleep(SILENT_S)  # it is the silence that is tested
        kafka.kill(found, signal.SIGCONT)
        go_on("Kafka stood still")
        os.kill(server.start(postgres).pid, signal.SIGKILL)
        until(lambda: "project" in deaths(tmp_path), "the role project has noticed")
        assert server.start(postgres).dsn == dsn
        go_on("Postgres was killed")
        process.send_signal(signal.SIGINT)
        assert process.wait(180) == 130
    assert tape("verify", url).code == 0
    with open_log(url, read_only=True) as log:
        assert not check_seals(log).faults
        booked = [decode("fills", r.value) for r in log.read("fills", 0, gte=0, limit=1 << 20)]
        reports = [decode("broker.reports", r.value) for r in log.read("broker.reports", 0, gte=0)]
        executions = [e.execution for e in booked if isinstance(e, Fill)]
        assert len(set(executions)) == len(executions) == len(booked)
        assert set(executions) <= {r.execution for r in reports if isinstance(r, Filled)}
        project(dsn, log)
        rows = check(dsn, log)
        project(dsn, log, rebuild=True)
        assert tables(dsn) == rows


def deaths(folder: Path) -> set[str]:
    """Roles that have ended by themselves."""
    told = [json.loads(line) for line in (folder / "said").read_text().splitlines()]
    return {event["role"] for event in told if event["event"] == "died"}
