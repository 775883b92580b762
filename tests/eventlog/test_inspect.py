"""Looking into a log made by hand: counts, times, seals, what cannot be read, order, places."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from eventlog import EventLog, LogSpec, create_log, inspect, open_log
from eventlog.errors import NotInLog
from eventlog.inspect import Times
from schemas import Heartbeat, NewRecord, Unreadable, encode, new_record
from support.market import at, quote

SPEC = LogSpec("test", "data", account_partitions=2, market_partitions=3)
QUOTES = "market.quotes"
BROKEN = b'{"type":'
FUTURE = b'{"type":"Quote","v":99,"ts":1}'


def quoted(partition: int, *clocks: str) -> list[NewRecord]:
    return [new_record(quote(at(clock), 10, 11), partition, "SPY") for clock in clocks]


@pytest.fixture
def log(tmp_path: Path) -> Iterator[EventLog]:
    with create_log(f"sqlite:{tmp_path}/log.sqlite", SPEC) as made:
        yield made


def write(log: EventLog, *records: NewRecord) -> None:
    with log.writer("w") as writer:
        writer.append(records)


# ------------------------------------------------------------ what a topic holds


def test_glance_and_count_agree_where_offsets_have_no_holes(log: EventLog) -> None:
    write(log, *quoted(1, "09:31", "09:32", "09:33"))
    times = Times(at("09:31"), at("09:33"), "event")
    glanced, counted = inspect.glance(log, QUOTES, 1), inspect.count(log, QUOTES, 1)
    assert (glanced.records, glanced.times, glanced.unreadable) == (3, times, None)
    assert (counted.records, counted.times, counted.unreadable) == (3, times, 0)
    assert counted.types == {"Quote": 3}
    empty = inspect.count(log, QUOTES, 0)
    assert (empty.first, empty.next, empty.records, empty.times, empty.unsealed) == (0, 0, 0, None, 0)


def test_what_cannot_be_read_is_counted_and_the_first_is_named(log: EventLog) -> None:
    bad = [NewRecord(QUOTES, 1, b"SPY", value) for value in (BROKEN, FUTURE, b"")]
    write(log, *bad, *quoted(1, "09:31"), *bad)
    seen = inspect.count(log, QUOTES, 1)
    assert (seen.records, seen.unreadable, seen.types) == (7, 6, {"Quote": 1})
    assert seen.first_unreadable is not None
    assert seen.first_unreadable.place == "market.quotes/1/0"
    one = Times(at("09:31"), at("09:31"), "event")
    assert seen.times == inspect.glance(log, QUOTES, 1).times == one


def test_events_without_a_time_show_that_of_writing(log: EventLog) -> None:
    write(log, *quoted(0, "09:31"), NewRecord("broker.reports", 0, b"", BROKEN))
    for topic in ("seals", "broker.reports"):
        first = log.read(topic, 0, gte=0)[0].timestamp
        for seen in (inspect.glance(log, topic, 0), inspect.count(log, topic, 0)):
            assert seen.times is not None
            assert (seen.times.first, seen.times.of) == (first, "writing")


def test_times_of_partitions_together() -> None:
    event, writing = Times(5, 9, "event"), Times(90, 99, "writing")
    assert inspect.span([Times(3, 4, "event"), None, event, writing]) == Times(3, 9, "event")
    assert inspect.span([writing, None]) == writing
    assert inspect.span([None]) is None


def test_what_is_not_sealed_yet(log: EventLog) -> None:
    write(log, *quoted(0, "09:31", "09:32"))  # closing seals
    writer = log.writer("w")
    writer.append(quoted(0, "09:33", "09:34", "09:35"))
    seals = inspect.last_seals(log)
    seen = inspect.count(log, QUOTES, 0, seals)
    assert (seen.sealed, seen.unsealed) == (2, 3)
    writer.close()
    seen = inspect.count(log, QUOTES, 0, inspect.last_seals(log))
    assert (seen.sealed, seen.unsealed) == (5, 0)
    assert inspect.count(log, "seals", 0, inspect.last_seals(log)).unsealed == 0
    assert inspect.count(log, QUOTES, 1, inspect.last_seals(log)).sealed is None


def test_progress_ends_at_the_end(log: EventLog) -> None:
    write(log, *(NewRecord(QUOTES, 0, b"k", b"%d" % n) for n in range(2 * inspect.PAGE + 5)))
    done: list[int] = []
    seen = inspect.count(log, QUOTES, 0, progress=done.append)
    assert done == [inspect.PAGE, 2 * inspect.PAGE, seen.records]


# ------------------------------------------------------------ the last, and what follows


def test_last_is_by_event_time_over_partitions(log: EventLog) -> None:
    write(log, *quoted(0, "09:31", "09:34", "09:36"), *quoted(1, "09:32", "09:35"), *quoted(2, "09:33"))
    streams = inspect.streams_named(log, QUOTES)
    for count in range(8):
        records, ends = inspect.last(log, streams, count)
        due = ["09:31", "09:32", "09:33", "09:34", "09:35", "09:36"][max(0, 6 - count) :]
        assert [inspect.event_time(r) for r in records] == [at(clock) for clock in due]
        assert ends == {(QUOTES, 0): 3, (QUOTES, 1): 2, (QUOTES, 2): 1}


def test_last_of_any_number_is_a_tail_of_all(log: EventLog) -> None:
    write(log, *itertools.chain.from_iterable(quoted(n % 3, f"09:{n % 50:02}") for n in range(60)))
    streams = inspect.streams_named(log, f"{QUOTES}/1")
    everything = [r.offset for r in log.read(QUOTES, 1, gte=0)]
    for count in (1, 7, 19, 20, 21, 500):
        records, _ = inspect.last(log, streams, count)
        assert [r.offset for r in records] == everything[-count:]


def test_what_has_no_time_stays_with_the_record_before_it(log: EventLog) -> None:
    write(log, *quoted(0, "09:31"), NewRecord(QUOTES, 0, b"SPY", BROKEN), *quoted(0, "09:35"))
    write(log, *quoted(1, "09:30", "09:33"))
    records, _ = inspect.last(log, inspect.streams_named(log, QUOTES), 10)
    places = [(r.partition, r.offset) for r in records]
    assert places == [(1, 0), (0, 0), (0, 1), (1, 1), (0, 2)]
    assert isinstance(records[2].event, Unreadable)


def test_follow_gives_what_is_appended_once(log: EventLog) -> None:
    write(log, *quoted(0, "09:31"))
    _, ends = inspect.last(log, inspect.streams_named(log, QUOTES), 10)
    with open_log(log.url, read_only=True) as reader, log.writer("w") as writer:
        following = inspect.follow(reader, ends)
        writer.append(quoted(1, "09:33") + quoted(0, "09:32"))
        assert [r.place for r in next(following)] == ["market.quotes/0/1", "market.quotes/1/0"]
        writer.append([new_record(Heartbeat(ts=at("09:34"), source="s", row=1), 0, "*")])  # another topic
        writer.append(quoted(2, "09:35"))
        assert [r.place for r in next(following)] == ["market.quotes/2/0"]


# ------------------------------------------------------------ places


def test_one_record(log: EventLog) -> None:
    write(log, *quoted(2, "09:31", "09:32"))
    record = inspect.record_named(log, "market.quotes/2/1")
    assert (record.place, record.key) == ("market.quotes/2/1", b"SPY")
    assert record.value == encode(quote(at("09:32"), 10, 11))
    assert inspect.identity(record) == "market.quotes/2/1"


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("market.quotes/0/0", "there is no record market.quotes/0/0: market.quotes/0 is empty"),
        ("market.quotes/1/2", "there is no record market.quotes/1/2: market.quotes/1 has offsets 0 to 1"),
        ("market.quote/1/0", "there is no topic 'market.quote'; did you mean market.quotes?"),
        ("market.quotes/3/0", "there is no partition market.quotes/3; market.quotes has partitions 0 to 2"),
        ("seals/1/0", "there is no partition seals/1; seals has one partition, 0"),
        ("market.quotes/1/-1", "'market.quotes/1/-1' is neither TOPIC/PARTITION/OFFSET"),
        ("market.quotes/1", "'market.quotes/1' is neither TOPIC/PARTITION/OFFSET"),
        ("market.quotes/1/٣", "is neither TOPIC/PARTITION/OFFSET"),
        ("", "'' is neither TOPIC/PARTITION/OFFSET"),
        ("market.quotes/1/999999999999999999", "has offsets 0 to 1"),
    ],
)
def test_places_without_a_record(log: EventLog, place: str, said: str) -> None:
    write(log, *quoted(1, "09:31", "09:32"))
    with pytest.raises(NotInLog) as problem:
        inspect.record_named(log, place)
    assert said in str(problem.value)


def test_streams_by_name(log: EventLog) -> None:
    assert inspect.streams_named(log, "market.quotes") == [(QUOTES, 0), (QUOTES, 1), (QUOTES, 2)]
    assert inspect.streams_named(log, "market.quotes/2") == [(QUOTES, 2)]
    for wrong in ("market.quotes/2/1", "market.quotes/x", "market.quotes/3", "xyzzy"):
        with pytest.raises(NotInLog):
            inspect.streams_named(log, wrong)
