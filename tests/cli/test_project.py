"""`tape project` and `tape postgres` as a user runs them."""

from __future__ import annotations

import os
import re
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from projections.postgres import server
from support.busy import busy_backtest
from support.cli import MONDAY, end, log_in, records, run, start, tape, wait_until
from support.postgres import ask, tables, tell


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A short backtest's summary."""
    out = tmp_path_factory.mktemp("ran")
    return run(out, *MONDAY, "--symbols", "SPY,IBM", "--strategy", "sma-cross")


@pytest.fixture
def home() -> Iterator[dict[str, str]]:
    """An environment with a data home of its own, whose server is stopped at the end."""
    folder = Path(tempfile.mkdtemp(prefix="tape-home-"))
    env = {name: value for name, value in os.environ.items() if name != "TAPE_POSTGRES_DSN"}
    yield env | {"XDG_DATA_HOME": str(folder)}
    server.stop(folder / "tape" / "postgres")
    shutil.rmtree(folder)


def test_the_first_time_and_again(home: dict[str, str], ran: dict[str, Any]) -> None:
    """Without anything: the server is made, started, filled, found again, stopped."""
    assert tape("postgres", "status", env=home).code == 1
    first = tape("project", ran["log"], "--json", env=home)
    assert first.code == 0, first.err
    assert (first.json["log"], first.json["log_id"]) == (ran["log"], ran["log_id"])
    status = tape("postgres", "status", "--json", env=home)
    assert (status.code, status.json["running"]) == (0, True)
    figures = ask(status.json["reader_dsn"], "SELECT equity::text, cash::text FROM trading.account_status")
    assert figures == [(ran["end_equity"], ran["cash"])]
    assert ask(status.json["dsn"], "SELECT count(*) FROM trading.fills") == [(ran["fills"],)]

    again = tape("project", ran["log"], env=home)
    assert (again.code, again.err) == (0, "")
    assert f"nothing: all {first.json['decisions']:,} decisions are there" in again.out
    assert tape("postgres", "start", "--json", env=home).json == status.json
    assert tape("postgres", "stop", env=home).out.startswith("stopped")
    assert tape("postgres", "stop", env=home).out.startswith("not running")
    assert not Path(f"/proc/{status.json['pid']}").exists() or not server.status(Path(status.json["folder"]))

    after = tape("project", ran["log"], "--json", env=home)
    assert (after.json["rows"], after.json["decisions_in_all"]) == (0, first.json["decisions"])


def test_two_that_start_the_server_at_once(home: dict[str, str], ran: dict[str, Any]) -> None:
    processes = [start("postgres", "start", "--json", env=home) for _ in range(3)]
    found = [end(process) for process in processes]
    assert [one.code for one in found] == [0, 0, 0]
    assert len({one.json["pid"] for one in found}) == 1


def test_a_server_by_dsn_or_environment(dsn: str, ran: dict[str, Any]) -> None:
    one = tape("project", ran["log"], "--json", "--dsn", dsn)
    assert one.code == 0, one.err
    by_environment = tape("project", ran["log"], "--json", env={**os.environ, "TAPE_POSTGRES_DSN": dsn})
    assert by_environment.json["rows"] == 0
    before = tables(dsn)
    rebuilt = tape("project", ran["log"], "--json", "--dsn", dsn, "--rebuild")
    assert rebuilt.json["rows"] == one.json["rows"]
    assert tables(dsn) == before


WRONG = {
    "postgresql://u:secret@127.0.0.1:1/x": "no connection to Postgres at u@127.0.0.1:1/x: .*is the server",
    "postgresql://u:sec@ret@127.0.0.1/x": "the DSN cannot be read: .*%40 for an @",
    "postgresql://u:secret@127.0.0.1:port/x": "the DSN cannot be read|no connection to Postgres",
    "secret": "the DSN cannot be read",
}


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.parametrize("json", [(), ("--json",)])
def test_a_server_that_is_not_there(ran: dict[str, Any], name: str, json: tuple[str, ...]) -> None:
    """Said in a sentence, and nothing of a password in it."""
    found = tape("project", ran["log"], "--dsn", name, *json)
    assert found.code == 2
    assert re.search(WRONG[name], found.said)
    assert not any(part in found.out + found.err for part in ("secret", "sec@ret", "sec"))


