"""The log on Apache Kafka: named logs side by side on one broker, or a cluster of them.

NAME prefixes topics, groups and transactional ids. Reading is read-committed; positions are the next
offset to read, and an end is the broker's last stable offset: topics written in transactions have
holes, where markers and aborted records stand. Market topics are written idempotently without
transactions, in order per partition; all others of one append in one transaction.

A writer's id is a static membership of the group NAME.writer.ID: it tells whether a holder lives, and
a newer one that takes over fences it; transactions are fenced by their transactional id besides.
"""

from __future__ import annotations

import contextlib
import json
import logging
import re
import time as clock
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Literal, Self, cast

from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    KafkaError,
    KafkaException,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from eventlog.contract import LogSpec, Stream
from eventlog.errors import (
    LogError,
    LogExists,
    LogMismatch,
    LogNotFound,
    LogUnreachable,
    WriterBusy,
    WriterFenced,
)
from schemas import TOPICS, NewRecord, Record

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}")
LAYOUT = "1"
CURSORS = 40
ANSWER_S = 15.0
SESSION_MS = 6000
TRANSACTION_MS = 5000
POLL_S = 0.01
SETTLE_S = TRANSACTION_MS / 1000 + 2
SETTLE_POLL_S = 0.002
NOTE_S = 2.0
END = 1 << 62
HELD, RELEASED = "held", "released"
RECORD_MAX = 8 * 1024 * 1024

TOPIC_CONFIG = {
    "retention.ms": "-1",
    "retention.bytes": "-1",
    "cleanup.policy": "delete",
    "message.timestamp.type": "CreateTime",
    "max.message.bytes": str(RECORD_MAX),
}


QUIET = logging.getLogger("eventlog.kafka.client")
"""librdkafka's own log lines; what matters of them comes as an error."""
QUIET.addHandler(logging.NullHandler())
QUIET.propagate = False


def _client(address: str, **more: Any) -> dict[str, Any]:
    return {"bootstrap.servers": address, "logger": QUIET, "socket.timeout.ms": 10_000, **more}


def _consumer(address: str, group: str, **more: Any) -> Consumer:
    return Consumer(
        _client(
            address,
            **{
                "group.id": group,
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "isolation.level": "read_committed",
                "enable.partition.eof": True,
                "auto.offset.reset": "error",
                "fetch.message.max.bytes": RECORD_MAX,
                "fetch.wait.max.ms": 50,
                "fetch.error.backoff.ms": 20,
                "queued.min.messages": 20_000,
                "queued.max.messages.kbytes": 16_384,
            }
            | more,
        )
    )


class _Cursor:
    """Reads one partition forward; what was fetched beyond a page is kept for the next."""

    def __init__(self, log: KafkaLog, stream: Stream, position: int) -> None:
        self._log, self._stream = log, stream
        self._topic = log.topic(stream[0])
        self._consumer = _consumer(log.address, log.group("reader"))
        self._waiting: list[Record] = []
        self._met_end = 0
        """Where the broker has last said that there is nothing more: all before it has been fetched."""
        self.taken, self.position = position, position
        """Next after what was given out; next to come. Between the two there is no record."""
        self._consumer.assign([TopicPartition(self._topic, stream[1], position)])

    def seek(self, position: int) -> None:
        """Go on from a position, unless that is where it stands."""
        if self.taken <= position <= self.position:
            return
        self._waiting = []
        self._met_end = 0
        self.taken = self.position = position
        self._consumer.assign([TopicPartition(self._topic, self._stream[1], position)])

    def read(self, lt: int, limit: int) -> list[Record]:
        """Up to `limit` records below `lt`, which is not beyond the partition's end."""
        records = self._take(lt, limit)
        until = clock.monotonic() + ANSWER_S
        while len(records) < limit and self.position < lt:
            came = self._fetch(limit - len(records))
            records += self._take(lt, limit - len(records))
            if came:
                until = clock.monotonic() + ANSWER_S
            elif clock.monotonic() > until:
                raise LogError(f"{self._log.url}: no answer for {self._topic} in {ANSWER_S:.0f} s")
        return records

    def _take(self, lt: int, limit: int) -> list[Record]:
        waiting = self._waiting
        count = 0
        while count < min(limit, len(waiting)) and waiting[count].offset < lt:
            count += 1
        taken = waiting[:count]
        del waiting[:count]
        if taken:
            self.taken = taken[-1].offset + 1
        self.position = max(self.position, self.taken, waiting[0].offset if waiting else self._met_end)
        return taken

    def _fetch(self, count: int) -> bool:
        """Consume what is there, and the partition's end, which may come along with the last records."""
        topic, partition = self._stream
        add = self._waiting.append
        messages = self._consumer.consume(count, POLL_S)
        for message in messages:
            error, offset = message.error(), message.offset() or 0
            if error is None:
                add(
                    Record(
                        topic,
                        partition,
                        offset,
                        message.key() or b"",
                        message.value() or b"",
                        message.timestamp()[1] * 1_000_000,
                    )
                )
            elif error.code() == KafkaError._PARTITION_EOF:
                self._met_end = offset
            else:
                raise LogError(f"{self._log.url}: {self._topic}/{partition}: {error.str()}")
        return bool(messages)

    def close(self) -> None:
        self._consumer.close()


