"""Appending to a log on Kafka."""

from __future__ import annotations

import contextlib
import time as clock
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from confluent_kafka import KafkaError, KafkaException, Producer

from eventlog.errors import LogError, WriterFenced
from eventlog.kafka.client import ANSWER_S, POLL_S, RECORD_MAX, settings
from eventlog.kafka.membership import DELAY_MAX_S, FENCED, Membership, fenced
from schemas import TOPICS, NewRecord

if TYPE_CHECKING:
    from eventlog.kafka.store import KafkaLog

TRANSACTION_S = 5.0
ABORT_S = 2.0
HEADROOM = 1024
"""What a record takes beside its key and value, at most."""
SLICE = 20_000
QUEUED_MAX = 200_000
QUEUED_MAX_KIB = 262_144


class KafkaWriter:
    """A writer of a `KafkaLog`; see `eventlog.contract.Writer`. Any error of an append ends it."""

    def __init__(self, log: KafkaLog, id: str, member: Membership) -> None:
        self.id = id
        self._log, self._member = log, member
        self._failed: KafkaError | None = None
        self._plain: Producer | None = None
        self._transactional: Producer | None = None
        self._open = True
        try:
            self._transactional = self._begin()
        except KafkaException as problem:
            self._end()
            raise self._error(problem.args[0]) from problem
        except BaseException:
            self._end()
            raise

    def append(self, records: Sequence[NewRecord], /) -> None:
        """Append; market records first, then all others in one transaction.

        Raises `WriterFenced`; `LogError` for a record that no partition takes, of which nothing is
        written, and for what the broker did not take: then the log is to be read before going on.
        """
        if not self._open:
            raise WriterFenced(f"{self._log.url}: writer {self.id} has ended; take a new one")
        market, others = _split(records, self._check(records))
        try:
            self._member.check()
            if market:
                self._append_plain(market)
            if others:
                self._append_transaction(others)
        except KafkaException as problem:
            error = self._error(problem.args[0])
            self._end()
            raise error from problem
        except BaseException:
            self._end()
            raise

    def _check(self, records: Sequence[NewRecord]) -> set[str]:
        """Their topics."""
        streams = {(r.topic, r.partition) for r in records}
        for stream in streams:
            self._log.check_stream(*stream)
        size = max((len(r.key) + len(r.value) for r in records), default=0)
        if size > RECORD_MAX - HEADROOM:
            raise LogError(
                f"{self._log.url}: a record of {size:,} bytes is too large; "
                f"a log on Kafka takes up to {RECORD_MAX - HEADROOM:,}"
            )
        return {topic for topic, _ in streams}

    def _append_plain(self, records: Sequence[NewRecord]) -> None:
        producer = self._plain
        if producer is None:
            producer = self._plain = Producer(self._producing({"enable.idempotence": True}))
            self._member.await_silence()
        for start in range(0, len(records), SLICE):
            self._await_room(producer, SLICE)
            taken_ms = clock.time_ns() // 1_000_000  # before it confirms: see `membership`
            self._member.confirm()
            self._produce(producer, records[start : start + SLICE], taken_ms)
            if self._failed is not None:
                break  # what follows must not be written behind a gap
        left = producer.flush(ANSWER_S)
        if self._failed is not None:
            raise KafkaException(self._failed)
        if left:
            raise LogError(f"{self._log.url}: writer {self.id}: {_unanswered(left)}")

    def _begin(self) -> Producer:
        """A transactional producer; from here on the former holder of the id can commit nothing."""
        timeout_ms = int(TRANSACTION_S * 1000)
        producer = Producer(
            self._producing(
                {
                    "transactional.id": f"{self._log.name}/writer/{self.id}",
                    "transaction.timeout.ms": timeout_ms,
                    "socket.timeout.ms": timeout_ms,
                }
            )
        )
        producer.list_topics(self._log.topic("log"), timeout=ANSWER_S)  # else it waits for a timer to connect
        producer.init_transactions(ANSWER_S)
        return producer

    def _append_transaction(self, records: Sequence[NewRecord]) -> None:
        producer = self._transactional
        assert producer is not None
        producer.begin_transaction()
        try:
            self._produce(producer, records, 0)
        except BaseException:
            self._abort(producer)
            raise
        try:
            producer.commit_transaction(ANSWER_S)
        except KafkaException as problem:
            if problem.args[0].txn_requires_abort():
                self._abort(producer)
            raise
        if self._failed is not None:
            raise KafkaException(self._failed)
        self._log.settle({(r.topic, r.partition) for r in records})

    def _abort(self, producer: Producer) -> None:
        """So that readers need not wait until it times out; the writer has ended all the same."""
        with contextlib.suppress(KafkaException):
            producer.abort_transaction(ABORT_S)

    def _producing(self, more: dict[str, Any]) -> dict[str, Any]:
        return settings(
            self._log.address,
            {
                "acks": "all",
                "linger.ms": 2,
                "compression.type": "lz4",
                "batch.num.messages": 10_000,
                "batch.size": 1_000_000,
                "message.max.bytes": RECORD_MAX,
                "queue.buffering.max.messages": QUEUED_MAX,
                "queue.buffering.max.kbytes": QUEUED_MAX_KIB,
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

    def _produce(self, producer: Producer, records: Sequence[NewRecord], timestamp_ms: int) -> None:
        """Hand records to the producer, in order; time 0 is now."""
        names = {topic: self._log.topic(topic) for topic in {r.topic for r in records}}
        produce: Callable[..., None] = producer.produce
        for record in records:
            topic, key, value, partition = names[record.topic], record.key, record.value, record.partition
            try:
                produce(topic, value, key, partition, None, None, timestamp_ms)
            except BufferError:
                self._await_room(producer, 0)
                produce(topic, value, key, partition, None, None, timestamp_ms)
        producer.poll(0)

    def _await_room(self, producer: Producer, queued: int) -> None:
        """Until at most so many records wait to be sent."""
        until = clock.monotonic() + ANSWER_S
        while len(producer) > queued:
            producer.poll(POLL_S)
            if self._failed is not None:
                raise KafkaException(self._failed)
            if clock.monotonic() > until:
                raise LogError(f"{self._log.url}: writer {self.id}: {_unanswered(len(producer))}")

    def _error(self, error: KafkaError) -> LogError:
        if error.code() in FENCED or self._member.is_fenced():
            return fenced(self._log.url, self.id)
        if error.code() == KafkaError.INVALID_TIMESTAMP:
            return WriterFenced(
                f"{self._log.url}: writer {self.id} stood still for more than {DELAY_MAX_S:.0f} s, "
                "or its clock differs from the broker's: another may hold its id; set the clock, start again"
            )
        return LogError(
            f"{self._log.url}: writer {self.id}: the broker took no more ({error.str()}); "
            "see that it runs and has room, then start again: what was acknowledged is in the log"
        )

    def _end(self) -> None:
        """Let go of everything, an open transaction included: it times out or is fenced."""
        self._open = False
        for producer in (self._plain, self._transactional):
            if producer is not None:
                producer.purge()
        self._plain = self._transactional = None
        self._member.close()

    def close(self) -> None:
        if self._open:
            self._end()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _split(records: Sequence[NewRecord], topics: set[str]) -> tuple[Sequence[NewRecord], Sequence[NewRecord]]:
    """Market records and all others, in their order."""
    market = {topic for topic in topics if not TOPICS[topic].transactional}
    if not market or market == topics:
        return (records, ()) if market else ((), records)
    return [r for r in records if r.topic in market], [r for r in records if r.topic not in market]


def _unanswered(count: int) -> str:
    return (
        f"{count:,} records were not acknowledged in {ANSWER_S:.0f} s; see that the broker runs, "
        "then start again: what was acknowledged is in the log"
    )
