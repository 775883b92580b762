"""Whatever is changed in a stored log behind its back is found, and named."""

from __future__ import annotations

import contextlib
import json
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest

from eventlog import Fault, LogSpec, check_heads, check_seals, create_log, fingerprint, heads, open_log
from eventlog.errors import LogError
from eventlog.seals import BLOCK, SEALS
from schemas import DeadLetter, Heartbeat, NewRecord, new_record
from support.log_suite import numbers

SPEC = LogSpec("verify", "data", 1, 1)
QUOTES = ("market.quotes", 0)
STATUS = ("market.status", 0)
LETTERS = ("dead-letters", 0)
STREAM = "(SELECT id FROM streams WHERE topic = ? AND partition = ?)"


def letter(n: int) -> NewRecord:
    return new_record(DeadLetter(place=f"p/0/{n}", key="", bytes="AAAA", reason="r"), 0, "0")


def beat(n: int) -> NewRecord:
    return new_record(Heartbeat(ts=n, source="s", row=n), 0, "*")


class Stored:
    """A closed log in a file, changed with SQL."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def sql(self, statement: str, *bindings: Any) -> list[Any]:
        db = apsw.Connection(str(self.path))
        try:
            return list(db.execute(statement, bindings))
        finally:
            db.close()

    def faults(self) -> list[Fault]:
        with open_log(f"sqlite:{self.path}", read_only=True) as log:
            return check_seals(log).faults

    def delete(self, stream: tuple[str, int], offset: int) -> None:
        self.sql(f"DELETE FROM records WHERE stream = {STREAM} AND offset = ?", *stream, offset)

    def shift(self, stream: tuple[str, int], beyond: int, by: int) -> None:
        """Renumber the records beyond an offset, as someone would who hides a change."""
        # through the negative numbers, where nothing stands in the way
        self.sql(
            f"UPDATE records SET offset = -(offset + ?) WHERE stream = {STREAM} AND offset > ?",
            by,
            *stream,
            beyond,
        )
        self.sql(f"UPDATE records SET offset = -offset WHERE stream = {STREAM} AND offset < 0", *stream)
        self.sql("UPDATE streams SET next = next + ? WHERE topic = ? AND partition = ?", by, *stream)

    def value(self, stream: tuple[str, int], offset: int) -> bytes:
        """What stands in a record."""
        rows = self.sql(f"SELECT value FROM records WHERE stream = {STREAM} AND offset = ?", *stream, offset)
        found: bytes = rows[0][0]
        return found

    def rewrite(self, stream: tuple[str, int], offset: int, value: bytes) -> None:
        """Put another value into a record."""
        where = f"WHERE stream = {STREAM} AND offset = ?"
        self.sql(f"UPDATE records SET value = ? {where}", value, *stream, offset)

    def move(self, stream: tuple[str, int], old: int, new: int) -> None:
        """Give a record another offset."""
        self.sql(f"UPDATE records SET offset = ? WHERE stream = {STREAM} AND offset = ?", new, *stream, old)

    def swap(self, stream: tuple[str, int], one: int, other: int) -> None:
        """Exchange the offsets of two records."""
        for old, new in ((one, -1), (other, one), (-1, other)):
            self.move(stream, old, new)

    def put(self, stream: tuple[str, int], offset: int, key: bytes, value: bytes) -> None:
        self.sql(f"INSERT INTO records VALUES ({STREAM}, ?, 0, ?, ?)", *stream, offset, key, value)

    def set(self, stream: tuple[str, int], column: str, value: Any) -> None:
        self.sql(f"UPDATE streams SET {column} = ? WHERE topic = ? AND partition = ?", value, *stream)


def names(fault: Fault, stream: tuple[str, int], offset: int) -> bool:
    """Whether the fault names the record's partition and a range with it, or the seal itself."""
    place = f"{stream[0]}/{stream[1]}/{offset}"
    inside = (fault.topic, fault.partition) == stream and fault.first <= offset < fault.next
    return inside or place in fault.reason


@pytest.fixture
def small(tmp_path: Path) -> Stored:
    """Two closes, so that there are ranges to tell apart."""
    path = tmp_path / "small"
    with create_log(f"sqlite:{path}", SPEC) as log:
        with log.writer("w") as writer:
            writer.append([letter(0), letter(1), beat(0), beat(1)])
        with log.writer("w") as writer:
            writer.append([letter(2), beat(2)])
    return Stored(path)


