"""Where a log comes from and where it stands: creation, folders, names."""

from __future__ import annotations

import errno
import os
import resource
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw
import pytest

from eventlog import EventLog, LogSpec, check_seals, create_log, open_log
from eventlog.errors import LogDamaged, LogError, LogExists, LogFull, LogMismatch, LogNotFound
from eventlog.sqlite import SqliteLog
from schemas import NewRecord

SPEC = LogSpec("test", "data")
NOBODY = 65534

DIES = """
import os, sys
from eventlog import LogSpec, create_log, sqlite

def die(*ignored):
    os.kill(os.getpid(), 9)

module, name = {"fill": (sqlite, "_add_streams"), "name": (os, "link"), "flush": (os, "fsync")}[sys.argv[1]]
setattr(module, name, die)
create_log(sys.argv[2], LogSpec("test", "data"))
"""

REFUSED = """
import sys
from eventlog import LogSpec, create_log
from eventlog.errors import LogError

try:
    create_log(sys.argv[1], LogSpec("test", "data"))
except LogError as problem:
    print(problem)
"""

CREATES = """
import sys
from eventlog import LogSpec, create_log
from eventlog.errors import LogExists

sys.stdin.readline()
try:
    create_log(sys.argv[1], LogSpec(sys.argv[2], "data"))
    print("made")
except LogExists:
    print("exists")
"""


