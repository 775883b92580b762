"""Killed, the projector or Postgres itself, and two at once: the tables are those of a rebuild."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import psycopg
import pytest

from eventlog import EventLog, create_log, open_log
from projections.errors import Busy, Moved
from projections.postgres import server
from projections.postgres.projector import connect, projecting
from support.cli import wait_until
from support.much import many
from support.postgres import ask, check, expected, in_database, project, tables, tell
from support.runs import SPEC, busy_commands, busy_market, busy_settings, run, write_facts

KILLS, SERVER_KILLS = many(20), many(5)
PROJECT = """
import sys
from eventlog import open_log
from projections.postgres.projector import connect, projecting

url, dsn, follow = sys.argv[1:]
with open_log(url, read_only=True) as log, connect(dsn) as connection:
    with projecting(connection, log, group=1) as projector:
        projector.follow() if follow == "follow" else projector.catch_up()
"""
"""A projector that commits each batch by itself."""


def start(log: EventLog, dsn: str, how: str = "to its end") -> subprocess.Popen[str]:
    """A projector in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-c", PROJECT, log.url, dsn, how], stderr=subprocess.PIPE, text=True
    )


def brought(dsn: str) -> int:
    """Decisions that are in; -1 while nobody answers, or there are no tables."""
    try:
        return int(ask(dsn, "SELECT coalesce(sum(decisions), 0) FROM trading.progress")[0][0])
    except psycopg.Error:
        return -1


def has(dsn: str, decisions: int) -> bool:
    """Whether so much is in."""
    return brought(dsn) >= decisions


def moments(log: EventLog, count: int) -> list[int]:
    """How much is to be in at each of the kills."""
    total, draw = sum(map(len, expected(log).values())) // 2, random.Random(5)
    return sorted(int(draw.uniform(0, 0.95) * total) for _ in range(count))


def test_many_kills_of_the_projector(dsn: str, busy: EventLog) -> None:
    hits = []
    for moment in moments(busy, KILLS):
        process = start(busy, dsn)
        wait_until(process, partial(has, dsn, max(brought(dsn) + 1, moment)))
        process.kill()
        hits.append(process.wait() == -signal.SIGKILL)
    assert sum(hits) >= KILLS * 3 // 4
    partly = brought(dsn)
    project(dsn, busy)
    found = check(dsn, busy)
    assert partly < brought(dsn)
    project(dsn, busy, rebuild=True)
    assert tables(dsn) == found


@pytest.fixture
def own() -> Iterator[Path]:
    """The folder of a Postgres that a test may kill."""
    folder = Path(tempfile.mkdtemp(prefix="tape-postgres-"))
    server.start(folder)
    yield folder
    server.stop(folder)
    shutil.rmtree(folder)


def test_kills_of_postgres(own: Path, busy: EventLog) -> None:
    """It is started again, and the projector goes on; what was committed is there."""
    hits = []
    for moment in moments(busy, SERVER_KILLS):
        running = server.start(own)
        before = max(brought(running.dsn) + 1, moment)
        process = start(busy, running.dsn)
        wait_until(process, partial(has, running.dsn, before))
        os.kill(running.pid, signal.SIGKILL)
        _, said = process.communicate(timeout=60)
        hits.append(process.returncode == 1)
        if process.returncode:
            assert "ServerLost" in said
            assert "what was committed stands" in said
        assert server.start(own).pid != running.pid
        assert brought(running.dsn) >= before
    assert sum(hits) >= SERVER_KILLS - 1
    dsn = server.start(own).dsn
    project(dsn, busy)
    found = check(dsn, busy)
    project(dsn, busy, rebuild=True)
    assert tables(dsn) == found


