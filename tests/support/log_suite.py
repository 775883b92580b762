"""What every store of a log must do, written once; a store subclasses `LogSuite` with one method.

Assertions keep to the contract: offsets ascend and may have holes, a position is the next offset to
read, and only topics written in transactions are atomic together. Values are numbers as text, in
topics of facts, where anything may stand.
"""

from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from eventlog import (
    EventLog,
    LogReader,
    LogSpec,
    Writer,
    check_heads,
    check_seals,
    create_log,
    fingerprint,
    heads,
    last_rows,
    open_log,
)
from eventlog.errors import LogError, LogExists, LogMismatch, LogNotFound, WriterBusy, WriterFenced
from eventlog.sealing import seal
from schemas import TOPICS, Heartbeat, NewRecord, Record, new_record

SPEC = LogSpec("test", "data", account_partitions=2, market_partitions=3)
COMMANDS = ("operator.commands", 0)
REPORTS = ("broker.reports", 1)
QUOTES = ("market.quotes", 2)

HOLD = """
import sys, time
from eventlog import open_log
from schemas import NewRecord

url, id = sys.argv[1:]
writer = open_log(url).writer(id)
print("held", flush=True)
sys.stdin.readline()
try:
    writer.append([NewRecord("operator.commands", 0, b"", b"late")])
    print("appended", flush=True)
except Exception as problem:
    print(type(problem).__name__, flush=True)
"""

APPEND = """
import sys
from eventlog import open_log
from schemas import NewRecord

url, start = sys.argv[1], int(sys.argv[2])
writer = open_log(url).writer("killed")
for batch in range(start, start + 1_000_000):
    values = [b"%d:%d" % (batch, n) for n in range(1 + 700 * (batch % 3))]
    writer.append([NewRecord(t, p, b"k", v) for t, p in (("operator.commands", 0), ("broker.reports", 1))
                   for v in values])
    print(batch, flush=True)
"""


def numbers(stream: tuple[str, int], some: Iterable[int], key: bytes = b"key") -> list[NewRecord]:
    """A record for each number."""
    return [NewRecord(*stream, key, b"%d" % n) for n in some]


def read_all(log: LogReader, stream: tuple[str, int], page: int = 5000) -> list[Record]:
    """All records of a partition, in pages."""
    first, end = log.bounds(*stream)
    records: list[Record] = []
    position = first
    while found := log.read(*stream, gte=position, lt=end, limit=page):
        assert len(found) <= page
        records += found
        position = found[-1].offset + 1
    return records


def values(records: Iterable[Record]) -> list[bytes]:
    """What stands in the records."""
    return [r.value for r in records]


def rolled_digest(pairs: Sequence[tuple[bytes, bytes]]) -> str:
    """The rolled digest of keys and values, straight from its definition."""
    digest = bytes(32)
    for start in range(0, len(pairs), 4096):
        block = hashlib.blake2b(digest, digest_size=32)
        for part in (part for pair in pairs[start : start + 4096] for part in pair):
            block.update(len(part).to_bytes(8, "big") + part)
        digest = block.digest()
    return digest.hex()


