"""The log on Apache Kafka: named logs side by side on one broker, or a cluster of them.

NAME prefixes topics, groups and transactional ids. Reading is read-committed; positions are the next
offset to read, and an end is the broker's last stable offset: topics written in transactions have
holes, where markers and aborted records stand. Market topics are written idempotently without
transactions, in order per partition; all others of one append in one transaction.

A writer's id is a static membership of the group NAME/writer/ID: it tells whether a holder lives, and
a newer one that takes over fences it; transactions are fenced by their transactional id besides.
"""

from __future__ import annotations

import json
import time as clock
import uuid
from collections import OrderedDict
from collections.abc import Collection, Mapping
from types import TracebackType
from typing import Literal, Self, cast

from confluent_kafka import OFFSET_BEGINNING, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from eventlog.contract import LogSpec, Stream
from eventlog.errors import LogError, LogExists, LogMismatch, LogNotFound
from eventlog.kafka.client import (
    ANSWER_S,
    POLL_S,
    RECORD_MAX,
    consumer,
    ends,
    partition_counts,
    settings,
    split_url,
    watermarks,
)
from eventlog.kafka.cursor import Cursor
from eventlog.kafka.follower import KafkaFollower
from eventlog.kafka.membership import AHEAD_MAX_S, DELAY_MAX_S, Membership
from eventlog.kafka.writer import TRANSACTION_S, KafkaWriter
from schemas import TOPICS, Record

__all__ = ["KafkaLog", "split_url"]

LAYOUT = "1"
CURSORS = 40
SETTLE_S = TRANSACTION_S + 2
SETTLE_POLL_S = 0.002
END = 1 << 62

TOPIC_CONFIG = {
    "retention.ms": "-1",
    "retention.bytes": "-1",
    "cleanup.policy": "delete",
    "message.timestamp.type": "CreateTime",
    "max.message.bytes": str(RECORD_MAX),
}
MARKET_CONFIG = TOPIC_CONFIG | {
    "message.timestamp.before.max.ms": str(int(DELAY_MAX_S * 1000)),
    "message.timestamp.after.max.ms": str(int(AHEAD_MAX_S * 1000)),
}


