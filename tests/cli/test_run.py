"""`tape run` and `tape up` on an embedded log, as a user runs them."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from eventlog import open_log
from eventlog.kafka.broker import free_port
from schemas import Fill, Filled, OrderDenied, RoleHeartbeat, decode, partition_of
from support.cli import Ran, end, records, start, tape
from support.lean import SAMPLE
from tape.commands.run import RoleName
from tape.roles import KINDS

pytestmark = pytest.mark.timeout(300)

CONFIG = f"""
time = "data"
account_partitions = 2
market_partitions = 2
[[accounts]]
id = "one"
cash = 100_000
[[strategies]]
name = "cross"
kind = "sma-cross"
account = "one"
symbols = ["SPY", "IBM"]
[feed]
data = "{SAMPLE}"
symbols = ["SPY", "IBM"]
from = 2013-10-07
to = 2013-10-07
speed = "max"
"""
BARS = 2 * 390


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "tape.toml"
    file.write_text(CONFIG)
    return file


@pytest.fixture
def log(tmp_path: Path, config: Path) -> Path:
    """A log that is made, with its account asked for."""
    file = tmp_path / "log.sqlite"
    assert tape("config", "apply", config, "--log", f"sqlite:{file}").code == 0
    return file


@contextmanager
def running(*args: str | Path) -> Iterator[subprocess.Popen[str]]:
    process = start(*args)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def until(holds: Callable[[], bool], process: subprocess.Popen[str], limit_s: float = 120) -> None:
    stop = time.monotonic() + limit_s
    while not holds():
        assert time.monotonic() < stop
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)


def ended(process: subprocess.Popen[str], number: signal.Signals) -> Ran:
    process.send_signal(number)
    return end(process)


def heartbeats(log: Path, role: str) -> list[RoleHeartbeat]:
    with open_log(f"sqlite:{log}", read_only=True) as reader:
        events = [decode(r.topic, r.value) for r in reader.read("roles", 0, gte=0)]
    return [e for e in events if isinstance(e, RoleHeartbeat) and e.role == role]


def is_all_decided(log: Path, since: int = 0) -> bool:
    """Whether the core, heard after a time (UTC ns), has taken all that there is."""
    found = [h for h in heartbeats(log, "core") if h.ts > since]
    return records(log, "market.bars") == BARS and bool(found) and found[-1].behind == 0


def test_a_day_goes_through_two_roles_and_verifies(config: Path, log: Path, tmp_path: Path) -> None:
    """The core is killed on the way and started again; both end as they are asked to."""
    ready, common = tmp_path / "ready", ("--config", config, "--log", f"sqlite:{log}")
    with running("run", "core", *common, "--ready-file", ready) as core:
        until(ready.exists, core)
        assert int(ready.read_text()) == core.pid
        with running("run", "feed", *common) as feed:
            until(lambda: records(log, "fills") > 0, core)
            core.kill()
            core.wait()
            killed = time.time_ns()
            with running("run", "core", *common, "--instance", "again") as second:
                until(lambda: is_all_decided(log, killed), second)
                fed, decided = ended(feed, signal.SIGTERM), ended(second, signal.SIGINT)
    assert (fed.code, decided.code) == (0, 130)
    told = [json.loads(line) for line in decided.err.splitlines()]
    assert [t["event"] for t in told] == ["starting", "ready", "ended"]
    assert {t["instance"] for t in told} == {"again"}
    assert "again" in {h.instance for h in heartbeats(log, "core")}
    processed = [h.processed for h in heartbeats(log, "feed")]
    assert processed == sorted(processed)
    assert processed[-1] > BARS
    verified = tape("verify", log)
    assert verified.code == 0, verified.err


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (("core",), 2, "there is no log: name one with --log, TAPE_LOG, or log = in the configuration"),
        (("seal", "--log", "sqlite:log.sqlite"), 2, "seals itself: leave this role out"),
        (("feed", "--log", "sqlite:none.sqlite"), 2, "none.sqlite"),
        (("heartbeat", "--log", "sqlite:log.sqlite"), 2, "is a log on data time"),
        (("core", "--config", "none.toml"), 2, "none.toml cannot be read"),
        (("cores",), 2, "'cores' is not one of"),
        (("core", "--name", "x"), 2, "role core has none"),
        (("strategies", "--name", "x"), 2, "'x' is no strategies by name; there are: none"),
        (("alerts", "--log", "sqlite:none.sqlite"), 2, "none.sqlite"),
    ],
)
def test_what_cannot_be_run(
    args: tuple[str, ...], code: int, said: str, config: Path, log: Path, tmp_path: Path
) -> None:
    ran = tape("run", *args, cwd=tmp_path)
    assert ran.code == code
    *logged, sentence = ran.err.splitlines()
    assert said in sentence
    assert all(json.loads(line)["event"] in ("starting", "no heartbeat") for line in logged)


def test_every_role_can_be_named() -> None:
    assert {str(role) for role in RoleName} == set(KINDS)
    text = tape("run", "--help").out
    assert [kind for kind in KINDS if not re.search(rf"^ *{kind} ", text, re.MULTILINE)] == []


def test_metrics_are_served_on_this_machine(config: Path, log: Path) -> None:
    port = free_port()
    common = ("--config", config, "--log", f"sqlite:{log}", "--metrics-port", str(port))
    with running("run", "feed", *common) as feed:

        def is_told() -> bool:
            try:
                page = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10).read().decode()
            except OSError:
                return False
            found = re.search(r'^tape_role_processed\{role="feed"\} (\S+)$', page, re.MULTILINE)
            return found is not None and float(found[1]) > 0

        until(is_told, feed)


HANGING = """
import time, sys
from eventlog.roles import Beat
import tape.pulse
from tape.pulse import Pulse
from tape.running import structured_log
tape.pulse.HUNG_S = 1.0
with Pulse("core", "x", sys.argv[1], structured_log()) as pulse:
    for n in range(40):
        pulse.beats(Beat(n))
        time.sleep(0.05)
    print("hangs", flush=True)
    time.sleep(600)