class KafkaLog:
    """A log on Kafka; see `eventlog.contract.EventLog`."""

    dense = False

    def __init__(self, url: str, *, read_only: bool = False) -> None:
        """Open an existing log. Raises `LogNotFound`, `LogMismatch`."""
        self.url, self.read_only = url, read_only
        self.address, self.name = split_url(url)
        self._admin = AdminClient(_client(self.address))
        self._watch = _consumer(self.address, self.group("watch"))
        self._raw = _consumer(self.address, self.group("watch"), **{"isolation.level": "read_uncommitted"})
        self._cursors: OrderedDict[Stream, _Cursor] = OrderedDict()
        meta = self._meta()
        self.id = meta["id"]
        self.time = cast(Literal["wall", "data"], meta["time"])
        self.spec = LogSpec(
            self.id, self.time, int(meta["account_partitions"]), int(meta["market_partitions"])
        )
        self._check_partitions()

    @classmethod
    def create(cls, url: str, spec: LogSpec) -> KafkaLog:
        """Make a new log. Raises `LogExists`."""
        address, name = split_url(url)
        admin = AdminClient(_client(address))
        there = _topics(admin, url)
        if f"{name}.log" in there and _read_meta(address, name) is not None:
            raise LogExists(f"{url} exists; open it, or name another")
        wanted = {f"{name}.log": 1} | {f"{name}.{t}": spec.partitions(t) for t in TOPICS}
        new = [NewTopic(t, n, config=TOPIC_CONFIG) for t, n in wanted.items() if t not in there]
        for topic, made in admin.create_topics(new).items() if new else ():
            try:
                made.result()
            except KafkaException as problem:
                raise LogError(
                    f"{url}: topic {topic} could not be made: {problem.args[0].str()}"
                ) from problem
        _write_meta(address, name, spec)
        return cls(url)

    def topic(self, topic: str) -> str:
        """The topic's name on the broker."""
        return f"{self.name}.{topic}"

    def group(self, role: str) -> str:
        """A group of this log."""
        return f"{self.name}.{role}"

    def _meta(self) -> dict[str, str]:
        if f"{self.name}.log" not in _topics(self._admin, self.url):
            raise LogNotFound(f"there is no log {self.name} at {self.address}")
        meta = _read_meta(self.address, self.name)
        if meta is None:
            raise LogNotFound(f"the log {self.name} at {self.address} was never made whole; make it again")
        if meta.get("layout") != LAYOUT:
            raise LogMismatch(f"{self.url} has layout {meta.get('layout')}; this Tape reads layout {LAYOUT}")
        return meta

    def _check_partitions(self) -> None:
        there = _topics(self._admin, self.url)
        for topic in TOPICS:
            found, due = there.get(self.topic(topic), 0), self.spec.partitions(topic)
            if found != due:
                raise LogMismatch(f"{self.url}: topic {self.topic(topic)} has {found} partitions, not {due}")

    def partitions(self, topic: str) -> int:
        return self.spec.partitions(topic)

    def read(
        self, topic: str, partition: int, *, gte: int, lt: int | None = None, limit: int = 5000
    ) -> list[Record]:
        stream = (topic, partition)
        cursor = self._cursors.get(stream)
        end = min(self.bounds(topic, partition)[1], END if lt is None else lt)
        if gte >= end:
            return []
        if cursor is None:
            cursor = self._cursors[stream] = _Cursor(self, stream, gte)
            if len(self._cursors) > CURSORS:
                self._cursors.popitem(last=False)[1].close()
        else:
            cursor.seek(gte)
        self._cursors.move_to_end(stream)
        return cursor.read(end, limit)

    def bounds(self, topic: str, partition: int) -> tuple[int, int]:
        self.check_stream(topic, partition)
        return _watermarks(self._watch, TopicPartition(self.topic(topic), partition), self.url)

    def settle(self, streams: set[Stream]) -> None:
        """Wait until what was committed can be read: the broker writes its markers after it has answered."""
        until = clock.monotonic() + SETTLE_S
        for topic, partition in sorted(streams):
            place = TopicPartition(self.topic(topic), partition)
            written = _watermarks(self._raw, place, self.url)[1]
            while self.bounds(topic, partition)[1] < written and clock.monotonic() < until:
                clock.sleep(SETTLE_POLL_S)

    def check_stream(self, topic: str, partition: int) -> None:
        """Raises `LogError` for a partition that the log does not have."""
        if topic not in TOPICS or not 0 <= partition < self.partitions(topic):
            raise LogError(f"{self.url} has no partition {topic}/{partition}")

    def wait(self, after: Mapping[Stream, int], timeout_s: float) -> bool:
        until = clock.monotonic() + timeout_s
        while True:
            if any(self.bounds(*stream)[1] > offset for stream, offset in after.items()):
                return True
            if clock.monotonic() >= until:
                return False
            clock.sleep(min(POLL_S, max(until - clock.monotonic(), 0)))

    def writer(self, id: str, *, take_over: bool = False) -> KafkaWriter:
        if self.read_only:
            raise LogError(f"{self.url} is open for reading only")
        return KafkaWriter(self, id, take_over)

    def close(self) -> None:
        for cursor in self._cursors.values():
            cursor.close()
        self._cursors.clear()
        self._watch.close()
        self._raw.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class KafkaWriter:
    """A writer of a `KafkaLog`; see `eventlog.contract.Writer`. Any error ends it."""

    def __init__(self, log: KafkaLog, id: str, take_over: bool) -> None:
        self.id = id
        self._log = log
        self._failed: KafkaError | None = None
        self._member = _Membership(log, id, take_over)
        self._plain: Producer | None = None
        self._open = True
        try:
            self._transactional: Producer | None = self._begin()
        except KafkaException as problem:
            self._member.close()
            raise self._error(problem.args[0]) from problem

    def append(self, records: Sequence[NewRecord], /) -> None:
        """Append; market records first, then all others in one transaction."""
        if not self._open:
            raise WriterFenced(f"{self._log.url}: writer {self.id} is closed")
        for stream in {(r.topic, r.partition) for r in records}:
            self._log.check_stream(*stream)
        market = [r for r in records if not TOPICS[r.topic].transactional]
        others = [r for r in records if TOPICS[r.topic].transactional]
        try:
            self._member.check()
            if market:
                self._append_plain(market)
            if others:
                self._append_transaction(others)
        except KafkaException as problem:
            self._end()
            raise self._error(problem.args[0]) from problem
        except BaseException:
            self._end()
            raise

    def _append_plain(self, records: Sequence[NewRecord]) -> None:
        if self._plain is None:
            self._plain = Producer(self._producing({"enable.idempotence": True}))
        self._produce(self._plain, records)
        left = self._plain.flush(ANSWER_S * 2)
        if self._failed is not None:
            raise KafkaException(self._failed)
        if left:
            raise LogError(f"{self._log.url}: {left} records were not acknowledged")

    def _begin(self) -> Producer:
        """A transactional producer; from here on the former holder of the id can commit nothing."""
        config = {
            "transactional.id": f"{self._log.name}.{self.id}",
            "transaction.timeout.ms": TRANSACTION_MS,
            "socket.timeout.ms": TRANSACTION_MS,
        }
        producer = Producer(self._producing(config))
        producer.init_transactions(ANSWER_S)
        return producer

    def _append_transaction(self, records: Sequence[NewRecord]) -> None:
        producer = self._transactional
        assert producer is not None
        producer.begin_transaction()
        self._produce(producer, records)
        producer.commit_transaction(ANSWER_S)
        if self._failed is not None:
            raise KafkaException(self._failed)
        self._log.settle({(r.topic, r.partition) for r in records})

    def _producing(self, more: dict[str, Any]) -> dict[str, Any]:
        return _client(
            self._log.address,
            **{
                "acks": "all",
                "linger.ms": 2,
                "compression.type": "lz4",
                "batch.num.messages": 10_000,
                "batch.size": 1_000_000,
                "message.max.bytes": RECORD_MAX,
                "queue.buffering.max.messages": 2_000_000,
                "queue.buffering.max.kbytes": 1_048_576,
                "retry.backoff.ms": 1,
                "retry.backoff.max.ms": 10,
                "delivery.report.only.error": True,
                "on_delivery": self._delivered,
            }
            | more,
        )

    def _delivered(self, error: KafkaError | None, message: object) -> None:
        if error is not None and self._failed is None:
            self._failed = error

    def _produce(self, producer: Producer, records: Sequence[NewRecord]) -> None:
        names = {topic: self._log.topic(topic) for topic in {r.topic for r in records}}
        produce: Callable[..., None] = producer.produce
        for record in records:
            produce(names[record.topic], value=record.value, key=record.key, partition=record.partition)
        producer.poll(0)

    def _error(self, error: KafkaError) -> LogError:
        fenced = (
            KafkaError._FENCED,
            KafkaError.INVALID_PRODUCER_EPOCH,
            KafkaError.PRODUCER_FENCED,
            KafkaError.FENCED_INSTANCE_ID,
        )
        if error.code() in fenced:
            return WriterFenced(f"{self._log.url}: another holder of writer {self.id} has taken over")
        return LogError(f"{self._log.url}: writer {self.id}: {error.str()}")

    def _end(self) -> None:
        """Let go of everything, an open transaction included: it times out or is fenced."""
        self._open = False
        self._member.close()
        for producer in (self._plain, self._transactional):
            if producer is not None:
                producer.purge()
        self._plain = self._transactional = None

    def close(self) -> None:
        if self._open:
            self._end()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Membership:
    """Static membership of the writer's group: says that a holder lives, and fences the one before."""

    def __init__(self, log: KafkaLog, id: str, take_over: bool) -> None:
        self._log, self._id = log, id
        self._group = log.group(f"writer.{id}")
        self._place = TopicPartition(log.topic("log"), 0)
        if not take_over:
            self._refuse_second()
        self._fatal: KafkaError | None = None
        self._joined = self._noted = False
        self._consumer = _consumer(
            log.address,
            self._group,
            **{
                "group.instance.id": id,
                "session.timeout.ms": SESSION_MS,
                "heartbeat.interval.ms": 1000,
                "max.poll.interval.ms": 86_400_000,
                "auto.offset.reset": "latest",
                "error_cb": self._on_error,
                "on_commit": self._on_commit,
            },
        )
        self._consumer.subscribe([log.topic("log")], on_assign=self._on_assign)
        until = clock.monotonic() + ANSWER_S * 2
        while not self._joined:
            self._poll(2 * POLL_S)
            if clock.monotonic() > until:
                self._consumer.close()
                raise LogError(f"{log.url}: writer {id} could not join its group")
        self._leave_note(HELD)

    def _refuse_second(self) -> None:
        """Wait out the session of a holder that may be dead; one that stays is alive."""
        if self._note() == RELEASED:
            return
        until = clock.monotonic() + SESSION_MS / 1000 + 2
        while self._members():
            if clock.monotonic() > until:
                raise WriterBusy(
                    f"{self._log.url}: writer {self._id} is held by a live process; stop it, or take over"
                )
            clock.sleep(0.25)

    def _members(self) -> int:
        described = self._log._admin.describe_consumer_groups([self._group], request_timeout=ANSWER_S)
        try:
            return len(described[self._group].result().members)
        except KafkaException as problem:
            if problem.args[0].code() == KafkaError.GROUP_ID_NOT_FOUND:
                return 0
            raise LogError(f"{self._log.url}: {problem.args[0].str()}") from problem

    def _note(self) -> str:
        """What the last holder left beside the group's offset: whether it let go."""
        reader = _consumer(self._log.address, self._group)
        try:
            found = reader.committed([self._place], timeout=ANSWER_S)
            return found[0].metadata or ""
        finally:
            reader.close()

    def _leave_note(self, note: str) -> None:
        """Leave it within a bounded time: a broker that is gone takes no notes."""
        self._noted = False
        self._consumer.commit(offsets=[TopicPartition(self._place.topic, 0, 0, note)], asynchronous=True)
        until = clock.monotonic() + NOTE_S
        while not self._noted and clock.monotonic() < until:
            self._poll(POLL_S)

    def _on_commit(self, error: KafkaError | None, partitions: list[TopicPartition]) -> None:
        self._noted = True

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._joined = True
        consumer.pause(partitions)

    def _on_error(self, error: KafkaError) -> None:
        if error.fatal() or error.code() == KafkaError._FATAL:
            self._fatal = error

    def _poll(self, seconds: float = 0) -> None:
        message = self._consumer.poll(seconds)
        error = message.error() if message is not None else None
        if error is not None and error.code() != KafkaError._PARTITION_EOF:
            self._on_error(error)

    def check(self) -> None:
        """Raises `WriterFenced` once a newer holder has joined."""
        self._poll()
        if self._fatal is not None:
            raise WriterFenced(f"{self._log.url}: another holder of writer {self._id} has taken over")

    def close(self) -> None:
        """Let go: a static member stays in its group until its session ends, so it leaves a note."""
        if self._fatal is None:
            with contextlib.suppress(KafkaException):
                self._leave_note(RELEASED)
        self._consumer.close()