class KafkaLog:
    """A log on Kafka; see `eventlog.contract.EventLog`. For one thread at a time."""

    dense = False

    def __init__(self, url: str, *, read_only: bool = False) -> None:
        """Open an existing log. Raises `LogNotFound`, `LogMismatch`."""
        self.url, self.read_only = url, read_only
        self.address, self.name = split_url(url)
        self._admin = AdminClient(settings(self.address))
        there = partition_counts(self._admin, url)
        if f"{self.name}.log" not in there:
            raise LogNotFound(f"there is no log {self.name} at {self.address}")
        meta = _read_meta(self.address, self.name)
        if meta is None:
            raise LogNotFound(f"the log {self.name} at {self.address} was never made whole; make it again")
        if meta.get("layout") != LAYOUT:
            raise LogMismatch(f"{url} has layout {meta.get('layout')}; this Tape reads layout {LAYOUT}")
        self.spec = _spec(meta)
        self.id, self.time = self.spec.id, self.spec.time
        _check_partitions(url, self.name, self.spec, there)
        self._watch = consumer(self.address, f"{self.name}/watch")
        self._cursors: OrderedDict[Stream, Cursor] = OrderedDict()
        self._known: dict[Stream, tuple[int, int]] = {}
        """The bounds that the broker has last said."""

    @classmethod
    def create(cls, url: str, spec: LogSpec) -> KafkaLog:
        """Make a new log. Raises `LogExists`; `LogMismatch` over what is left of another."""
        address, name = split_url(url)
        admin = AdminClient(settings(address))
        there = partition_counts(admin, url)
        if f"{name}.log" in there and _read_meta(address, name) is not None:
            raise LogExists(f"{url} exists; open it, or name another")
        left = {topic: count for topic, count in there.items() if topic in _wanted(name, spec)}
        _check_partitions(url, name, spec, _wanted(name, spec) | left)
        _make_topics(admin, url, name, spec, set(left))
        meta = _write_meta(address, name, spec)
        if _read_meta(address, name) != meta:
            raise LogExists(f"{url} was made by another process; open it, or name another")
        return cls(url)

    def topic(self, topic: str) -> str:
        """The topic's name on the broker."""
        return f"{self.name}.{topic}"

    def partitions(self, topic: str) -> int:
        return self.spec.partitions(topic)

    def read(
        self, topic: str, partition: int, *, gte: int, lt: int | None = None, limit: int = 5000
    ) -> list[Record]:
        """The broker is asked for the end only where the last answer does not reach far enough."""
        stream, beyond = (topic, partition), END if lt is None else lt
        known = self._known.get(stream)
        if known is not None and gte + limit <= known[1]:
            records = self._read(stream, gte, beyond, limit, known)
            if records or beyond <= known[1]:
                return records
        known = self._known[stream] = self.bounds(topic, partition)
        return self._read(stream, gte, beyond, limit, known)

    def _read(self, stream: Stream, gte: int, lt: int, limit: int, bounds: tuple[int, int]) -> list[Record]:
        gte, lt = max(gte, bounds[0]), min(bounds[1], lt)
        return self._cursor(stream, gte).read(lt, limit) if gte < lt else []

    def bounds(self, topic: str, partition: int) -> tuple[int, int]:
        self.check_stream(topic, partition)
        return watermarks(self._watch, TopicPartition(self.topic(topic), partition), self.url)

    def wait(self, after: Mapping[Stream, int], timeout_s: float) -> bool:
        for stream in after:
            self.check_stream(*stream)
        until = clock.monotonic() + timeout_s
        empty = dict(after)
        while True:
            for stream, end in self._ends(after).items():
                if end > empty[stream]:
                    if self._cursor(stream, after[stream]).has_record(end):
                        return True
                    empty[stream] = end
            if clock.monotonic() >= until:
                return False
            clock.sleep(min(POLL_S, max(until - clock.monotonic(), 0)))

    def follow(self, positions: Mapping[Stream, int]) -> KafkaFollower:
        for stream in positions:
            self.check_stream(*stream)
        return KafkaFollower(self, positions)

    def writer(self, id: str, *, take_over: bool = False) -> KafkaWriter:
        if self.read_only:
            raise LogError(f"{self.url} is open for reading only")
        return KafkaWriter(
            self, id, Membership(self.url, self.address, self.name, self._admin, id, take_over)
        )

    def settle(self, streams: Collection[Stream]) -> None:
        """Wait until what was committed can be read: the broker writes its markers after it has answered."""
        until = clock.monotonic() + SETTLE_S
        written = self._ends(streams, committed=False)
        while written and clock.monotonic() < until:
            settled = self._ends(written)
            written = {stream: end for stream, end in written.items() if settled[stream] < end}
            if written:
                clock.sleep(SETTLE_POLL_S)

    def check_stream(self, topic: str, partition: int) -> None:
        """Raises `LogError` for a partition that the log does not have."""
        if topic not in TOPICS or not 0 <= partition < self.partitions(topic):
            raise LogError(f"{self.url} has no partition {topic}/{partition}")

    def _ends(self, streams: Collection[Stream], *, committed: bool = True) -> dict[Stream, int]:
        places = {(self.topic(topic), partition): (topic, partition) for topic, partition in streams}
        found = ends(self._admin, places, self.url, committed=committed)
        return {places[place]: end for place, end in found.items()}

    def _cursor(self, stream: Stream, position: int) -> Cursor:
        """The partition's cursor, at a position; the one that was not used for longest makes room."""
        cursor = self._cursors.get(stream)
        if cursor is None:
            name = self.topic(stream[0])
            cursor = Cursor(self.url, self.address, f"{self.name}/reader", name, stream, position)
            self._cursors[stream] = cursor
            if len(self._cursors) > CURSORS:
                self._cursors.popitem(last=False)[1].close()
        self._cursors.move_to_end(stream)
        cursor.seek(position)
        return cursor

    def close(self) -> None:
        for cursor in self._cursors.values():
            cursor.close()
        self._cursors.clear()
        self._watch.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _wanted(name: str, spec: LogSpec) -> dict[str, int]:
    """Partition counts of a log's topics by their names on the broker."""
    return {f"{name}.log": 1} | {f"{name}.{topic}": spec.partitions(topic) for topic in TOPICS}