"""


@pytest.mark.parametrize("place", ["log.sqlite", "no.sqlite"])
def test_a_loop_that_hangs_ends_its_process(place: str, log: Path, tmp_path: Path) -> None:
    """Also where no heartbeat can be written, which alone stops nothing."""
    process = subprocess.run(
        [sys.executable, "-c", HANGING, f"sqlite:{tmp_path / place}"],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert (process.returncode, process.stdout) == (70, "hangs\n")
    told = [json.loads(line) for line in process.stderr.splitlines()]
    assert told[-1]["event"] == "hung"
    cannot_tell = {"no heartbeat"} if place == "no.sqlite" else set()
    assert {t["event"] for t in told} == {"ready", "hung"} | cannot_tell


# ------------------------------------------------------------ tape up


def events(process: subprocess.Popen[str]) -> Iterator[dict[str, object]]:
    assert process.stdout is not None
    for line in process.stdout:
        yield json.loads(line)


def test_all_roles_until_ctrl_c(config: Path, tmp_path: Path) -> None:
    log, out = tmp_path / "live.sqlite", tmp_path / "out"
    up = ("up", "--config", config, "--log", f"sqlite:{log}", "--no-postgres", "--out", out, "--json")
    with running(*up) as process:
        told = events(process)
        begun = next(told)
        assert (begun["event"], begun["opened"]) == ("begun", ["one"])
        assert next(told)["roles"] == ["core", "feed"]
        started = {}
        for event in told:
            if event["event"] == "started":
                started[event["role"]] = event["pid"]
            if event["event"] == "all-ready":
                break
        until(lambda: records(log, "fills") > 0, process)
        os.kill(int(str(started["core"])), signal.SIGKILL)
        killed = time.time_ns()
        for event in told:
            if event["event"] in ("died", "ready"):
                assert event["role"] == "core"
            if event["event"] == "died":
                assert (event["code"], event["error"]) == (-9, "killed by SIGKILL")
            if event["event"] == "ready":
                break
        until(lambda: is_all_decided(log, killed), process)
        process.send_signal(signal.SIGINT)
        last = list(told)
        assert process.wait(120) == 130
    assert [(e["event"], e.get("role")) for e in last if e["event"] != "status"] == [
        ("stopped", "feed"),
        ("stopped", "core"),
        ("ended", None),
    ]
    assert subprocess.run(["pgrep", "-f", str(out)], check=False, capture_output=True).stdout == b""
    assert tape("verify", log).code == 0
    again = start(*up)
    assert next(events(again))["opened"] == []
    again.send_signal(signal.SIGTERM)
    assert end(again).code == 0


def test_roles_outside_the_core(config: Path, tmp_path: Path) -> None:
    """A strategy outside proposes, the core takes it, alerts tell of what was denied, marks are made."""
    text = CONFIG.replace('kind = "sma-cross"', 'kind = "mean-reversion"\nwhere = "transactional"')
    config.write_text(text + '[alerts]\nplaces = "places"\n[market]\n[core]\nmax_spread = 0.04\n')
    log = tmp_path / "live.sqlite"
    up = ("up", "--config", config, "--log", f"sqlite:{log}", "--no-postgres", "--json")
    with running(*up, "--out", tmp_path / "out") as process:
        told = events(process)
        next(told)
        roles = {"core", "market", "alerts", "strategies-cross", "feed"}
        assert set(next(told)["roles"]) == roles

        def is_through() -> bool:
            found = {role: heartbeats(log, role) for role in roles - {"feed"}}
            return (
                is_all_decided(log)
                and all(heard and heard[-1].behind == 0 for heard in found.values())
                and records(log, "signals") == records(log, "strategy.proposals") > 0
            )

        until(is_through, process)
        process.send_signal(signal.SIGTERM)
        stopped = [e["role"] for e in told if e["event"] == "stopped"]
        assert process.wait(120) == 0
    assert stopped[0] == "feed"
    assert stopped[-1] == "core"
    assert set(stopped) == roles
    assert records(log, "market.marks") > 0
    with open_log(f"sqlite:{log}", read_only=True) as reader:
        orders = [decode(r.topic, r.value) for p in (0, 1) for r in reader.read("orders", p, gte=0)]
    denied = sum(type(order) is OrderDenied for order in orders)
    assert records(log, "alerts") >= denied
    assert tape("verify", log).code == 0


def test_orders_go_out_through_the_gateway(config: Path, tmp_path: Path) -> None:
    """Gateway and broker are killed on the way; each execution is one fill."""
    broker = f'[broker]\nurl = "http://127.0.0.1:{free_port()}"\nfolder = "books"\n'
    text = CONFIG.replace('speed = "max"', "speed = 900") + "[core]\nsimulated = false\n" + broker
    config.write_text(
        text.replace('kind = "sma-cross"', 'kind = "sma-cross"\nparams = { fast = 3, slow = 9 }')
    )
    log = tmp_path / "live.sqlite"
    gateway = f"gateway-{partition_of('one', 2)}"
    up = ("up", "--config", config, "--log", f"sqlite:{log}", "--no-postgres", "--json")
    with running(*up, "--out", tmp_path / "out") as process:
        told = events(process)
        next(told)
        assert next(told)["roles"] == ["broker-sim", gateway, "core", "feed"]
        pids: dict[str, int] = {}
        for event in told:
            if event["event"] == "started":
                pids[str(event["role"])] = int(str(event["pid"]))
            if event["event"] == "all-ready":
                break
        for role in (gateway, "broker-sim"):
            before = records(log, "fills")
            until(lambda before=before: records(log, "fills") > before, process)
            os.kill(pids[role], signal.SIGKILL)
        killed = time.time_ns()
        until(lambda: is_all_decided(log, killed), process)
        process.send_signal(signal.SIGINT)
        stopped = [e["role"] for e in told if e["event"] == "stopped"]
        assert process.wait(120) == 130
    assert stopped == ["feed", "core", gateway, "broker-sim"]
    with open_log(f"sqlite:{log}", read_only=True) as reader:
        reports = [decode(r.topic, r.value) for p in (0, 1) for r in reader.read("broker.reports", p, gte=0)]
        fills = [decode(r.topic, r.value) for p in (0, 1) for r in reader.read("fills", p, gte=0)]
    executions = [r.execution for r in reports if isinstance(r, Filled)]
    assert len(set(executions)) == len(executions) > 2
    booked = {f.execution for f in fills if isinstance(f, Fill)}
    assert booked == set(executions[: len(booked)])
    assert len(booked) == len(fills)
    assert tape("verify", log).code == 0


def test_a_wrong_configuration_stops_before_anything_is_written(config: Path, tmp_path: Path) -> None:
    config.write_text(CONFIG.replace("sma-cross", "sma"))
    log = tmp_path / "log.sqlite"
    ran = tape("up", "--config", config, "--log", f"sqlite:{log}", "--out", tmp_path / "out", "--json")
    assert ran.code == 2
    assert "there is no built-in strategy 'sma'" in ran.said
    assert [path.name for path in tmp_path.iterdir()] == ["tape.toml"]
