"""Seals: what they are, that they depend on records alone, and that nothing changes unnoticed."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import apsw
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventlog import (
    EventLog,
    Fault,
    LogSpec,
    check_heads,
    check_seals,
    create_log,
    fingerprint,
    heads,
    open_log,
)
from eventlog.errors import LogError
from schemas import Batch, NewRecord, Seal, decode, encode

SPEC = LogSpec("test", "data", account_partitions=1, market_partitions=1)
BLOCK = 4096
Row = tuple[int, str, int, bytes, bytes]
"""Stream, topic, offset, key, value."""


def numbers(topic: str, first: int, next: int) -> list[NewRecord]:
    return [NewRecord(topic, 0, b"k", b"%d" % n) for n in range(first, next)]


def digest_of(records: list[tuple[bytes, bytes]]) -> str:
    """The definition in eventlog/seals.py, as plainly as it can be written."""
    digest = bytes(32)
    for start in range(0, len(records), BLOCK):
        data = digest
        for key, value in records[start : start + BLOCK]:
            data += len(key).to_bytes(8, "big") + key + len(value).to_bytes(8, "big") + value
        digest = hashlib.blake2b(data, digest_size=32).digest()
    return digest.hex()


def seals_of(log: EventLog) -> list[Any]:
    return [decode("seals", record.value) for record in log.read("seals", 0, gte=0)]


def test_seals_are_what_is_published(tmp_path: Path) -> None:
    sizes = (3, BLOCK - 3, 1, 2 * BLOCK, 100)
    with create_log(f"sqlite:{tmp_path / 'log.sqlite'}", SPEC) as log:
        for n, size in enumerate(sizes):
            start = sum(sizes[:n])
            with log.writer("w") as writer:
                writer.append(numbers("market.quotes", start, start + size))
        for topic in ("market.quotes", "seals"):
            pairs = [(r.key, r.value) for r in log.read(topic, 0, gte=0, limit=1 << 20)]
            mine = [seal for seal in seals_of(log) if seal.sealed == topic]
            ends = [seal.count for seal in mine]
            assert [seal.digest for seal in mine] == [digest_of(pairs[:end]) for end in ends]
            assert [(s.first, s.next) for s in mine] == list(zip([0, *ends], ends, strict=False))
            if topic == "market.quotes":
                assert ends == [3, BLOCK, BLOCK + 1, 2 * BLOCK, 3 * BLOCK, 3 * BLOCK + 1, 3 * BLOCK + 101]


def test_seals_of_the_seals_outlive_a_block_of_them(tmp_path: Path) -> None:
    with create_log(f"sqlite:{tmp_path / 'log.sqlite'}", SPEC) as log:
        with log.writer("w") as writer:  # the store takes what it is given
            made = encode(Seal(sealed="market.status", partition=0, first=0, next=0, count=0, digest=""))
            writer.append([NewRecord("seals", 0, b"market.status/0", made) for _ in range(BLOCK + 10)])
        kept = heads(log)
        pairs = [(r.key, r.value) for r in log.read("seals", 0, gte=0, limit=1 << 20)]
        assert kept["heads"]["seals/0"]["digest"] == digest_of(pairs)
        assert [s.count for s in seals_of(log) if s.sealed == "seals"] == [BLOCK, BLOCK + 11]
        assert check_heads(log, kept) == []


@given(
    cuts=st.lists(st.tuples(st.integers(1, 1500), st.booleans(), st.booleans()), min_size=1, max_size=12),
)
@settings(max_examples=12, deadline=None)
def test_digests_depend_on_records_alone(cuts: list[tuple[int, bool, bool]]) -> None:
    """Any appends, any closes (clean or not), two writers by turns."""
    total = sum(size for size, _, _ in cuts)
    with TemporaryDirectory() as folder, create_log(f"sqlite:{folder}/log.sqlite", SPEC) as log:
        writers = {name: log.writer(name) for name in ("a", "b")}
        start = 0
        for n, (size, clean, reopen) in enumerate(cuts):
            name = "ab"[n % 2]
            for topic in ("orders", "market.quotes"):
                writers[name].append(numbers(topic, start, start + size))
            start += size
            if reopen:
                if clean:
                    writers[name].close()
                else:
                    del writers[name]
                writers[name] = log.writer(name)
        for writer in writers.values():
            writer.close()
        expected = digest_of([(b"k", b"%d" % n) for n in range(total)])
        kept = heads(log)["heads"]
        assert [kept[t]["digest"] for t in ("orders/0", "market.quotes/0")] == [expected, expected]
        report = check_seals(log)
        assert {f.reason.partition(":")[0] for f in report.faults} == {"cannot be read"}, "orders are numbers"
        assert report.unsealed_at == {}
    with TemporaryDirectory() as folder, create_log(f"sqlite:{folder}/log.sqlite", SPEC) as other:
        with other.writer("w") as writer:
            writer.append(numbers("orders", 0, total))
        assert heads(other)["heads"]["orders/0"]["digest"] == expected


class Small:
    """A log of a few records, sealed at each close, and a way to change it behind its back."""

    def __init__(self, file: Path, sessions: int = 3) -> None:
        self.log = create_log(f"sqlite:{file}", SPEC)
        for n in range(sessions):
            with self.log.writer("w") as writer:
                writer.append(
                    numbers("market.quotes", 3 * n, 3 * n + 3) + numbers("operator.commands", n, n + 1)
                )
                writer.append([NewRecord("batches", 0, b"0", encode(batch(n)))])
        self.db = apsw.Connection(str(file))
        self.db.execute("PRAGMA synchronous = OFF")
        self.rows: list[Row] = list(
            self.db.execute(
                "SELECT stream, topic, offset, key, value FROM records "
                "JOIN streams ON streams.id = stream ORDER BY stream, offset"
            )
        )

    def of(self, topic: str) -> list[Row]:
        return [row for row in self.rows if row[1] == topic]

    def put(self, rows: list[Row], moved_end: bool) -> None:
        """These rows instead of the partition's, at offsets from 0."""
        stream = rows[0][0]
        self.db.execute("DELETE FROM records WHERE stream = ?", (stream,))
        self.db.executemany(
            "INSERT INTO records VALUES (?, ?, 0, ?, ?)",
            [(stream, offset, key, value) for offset, (_, _, _, key, value) in enumerate(rows)],
        )
        if moved_end:
            self.db.execute("UPDATE streams SET next = ? WHERE id = ?", (len(rows), stream))

    def faults(self) -> list[Fault]:
        return check_seals(self.log).faults


