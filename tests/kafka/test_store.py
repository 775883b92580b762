"""The store on Kafka: the suite of every store, and what is Kafka's own."""

from __future__ import annotations

import gc
import os
import random
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic

from eventlog import LogSpec, create_log, open_log
from eventlog.errors import LogError, LogMismatch, LogNotFound, WriterBusy, WriterFenced
from eventlog.kafka import broker as kafka
from eventlog.kafka.membership import SESSION_S
from eventlog.kafka.writer import QUEUED_MAX
from schemas import NewRecord
from support.log_suite import COMMANDS, QUOTES, SPEC, LogSuite, numbers, read_all, running, said, values

pytestmark = pytest.mark.kafka


def name(broker: kafka.Broker) -> str:
    return f"kafka://{broker.address}/t{uuid.uuid4().hex[:12]}"


class TestKafka(LogSuite):
    release_s = 12.0
    seals_later = True

    @pytest.fixture(autouse=True)
    def _broker(self, broker: kafka.Broker) -> None:
        self.broker = broker

    def new_url(self, folder: Path) -> str:
        return name(self.broker)


def test_logs_stand_side_by_side_on_one_broker(broker: kafka.Broker) -> None:
    with create_log(name(broker), SPEC) as one, create_log(name(broker), LogSpec("other", "wall")) as two:
        with one.writer("w") as writer:
            writer.append(numbers(COMMANDS, range(3)))
        assert values(read_all(one, COMMANDS)) == [b"0", b"1", b"2"]
        assert read_all(two, COMMANDS) == []


def test_holes_of_markers_and_aborted_records_are_passed_over(broker: kafka.Broker) -> None:
    url = name(broker)
    with create_log(url, SPEC) as log:
        with log.writer("w") as writer:
            writer.append(numbers(COMMANDS, [1]))
            writer.append(numbers(COMMANDS, [2]))
        topic = url.rpartition("/")[2] + ".operator.commands"
        aborted = Producer({"bootstrap.servers": broker.address, "transactional.id": "somebody"})
        aborted.init_transactions(10)
        aborted.begin_transaction()
        aborted.produce(topic, value=b"never", partition=0)
        aborted.flush(10)
        aborted.abort_transaction(10)
        records = read_all(log, COMMANDS)
        assert values(records) == [b"1", b"2"]
        first, end = log.bounds(*COMMANDS)
        assert end - first > len(records)
        assert log.read(*COMMANDS, gte=records[-1].offset + 1) == []


def test_partition_counts_that_differ_are_refused(broker: kafka.Broker) -> None:
    url = name(broker)
    create_log(url, SPEC).close()
    topic = url.rpartition("/")[2] + ".pnl"
    admin = AdminClient({"bootstrap.servers": broker.address})
    for made in admin.create_partitions([NewPartitions(topic, 5)]).values():
        made.result()
    time.sleep(0.5)
    with pytest.raises(LogMismatch, match=r"pnl has 5 partitions, not 2"):
        open_log(url)


@pytest.mark.parametrize("url", ["kafka://127.0.0.1:9/", "kafka:x", "kafka://host/name", "kafka://h:1/a b"])
def test_names_that_are_none(url: str) -> None:
    with pytest.raises(LogError, match="kafka://HOST:PORT/NAME"):
        open_log(url)


def test_a_broker_that_does_not_answer_and_a_log_that_is_not_there(broker: kafka.Broker) -> None:
    with pytest.raises(LogNotFound, match="there is no log"):
        open_log(name(broker))


KILLED = """
import os, sys
from eventlog import open_log
from schemas import NewRecord

log = open_log(sys.argv[1])
writer = log.writer("w")
writer.append([NewRecord("operator.commands", 0, b"", b"whole")])
producer = writer._transactional
producer.begin_transaction()
writer._produce(producer, [NewRecord("operator.commands", 0, b"", b"half")], 0)
producer.flush(10)
print("open", flush=True)
sys.stdin.readline()
"""