def _check_partitions(url: str, name: str, spec: LogSpec, there: Mapping[str, int]) -> None:
    for topic, due in _wanted(name, spec).items():
        found = there.get(topic, 0)
        if found != due:
            raise LogMismatch(
                f"{url}: topic {topic} has {found} partitions, not {due}; delete what is left of it, "
                "or name another log"
            )


def _make_topics(admin: AdminClient, url: str, name: str, spec: LogSpec, left: Collection[str]) -> None:
    """Make what is missing, and wait until the broker shows all of it."""
    wanted = _wanted(name, spec)
    config = {
        f"{name}.{topic.name}": TOPIC_CONFIG if topic.transactional else MARKET_CONFIG
        for topic in TOPICS.values()
    }
    new = [NewTopic(t, n, config=config.get(t, TOPIC_CONFIG)) for t, n in wanted.items() if t not in left]
    for topic, made in admin.create_topics(new).items() if new else ():
        try:
            made.result()
        except KafkaException as problem:
            error = problem.args[0]
            if error.code() == KafkaError.TOPIC_ALREADY_EXISTS:
                raise LogExists(
                    f"{url} is being made by another process; open it, or name another"
                ) from problem
            raise LogError(f"{url}: topic {topic} could not be made: {error.str()}") from problem
    until = clock.monotonic() + ANSWER_S
    while not wanted.items() <= partition_counts(admin, url).items():
        if clock.monotonic() > until:
            raise LogError(f"{url}: the broker does not show all topics of the log; make it again")
        clock.sleep(5 * POLL_S)


def _read_meta(address: str, name: str) -> dict[str, str] | None:
    """The log's own record, the first there is; None where it was not written."""
    url = f"kafka://{address}/{name}"
    reader = consumer(address, f"{name}/watch")
    try:
        first, end = watermarks(reader, TopicPartition(f"{name}.log", 0), url)
        reader.assign([TopicPartition(f"{name}.log", 0, OFFSET_BEGINNING)])
        until = clock.monotonic() + ANSWER_S
        while first < end:
            message = reader.poll(0.1)
            if message is not None and message.error() is None:
                return cast(dict[str, str], json.loads(message.value() or b"{}"))
            if clock.monotonic() > until:
                raise LogError(f"{url}: the log's record did not come in {ANSWER_S:.0f} s; try again")
        return None
    finally:
        reader.close()


def _spec(meta: Mapping[str, str]) -> LogSpec:
    time = cast(Literal["wall", "data"], meta["time"])
    return LogSpec(meta["id"], time, int(meta["account_partitions"]), int(meta["market_partitions"]))


def _write_meta(address: str, name: str, spec: LogSpec) -> dict[str, str]:
    meta = {
        "layout": LAYOUT,
        "id": spec.id,
        "time": spec.time,
        "account_partitions": str(spec.account_partitions),
        "market_partitions": str(spec.market_partitions),
        "made": uuid.uuid4().hex,
    }
    producer = Producer(settings(address, {"enable.idempotence": True}))
    producer.produce(f"{name}.log", value=json.dumps(meta).encode(), key=b"log", partition=0)
    if producer.flush(ANSWER_S):
        raise LogError(f"kafka://{address}/{name}: the log's record was not acknowledged; make it again")
    return meta
