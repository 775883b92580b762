"""A log on Kafka projects to the rows of the same run on the embedded log."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from eventlog import open_log
from eventlog.kafka import broker as kafka
from projections.errors import OtherLog
from support.busy import busy_backtest
from support.cli import end, start, tape, wait_until
from support.postgres import ask, check, project, tables

pytestmark = pytest.mark.kafka


def test_rows_are_those_of_the_embedded_log(broker: kafka.Broker, dsn: str, tmp_path: Path) -> None:
    args, url = busy_backtest(tmp_path), f"kafka://{broker.address}/p{uuid.uuid4().hex[:12]}"
    on_kafka = tape(*args, "--log", url, "--out", tmp_path / "kafka")
    assert on_kafka.code == 0, on_kafka.err
    embedded = tape(*args, "--out", tmp_path / "sqlite").json
    with open_log(url, read_only=True) as log, open_log(embedded["log"], read_only=True) as same:
        project(dsn, log, group=1)
        found = check(dsn, log)
        with pytest.raises(OtherLog, match="add --rebuild"):
            project(dsn, same)
        project(dsn, same, rebuild=True)
        wanted = tables(dsn)
    for name, rows in wanted.items():
        if name not in ("logs", "progress"):
            assert found[name] == rows, name
    assert found["fills"]


def test_following_a_run(broker: kafka.Broker, dsn: str, tmp_path: Path) -> None:
    """What a transaction shows first, its batch or its decisions, makes no difference."""
    args, url = busy_backtest(tmp_path), f"kafka://{broker.address}/p{uuid.uuid4().hex[:12]}"
    running = start(*args, "--log", url, "--out", tmp_path / "kafka")
    follower = None
    while follower is None or follower.poll() == 2:  # there is no such log yet
        follower = start("project", url, "--dsn", dsn, "--follow")
        assert wait_until(follower, lambda: ask(dsn, READY) == [(True,)]) or follower.returncode == 2
    ran = end(running)
    assert ran.code == 0, ran.err
    assert wait_until(
        follower, lambda: ask(dsn, "SELECT count(*) FROM trading.fills") == [(ran.json["fills"],)]
    )
    assert wait_until(follower, lambda: _decisions(dsn) == ran.json["events"] - _others(url))
    follower.terminate()
    assert end(follower).code == 130
    with open_log(url, read_only=True) as log:
        check(dsn, log)


READY = "SELECT to_regclass('trading.progress') IS NOT NULL"


def _decisions(dsn: str) -> int:
    return int(ask(dsn, "SELECT coalesce(sum(decisions), 0) FROM trading.progress")[0][0])


def _others(url: str) -> int:
    """Records that are no decisions."""
    listed = tape("topics", "list", url, "--count", "--json").json
    return sum(t["records"] for t in listed["topics"] if t["kind"] != "decision")