def split_url(url: str) -> tuple[str, str]:
    """HOST:PORT and NAME of kafka://HOST:PORT/NAME. Raises `LogError`."""
    address, slash, name = url.removeprefix("kafka://").partition("/")
    if not url.startswith("kafka://") or not slash or ":" not in address or not NAME.fullmatch(name):
        raise LogError(f"{url} is not of the form kafka://HOST:PORT/NAME")
    return address, name


def _topics(admin: AdminClient, url: str) -> dict[str, int]:
    """Partition counts of the broker's topics."""
    try:
        found = admin.list_topics(timeout=ANSWER_S).topics
    except KafkaException as problem:
        raise LogUnreachable(f"{url}: the broker does not answer: {problem.args[0].str()}") from problem
    return {name: len(topic.partitions) for name, topic in found.items()}


def _watermarks(consumer: Consumer, place: TopicPartition, url: str) -> tuple[int, int]:
    """First offset and end of a partition, asked again while its leader is being elected."""
    until = clock.monotonic() + ANSWER_S
    while True:
        try:
            found = consumer.get_watermark_offsets(place, timeout=ANSWER_S)
            if found is not None:
                return int(found[0]), int(found[1])
            problem = f"no answer in {ANSWER_S:.0f} s"
        except KafkaException as failed:
            problem = failed.args[0].str()
        if clock.monotonic() > until:
            raise LogError(f"{url}: {place.topic}/{place.partition}: {problem}")
        clock.sleep(POLL_S)


def _read_meta(address: str, name: str) -> dict[str, str] | None:
    """The log's own record; None where it was not written."""
    consumer = _consumer(address, f"{name}.watch")
    try:
        place = TopicPartition(f"{name}.log", 0, OFFSET_BEGINNING)
        first, end = _watermarks(consumer, place, f"kafka://{address}/{name}")
        consumer.assign([place])
        until = clock.monotonic() + ANSWER_S
        while first < end and clock.monotonic() < until:
            message = consumer.poll(0.1)
            if message is not None and message.error() is None:
                return cast(dict[str, str], json.loads(message.value() or b"{}"))
        return None
    finally:
        consumer.close()


def _write_meta(address: str, name: str, spec: LogSpec) -> None:
    meta = {
        "layout": LAYOUT,
        "id": spec.id,
        "time": spec.time,
        "account_partitions": str(spec.account_partitions),
        "market_partitions": str(spec.market_partitions),
    }
    producer = Producer(_client(address, **{"enable.idempotence": True}))
    producer.produce(f"{name}.log", value=json.dumps(meta).encode(), key=b"log", partition=0)
    if producer.flush(ANSWER_S):
        raise LogError(f"kafka://{address}/{name}: the log's record was not acknowledged")