@pytest.fixture
def long(tmp_path: Path) -> Stored:
    """Two full blocks and more, closed in between."""
    path = tmp_path / "long"
    with create_log(f"sqlite:{path}", SPEC) as log:
        for start in (0, 1000):
            with log.writer("w") as writer:
                writer.append(numbers(QUOTES, range(start, start + (1000 if start == 0 else 2 * BLOCK))))
    return Stored(path)


def test_untouched_logs_hold(small: Stored, long: Stored) -> None:
    assert small.faults() == []
    assert long.faults() == []


def test_every_changed_byte_is_found_and_placed(small: Stored) -> None:
    rows = small.sql(
        "SELECT topic, partition, stream, offset, key, value FROM records JOIN streams ON id = stream"
    )
    assert len(rows) > 10
    missed = []
    db = apsw.Connection(str(small.path))
    with open_log(f"sqlite:{small.path}", read_only=True) as log:
        for topic, partition, stream, offset, key, value in rows:
            place = (stream, offset)
            for column, stored in (("key", key), ("value", value)):
                write = f"UPDATE records SET {column} = ? WHERE stream = ? AND offset = ?"
                for at in range(len(stored)):
                    changed = bytearray(stored)
                    changed[at] ^= 1 << (at % 8)
                    db.execute(write, (bytes(changed), *place))
                    if not any(names(f, (topic, partition), offset) for f in check_seals(log).faults):
                        missed.append((topic, offset, column, at, bytes(changed)))
                db.execute(write, (stored, *place))
        assert missed == []
        assert check_seals(log).faults == []
    db.close()


@pytest.mark.parametrize(
    ("offset", "first", "next"),
    [
        (0, 0, 1000),
        (999, 0, 1000),
        (1000, 1000, 4096),
        (4095, 1000, 4096),
        (4096, 4096, 8192),
        (9000, 8192, 9192),
    ],
)
def test_changed_record_names_its_sealed_range(long: Stored, offset: int, first: int, next: int) -> None:
    long.rewrite(QUOTES, offset, b"changed")
    fault = long.faults()[0]
    assert (fault.topic, fault.partition, fault.first, fault.next) == (*QUOTES, first, next)
    assert "not what was sealed" in fault.reason


@pytest.mark.parametrize("offset", [0, 999, 1000, 4095, 4096, 9190])
def test_missing_record_names_its_offset(long: Stored, offset: int) -> None:
    long.delete(QUOTES, offset)
    assert (*QUOTES, offset) in [(f.topic, f.partition, f.offset) for f in long.faults()]


def drop(log: Stored) -> None:
    log.delete(QUOTES, 5000)
    log.shift(QUOTES, 5000, -1)


def insert(log: Stored) -> None:
    log.shift(QUOTES, 4999, 1)
    log.put(QUOTES, 5000, b"key", b"one more")


def swap(log: Stored) -> None:
    log.swap(QUOTES, 5000, 5001)


def repeat(log: Stored) -> None:
    log.shift(QUOTES, 5000, 1)
    log.put(QUOTES, 5001, b"key", b"5000")


@pytest.mark.parametrize("change", [drop, insert, swap, repeat])
def test_dropped_inserted_and_reordered_records_break_the_chain(
    long: Stored, change: Callable[[Stored], None]
) -> None:
    change(long)
    rows = long.sql(
        f"SELECT min(offset), max(offset) + 1, count(*) FROM records WHERE stream = {STREAM}", *QUOTES
    )
    assert rows[0][0] == 0
    assert rows[0][1] == rows[0][2]  # the offsets show nothing
    assert any(names(fault, QUOTES, 5000) for fault in long.faults())


def test_copy_of_another_record_breaks_the_chain(small: Stored) -> None:
    small.rewrite(STATUS, 1, small.value(STATUS, 0))
    assert any(names(fault, STATUS, 1) for fault in small.faults())


def test_value_that_does_not_decode_names_the_record(small: Stored) -> None:
    small.rewrite(LETTERS, 1, b"{}")
    assert (*LETTERS, 1) in [(f.topic, f.partition, f.offset) for f in small.faults()]


def test_facts_that_cannot_be_read_are_no_fault(tmp_path: Path) -> None:
    with create_log(f"sqlite:{tmp_path / 'log'}", SPEC) as log:
        with log.writer("w") as writer:
            writer.append(
                [NewRecord("operator.commands", 0, b"a", b"{"), NewRecord(*QUOTES, b"SPY", b"\xff")]
            )
        assert check_seals(log).faults == []


# Seals themselves


def with_fields(value: bytes, **fields: Any) -> bytes:
    """A seal with other fields, in the bytes that the codec would give it."""
    return json.dumps(json.loads(value) | fields, separators=(",", ":")).encode()


