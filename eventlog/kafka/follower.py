"""Several partitions read forward by one consumer."""

from __future__ import annotations

import time as clock
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, cast

from confluent_kafka import KafkaError, TopicPartition

from eventlog.contract import Stream
from eventlog.errors import LogDamaged, LogError
from eventlog.kafka.client import consumer
from eventlog.kafka.cursor import MS_NS
from schemas import Record

MS_S = 0.001

if TYPE_CHECKING:
    from eventlog.kafka.store import KafkaLog


class KafkaFollower:
    """A `Follower`; while the broker is gone it gives nothing, and goes on when it is back."""

    def __init__(self, log: KafkaLog, positions: Mapping[Stream, int]) -> None:
        self.positions = dict(positions)
        self._url = log.url
        self._streams = {(log.topic(topic), partition): (topic, partition) for topic, partition in positions}
        self._at_end: set[Stream] = set()
        self._consumer = consumer(log.address, f"{log.name}/follower", {"fetch.wait.max.ms": 20})
        self._consumer.assign(
            [TopicPartition(*place, positions[stream]) for place, stream in self._streams.items()]
        )

    def take(self, limit: int, timeout_s: float) -> list[Record]:
        """What was fetched already comes at once: the client would wait for a full page."""
        until = clock.monotonic() + timeout_s
        records = self._records(self._consume(limit, 0))
        while not records and (left := until - clock.monotonic()) > 0:
            records = self._records(self._consume(1, max(left, MS_S)))  # it counts whole milliseconds
            if records and limit > 1:
                records += self._records(self._consume(limit - 1, 0))
        return records

    def _consume(self, limit: int, timeout_s: float) -> list[Any]:
        return cast(list[Any], self._consumer.consume(limit, timeout_s))

    def _records(self, messages: list[Any]) -> list[Record]:
        records: list[Record] = []
        add, positions = records.append, self.positions
        place: tuple[str, int] | None = None
        stream = topic, partition = "", 0
        for message in messages:
            here = (message.topic(), message.partition())
            error = message.error()
            if error is not None:
                self._meet(error, self._streams.get(here), message.offset())
                place = None
                continue
            if here != place:
                place, stream = here, self._streams[here]
                topic, partition = stream
                self._at_end.discard(stream)
            offset, key, value = message.offset(), message.key() or b"", message.value() or b""
            add(Record(topic, partition, offset, key, value, message.timestamp()[1] * MS_NS))
            positions[stream] = offset + 1
        return records

    def _meet(self, error: KafkaError, stream: Stream | None, offset: int | None) -> None:
        """The end of a partition, and what is an error."""
        if error.code() == KafkaError._PARTITION_EOF and stream is not None:
            self._at_end.add(stream)
            self.positions[stream] = max(self.positions[stream], offset or 0)
        elif error.code() in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):
            raise LogDamaged(f"{self._url}: {stream} has nothing at {self.positions.get(stream or ('', 0))}")
        elif not error.retriable() and error.code() not in (
            KafkaError._TRANSPORT,
            KafkaError._ALL_BROKERS_DOWN,
            KafkaError._RESOLVE,
        ):
            raise LogError(f"{self._url}: {stream}: {error.str()}")

    def is_at_end(self, stream: Stream) -> bool:
        return stream in self._at_end

    def close(self) -> None:
        self._consumer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
