"""The store on Kafka: the suite of every store, and what is Kafka's own."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewPartitions

from eventlog import LogSpec, create_log, open_log
from eventlog.errors import LogError, LogMismatch, LogNotFound
from eventlog.kafka import broker as kafka
from schemas import NewRecord
from support.log_suite import COMMANDS, SPEC, LogSuite, numbers, read_all, values

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