def seal_offsets(log: Stored, stream: tuple[str, int]) -> list[int]:
    rows = log.sql(
        f"SELECT offset FROM records WHERE stream = {STREAM} AND key = ? ORDER BY offset",
        *SEALS,
        "{}/{}".format(*stream).encode(),
    )
    return [offset for (offset,) in rows]


def test_missing_seal_names_its_offset(long: Stored) -> None:
    offset = seal_offsets(long, QUOTES)[1]
    long.delete(SEALS, offset)
    assert (*SEALS, offset) in [(f.topic, f.partition, f.offset) for f in long.faults()]


def test_hidden_loss_of_any_seal_is_found(long: Stored, tmp_path: Path) -> None:
    for n, offset in enumerate(seal_offsets(long, QUOTES)):
        copy = Stored(Path(shutil.copy(long.path, tmp_path / f"copy{n}")))
        copy.delete(SEALS, offset)
        copy.shift(SEALS, offset, -1)
        assert copy.faults(), offset


def test_seals_in_another_order_are_found(long: Stored) -> None:
    long.swap(SEALS, *seal_offsets(long, QUOTES)[1:3])
    assert any(f.topic == "seals" or "seals/0" in f.reason for f in long.faults())


def test_repeated_seal_is_found(long: Stored) -> None:
    offset = seal_offsets(long, QUOTES)[1]
    value = long.value(SEALS, offset)
    long.shift(SEALS, offset, 1)
    long.put(SEALS, offset + 1, b"market.quotes/0", value)
    assert any(f.topic == "seals" for f in long.faults())


def test_changed_digest_of_a_seal_does_not_accuse_the_records_after_it(long: Stored) -> None:
    offset = seal_offsets(long, QUOTES)[1]
    long.rewrite(SEALS, offset, with_fields(long.value(SEALS, offset), digest="0" * 64))
    faults = long.faults()
    assert any(names(f, SEALS, offset) for f in faults)
    assert not any(names(f, QUOTES, 5000) for f in faults)


def test_seal_of_a_partition_that_is_not_there_is_found(small: Stored) -> None:
    end = small.sql("SELECT next FROM streams WHERE topic = 'seals'")[0][0]
    value = with_fields(small.value(SEALS, 0), sealed="orders", partition=7)
    small.put(SEALS, end, b"orders/7", value)
    small.set(SEALS, "next", end + 1)
    assert any(f.topic == "seals" and f.offset == end for f in small.faults())


# What the store says of itself


@pytest.mark.parametrize("by", [-1, 1])
def test_recorded_end_that_is_not_the_end_is_found(small: Stored, by: int) -> None:
    for stream, count in ((STATUS, 3), (LETTERS, 3)):
        small.set(stream, "next", count + by)
        assert any((f.topic, f.partition) == stream for f in small.faults())
        small.set(stream, "next", count)
    assert small.faults() == []


def test_kept_digest_that_is_not_of_the_records_is_found(long: Stored) -> None:
    long.set(QUOTES, "boundary", bytes(32))
    assert any((f.topic, f.partition) == QUOTES for f in long.faults())


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE records SET key = NULL WHERE offset = 1",
        "UPDATE records SET value = 'text' WHERE offset = 1",
        "UPDATE records SET value = 1.5 WHERE offset = 1",
        "UPDATE records SET offset = 'one' WHERE offset = 1",
        "UPDATE records SET offset = 1.5 WHERE offset = 1",
        "UPDATE streams SET next = 'many'",
        "UPDATE streams SET next = -1",
        "UPDATE streams SET boundary = 'x'",
        "UPDATE streams SET topic = 'other' WHERE topic = 'market.status'",
        "DELETE FROM streams WHERE topic = 'market.status'",
        "DELETE FROM records",
        "DROP TABLE records",
        "UPDATE log SET value = 'many' WHERE name = 'market_partitions'",
        "DELETE FROM log WHERE name = 'id'",
    ],
)
def test_no_change_of_the_tables_goes_unnoticed_or_ends_in_a_traceback(small: Stored, statement: str) -> None:
    try:
        small.sql(statement)
    except apsw.ConstraintError:
        return  # the database itself refuses it
    with contextlib.suppress(LogError):
        assert small.faults()


# Tails


def truncate(log: Stored, stream: tuple[str, int], count: int) -> None:
    log.sql(f"DELETE FROM records WHERE stream = {STREAM} AND offset >= ?", *stream, count)
    log.set(stream, "next", count)