def test_a_wrong_password(postgres: server.Running, dsn: str, ran: dict[str, Any]) -> None:
    """On a server that asks for one, by a user who has one."""
    hba = postgres.folder / "data" / "pg_hba.conf"
    before = hba.read_text()
    tell(dsn, "DROP ROLE IF EXISTS careful; CREATE ROLE careful LOGIN PASSWORD 'right'")
    try:
        hba.write_text(f"local all careful scram-sha-256\n{before}")
        tell(dsn, "SELECT pg_reload_conf()")
        name = dsn.replace("//tape@", "//careful:hunter2@")
        wait_until_asked(name)
        found = tape("project", ran["log"], "--dsn", name)
        assert (found.code, "hunter2" in found.out + found.err) == (2, False)
        assert 'password authentication failed for user "careful"' in found.said
        unable = tape("project", ran["log"], "--dsn", dsn.replace("//tape@", "//careful:right@"))
        assert unable.code == 2
        assert "must be able to create schemas" in unable.said
    finally:
        hba.write_text(before)
        tell(dsn, "SELECT pg_reload_conf()")


def wait_until_asked(dsn: str) -> None:
    """Until the server has read its rules anew."""
    import psycopg

    while True:
        try:
            psycopg.connect(dsn).close()
        except psycopg.OperationalError:
            return


def test_no_log_and_another_log(dsn: str, ran: dict[str, Any], tmp_path: Path) -> None:
    assert "there is no log at" in tape("project", tmp_path / "none", "--dsn", dsn).said
    place = tmp_path / "log.sqlite"
    shutil.copy(log_in(Path(ran["log"].removeprefix("sqlite:")).parent), place)
    assert tape("project", place, "--dsn", dsn).code == 0
    place.unlink()
    other = run(tmp_path, *MONDAY, "--symbols", "SPY", "--strategy", "buy-and-hold")
    found = tape("project", other["log"], "--dsn", dsn)
    assert found.code == 2
    assert f"are of another log, {ran['log_id']}; this is {other['log_id']}: add --rebuild" in found.said
    assert tape("project", other["log"], "--dsn", dsn, "--rebuild").code == 0


def test_following_ends_with_ctrl_c(dsn: str, tmp_path: Path) -> None:
    """It follows a backtest while that runs, and holds what the log holds at its end."""
    out = tmp_path / "out"
    backtest = start(*busy_backtest(tmp_path), "--out", out)
    assert wait_until(backtest, lambda: log_in(out).exists())
    follower = start("project", log_in(out), "--dsn", dsn, "--follow")
    done = end(backtest)
    assert done.code == 0, done.err
    batches = records(log_in(out), "batches")
    assert batches > 1

    def whole() -> bool:
        sql = "SELECT coalesce(sum(next), 0) FROM trading_v1.progress"
        found = ask(dsn, "SELECT to_regclass('trading_v1.progress')") != [(None,)] and ask(dsn, sql)
        return bool(found) and found[0][0] == batches

    assert wait_until(follower, whole)
    second = tape("project", log_in(out), "--dsn", dsn)
    assert (second.code, "another `tape project` is filling trading_v1" in second.said) == (2, True)
    follower.send_signal(signal.SIGINT)
    ended = end(follower)
    assert ended.code == 130
    assert "Traceback" not in ended.err
    assert tape("project", log_in(out), "--dsn", dsn, "--json").json["rows"] == 0
    assert ask(dsn, "SELECT count(*) FROM trading.fills") == [(done.json["fills"],)]
