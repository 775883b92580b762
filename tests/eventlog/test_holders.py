"""When a holder of a writer id lives."""

from __future__ import annotations

import gc
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from eventlog import EventLog, LogSpec, create_log
from eventlog.errors import WriterBusy
from eventlog.holders import Holder

SPEC = LogSpec("test", "data")


@pytest.fixture
def log(tmp_path: Path) -> Iterator[EventLog]:
    with create_log(f"sqlite:{tmp_path / 'log.sqlite'}", SPEC) as made:
        yield made


def holder_text(log: EventLog, text: str) -> None:
    """As if another had written who holds "w"."""
    writer = log.writer("w")
    writer._db.execute("UPDATE writers SET holder = ?", (text,))  # type: ignore[attr-defined]
    writer._db.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize("host", ["host", "a-host.example", "fe80::1"])
def test_text_is_read_back(host: str) -> None:
    holder = Holder(host, 12, "345", 6)
    assert Holder.parse(str(holder)) == holder


@pytest.mark.parametrize("text", ["", "host", "host:12:345", "host:-1:345:6", "host:twelve:345:6", "h:1:2:x"])
def test_other_text_is_no_holder(text: str) -> None:
    assert Holder.parse(text) is None


def test_this_process_holds_until_it_lets_go() -> None:
    one, two = Holder.new(), Holder.new()
    assert one != two
    one.let_go()
    assert (one.is_alive(), two.is_alive()) == (False, True)


def test_process_that_is_not_there_does_not_live() -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    assert not Holder(socket.gethostname(), ended.pid, "1", 1).is_alive()


def test_process_that_nobody_has_waited_for_does_not_live() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        started = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[19]
        holder = Holder(socket.gethostname(), process.pid, started, 1)
        assert holder.is_alive()
        assert not replace(holder, started="1").is_alive(), "the number was given to another process"
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert not holder.is_alive()


def test_process_on_another_host_is_taken_to_live(log: EventLog) -> None:
    holder_text(log, "elsewhere:4242:1:1")
    with pytest.raises(WriterBusy, match=r"process 4242 on elsewhere since 20.*take over"):
        log.writer("w")
    log.writer("w", take_over=True).close()
    log.writer("w").close()


def test_holder_that_cannot_be_read_is_taken_to_live(log: EventLog) -> None:
    holder_text(log, "somebody")
    with pytest.raises(WriterBusy, match="held by somebody since"):
        log.writer("w")
    log.writer("w", take_over=True).close()


def test_refusal_names_the_process(log: EventLog) -> None:
    with (
        log.writer("w"),
        pytest.raises(WriterBusy, match=rf"process {os.getpid()} on .*; stop it, or take over"),
    ):
        log.writer("w")


def test_writer_that_was_forgotten_does_not_hold(log: EventLog) -> None:
    log.writer("w")
    gc.collect()
    log.writer("w").close()