@contextmanager
def running(script: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A Python process that is killed in the end."""
    process = subprocess.Popen(
        [sys.executable, "-c", script, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def said(process: subprocess.Popen[str]) -> str:
    """The next line that a process prints."""
    assert process.stdout is not None
    return process.stdout.readline().strip()


class LogSuite(ABC):
    """Subclass as `Test...`, and name logs."""

    release_s = 0.0
    """How long the store may take to notice that a holder has died."""
    seals_later = False
    """Whether the store leaves sealing to one who reads it back."""

    @abstractmethod
    def new_url(self, folder: Path) -> str:
        """The name of a log that is not there yet."""

    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        return self.new_url(tmp_path)

    @pytest.fixture
    def log(self, url: str) -> Iterator[EventLog]:
        with create_log(url, SPEC) as made:
            yield made

    def acquired(self, log: EventLog, id: str) -> Writer:
        """A writer whose last holder was killed."""
        until = time.monotonic() + self.release_s
        while True:
            try:
                return log.writer(id)
            except WriterBusy:
                if time.monotonic() >= until:
                    raise
                time.sleep(0.2)

    def seal_rest(self, log: EventLog) -> None:
        """Seal what the writers of a store that does not seal as it appends have left."""
        if self.seals_later:
            with log.writer("seals") as writer:
                seal(log, writer)

    # What a log is

    def test_new_log_has_every_topic_and_no_record(self, log: EventLog) -> None:
        for topic in TOPICS.values():
            count = {"account": 2, "market": 3, "one": 1}[topic.spread]
            assert log.partitions(topic.name) == count
            for partition in range(count):
                first, end = log.bounds(topic.name, partition)
                assert first == end
                assert log.read(topic.name, partition, gte=first) == []

    def test_log_remembers_what_it_is(self, log: EventLog, url: str) -> None:
        with open_log(url, expect=SPEC) as again:
            assert (again.id, again.time, again.url) == ("test", "data", log.url)
            assert again.partitions("market.quotes") == 3

    @pytest.mark.parametrize(
        ("field", "other"),
        [("id", "another"), ("time", "wall"), ("account_partitions", 5), ("market_partitions", 6)],
    )
    def test_log_that_is_not_the_expected_is_refused(
        self, log: EventLog, url: str, field: str, other: Any
    ) -> None:
        changed: dict[str, Any] = {field: other}
        with pytest.raises(LogMismatch) as refused:
            open_log(url, expect=replace(SPEC, **changed))
        assert str(getattr(SPEC, field)) in str(refused.value)
        assert str(other) in str(refused.value)

    def test_existing_log_is_not_created_again(self, log: EventLog, url: str) -> None:
        with log.writer("w") as writer:
            writer.append(numbers(COMMANDS, [1]))
        with pytest.raises(LogExists):
            create_log(url, SPEC)
        assert values(read_all(log, COMMANDS)) == [b"1"]

    def test_missing_log_is_not_found(self, url: str) -> None:
        with pytest.raises(LogNotFound):
            open_log(url)

    @pytest.mark.parametrize("stream", [("nonsense", 0), ("orders", 2), ("seals", -1)])
    def test_partition_that_is_not_there_is_an_error(self, log: EventLog, stream: tuple[str, int]) -> None:
        with log.writer("w") as writer:
            calls: list[Callable[[], object]] = [
                lambda: log.read(*stream, gte=0),
                lambda: log.bounds(*stream),
                lambda: log.wait({stream: 0}, 0),
                lambda: writer.append(numbers(stream, [1])),
            ]
            for call in calls:
                with pytest.raises(LogError):
                    call()

    # Append and read

    def test_records_are_read_as_they_were_appended(self, log: EventLog) -> None:
        before = time.time_ns()
        odd = [(b"", b""), (b"\x00\xff", bytes(range(256))), ("ü".encode(), b"x" * 1_000_000)]
        with log.writer("w") as writer:
            writer.append([NewRecord(*COMMANDS, k, v) for k, v in odd])
        records = read_all(log, COMMANDS)
        assert [(r.key, r.value) for r in records] == odd
        assert all((r.topic, r.partition) == COMMANDS and r.event is None for r in records)
        # Kafka keeps milliseconds
        assert all(before - 1_000_000 <= r.timestamp <= time.time_ns() for r in records)

    def test_offsets_ascend_within_the_bounds(self, log: EventLog) -> None:
        with log.writer("w") as writer:
            for start in range(0, 50, 5):
                writer.append(numbers(COMMANDS, range(start, start + 5)) + numbers(QUOTES, [start]))
        for stream, count in ((COMMANDS, 50), (QUOTES, 10)):
            first, end = log.bounds(*stream)
            offsets = [r.offset for r in read_all(log, stream)]
            assert len(offsets) == count
            assert offsets == sorted(set(offsets))
            assert first <= offsets[0]
            assert offsets[-1] < end

    def test_market_offsets_have_no_holes(self, log: EventLog) -> None:
        with log.writer("w") as writer:
            for start in range(0, 30, 3):
                writer.append(numbers(QUOTES, range(start, start + 3)))
        assert [r.offset for r in read_all(log, QUOTES)] == list(range(30))
        assert log.bounds(*QUOTES) == (0, 30)

    @pytest.mark.parametrize("page", [1, 7, 49, 50, 1000])
    def test_pages_join(self, log: EventLog, page: int) -> None:
        with log.writer("w") as writer:
            for start in range(0, 50, 10):
                writer.append(numbers(COMMANDS, range(start, start + 10)))
        assert values(read_all(log, COMMANDS, page)) == [b"%d" % n for n in range(50)]

    def test_read_keeps_to_its_bounds(self, log: EventLog) -> None:
        with log.writer("w") as writer:
            writer.append(numbers(QUOTES, range(10)))
        found = {
            (gte, lt): values(log.read(*QUOTES, gte=gte, lt=lt))
            for gte, lt in [(0, None), (3, 6), (9, None), (10, None), (6, 6), (6, 3), (0, 1000)]
        }
        everything = [b"%d" % n for n in range(10)]
        assert found == {
            (0, None): everything,
            (3, 6): everything[3:6],
            (9, None): everything[9:],
            (10, None): [],
            (6, 6): [],
            (6, 3): [],
            (0, 1000): everything,
        }
        assert values(log.read(*QUOTES, gte=2, limit=3)) == everything[2:5]

    def test_append_of_nothing_changes_nothing(self, log: EventLog) -> None:
        with log.writer("w") as writer:
            writer.append([])
        assert log.bounds(*COMMANDS)[0] == log.bounds(*COMMANDS)[1]

    def test_append_is_all_or_nothing(self, log: EventLog) -> None:
        with log.writer("w") as writer:
            writer.append(numbers(COMMANDS, [1]) + numbers(REPORTS, [2]))
            with pytest.raises(LogError):
                writer.append([*numbers(COMMANDS, [3]), *numbers(("orders", 99), [4])])
            assert values(read_all(log, COMMANDS)) == [b"1"]
            writer.append(numbers(COMMANDS, [5]))
        assert values(read_all(log, COMMANDS)) == [b"1", b"5"]
        assert values(read_all(log, REPORTS)) == [b"2"]

    def test_another_reader_sees_what_was_appended(self, log: EventLog, url: str) -> None:
        with open_log(url, read_only=True) as reader, log.writer("w") as writer:
            for n in range(3):
                writer.append(numbers(COMMANDS, [n]))
                assert values(read_all(reader, COMMANDS)) == [b"%d" % m for m in range(n + 1)]

    def test_log_opened_for_reading_has_no_writer(self, log: EventLog, url: str) -> None:
        with open_log(url, read_only=True) as reader, pytest.raises(LogError):
            reader.writer("w")

    def test_log_goes_on_where_it_was_left(self, log: EventLog, url: str) -> None:
        for n in range(3):
            with open_log(url) as again, again.writer("w") as writer:
                writer.append(numbers(COMMANDS, [n]))
        assert values(read_all(log, COMMANDS)) == [b"0", b"1", b"2"]

    # Waiting

    def test_wait_is_true_where_there_is_something(self, log: EventLog) -> None:
        first, end = log.bounds(*COMMANDS)
        with log.writer("w") as writer:
            writer.append(numbers(COMMANDS, [1]))
        assert log.wait({REPORTS: log.bounds(*REPORTS)[1], COMMANDS: end}, 5)
        assert log.wait({COMMANDS: first}, 0)

    def test_wait_is_false_in_the_end(self, log: EventLog) -> None:
        with log.writer("w") as writer:
            writer.append(numbers(COMMANDS, [1]))
        assert not log.wait({COMMANDS: log.bounds(*COMMANDS)[1], QUOTES: 0}, 0.05)
        assert not log.wait({}, 0)

    def test_wait_wakes_for_another_writer(self, log: EventLog, url: str) -> None:
        after = {COMMANDS: log.bounds(*COMMANDS)[1], REPORTS: log.bounds(*REPORTS)[1]}

        def write() -> None:
            with open_log(url) as other, other.writer("other") as writer:
                writer.append(numbers(REPORTS, [1]))

        later = threading.Timer(0.05, write)
        later.start()
        try:
            assert log.wait(after, 30)
            assert values(read_all(log, REPORTS)) == [b"1"]
        finally:
            later.join()

    def test_wait_is_for_records_alone(self, log: EventLog) -> None:
        """What the store puts between records, and aborted appends, are no reason to read."""
        with log.writer("w") as writer:
            writer.append(numbers(COMMANDS, [1]))
            after = read_all(log, COMMANDS)[-1].offset + 1
            assert not log.wait({COMMANDS: after}, 0.05)
            writer.append(numbers(COMMANDS, [2]))
            assert log.wait({COMMANDS: after}, 5)
            assert values(log.read(*COMMANDS, gte=after)) == [b"2"]

    # Following

    def test_follower_gives_each_record_once_and_in_order(self, log: EventLog, url: str) -> None:
        streams = (COMMANDS, REPORTS, QUOTES)
        came: dict[tuple[str, int], list[bytes]] = {stream: [] for stream in streams}
        start = {stream: log.bounds(*stream)[1] for stream in streams}
        with open_log(url) as other, other.writer("w") as writer, log.follow(start) as follower:
            for first in range(0, 120, 40):
                for stream in streams:
                    writer.append(numbers(stream, range(first, first + 40)))
                until = time.monotonic() + 30
                while sum(map(len, came.values())) < 3 * (first + 40) and time.monotonic() < until:
                    for record in follower.take(7, 1):
                        came[record.topic, record.partition].append(record.value)
            assert came == {stream: [b"%d" % n for n in range(120)] for stream in streams}
            assert follower.take(7, 0.3) == []
            assert all(follower.is_at_end(stream) for stream in streams)
            for stream in streams:
                assert log.read(*stream, gte=follower.positions[stream]) == []

    def test_follower_begins_where_it_is_told(self, log: EventLog) -> None:
        with log.writer("w") as writer:
            writer.append(numbers(COMMANDS, range(10)))
        fifth = read_all(log, COMMANDS)[5].offset
        with log.follow({COMMANDS: fifth}) as follower:
            found = follower.take(3, 30)
            assert values(found) == [b"5", b"6", b"7"]
            assert follower.positions == {COMMANDS: found[-1].offset + 1}
            assert not follower.is_at_end(COMMANDS)

    def test_follower_is_given_nothing_that_was_aborted(self, log: EventLog) -> None:
        after = {COMMANDS: log.bounds(*COMMANDS)[1]}
        with log.writer("w") as writer, log.follow(after) as follower:
            with pytest.raises(LogError):
                writer.append([*numbers(COMMANDS, [1]), NewRecord("operator.commands", 99, b"", b"")])
            assert follower.take(10, 0.2) == []

    # Writers

    def test_second_holder_is_refused_and_told_who_holds(self, log: EventLog, url: str) -> None:
        with log.writer("core-0") as writer, open_log(url) as other:
            for opened in (log, other):
                with pytest.raises(WriterBusy) as refused:
                    opened.writer("core-0")
                assert "core-0" in str(refused.value)
                assert "take over" in str(refused.value)
            writer.append(numbers(COMMANDS, [1]))
        assert values(read_all(log, COMMANDS)) == [b"1"]

    def test_closed_writer_lets_go_of_its_id(self, log: EventLog) -> None:
        for n in range(3):
            writer = log.writer("w")
            writer.append(numbers(COMMANDS, [n]))
            writer.close()
            writer.close()
            with pytest.raises(LogError):
                writer.append(numbers(COMMANDS, [99]))
        assert values(read_all(log, COMMANDS)) == [b"0", b"1", b"2"]

    def test_writer_lets_go_when_its_block_fails(self, log: EventLog) -> None:
        def fail() -> None:
            with log.writer("w") as writer:
                writer.append(numbers(COMMANDS, [1]))
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            fail()
        with log.writer("w") as writer:
            writer.append(numbers(COMMANDS, [2]))
        assert values(read_all(log, COMMANDS)) == [b"1", b"2"]

    def test_newer_holder_fences_the_older(self, log: EventLog) -> None:
        old = log.writer("w")
        old.append(numbers(COMMANDS, [1]))
        with log.writer("w", take_over=True) as new:
            for _ in range(2):
                with pytest.raises(WriterFenced):
                    old.append(numbers(COMMANDS, [99]))
            old.close()
            with pytest.raises(WriterBusy):
                log.writer("w")
            new.append(numbers(COMMANDS, [2]))
        assert values(read_all(log, COMMANDS)) == [b"1", b"2"]

    def test_living_process_holds_until_it_is_taken_over(self, log: EventLog, url: str) -> None:
        with running(HOLD, url, "w") as holder:
            assert said(holder) == "held"
            with pytest.raises(WriterBusy):
                log.writer("w")
            with log.writer("w", take_over=True) as writer:
                writer.append(numbers(COMMANDS, [1]))
                holder.communicate("go on\n")
        assert values(read_all(log, COMMANDS)) == [b"1"]

    def test_killed_process_does_not_hold(self, log: EventLog, url: str) -> None:
        with running(HOLD, url, "w") as holder:
            assert said(holder) == "held"
            os.kill(holder.pid, signal.SIGKILL)
            holder.wait()
            with self.acquired(log, "w") as writer:
                writer.append(numbers(COMMANDS, [1]))
        assert values(read_all(log, COMMANDS)) == [b"1"]

    def test_killed_process_that_nobody_waited_for_does_not_hold(self, log: EventLog, url: str) -> None:
        with running(HOLD, url, "w") as holder:
            assert said(holder) == "held"
            os.kill(holder.pid, signal.SIGKILL)
            assert said(holder) == ""  # its end of the pipe is closed: it has ended
            os.waitid(os.P_PID, holder.pid, os.WEXITED | os.WNOWAIT)
            self.acquired(log, "w").close()

    def test_writers_of_several_ids_share_partitions(self, log: EventLog) -> None:
        with log.writer("a") as a, log.writer("b") as b:
            for n in range(20):
                (a if n % 3 else b).append(numbers(COMMANDS, [n]) + numbers(QUOTES, [n]))
        for stream in (COMMANDS, QUOTES):
            assert values(read_all(log, stream)) == [b"%d" % n for n in range(20)]
        self.seal_rest(log)
        report = check_seals(log)
        assert (report.faults, report.unsealed) == ([], 0)

    def test_writers_at_the_same_time_keep_their_order(self, log: EventLog, url: str) -> None:
        def write(name: bytes) -> None:
            with open_log(url) as mine, mine.writer(name.decode()) as writer:
                for start in range(0, 300, 20):
                    writer.append(numbers(COMMANDS, range(start, start + 20), name))

        threads = [threading.Thread(target=write, args=(name,)) for name in (b"a", b"b", b"c")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        records = read_all(log, COMMANDS)
        assert len(records) == 900
        for name in (b"a", b"b", b"c"):
            assert [r.value for r in records if r.key == name] == [b"%d" % n for n in range(300)]
        self.seal_rest(log)
        report = check_seals(log)
        assert (report.faults, report.unsealed) == ([], 0)

    def test_kill_leaves_whole_appends_and_loses_none_that_was_acknowledged(
        self, log: EventLog, url: str
    ) -> None:
        start, chance = 0, random.Random(1)
        for _ in range(5):
            acknowledged = []
            with running(APPEND, url, str(start)) as appending:
                acknowledged.append(int(said(appending)))
                time.sleep(chance.random() / 5)
                appending.kill()
                assert appending.stdout is not None
                acknowledged += [int(line) for line in appending.stdout if line.endswith("\n")]
            self.acquired(log, "killed").close()
            written = values(read_all(log, COMMANDS))
            assert written == values(read_all(log, REPORTS))
            start = 1 + int(written[-1].split(b":")[0])
            assert start > acknowledged[-1]
        sizes = [(batch, 1 + 700 * (batch % 3)) for batch in range(start)]
        assert written == [b"%d:%d" % (batch, n) for batch, size in sizes for n in range(size)]
        self.seal_rest(log)
        report = check_seals(log)
        assert (report.faults, report.sealed, report.unsealed) == ([], 2 * len(written), 0)

    # Heads and fingerprints

    def test_heads_are_the_rolled_digests(self, log: EventLog) -> None:
        with log.writer("w") as writer:
            for start in range(0, 9000, 1500):
                writer.append(numbers(QUOTES, range(start, start + 1500)))
            writer.append(numbers(COMMANDS, range(10)))
        kept = heads(log)
        assert kept["log"] == "test"
        for stream in (QUOTES, COMMANDS):
            records = read_all(log, stream)
            assert kept["heads"]["{}/{}".format(*stream)] == {
                "next": records[-1].offset + 1,
                "count": len(records),
                "digest": rolled_digest([(r.key, r.value) for r in records]),
            }

    def test_log_that_has_grown_has_its_heads(self, log: EventLog) -> None:
        kept = heads(log)
        for n in range(3):
            with log.writer("w") as writer:
                writer.append(numbers(QUOTES, range(5000 * n, 5000 * n + 5000)))
            assert check_heads(log, kept) == []
            kept = heads(log)
        assert check_heads(log, kept) == []

    def test_head_ahead_of_its_log_is_a_truncated_tail(self, log: EventLog) -> None:
        with log.writer("w") as writer:
            writer.append(numbers(QUOTES, range(10)))
        kept = heads(log)
        kept["heads"]["market.quotes/2"] |= {"next": 12, "count": 12}
        (fault,) = check_heads(log, kept)
        assert (fault.topic, fault.partition, fault.next) == ("market.quotes", 2, 12)
        assert "truncated" in fault.reason

    def test_heads_of_another_log_are_refused(self, log: EventLog) -> None:
        with pytest.raises(LogError, match="another"):
            check_heads(log, heads(log) | {"log": "another"})

    def test_fingerprint_is_of_decisions_whatever_the_appends(self, log: EventLog, tmp_path: Path) -> None:
        (tmp_path / "other").mkdir()
        orders = numbers(("orders", 1), range(100))
        with log.writer("w") as writer:
            writer.append(orders)
        with create_log(self.new_url(tmp_path / "other"), replace(SPEC, id="other")) as other:
            with other.writer("x") as writer:
                writer.append(numbers(QUOTES, [1]))
                for record in orders[:-1]:
                    writer.append([record])
                assert fingerprint(other) != fingerprint(log)
                writer.append(orders[-1:])
            assert fingerprint(other) == fingerprint(log)

    # An importer's position

    def test_last_rows_of_a_source(self, log: EventLog) -> None:
        def beat(source: str, row: int, partition: int) -> NewRecord:
            return new_record(Heartbeat(ts=row, source=source, row=row), partition, "*")

        with log.writer("w") as writer:
            writer.append([beat("mine", row, row % 2) for row in range(1, 6)])
            writer.append([NewRecord("market.status", 0, b"*", b'{"source":"mine"')])
            writer.append([beat("theirs", row, 0) for row in range(1, 2501)])
        assert last_rows(log, "mine") == {("market.status", 0): 4, ("market.status", 1): 5}
        assert last_rows(log, "theirs") == {("market.status", 0): 2500}
        assert last_rows(log, "nobody") == {}
