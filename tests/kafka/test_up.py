"""`tape up` on a real Kafka: kills of every role, everything sealed and projected, nothing left running."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
import pytest

from eventlog import check_seals, open_log
from eventlog.errors import LogUnreachable
from eventlog.kafka import broker as kafka
from eventlog.kafka.broker import Broker
from projections.postgres.projector import shown_dsn
from schemas import RoleHeartbeat, decode
from support.cli import start, tape
from support.lean import SAMPLE

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(900)]

SERIAL = count(1)
CONFIG = f"""
time = "data"
account_partitions = 2
market_partitions = 2
[core]
fee = "per-share:0.005:1"
[[accounts]]
id = "one"
cash = 100_000
[[accounts]]
id = "two"
cash = 50_000
[[strategies]]
name = "cross"
kind = "sma-cross"
account = "one"
symbols = ["SPY", "IBM"]
[[strategies]]
name = "hold"
kind = "buy-and-hold"
account = "two"
symbols = ["AIG"]
[feed]
data = "{SAMPLE}"
symbols = ["SPY", "IBM", "AIG"]
from = 2013-10-07
to = 2013-10-07
speed = 1200
"""
OUTSIDE = """
[[strategies]]
name = "revert"
kind = "mean-reversion"
account = "two"
symbols = ["IBM"]
params = { length = 10, entry = 1.2 }
where = "faust"
[market]
[alerts]
places = "places"
"""
ROLES = ("core", "market", "alerts", "strategies-revert", "seal", "project", "feed")
BARS = 3 * 390


class Running:
    """A `tape up --json` and what it tells."""

    def __init__(self, folder: Path, *args: str, more: str = "", **options: Any) -> None:
        self.folder = folder
        (folder / "tape.toml").write_text(CONFIG + more)
        common = ("--config", folder / "tape.toml", "--out", folder / "out", "--json")
        self.process = start("up", *common, *args, **options)
        self.pids: dict[str, int] = {}
        self.deaths: dict[str, int] = {}

    def __iter__(self) -> Iterator[dict[str, Any]]:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            event = json.loads(line)
            if event["event"] == "started":
                self.pids[event["role"]] = event["pid"]
            if event["event"] == "died":
                self.deaths[event["role"]] = self.deaths.get(event["role"], 0) + 1
            yield event

    def until(self, event: str, role: str | None = None) -> dict[str, Any]:
        """The next event of that name."""
        for told in self:
            if told["event"] == event and told.get("role") == role:
                return told
        raise AssertionError(f"it ended before {event}: {self.process.communicate()[1]}")

    def left(self) -> list[int]:
        """Processes of roles that run."""
        return [pid for pid in pids("-f", str(self.folder / "out")) if pid != self.process.pid]


def pids(*match: str) -> list[int]:
    """Processes that `pgrep` finds."""
    found = subprocess.run(["pgrep", *match], capture_output=True, text=True, check=False)
    return [int(pid) for pid in found.stdout.split()]


@contextmanager
def running(folder: Path, *args: str, **options: Any) -> Iterator[Running]:
    up = Running(folder, *args, **options)
    try:
        yield up
    finally:
        up.process.kill()
        up.process.communicate()


def wait(holds: Callable[[], bool], what: str, limit_s: float = 300) -> None:
    end = time.monotonic() + limit_s
    while not holds():
        assert time.monotonic() < end, f"not in {limit_s:.0f} s: {what}"
        time.sleep(0.2)


def last_heard(url: str) -> dict[str, RoleHeartbeat]:
    with open_log(url, read_only=True) as log:
        events = [decode(r.topic, r.value) for r in log.read("roles", 0, gte=0, limit=1 << 20)]
    return {e.role: e for e in events if isinstance(e, RoleHeartbeat)}


def counted(url: str, topic: str) -> int:
    with open_log(url, read_only=True) as log:
        return sum(len(log.read(topic, p, gte=0, limit=1 << 20)) for p in range(log.partitions(topic)))


def reached(url: str, topic: str, count: int) -> bool:
    """Whether the topic has so many records, on a broker that may not answer now."""
    try:
        return counted(url, topic) >= count
    except LogUnreachable:
        return False


def is_through(url: str, since: int) -> bool:
    """Whether all of the data is there, and every role that reads has said since then that it has it."""
    heard = last_heard(url)
    reading = [heard.get(role) for role in ROLES if role != "feed"]
    return counted(url, "market.bars") == BARS and all(h and h.ts > since and h.behind == 0 for h in reading)


def test_killed_roles_start_again_and_ctrl_c_leaves_nothing(broker: Broker, dsn: str, tmp_path: Path) -> None:
    url = f"kafka://{broker.address}/up{next(SERIAL)}"
    with running(tmp_path, "--log", url, "--postgres", dsn, more=OUTSIDE) as up:
        begun = up.until("begun")
        assert begun["opened"] == ["one", "two"]
        assert begun["postgres"] == shown_dsn(dsn)
        assert tuple(up.until("roles")["roles"]) == ROLES
        up.until("all-ready")
        wait(lambda: counted(url, "fills") > 0, "a fill")
        for role in ROLES:
            os.kill(up.pids[role], signal.SIGKILL)
            died = up.until("died", role)
            assert (died["code"], died["error"]) == (-9, "killed by SIGKILL")
            up.until("ready", role)
        since = time.time_ns()
        wait(lambda: is_through(url, since), "all decided, projected and sealed")
        up.process.send_signal(signal.SIGINT)
        ends = [told["role"] for told in up if told["event"] == "stopped"]
        assert up.process.wait(120) == 130
        assert ends == ["feed", "market", "strategies-revert", "alerts", "core", "project", "seal"]
        assert up.deaths == dict.fromkeys(ROLES, 1)
        wait(lambda: not up.left(), "no process is left", 30)
    verified = tape("verify", url, "--json")
    assert verified.code == 0, verified.out + verified.err
    with open_log(url, read_only=True) as log:
        report = check_seals(log)
        assert not report.faults
        assert counted(url, "fills") > 2
        assert counted(url, "market.marks") > 0
        assert counted(url, "signals") > counted(url, "strategy.proposals") > 0
        with psycopg.connect(dsn) as connection:
            row = connection.execute("SELECT count(*) FROM trading.fills WHERE log = %s", [log.id]).fetchone()
    assert row == (counted(url, "fills"),)


def test_nothing_outlives_tape_up_that_is_killed(broker: Broker, tmp_path: Path) -> None:
    url = f"kafka://{broker.address}/up{next(SERIAL)}"
    with running(tmp_path, "--log", url, "--no-postgres") as up:
        up.until("all-ready")
        wait(lambda: counted(url, "fills") > 0, "a fill")
        assert len(up.left()) >= len(up.pids) == 3
        workers = pids("-P", str(up.pids["core"]))
        assert workers
        up.process.kill()
        wait(lambda: not up.left(), "no role is left", 60)
        wait(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers), "no partition's process", 60)
    with running(tmp_path, "--log", url, "--no-postgres") as again:
        assert again.until("begun")["opened"] == []
        again.until("all-ready")
        again.process.send_signal(signal.SIGTERM)
        assert again.until("ended")["left_running"] == []
        assert again.process.wait(120) == 0


@pytest.mark.soak
def test_a_broker_of_its_own_is_started_and_stopped(tmp_path: Path) -> None:
    environment = os.environ | {"XDG_DATA_HOME": str(tmp_path / "home")}
    folder = tmp_path / "home" / "tape" / "kafka"
    try:
        with running(tmp_path, "--no-postgres", env=environment) as up:
            url = up.until("begun")["log"]
            assert url.startswith("kafka://127.0.0.1:")
            assert url.endswith("/live")
            up.until("all-ready")
            found = kafka.status(folder)
            assert found is not None
            wait(lambda: counted(url, "fills") > 0, "a fill")
            before = counted(url, "market.bars")
            kafka.kill(found, signal.SIGKILL)
            wait(
                lambda: reached(url, "market.bars", min(before + 50, BARS)),
                "the feed goes on at a broker started again",
            )
            up.process.send_signal(signal.SIGINT)
            assert up.process.wait(180) == 130
        assert kafka.status(folder) is None
    finally:
        kafka.stop(folder)