def batch(number: int) -> Batch:
    return Batch(partition=0, number=number, epoch=1, inputs=(), order="", records=0, seqs={"a": 1}, now=1)


TOPICS = ("market.quotes", "operator.commands", "batches", "seals")


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Small]:
    made = Small(tmp_path / "log.sqlite")
    assert check_seals(made.log).unsealed_at == {}
    assert made.faults() == []
    with made.log:
        yield made


def covers(fault: Fault, topic: str, offset: int) -> bool:
    """Whether a fault names the record, or for a seal what it seals or itself."""
    if topic == "seals" and f"(seals/0/{offset})" in fault.reason:
        return True
    return fault.topic == topic and fault.first <= offset < fault.next


def test_every_byte_counts(tmp_path: Path) -> None:
    small = Small(tmp_path / "log.sqlite", sessions=2)
    missed = []
    for stream, topic, offset, key, value in small.rows:
        for column, stored in (("key", key), ("value", value)):
            change = f"UPDATE records SET {column} = ? WHERE stream = {stream} AND offset = {offset}"
            for at in range(len(stored)):
                flipped = bytearray(stored)
                flipped[at] ^= 1 + at % 255
                small.db.execute(change, (bytes(flipped),))
                if not any(covers(fault, topic, offset) for fault in small.faults()):
                    missed.append((topic, offset, column, at))
            small.db.execute(change, (stored,))
    assert missed == []
    assert small.faults() == []


@pytest.mark.parametrize("topic", TOPICS)
def test_dropped_record_is_named(small: Small, topic: str) -> None:
    for stream, _, offset, key, value in small.of(topic):
        small.db.execute("DELETE FROM records WHERE stream = ? AND offset = ?", (stream, offset))
        assert (topic, offset) in {(f.topic, f.offset) for f in small.faults()}
        small.db.execute("INSERT INTO records VALUES (?, ?, 0, ?, ?)", (stream, offset, key, value))


@pytest.mark.parametrize("topic", TOPICS)
def test_record_dropped_with_the_others_moved_up_shows_in_its_range(small: Small, topic: str) -> None:
    rows = small.of(topic)
    for row in rows[:-1]:
        small.put([r for r in rows if r is not row], moved_end=True)
        assert any(covers(fault, topic, row[2]) or fault.topic == "seals" for fault in small.faults()), row


@pytest.mark.parametrize("topic", TOPICS)
def test_swapped_records_show_in_their_range(small: Small, topic: str) -> None:
    rows = small.of(topic)
    for n in range(len(rows) - 1):
        small.put([*rows[:n], rows[n + 1], rows[n], *rows[n + 2 :]], moved_end=True)
        found = small.faults()
        assert any(covers(f, topic, n) or covers(f, topic, n + 1) for f in found), (n, found)