def test_truncated_sealed_tail_shows_in_the_seals(long: Stored) -> None:
    truncate(long, QUOTES, 9000)
    (fault, *_) = [f for f in long.faults() if (f.topic, f.partition) == QUOTES]
    assert fault.first <= 9000 < fault.next


@pytest.fixture
def unsealed(tmp_path: Path) -> Iterator[tuple[Stored, dict[str, Any]]]:
    """A log whose last writer was killed, and its heads before it loses its tail."""
    path = tmp_path / "unsealed"
    with create_log(f"sqlite:{path}", SPEC) as log:
        with log.writer("w") as writer:
            writer.append(numbers(QUOTES, range(100)))
        log.writer("w").append(numbers(QUOTES, range(100, 150)))
        yield Stored(path), json.loads(json.dumps(heads(log)))


def test_truncated_unsealed_tail_shows_against_heads_only(unsealed: tuple[Stored, dict[str, Any]]) -> None:
    stored, kept = unsealed
    truncate(stored, QUOTES, 120)
    stored.set(QUOTES, "boundary", bytes(32))
    with open_log(f"sqlite:{stored.path}", read_only=True) as log:
        report = check_seals(log)
        assert (report.faults, report.unsealed_at) == ([], {"market.quotes/0": 20})
        (fault,) = check_heads(log, kept)
    assert (fault.topic, fault.partition, fault.first, fault.next) == (*QUOTES, 120, 150)


def test_changed_unsealed_tail_shows_against_heads(unsealed: tuple[Stored, dict[str, Any]]) -> None:
    stored, kept = unsealed
    stored.sql(f"UPDATE records SET key = ? WHERE stream = {STREAM} AND offset = 140", b"kez", *QUOTES)
    with open_log(f"sqlite:{stored.path}", read_only=True) as log:
        assert check_seals(log).faults == []
        (fault,) = check_heads(log, kept)
    assert names(fault, QUOTES, 140)


def test_lost_seals_show_against_heads(small: Stored) -> None:
    with open_log(f"sqlite:{small.path}") as log:
        kept = heads(log)
    end = small.sql("SELECT next FROM streams WHERE topic = 'seals'")[0][0]
    truncate(small, SEALS, end - 1)
    with open_log(f"sqlite:{small.path}", read_only=True) as log:
        assert [f.topic for f in check_heads(log, kept)] == ["seals"]


@pytest.mark.parametrize("kept", [{}, {"log": "verify"}, {"log": "verify", "heads": {"orders/0": {}}}])
def test_what_is_no_head_is_refused(small: Stored, kept: dict[str, Any]) -> None:
    with open_log(f"sqlite:{small.path}", read_only=True) as log, pytest.raises(LogError):
        check_heads(log, kept)


# A log that is being written


def test_log_that_grows_while_it_is_verified_holds(tmp_path: Path) -> None:
    url, stop = f"sqlite:{tmp_path / 'log'}", threading.Event()

    def write() -> None:
        with open_log(url) as log:
            for turn in range(10**6):
                with log.writer("w") as writer:
                    writer.append(numbers(QUOTES, range(turn, turn + 777)) + [letter(turn)] * 300)
                if stop.is_set():
                    return

    with create_log(url, SPEC) as log:
        thread = threading.Thread(target=write)
        thread.start()
        try:
            for _ in range(8):
                assert check_seals(log).faults == []
                kept = heads(log)
                assert check_heads(log, kept) == []
        finally:
            stop.set()
            thread.join()
        assert check_seals(log).faults == []


def test_progress_ends_at_the_number_of_records(long: Stored) -> None:
    said: list[int] = []
    with open_log(f"sqlite:{long.path}", read_only=True) as log:
        report = check_seals(log, said.append)
    assert said == sorted(said)
    assert said[-1] == report.records


def test_report_counts_what_is_sealed_and_what_is_not(unsealed: tuple[Stored, dict[str, Any]]) -> None:
    with open_log(f"sqlite:{unsealed[0].path}", read_only=True) as log:
        report = check_seals(log)
    assert report.unsealed == 50
    assert report.sealed == 100  # the seals are not counted


def test_fingerprint_shows_a_changed_decision(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with create_log(f"sqlite:{path}", SPEC) as log:
        with log.writer("w") as writer:
            writer.append(numbers(("orders", 0), range(BLOCK + 10)))
        before = fingerprint(log)
    Stored(path).rewrite(("orders", 0), BLOCK + 1, b"0")
    with open_log(f"sqlite:{path}", read_only=True) as log:
        assert fingerprint(log) != before
