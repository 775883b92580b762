"""`tape kafka` as a user runs it: started, found again, stopped; its data stay."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from eventlog import LogSpec, create_log, open_log
from eventlog.kafka import broker as kafka
from support.cli import end, start, tape, wait_until
from support.log_suite import COMMANDS, numbers, read_all, values

pytestmark = pytest.mark.kafka


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A broker's folder; whatever runs over it at the end is stopped."""
    yield tmp_path / "kafka"
    kafka.stop(tmp_path / "kafka")


def test_what_was_written_is_there_after_stop_and_start(folder: Path) -> None:
    begun = tape("kafka", "start", "--dir", folder, "--json")
    assert begun.code == 0, begun.err
    address = begun.json["address"]
    url = f"kafka://{address}/first"
    with create_log(url, LogSpec("first", "data")) as log, log.writer("w") as writer:
        writer.append(numbers(COMMANDS, range(3)))

    again = tape("kafka", "start", "--dir", folder)
    assert (again.code, again.err) == (0, "")
    assert f"runs already at {address}\n" in again.out
    assert f"--log kafka://{address}/" in again.out
    running = tape("kafka", "status", "--dir", folder, "--json")
    assert (running.code, running.json) == (0, begun.json)
    assert Path(running.json["dir"]) == folder

    stopped = tape("kafka", "stop", "--dir", folder, "--json")
    assert (stopped.code, stopped.json["stopped"]) == (0, True)
    assert tape("kafka", "status", "--dir", folder, "--json").json["running"] is False

    assert tape("kafka", "start", "--dir", folder, "--json").json["address"] == address
    with open_log(url, read_only=True) as log:
        assert values(read_all(log, COMMANDS)) == [b"0", b"1", b"2"]


def test_where_none_runs(folder: Path) -> None:
    status = tape("kafka", "status", "--dir", folder)
    assert status.code == 1
    assert status.out == f"no broker runs over {folder}; start one:  tape kafka start --dir {folder}\n"
    stop = tape("kafka", "stop", "--dir", folder)
    assert (stop.code, stop.out) == (0, f"no broker was running over {folder}\n")
    assert not folder.exists()


@pytest.mark.parametrize(
    ("set_to", "place"), [("/data", "/data/tape/kafka"), ("", "/home/.local/share/tape/kafka")]
)
def test_the_folder_is_under_the_users_data(tmp_path: Path, set_to: str, place: str) -> None:
    env = {**os.environ, "HOME": f"{tmp_path}/home", "XDG_DATA_HOME": set_to and f"{tmp_path}{set_to}"}
    assert tape("kafka", "status", "--json", env=env).json["dir"] == f"{tmp_path}{place}"


def test_a_port_of_ones_own(folder: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        refused = tape("kafka", "start", "--dir", folder, "--port", str(port))
        assert refused.code == 2
        assert refused.said.startswith(f"Invalid value for --port: {port} is in use; name another")
    assert not folder.exists()
    begun = tape("kafka", "start", "--dir", folder, "--port", str(port), "--json")
    assert begun.json["address"] == f"127.0.0.1:{port}"
    other = tape("kafka", "start", "--dir", folder, "--port", str(port % 65535 + 1))
    assert other.code == 2
    assert f"the broker of {folder} runs at 127.0.0.1:{port}; stop it first" in other.said


def test_two_starts_at_once_are_one_broker(folder: Path) -> None:
    both = [start("kafka", "start", "--dir", folder, "--json") for _ in range(2)]
    one, two = (end(process) for process in both)
    assert (one.code, two.code) == (0, 0), one.err + two.err
    assert one.json == two.json


def test_ctrl_c_during_the_start_leaves_nothing_running(folder: Path) -> None:
    process = start("kafka", "start", "--dir", folder)
    state = folder / kafka.STATE
    assert wait_until(process, state.exists)
    begun = json.loads(state.read_text(encoding="utf-8"))
    process.send_signal(signal.SIGINT)
    ran = end(process)
    assert (ran.code, ran.out) == (130, "")
    assert "Traceback" not in ran.err
    assert kafka.status(folder) is None
    assert kafka.is_free(begun["port"])
    assert tape("kafka", "start", "--dir", folder).code == 0


def test_no_kafka_here(tmp_path: Path) -> None:
    """Neither Docker nor Java: what to install is said."""
    ran = tape("kafka", "start", "--dir", tmp_path, "--json", env={"PATH": str(tmp_path)})
    assert (ran.code, ran.json["kind"]) == (1, "NoKafka")
    assert "needs a Docker engine, or a JDK 17 with Maven" in ran.said


def test_a_folder_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    ran = tape("kafka", "start", "--dir", tmp_path / "file")
    assert ran.code == 2
    assert f"{tmp_path}/file is not a folder" in ran.said