@pytest.mark.parametrize("topic", TOPICS)
@pytest.mark.parametrize("moved_end", [True, False])
def test_inserted_record_shows(small: Small, topic: str, moved_end: bool) -> None:
    rows = small.of(topic)
    for n in range(len(rows) - 1):
        small.put([*rows[:n], (*rows[n][:3], b"new", rows[n][4]), *rows[n:]], moved_end)
        found = small.faults()
        assert any(covers(fault, topic, n) or fault.topic == "seals" for fault in found), (n, found)


def test_record_beyond_the_end_is_named(small: Small) -> None:
    stream, _, _, key, value = small.of("market.quotes")[0]
    small.db.execute("INSERT INTO records VALUES (?, 9, 0, ?, ?)", (stream, key, value))
    assert [(f.topic, f.offset) for f in small.faults()] == [("market.quotes", 9)]


@pytest.mark.parametrize("next", [0, 5, 8, 10, 1000])
def test_end_that_is_not_where_the_records_end(small: Small, next: int) -> None:
    small.db.execute("UPDATE streams SET next = ? WHERE topic = 'market.quotes'", (next,))
    assert {f.topic for f in small.faults()} == {"market.quotes"}


def test_digest_kept_by_the_store_is_compared(small: Small) -> None:
    small.db.execute("UPDATE streams SET boundary = ? WHERE topic = 'market.quotes'", (bytes(31) + b"1",))
    (fault,) = small.faults()
    assert (fault.topic, fault.reason) == (
        "market.quotes",
        "the digest that the store keeps is not that of its records",
    )


def test_cut_tail_shows_only_against_a_head(small: Small) -> None:
    """A whole session taken out, consistently: rows, ends and seals."""
    kept = heads(small.log)
    ends = {"market.quotes": 6, "operator.commands": 2, "batches": 2, "seals": 8}
    for topic, end in ends.items():
        small.put(small.of(topic)[:end], moved_end=True)
        sealed = end - 1 if topic == "seals" else end
        small.db.execute("UPDATE streams SET sealed = ? WHERE topic = ?", (sealed, topic))
    report = check_seals(small.log)
    assert (report.faults, report.unsealed_at) == ([], {})
    found = {(f.topic, f.offset, f.next) for f in check_heads(small.log, kept)}
    assert found == {
        ("market.quotes", 6, 9),
        ("operator.commands", 2, 3),
        ("batches", 2, 3),
        ("seals", 8, 12),
    }
    with small.log.writer("w") as writer:
        writer.append(numbers("market.quotes", 100, 103))
    assert check_seals(small.log).faults == []
    reasons = {f.topic: f.reason for f in check_heads(small.log, kept)}
    assert reasons["market.quotes"] == "the records are not those that the head was taken of"


@pytest.mark.parametrize(
    "damage",
    [
        lambda kept: kept | {"log": "another"},
        lambda kept: {"log": "test"},
        lambda kept: kept | {"heads": []},
        lambda kept: kept | {"heads": {"orders/0": {"count": 1}}},
        lambda kept: kept | {"heads": {"orders/none": {"next": 1, "count": 1, "digest": ""}}},
        lambda kept: {},
    ],
)
def test_what_is_no_head_of_this_log_is_refused(
    small: Small, damage: Callable[[dict[str, Any]], dict[str, Any]]
) -> None:
    with pytest.raises(LogError):
        check_heads(small.log, damage(heads(small.log)))


def test_head_of_a_partition_that_is_not_there(small: Small) -> None:
    kept = {"log": "test", "heads": {"orders/7": {"next": 1, "count": 1, "digest": ""}}}
    (fault,) = check_heads(small.log, kept)
    assert (fault.topic, fault.partition) == ("orders", 7)


def test_what_is_not_sealed_yet_is_counted(small: Small) -> None:
    writer = small.log.writer("w")
    writer.append(numbers("market.quotes", 9, 9 + BLOCK))
    report = check_seals(small.log)
    assert (report.unsealed, report.unsealed_at, report.faults) == (
        9,
        {"market.quotes/0": 9, "seals/0": 1},
        [],
    )
    writer.close()
    assert check_seals(small.log).unsealed_at == {}


def test_log_that_is_being_written_is_checked(tmp_path: Path) -> None:
    url = f"sqlite:{tmp_path / 'log.sqlite'}"

    def write() -> None:
        with open_log(url) as mine:
            for start in range(0, 60_000, 1500):
                with mine.writer("w") as writer:
                    for n in range(start, start + 1500, 500):
                        writer.append(
                            numbers("market.quotes", n, n + 500) + numbers("broker.reports", n, n + 1)
                        )

    with create_log(url, SPEC), open_log(url, read_only=True) as reader:
        writing = threading.Thread(target=write)
        writing.start()
        try:
            while writing.is_alive():
                assert check_seals(reader).faults == []
                assert check_heads(reader, heads(reader)) == []
        finally:
            writing.join()
        assert check_seals(reader).unsealed_at == {}
        assert fingerprint(reader)
