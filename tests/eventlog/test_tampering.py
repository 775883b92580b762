"""Each record dropped, swapped with its neighbour, or put in; a whole session cut off."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from eventlog import Fault, LogSpec, check_heads, check_seals, create_log, heads
from schemas import Batch, NewRecord, encode

SPEC = LogSpec("test", "data", account_partitions=1, market_partitions=1)
Row = tuple[int, str, int, bytes, bytes]
"""Stream, topic, offset, key, value."""


def numbers(topic: str, first: int, next: int) -> list[NewRecord]:
    return [NewRecord(topic, 0, b"k", b"%d" % n) for n in range(first, next)]


class Small:
    """A log of a few records, sealed at each close, and a way to change it behind its back."""

    def __init__(self, file: Path) -> None:
        self.log = create_log(f"sqlite:{file}", SPEC)
        for n in range(3):
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
