"""Records a second into the log on Kafka and out of it, beside bare confluent-kafka loops.

One broker of its own serves both; as one broker must, it flushes before it acknowledges. Values are
encoded quotes. The bare loops have the log's settings but for a linger of 20 ms, and do nothing else:
no fencing, no ends asked for, no records made. Both wait for each batch to be acknowledged; a third
loop produces without waiting. Both read in pages of 5,000 and decode each value.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from confluent_kafka import OFFSET_BEGINNING, Producer, TopicPartition

from benchmarks.store import TOPIC, Figure, best, quotes
from eventlog import LogSpec, create_log, open_log
from eventlog.contract import EventLog
from eventlog.kafka import broker
from eventlog.kafka.client import consumer
from schemas import NewRecord, decode

RECORDS = 200_000
PAGE = 5000
CORE = ("signals", "orders", "positions")
"""Topics of one transaction."""
SERIAL = count(1)
Batches = Sequence[Sequence[NewRecord]]


def run() -> list[Figure]:
    """Append and read rates of the log and of the bare loops, and their ratios."""
    records = quotes(RECORDS)
    core = [NewRecord(CORE[n % len(CORE)], 0, b"account", r.value) for n, r in enumerate(records)]
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory(prefix="tape-bench-") as folder:
        address = broker.start(Path(folder)).address
        try:
            for size in (10_000, 2000):
                figures += append(address, f"market, batches of {size:,}", in_batches(records, size))
                figures += append(address, f"core, transactions of {size:,}", in_batches(core, size))
            streamed = best(lambda: produce_bare(address, [records], wait=False))
            figures.append(("market, bare, not waiting for batches", streamed, "records/s"))
            figures += read(address, records)
        finally:
            broker.stop(Path(folder))
    return [(f"Kafka: {name}", value, unit) for name, value, unit in figures]


def append(address: str, name: str, batches: Batches) -> list[Figure]:
    """Appending, by the log and bare."""
    bare_loop = transact_bare if batches[0][0].topic in CORE else produce_bare
    log = best(lambda: append_log(address, batches))
    bare = best(lambda: bare_loop(address, batches))
    return compared(f"append, {name}", log, bare)


def read(address: str, records: Sequence[NewRecord]) -> list[Figure]:
    """Reading with decoding, by the log and bare."""
    with a_log(address) as log:
        with log.writer("bench") as writer:
            for batch in in_batches(records, 10_000):
                writer.append(batch)
        name = f"{log.url.rpartition('/')[2]}.{TOPIC}"
        return compared(
            f"read and decode, pages of {PAGE:,}",
            best(lambda: read_log(log)),
            best(lambda: read_bare(address, name)),
        )


def compared(name: str, log: float, bare: float) -> list[Figure]:
    """Three rows."""
    return [
        (name, log, "records/s"),
        (f"{name}, bare confluent-kafka", bare, "records/s"),
        ("log / bare", log / bare, "ratio"),
    ]


def in_batches(records: Sequence[NewRecord], size: int) -> Batches:
    """Cut into batches."""
    return [records[start : start + size] for start in range(0, len(records), size)]


@contextmanager
def a_log(address: str) -> Iterator[EventLog]:
    """A new log of one partition a topic."""
    with create_log(f"kafka://{address}/bench{next(SERIAL)}", LogSpec("bench", "data", 1, 1)) as log:
        yield log


def append_log(address: str, batches: Batches) -> float:
    """Records a second; the writer's first append, which connects, is not counted."""
    with a_log(address) as log, log.writer("bench") as writer:
        writer.append(batches[0][:3])
        started = time.perf_counter()
        for batch in batches:
            writer.append(batch)
        return sum(map(len, batches)) / (time.perf_counter() - started)


def producer(address: str, **more: str) -> Producer:
    """A producer with the log's settings."""
    return Producer(
        {
            "bootstrap.servers": address,
            "acks": "all",
            "enable.idempotence": True,
            "linger.ms": 20,
            "compression.type": "lz4",
            "batch.num.messages": 10_000,
            "batch.size": 1_000_000,
            "queue.buffering.max.messages": 1_000_000,
            "retry.backoff.ms": 1,
            "retry.backoff.max.ms": 10,
        }
        | more
    )


def produce_bare(address: str, batches: Batches, wait: bool = True) -> float:
    """Records a second, each batch acknowledged before the next unless `wait` is false."""
    with a_log(address) as log:
        made = producer(address)
        topic = f"{log.url.rpartition('/')[2]}.{TOPIC}"
        made.produce(topic, b"", partition=0)
        made.flush()
        started = time.perf_counter()
        for batch in batches:
            for record in batch:
                made.produce(topic, record.value, record.key, 0)
            if wait:
                made.flush()
        made.flush()
        return sum(map(len, batches)) / (time.perf_counter() - started)


def transact_bare(address: str, batches: Batches) -> float:
    """Records a second, a transaction for each batch."""
    with a_log(address) as log:
        name = log.url.rpartition("/")[2]
        made = producer(address, **{"transactional.id": f"{name}-bare"})
        made.init_transactions()
        started = time.perf_counter()
        for batch in batches:
            made.begin_transaction()
            for record in batch:
                made.produce(f"{name}.{record.topic}", record.value, record.key, 0)
            made.commit_transaction()
        return sum(map(len, batches)) / (time.perf_counter() - started)


def read_log(log: EventLog) -> float:
    """Records a second, read in pages and decoded, by a reader that was just opened."""
    with open_log(log.url, read_only=True) as reader:
        position, end = reader.bounds(TOPIC, 0)
        started = time.perf_counter()
        while records := reader.read(TOPIC, 0, gte=position, limit=PAGE):
            for record in records:
                decode(TOPIC, record.value)
            position = records[-1].offset + 1
        assert position == end
        return end / (time.perf_counter() - started)


def read_bare(address: str, topic: str) -> float:
    """Records a second, consumed and decoded, by a consumer that was just made, of the log's settings."""
    reader = consumer(address, "bare")
    end = reader.get_watermark_offsets(TopicPartition(topic, 0))[1]
    reader.assign([TopicPartition(topic, 0, OFFSET_BEGINNING)])
    seen, started = 0, time.perf_counter()
    while seen < end:
        messages = [m for m in reader.consume(PAGE, 1) if m.error() is None]  # an end is an error, too
        for message in messages:
            decode(TOPIC, message.value())
        seen += len(messages)
    rate = seen / (time.perf_counter() - started)
    reader.close()
    return rate
