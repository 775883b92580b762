from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from eventlog import check_seals, create_log, open_log
from eventlog.errors import LogDamaged, LogError, LogFull, LogMismatch
from eventlog.sqlite import SqliteLog, SqliteWriter, wal_reset_is_fixed
from support.log_suite import COMMANDS, QUOTES, REPORTS, SPEC, LogSuite, numbers, read_all, values


class TestSqlite(LogSuite):
    def new_url(self, folder: Path) -> str:
        return f"sqlite:{folder / 'log.sqlite'}"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "log.sqlite"


@pytest.fixture
def log(path: Path) -> Iterator[SqliteLog]:
    with SqliteLog.create(path, SPEC) as made:
        yield made


@pytest.mark.parametrize("url", ["", "sqlite:", "log.sqlite", "postgres://host/log", "/runs/log.sqlite"])
def test_url_of_another_kind_is_refused(url: str) -> None:
    with pytest.raises(LogError, match="sqlite:PATH"):
        open_log(url)
    with pytest.raises(LogError, match="sqlite:PATH"):
        create_log(url, SPEC)


def test_path_may_be_relative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    create_log("sqlite:runs/log.sqlite", SPEC).close()
    assert (tmp_path / "runs/log.sqlite").is_file()
    open_log("sqlite:runs/log.sqlite").close()


def test_creation_leaves_one_file(log: SqliteLog, path: Path) -> None:
    log.close()
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_offsets_have_no_holes(log: SqliteLog) -> None:
    with log.writer("w") as writer:
        for n in range(10):
            writer.append(numbers(COMMANDS, [n]))
    assert [r.offset for r in read_all(log, COMMANDS)] == list(range(10))


def test_a_shell_reads_records_as_text(log: SqliteLog, path: Path) -> None:
    with log.writer("w") as writer:
        writer.append(numbers(COMMANDS, [41, 42]))
    with sqlite3.connect(path) as db:
        rows = db.execute(
            "SELECT topic, partition, offset, key, value FROM log_records WHERE topic = 'operator.commands'"
        ).fetchall()
    assert rows == [("operator.commands", 0, 0, "key", "41"), ("operator.commands", 0, 1, "key", "42")]


def test_readers_hold_no_statement_between_pages(log: SqliteLog, path: Path) -> None:
    with log.writer("w") as writer, open_log(f"sqlite:{path}", read_only=True) as reader:
        for start in range(0, 5000, 500):
            writer.append(numbers(QUOTES, range(start, start + 500)))
            reader.read(*QUOTES, gte=start, limit=100)
        with sqlite3.connect(path) as db:
            busy, *_ = db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    assert not busy


def fill(writer: SqliteWriter, batch: int = 200) -> int:
    """Append until nothing more fits; how many appends there were."""
    for n in range(1000):
        try:
            writer.append(
                numbers(QUOTES, range(n * batch, n * batch + batch)) + numbers(COMMANDS, [n], b"k" * 900)
            )
        except LogFull:
            return n
    raise AssertionError("it never fills")


def test_full_disk_writes_nothing_of_the_append_and_goes_on_with_room(log: SqliteLog) -> None:
    writer = log.writer("w")
    pages = writer.limit_pages(150)
    count = fill(writer)
    assert count > 0
    assert values(read_all(log, QUOTES)) == [b"%d" % n for n in range(200 * count)]
    assert log.bounds(*COMMANDS) == (0, count)
    with pytest.raises(LogFull, match="make room"):
        writer.append(numbers(REPORTS, range(100_000)))
    writer.limit_pages(pages + 5000)
    writer.append(numbers(QUOTES, range(200 * count, 200 * count + 5000)))
    writer.close()
    assert values(read_all(log, QUOTES)) == [b"%d" % n for n in range(200 * count + 5000)]
    assert log.bounds(*REPORTS) == (0, 0)
    report = check_seals(log)
    assert (report.faults, report.unsealed) == ([], 0)


def test_full_disk_does_not_keep_a_writer_from_letting_go(log: SqliteLog) -> None:
    writer = log.writer("w")
    writer.limit_pages(150)
    fill(writer, batch=1)
    with pytest.warns(UserWarning, match="not sealed"):
        writer.close()
    log.writer("w").close()
    assert not check_seals(log).faults


@pytest.mark.parametrize("content", [b"", b"not a database\n" * 100])
def test_file_that_is_no_log_is_refused(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises((LogMismatch, LogDamaged), match=path.name):
        open_log(f"sqlite:{path}")


def test_database_that_is_no_log_is_refused(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE log (line TEXT)")
    with pytest.raises(LogMismatch, match="not a Tape log"):
        open_log(f"sqlite:{path}")


def test_folder_is_no_log(tmp_path: Path) -> None:
    with pytest.raises(LogError):
        open_log(f"sqlite:{tmp_path}")


def test_newer_layout_is_refused_with_both_numbers(log: SqliteLog, path: Path) -> None:
    log.close()
    with sqlite3.connect(path) as db:
        db.execute("UPDATE log SET value = '99' WHERE name = 'layout'")
    with pytest.raises(LogMismatch, match=r"99.*\d"):
        open_log(f"sqlite:{path}")


@pytest.mark.parametrize(
    ("version", "fixed"),
    [
        ("3.40.1", False),
        ("3.44.5", False),
        ("3.44.6", True),
        ("3.45.0", False),
        ("3.50.6", False),
        ("3.50.7", True),
        ("3.51.2", False),
        ("3.51.3", True),
        ("3.54.1", True),
    ],
)
def test_versions_with_the_fix_of_the_wal_reset_bug(version: str, fixed: bool) -> None:
    assert wal_reset_is_fixed(version) is fixed


def test_sqlite_without_the_fix_is_named(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apsw, "sqlite_lib_version", lambda: "3.51.2")
    with pytest.warns(UserWarning, match=r"3\.51\.2"):
        create_log(f"sqlite:{path}", SPEC).close()