@contextmanager
def as_nobody() -> Iterator[None]:
    """Not as root, who may write everywhere."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(before)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that everybody may enter."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        place.chmod(0o755)
        try:
            yield place
        finally:
            place.chmod(0o755)


def append(log: EventLog, count: int = 3) -> None:
    with log.writer("w") as writer:
        writer.append([NewRecord("operator.commands", 0, b"k", b"%d" % n) for n in range(count)])


@pytest.mark.parametrize(("moment", "there"), [("fill", False), ("name", False), ("flush", True)])
def test_killed_creation_leaves_a_whole_log_or_none(tmp_path: Path, moment: str, there: bool) -> None:
    file = tmp_path / "log.sqlite"
    url = f"sqlite:{file}"
    died = subprocess.run([sys.executable, "-c", DIES, moment, url], check=False)
    assert died.returncode == -signal.SIGKILL
    assert file.exists() is there
    with open_log(url, expect=SPEC) if there else create_log(url, SPEC) as log:
        append(log)
        assert check_seals(log).faults == []


def test_one_of_several_creators_makes_the_log(tmp_path: Path) -> None:
    url = f"sqlite:{tmp_path / 'log.sqlite'}"
    creators = [
        subprocess.Popen(
            [sys.executable, "-c", CREATES, url, f"log-{n}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for n in range(3)
    ]
    for creator in creators:
        assert creator.stdin is not None
        creator.stdin.write("\n")
        creator.stdin.flush()
    said = [creator.communicate()[0].strip() for creator in creators]
    assert sorted(said) == ["exists", "exists", "made"]
    with open_log(url) as log:
        assert log.id == f"log-{said.index('made')}"
    assert [p.name for p in tmp_path.iterdir()] == ["log.sqlite"]


def test_failed_creation_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*ignored: object) -> None:
        raise apsw.FullError("database or disk is full")

    monkeypatch.setattr("eventlog.sqlite._add_streams", full)
    with pytest.raises(LogFull):
        create_log(f"sqlite:{tmp_path / 'log.sqlite'}", SPEC)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("size", [0, 1000, 4096, 20_000])
def test_where_files_may_not_grow_it_is_said_and_nothing_is_left(tmp_path: Path, size: int) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    place = tmp_path / "log.sqlite"
    refused = subprocess.run(
        [sys.executable, "-c", REFUSED, f"sqlite:{place}"],
        preexec_fn=limit,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    assert str(place) in refused.stdout
    assert "whether it is full, whether files may grow (ulimit -f)" in refused.stdout
    assert list(tmp_path.iterdir()) == []


def test_file_system_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def link(*ignored: object) -> None:
        raise OSError(errno.EPERM, "no hard links here")

    monkeypatch.setattr("os.link", link)
    url = f"sqlite:{tmp_path / 'log.sqlite'}"
    with create_log(url, SPEC) as log:
        append(log)
    with pytest.raises(LogExists):
        create_log(url, SPEC)
    assert [p.name for p in tmp_path.iterdir()] == ["log.sqlite"]


@pytest.mark.parametrize(
    "name", ["a b/log file.sqlite", "protokoll-grün-日誌.sqlite", "50% #1?.sqlite", ":memory:"]
)
def test_names_of_all_kinds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    with create_log(f"sqlite:{name}", SPEC) as log:
        append(log)
    assert (tmp_path / name).is_file()
    with open_log(f"sqlite:{name}", read_only=True) as log:
        assert log.bounds("operator.commands", 0) == (0, 3)


def test_name_that_is_no_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LogError, match="surrogates"):
        create_log(f"sqlite:{tmp_path}/\udcff.sqlite", SPEC)


def test_relative_log_outlives_a_change_of_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with create_log("sqlite:log.sqlite", SPEC) as log:
        monkeypatch.chdir("/")
        append(log)
        assert log.bounds("operator.commands", 0) == (0, 3)


def test_folder_is_told_from_a_log(tmp_path: Path) -> None:
    with pytest.raises(LogNotFound, match="is a folder"):
        open_log(f"sqlite:{tmp_path}")


def test_file_in_the_place_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(LogError, match="no log can be made"):
        create_log(f"sqlite:{tmp_path / 'file' / 'log.sqlite'}", SPEC)
    with pytest.raises(LogNotFound):
        open_log(f"sqlite:{tmp_path / 'file' / 'log.sqlite'}")


def test_folder_that_may_not_be_written(open_folder: Path) -> None:
    file = open_folder / "log #1?.sqlite"
    with create_log(f"sqlite:{file}", SPEC) as log:
        append(log)
    file.chmod(0o444)
    open_folder.chmod(0o555)
    with as_nobody():
        with open_log(f"sqlite:{file}", read_only=True) as log:
            assert [r.value for r in log.read("operator.commands", 0, gte=0)] == [b"0", b"1", b"2"]
            assert check_seals(log).unsealed == 0
            assert log.wait({("operator.commands", 0): 2}, 0)
        with pytest.raises(LogError, match="may be read and written"), open_log(f"sqlite:{file}") as log:
            log.writer("w")
        with pytest.raises(LogError, match="no log can be made"):
            create_log(f"sqlite:{open_folder / 'new.sqlite'}", SPEC)


def test_folder_that_may_not_be_written_while_another_appends(open_folder: Path) -> None:
    url = f"sqlite:{open_folder / 'log.sqlite'}"
    with create_log(url, SPEC) as log, log.writer("w") as writer:
        writer.append([NewRecord("operator.commands", 0, b"k", b"1")])
        open_folder.chmod(0o555)
        with as_nobody(), open_log(url, read_only=True) as reader:
            assert reader.bounds("operator.commands", 0) == (0, 1)
            os.seteuid(os.getuid())
            writer.append([NewRecord("operator.commands", 0, b"k", b"2")])
            assert reader.bounds("operator.commands", 0) == (0, 2)


def test_appends_that_only_the_wal_has_are_not_passed_over(open_folder: Path) -> None:
    file = open_folder / "log.sqlite"
    with create_log(f"sqlite:{file}", SPEC) as log, log.writer("w") as writer:
        writer.append([NewRecord("operator.commands", 0, b"k", b"1")])
        copy = open_folder / "copy"
        copy.mkdir()
        for part in ("log.sqlite", "log.sqlite-wal"):
            (copy / part).write_bytes((open_folder / part).read_bytes())
    copy.chmod(0o555)
    with as_nobody(), pytest.raises(LogError, match=r"log\.sqlite-wal"):
        open_log(f"sqlite:{copy / 'log.sqlite'}", read_only=True)
    copy.chmod(0o755)
    with open_log(f"sqlite:{copy / 'log.sqlite'}", read_only=True) as log:
        assert log.bounds("operator.commands", 0) == (0, 1)


def test_file_that_may_not_be_read(open_folder: Path) -> None:
    file = open_folder / "log.sqlite"
    create_log(f"sqlite:{file}", SPEC).close()
    file.chmod(0)
    with as_nobody(), pytest.raises(LogError, match=r"log\.sqlite"):
        open_log(f"sqlite:{file}", read_only=True)
    file.chmod(stat.S_IRUSR)
    open_folder.chmod(0)
    with as_nobody(), pytest.raises(LogError, match=r"log\.sqlite"):
        open_log(f"sqlite:{file}", read_only=True)


def test_writer_of_a_log_opened_for_reading_is_refused(tmp_path: Path) -> None:
    url = f"sqlite:{tmp_path / 'log.sqlite'}"
    create_log(url, SPEC).close()
    with open_log(url, read_only=True) as log, pytest.raises(LogError, match="reading only"):
        log.writer("w")


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("layout", "2", LogMismatch),
        ("time", "local", LogDamaged),
        ("account_partitions", "four", LogDamaged),
        ("account_partitions", "5", LogDamaged),
        ("market_partitions", "3", LogDamaged),
    ],
)
def test_log_that_contradicts_itself_is_refused_with_what_it_says(
    tmp_path: Path, name: str, value: str, error: type[LogError]
) -> None:
    file = tmp_path / "log.sqlite"
    create_log(f"sqlite:{file}", SPEC).close()
    with apsw.Connection(str(file)) as db:
        db.execute("UPDATE log SET value = ? WHERE name = ?", (value, name))
    db.close()
    with pytest.raises(error, match=value):
        open_log(f"sqlite:{file}")


def test_log_that_is_older_than_a_topic(tmp_path: Path) -> None:
    file = tmp_path / "log.sqlite"
    stream = ("operator.commands", 0)
    create_log(f"sqlite:{file}", SPEC).close()
    with apsw.Connection(str(file)) as db:
        db.execute("DELETE FROM streams WHERE topic = ?", stream[:1])
    db.close()
    with open_log(f"sqlite:{file}", read_only=True) as old:
        assert (old.bounds(*stream), old.read(*stream, gte=0), old.wait({stream: 0}, 0)) == (
            (0, 0),
            [],
            False,
        )
        assert check_seals(old).faults == []
        with SqliteLog(file) as log:
            append(log)
        assert old.bounds(*stream) == (0, 3)
        assert check_seals(old).faults == []