def test_a_writer_killed_in_a_transaction_leaves_nothing_of_it(broker: kafka.Broker) -> None:
    """Its successor's first append fences it, and readers go on."""
    url = name(broker)
    with create_log(url, SPEC) as log:
        child = subprocess.Popen(
            [sys.executable, "-c", KILLED, url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert child.stdout is not None
        assert child.stdout.readline() == "open\n"
        child.send_signal(signal.SIGKILL)
        child.wait()
        with log.writer("w", take_over=True) as writer:
            writer.append([NewRecord("operator.commands", 0, b"", b"next")])
        assert [r.value for r in read_all(log, COMMANDS)] == [b"whole", b"next"]


STEADY = """
import sys
from eventlog import open_log
from schemas import NewRecord

writer = open_log(sys.argv[1]).writer("w")
n = 0
try:
    while True:
        writer.append([NewRecord("market.quotes", 0, b"old", b"%d" % n)])
        writer.append([NewRecord("operator.commands", 0, b"old", b"%d" % n)])
        n += 1
        if n == 5:
            print("appending", flush=True)
except Exception as problem:
    print(type(problem).__name__, flush=True)
"""


@pytest.mark.parametrize("chance", [1, 2, 3])
def test_a_process_that_stood_still_and_was_followed_writes_nothing_more(
    broker: kafka.Broker, chance: int
) -> None:
    """Wherever it was stopped: about to check its id, producing, sending or committing."""
    url = name(broker)
    with create_log(url, SPEC) as log, running(STEADY, url) as old:
        assert said(old) == "appending"
        time.sleep(random.Random(chance).random() / 20)
        old.send_signal(signal.SIGSTOP)
        with log.writer("w", take_over=True) as writer:
            writer.append([NewRecord(*COMMANDS, b"new", b"")])
            writer.append([NewRecord("market.quotes", 0, b"new", b"")])
            old.send_signal(signal.SIGCONT)
            assert said(old) == "WriterFenced"
            old.wait()
            writer.append([NewRecord(*COMMANDS, b"new", b""), NewRecord("market.quotes", 0, b"new", b"")])
        for stream in (COMMANDS, ("market.quotes", 0)):
            assert [r.key for r in read_all(log, stream)][-3:] == [b"old", b"new", b"new"]


FEEDING = STEADY.replace('"operator.commands"', '"market.trades"').replace(
    "n += 1", "n += 1; time.sleep(0.1)"
)


def test_a_market_writer_that_stood_still_for_long_does_not_come_back(broker: kafka.Broker) -> None:
    """Its session has ended when it wakes up: it must not join again, and fence who has followed it."""
    url = name(broker)
    with create_log(url, SPEC) as log, running("import time\n" + FEEDING, url) as old:
        assert said(old) == "appending"
        old.send_signal(signal.SIGSTOP)
        with log.writer("w", take_over=True) as writer:
            writer.append([NewRecord("market.quotes", 0, b"new", b"1")])
            time.sleep(2)
            old.send_signal(signal.SIGCONT)
            assert said(old) == "WriterFenced"
            old.wait()
            writer.append([NewRecord("market.quotes", 0, b"new", b"2")])
        assert [r.key for r in read_all(log, ("market.quotes", 0))][-3:] == [b"old", b"new", b"new"]


STANDING = """
import os, signal, sys
from eventlog import open_log
from schemas import NewRecord

writer = open_log(sys.argv[1]).writer("w")
for n in range(4):
    topics = "market.quotes", "operator.commands"
    writer.append([NewRecord(topic, 0, b"", b"%d" % n) for topic in topics])
    if n == 1:
        print("standing", flush=True)
        os.kill(os.getpid(), signal.SIGSTOP)
print("went on", flush=True)
"""


def test_a_writer_that_stood_still_for_long_and_was_not_followed_goes_on(broker: kafka.Broker) -> None:
    """As after a restart of the broker, which too hears nothing of it for longer than its session."""
    url = name(broker)
    with create_log(url, SPEC) as log, running(STANDING, url) as writer:
        assert said(writer) == "standing"
        time.sleep(SESSION_S + 4)
        writer.send_signal(signal.SIGCONT)
        assert said(writer) == "went on"
        for stream in (("market.quotes", 0), COMMANDS):
            assert [r.value for r in read_all(log, stream)] == [b"0", b"1", b"2", b"3"]


ELSEWHERE = """
import sys
from eventlog.kafka import membership
from eventlog import open_log

membership._here = lambda: "another machine"
writer = open_log(sys.argv[1]).writer("w")
print("held", flush=True)
sys.stdin.readline()
"""


def test_a_holder_on_another_machine_is_known_by_its_session(broker: kafka.Broker) -> None:
    """Its process cannot be looked up: it is refused while its session lives, and followed after."""
    url = name(broker)
    with create_log(url, SPEC) as log:
        with running(ELSEWHERE, url) as holder:
            assert said(holder) == "held"
            with pytest.raises(WriterBusy, match="take over"):
                log.writer("w")
            holder.kill()
            holder.wait()
            with log.writer("w") as writer:
                writer.append(numbers(COMMANDS, [1]))
        assert values(read_all(log, COMMANDS)) == [b"1"]


def test_a_record_that_is_too_large_is_refused_before_anything_is_written(broker: kafka.Broker) -> None:
    with create_log(name(broker), SPEC) as log, log.writer("w") as writer:
        for stream in (COMMANDS, QUOTES):
            with pytest.raises(LogError, match="too large"):
                writer.append([*numbers(stream, [1]), NewRecord(*stream, b"", bytes(9_000_000))])
            largest = NewRecord(*stream, b"", random.Random(1).randbytes(8 * 1024 * 1024 - 1024))
            writer.append([largest, *numbers(stream, [2])])
            assert values(read_all(log, stream)) == [largest.value, b"2"]


def test_an_append_that_fails_half_way_is_not_there_and_holds_up_no_reader(broker: kafka.Broker) -> None:
    class Interrupting(list[NewRecord]):
        """Records whose reading is interrupted when some are on their way."""

        def __iter__(self) -> Iterator[NewRecord]:
            yield from list.__getitem__(self, slice(50_000))
            raise KeyboardInterrupt

    with create_log(name(broker), SPEC) as log:
        writer = log.writer("w")
        with pytest.raises(KeyboardInterrupt):
            writer._append_transaction(Interrupting(numbers(COMMANDS, range(60_000))))  # type: ignore[attr-defined]
        writer.close()
        with log.writer("other") as other:
            other.append(numbers(COMMANDS, [1]))
        assert values(read_all(log, COMMANDS)) == [b"1"]


def test_more_than_the_producer_queues_is_appended_and_read_in_pages_of_any_size(
    broker: kafka.Broker,
) -> None:
    count = QUEUED_MAX + 10_000
    expected = [b"%d" % n for n in range(count)]
    with create_log(name(broker), SPEC) as log:
        with log.writer("w") as writer:
            writer.append(numbers(COMMANDS, range(count)))
            writer.append(numbers(QUOTES, range(count)))
        assert log.bounds(*QUOTES) == (0, count)
        for page in (997, 5000, count):
            assert values(read_all(log, COMMANDS, page)) == expected
            assert values(read_all(log, QUOTES, page)) == expected
        for at in random.Random(1).sample(range(count), 20):
            assert values(log.read(*QUOTES, gte=at, limit=3)) == expected[at : at + 3]


def test_names_that_begin_alike_are_apart(broker: kafka.Broker) -> None:
    """One log's name and its writer's id, put together, are not those of another."""
    url = name(broker)
    with create_log(url, SPEC) as one, create_log(f"{url}.writer", SPEC) as two:
        with one.writer("writer.w") as first, two.writer("w") as second:
            for n in range(3):
                first.append(numbers(COMMANDS, [n]) + numbers(QUOTES, [n]))
                second.append(numbers(COMMANDS, [10 + n]))
        assert values(read_all(one, COMMANDS)) == [b"0", b"1", b"2"]
        assert values(read_all(two, COMMANDS)) == [b"10", b"11", b"12"]
        assert read_all(two, QUOTES) == []


def test_what_was_cut_off_at_the_front_is_passed_over(broker: kafka.Broker) -> None:
    url = name(broker)
    with create_log(url, SPEC) as log:
        with log.writer("w") as writer:
            writer.append(numbers(QUOTES, range(10)))
        place = TopicPartition(url.rpartition("/")[2] + "." + QUOTES[0], QUOTES[1], 4)
        admin = AdminClient({"bootstrap.servers": broker.address})
        for cut in admin.delete_records([place]).values():
            cut.result()
        assert log.bounds(*QUOTES) == (4, 10)
        assert values(log.read(*QUOTES, gte=0)) == [b"4", b"5", b"6", b"7", b"8", b"9"]


@pytest.mark.parametrize(("counts", "made"), [({"pnl": 2, "log": 1}, True), ({"pnl": 7}, False)])
def test_a_creation_that_was_killed_is_made_whole_or_refused(
    broker: kafka.Broker, counts: dict[str, int], made: bool
) -> None:
    url = name(broker)
    new = [NewTopic(f"{url.rpartition('/')[2]}.{topic}", count) for topic, count in counts.items()]
    admin = AdminClient({"bootstrap.servers": broker.address})
    for topic in admin.create_topics(new).values():
        topic.result()
    while not {t.topic for t in new} <= set(admin.list_topics(timeout=10).topics):
        time.sleep(0.05)
    with pytest.raises(LogNotFound):
        open_log(url)
    if made:
        with create_log(url, SPEC) as log, log.writer("w") as writer:
            writer.append(numbers(("pnl", 1), [1]))
    else:
        with pytest.raises(LogMismatch, match=r"pnl has 7 partitions, not 2; delete .* or name another"):
            create_log(url, SPEC)
        with pytest.raises(LogNotFound):
            open_log(url)


def test_opening_and_closing_leaves_no_thread_and_no_file(broker: kafka.Broker) -> None:
    def used() -> tuple[int, int]:
        gc.collect()
        return len(os.listdir("/proc/self/task")), len(os.listdir("/proc/self/fd"))

    def once() -> None:
        with open_log(url) as log, log.writer("w") as writer:
            writer.append(numbers(COMMANDS, [1]) + numbers(QUOTES, [1]))
            read_all(log, COMMANDS)
            with pytest.raises(WriterBusy):
                log.writer("w")
            assert log.wait({QUOTES: 0}, 5)

    url = name(broker)
    create_log(url, SPEC).close()
    once()
    before = used()
    for _ in range(8):
        once()
    until = time.monotonic() + 10
    while (after := used()) > before and time.monotonic() < until:
        time.sleep(0.1)
    assert after <= before


def test_a_broker_that_goes_ends_the_writer_and_not_the_reader(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The error says what to do, librdkafka says nothing; the reader goes on when the broker is back."""
    started = kafka.start(tmp_path / "kafka")
    try:
        url = name(started)
        with create_log(url, SPEC) as log:
            writer = log.writer("w")
            writer.append(numbers(COMMANDS, range(10)) + numbers(QUOTES, range(10)))
            assert values(log.read(*COMMANDS, gte=0, limit=5)) == [b"%d" % n for n in range(5)]
            kafka.kill(started, signal.SIGKILL)
            with pytest.raises(LogError, match=r"see that .* runs.* start again"):
                writer.append(numbers(COMMANDS, [10]))
            with pytest.raises(WriterFenced, match="has ended"):
                writer.append(numbers(COMMANDS, [11]))
            kafka.start(tmp_path / "kafka")
            assert values(read_all(log, COMMANDS)) == [b"%d" % n for n in range(10)]
            with log.writer("w") as again:
                again.append(numbers(COMMANDS, [10]) + numbers(QUOTES, [10]))
            assert values(read_all(log, COMMANDS)) == [b"%d" % n for n in range(11)]
            assert values(read_all(log, QUOTES)) == [b"%d" % n for n in range(11)]
    finally:
        kafka.stop(tmp_path / "kafka")
    assert "rdkafka" not in "".join(capfd.readouterr())


def test_what_was_acknowledged_survives_the_brokers_kill(tmp_path: Path) -> None:
    """A broker of its own: killed at once after what it acknowledged, and started again over its data."""
    started = kafka.start(tmp_path / "kafka")
    try:
        url = name(started)
        create_log(url, SPEC).close()
        done: list[int] = []
        for round_ in range(3):
            with open_log(url) as log, log.writer("w", take_over=True) as writer:
                for n in range(round_ * 10, round_ * 10 + 10):
                    writer.append([*numbers(COMMANDS, [n]), *numbers(("market.quotes", 0), [n])])
                    done.append(n)
            kafka.kill(started, signal.SIGKILL)
            started = kafka.start(tmp_path / "kafka")
        with open_log(url) as log:
            assert values(read_all(log, COMMANDS)) == [b"%d" % n for n in done]
            assert values(read_all(log, ("market.quotes", 0))) == [b"%d" % n for n in done]
    finally:
        kafka.stop(tmp_path / "kafka")
    assert kafka.status(tmp_path / "kafka") is None