def test_two_at_once_one_is_refused(dsn: str, busy: EventLog) -> None:
    processes = [start(busy, dsn, "follow") for _ in range(2)]
    ended = next_ended(processes)
    (other,) = (process for process in processes if process is not ended)
    _, said = ended.communicate(timeout=60)
    assert "Busy: another `tape project` is filling trading_v1 from sqlite:" in said
    total = sum(1 for rows in expected(busy).values() for _ in rows)
    assert total > 0
    assert wait_until(other, lambda: tables(dsn)["progress"] != [] and _whole(dsn, busy))
    check(dsn, busy)
    other.kill()
    other.communicate()


def _whole(dsn: str, log: EventLog) -> bool:
    ends = sorted(log.bounds("batches", p)[1] for p in range(log.partitions("batches")))
    return sorted(row["next"] for row in tables(dsn)["progress"]) == ends


def next_ended(processes: list[subprocess.Popen[str]]) -> subprocess.Popen[str]:
    """Wait for the first that ends."""
    while True:
        for process in processes:
            try:
                process.wait(0.05)
            except subprocess.TimeoutExpired:
                continue
            return process


def test_without_the_lock_the_guard_holds(dsn: str, busy: EventLog) -> None:
    """Two that hold no lock, as on a pooler that shares sessions: each row once all the same."""
    with connect(dsn) as one, projecting(one, busy, group=1) as first:
        moved = 0

        def overtake(_: object) -> None:
            nonlocal moved
            moved += 1
            if moved % 5 == 0:
                one.execute("SELECT pg_advisory_unlock_all()")
                with connect(dsn) as two, projecting(two, busy, group=2) as second:
                    steps = iter(range(2))
                    second.catch_up(stop=lambda: next(steps, None) is None)

        first.catch_up(overtake)
    check(dsn, busy)
    assert moved > 10


STUCK = """
CREATE FUNCTION trading_v1.skip() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
CREATE TRIGGER skip BEFORE UPDATE ON trading_v1.progress FOR EACH ROW EXECUTE FUNCTION trading_v1.skip()
"""


def test_one_that_always_loses_says_so(dsn: str, busy: EventLog) -> None:
    with connect(dsn) as connection, projecting(connection, busy, group=1) as projector:
        tell(dsn, STUCK)
        with pytest.raises(Moved, match="keeps moving trading_v1 on"):
            projector.catch_up()
    assert tables(dsn)["fills"] == []


def test_the_same_process_twice_is_refused(dsn: str, busy: EventLog) -> None:
    with (
        connect(dsn) as one,
        connect(dsn) as two,
        projecting(one, busy),
        pytest.raises(Busy),
        projecting(two, busy),
    ):
        pytest.fail("it was let in")
    project(dsn, busy)


def test_following_a_log_that_grows(dsn: str, tmp_path: Path) -> None:
    """Facts and decisions are written while it follows, by a core that stops and starts."""
    market = busy_market()
    with create_log(f"sqlite:{tmp_path / 'log'}", SPEC) as log:
        done = threading.Event()

        def follow() -> None:
            with (
                open_log(log.url, read_only=True) as reader,
                connect(dsn) as connection,
                projecting(connection, reader, group=1) as projector,
            ):
                projector.follow(stop=done.is_set)

        follower = threading.Thread(target=follow)
        follower.start()
        for n in range(5):
            part = market[n * len(market) // 5 : (n + 1) * len(market) // 5]
            write_facts(log, part, busy_commands() if n == 0 else ())
            for partition in (0, 1):
                run(log, busy_settings(), partition, batch=30)
        wait(lambda: _whole(dsn, log))
        check(dsn, log)
        done.set()
        follower.join(60)
        assert not follower.is_alive()
        found = tables(dsn)
        project(dsn, log, rebuild=True)
        assert tables(dsn) == found


def wait(reached: Callable[[], bool]) -> None:
    """Wait for it; the test's own limit ends what never comes."""
    pause = threading.Event()
    while not reached():
        pause.wait(0.05)


def test_other_databases_of_the_server_are_not_touched(postgres: server.Running, dsn: str) -> None:
    assert ask(in_database(postgres.dsn, "postgres"), "SELECT to_regnamespace('trading')") == [(None,)]
