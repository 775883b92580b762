"""Sealing by reading back, on a store whose offsets have holes and which does not seal as it appends."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import pytest

from eventlog import LogReader, LogSpec, SealReport, check_heads, check_seals, create_log, fingerprint, heads
from eventlog.contract import Stream
from eventlog.sealing import seal
from schemas import NewRecord, Record, decode

SPEC = LogSpec("test", "data")
QUOTES = ("market.quotes", 1)
COMMANDS = ("operator.commands", 0)


class Sparse:
    """A log in memory with a marker after each append, as on topics written in transactions."""

    id, url = "test", "memory:"
    time: Literal["wall", "data"] = "data"
    dense = False

    def __init__(self) -> None:
        self.records: dict[Stream, list[Record]] = defaultdict(list)
        self.ends: dict[Stream, int] = defaultdict(int)

    def append(self, records: Sequence[NewRecord], /) -> None:
        for new in records:
            stream = (new.topic, new.partition)
            self.records[stream].append(Record(*stream, self.ends[stream], new.key, new.value))
            self.ends[stream] += 1
        for stream in {(new.topic, new.partition) for new in records}:
            self.ends[stream] += 1

    def partitions(self, topic: str) -> int:
        return SPEC.partitions(topic)

    def read(
        self, topic: str, partition: int, *, gte: int, lt: int | None = None, limit: int = 5000
    ) -> list[Record]:
        found = self.records[topic, partition]
        return [r for r in found if gte <= r.offset and (lt is None or r.offset < lt)][:limit]

    def bounds(self, topic: str, partition: int) -> tuple[int, int]:
        return 0, self.ends[topic, partition]

    def wait(self, after: Mapping[Stream, int], timeout_s: float) -> bool:
        return any(self.ends[stream] > offset for stream, offset in after.items())

    def close(self) -> None:
        pass

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass


@pytest.fixture
def log() -> Sparse:
    return Sparse()


def numbers(stream: Stream, first: int, next: int) -> list[NewRecord]:
    return [NewRecord(*stream, b"k", b"%d" % n) for n in range(first, next)]


def fill(log: Sparse, first: int, next: int, batch: int = 700) -> None:
    for start in range(first, next, batch):
        log.append(numbers(QUOTES, start, min(start + batch, next)))


def seal_now(log: Sparse) -> int:
    """Seal; how many seals were written, besides that of the seals."""
    before = len(log.records["seals", 0])
    seal(log, log)  # type: ignore[arg-type]  # it is its own writer
    return max(len(log.records["seals", 0]) - before - 1, 0)


def digests(log: LogReader) -> set[tuple[str, int, int, str]]:
    """What is sealed: partition, count and digest."""
    seals = [decode("seals", r.value) for r in log.read("seals", 0, gte=0)]
    return {(s.sealed, s.partition, s.count, s.digest) for s in seals if s.sealed != "seals"}  # type: ignore[attr-defined]


def test_sealed_log_holds(log: Sparse) -> None:
    fill(log, 0, 9000)
    log.append(numbers(COMMANDS, 0, 3))
    assert seal_now(log) == 4
    assert check_seals(log) == SealReport(records=9008, sealed=9003)


def test_seals_follow_each_other_over_holes(log: Sparse) -> None:
    for end in range(0, 12_000, 1500):
        fill(log, end, end + 1500)
        seal_now(log)
    report = check_seals(log)
    assert (report.faults, report.sealed, report.unsealed_at) == ([], 12_000, {})


def test_nothing_new_needs_no_seal(log: Sparse) -> None:
    fill(log, 0, 10)
    assert seal_now(log) == 1
    before = list(log.records["seals", 0])
    assert seal_now(log) == 0
    assert log.records["seals", 0] == before


def test_full_blocks_whose_sealing_is_behind_are_unsealed_and_no_fault(log: Sparse) -> None:
    fill(log, 0, 100)
    seal_now(log)
    fill(log, 100, 9000)
    report = check_seals(log)
    assert (report.faults, report.unsealed_at) == ([], {"market.quotes/1": 8900})


def test_heads_and_fingerprint_out_of_the_last_seals_are_those_of_the_records(log: Sparse) -> None:
    fill(log, 0, 5000)
    log.append(numbers(("fills", 2), 0, 10))
    for _ in range(2):
        sealed = seal(log, log)  # type: ignore[arg-type]
        assert heads(log, sealed) == heads(log)
        assert fingerprint(log, sealed) == fingerprint(log)


def test_digests_are_those_of_the_embedded_log(log: Sparse, tmp_path: Path) -> None:
    fill(log, 0, 5000)
    log.append(numbers(("fills", 2), 0, 10))
    seal_now(log)
    with create_log(f"sqlite:{tmp_path / 'log.sqlite'}", SPEC) as embedded:
        with embedded.writer("w") as writer:
            writer.append(numbers(QUOTES, 0, 5000) + numbers(("fills", 2), 0, 10))
        assert digests(embedded) == digests(log)
        assert fingerprint(embedded) == fingerprint(log)


@contextmanager
def changed(records: list[Record], at: int, value: bytes) -> Iterator[None]:
    before = records[at].value
    records[at].value = value
    yield
    records[at].value = before


@pytest.mark.parametrize("at", [0, 699, 700, 4095, 4096, 8191, 8192, 8999])
def test_changed_record_is_within_the_range_that_is_named(log: Sparse, at: int) -> None:
    fill(log, 0, 9000)
    seal_now(log)
    records = log.records[QUOTES]
    with changed(records, at, b"other"):
        (fault,) = check_seals(log).faults
        assert (fault.topic, fault.partition) == QUOTES
        assert fault.first <= records[at].offset < fault.next
    assert check_seals(log).faults == []


def test_lost_records_show_in_the_digest_and_in_the_head(log: Sparse) -> None:
    fill(log, 0, 9000)
    seal_now(log)
    kept = heads(log)
    lost = log.records[QUOTES].pop(5000)
    (fault,) = check_seals(log).faults
    assert fault.first <= lost.offset < fault.next
    assert [f.reason for f in check_heads(log, kept)] == ["of 9000 records there are 8999"]


def test_changed_seal_is_told_from_changed_records_by_a_later_one(log: Sparse) -> None:
    for end in (0, 100, 200):
        fill(log, end, end + 100)
        seal_now(log)
    seals = log.records["seals", 0]
    place = next(i for i, r in enumerate(seals) if b'"count":200' in r.value)
    with changed(seals, place, seals[place].value.replace(b'digest":"', b'digest":"00')):
        reasons = {(f.topic, f.offset): f.reason for f in check_seals(log).faults}
    assert reasons["seals", seals[place].offset].startswith("the seal was changed")
    assert {topic for topic, _ in reasons} == {"seals"}
