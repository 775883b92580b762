"""`tape run` among others: signals, a terminal that is closed, a log that is not the configuration's."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from eventlog import LogSpec, create_log, open_log
from schemas import TOPICS
from support.cli import TAPE, here
from support.lean import SAMPLE
from tape.roles import KINDS

pytestmark = pytest.mark.timeout(300)

CONFIG = f"""
time = "wall"
account_partitions = 2
market_partitions = 2
core.simulated = false
alerts.places = "places"
[[accounts]]
id = "one"
cash = 100_000
[[strategies]]
name = "cross"
kind = "mean-reversion"
account = "one"
symbols = ["SPY"]
where = "transactional"
[feed]
data = "{SAMPLE}"
symbols = ["SPY"]
from = 2013-10-07
to = 2013-10-07
[broker]
folder = "books"
"""


def until(holds: Callable[[], bool], what: str, limit_s: float = 120) -> None:
    end = time.monotonic() + limit_s
    while not holds():
        assert time.monotonic() < end, f"not in {limit_s:.0f} s: {what}"
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("key", "there"),
    [("account_partitions", 4), ("market_partitions", 1), ("time", "data")],
)
def test_every_role_refuses_a_log_that_is_not_the_configurations(
    key: str, there: object, tmp_path: Path
) -> None:
    given = {"time": "wall", "account_partitions": 2, "market_partitions": 2, key: there}
    url = f"sqlite:{tmp_path / 'log'}"
    create_log(url, LogSpec("0123456789abcdef", **given)).close()  # type: ignore[arg-type]
    (tmp_path / "tape.toml").write_text(CONFIG)
    wanted = 2 if "partitions" in key else "wall"
    names = {"strategies": "cross", "gateway": "1"}
    for kind in KINDS:
        name = ("--name", names[kind]) if kind in names else ()
        ran = here("run", kind, *name, "--log", url, "--config", tmp_path / "tape.toml")
        assert (ran.code, kind) == (2, kind), ran.err
        assert f"{key} is {wanted}, and {url} was made with {there}: set it to that" in ran.err
    with open_log(url, read_only=True) as log:
        assert not any(log.bounds(t, p)[1] for t in TOPICS for p in range(log.partitions(t)))
    assert {path.name for path in tmp_path.iterdir()} <= {"tape.toml", "log", "log-shm", "log-wal"}


@pytest.fixture
def heartbeat(tmp_path: Path) -> tuple[str | Path, ...]:
    """A role that runs on a log of its own; it says that it is ready in the file `ready`."""
    url = f"sqlite:{tmp_path / 'log'}"
    create_log(url, LogSpec("0123456789abcdef", "wall", 1, 1)).close()
    return TAPE, "run", "heartbeat", "--log", url, "--ready-file", tmp_path / "ready"


def test_a_terminal_that_is_closed_ends_the_role(heartbeat: tuple[str | Path, ...], tmp_path: Path) -> None:
    """It sends SIGHUP too, and there is nobody any more who could end it otherwise."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(tmp_path)
        os.execv(heartbeat[0], [str(part) for part in heartbeat])
    until((tmp_path / "ready").exists, "ready")
    os.close(terminal)
    until(lambda: os.waitpid(pid, os.WNOHANG)[0] == pid, "its end")
    assert not (tmp_path / "ready").exists()


def test_a_role_begins_anew_in_its_process(heartbeat: tuple[str | Path, ...], tmp_path: Path) -> None:
    """What was true before SIGHUP is true after: its number, and that SIGTERM ends it well."""
    ready, said = tmp_path / "ready", tmp_path / "said"
    with said.open("w") as output:
        process = subprocess.Popen(heartbeat, cwd=tmp_path, stderr=output)

    def events() -> list[str]:
        return [json.loads(line)["event"] for line in said.read_text().splitlines()]

    try:
        until(ready.exists, "ready")
        (tmp_path / "tape.toml").write_text("tim = 1\n")
        process.send_signal(signal.SIGHUP)
        refused = "configuration refused, the old one goes on"
        until(lambda: refused in events(), "refused")
        assert "there is no key tim" in said.read_text()
        (tmp_path / "tape.toml").write_text('time = "wall"\n')
        process.send_signal(signal.SIGHUP)
        until(lambda: events().count("ready") == 2, "ready again")
        process.send_signal(signal.SIGTERM)
        assert process.wait(120) == 0
    finally:
        process.kill()
        process.wait()
    begun = ["starting", "ready"]
    assert events() == [*begun, refused, "configuration read again", "ended", *begun, "ended"]
