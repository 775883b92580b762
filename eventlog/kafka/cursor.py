"""One partition, read forward."""

from __future__ import annotations

import time as clock
from typing import Any, cast

from confluent_kafka import KafkaError, Message, TopicPartition

from eventlog.contract import Stream
from eventlog.errors import LogError
from eventlog.kafka.client import ANSWER_S, POLL_S, consumer
from schemas import Record

MS_NS = 1_000_000


class Cursor:
    """Reads one partition forward; what was fetched beyond a page is kept for the next."""

    def __init__(self, url: str, address: str, group: str, name: str, stream: Stream, position: int) -> None:
        self._url, self._name, self._stream = url, name, stream
        self._consumer = consumer(address, group)
        self._assign(position)

    def _assign(self, position: int) -> None:
        self._waiting: list[Record] = []
        self._met_end = 0
        """Where the broker has last said that there is nothing more: all before it has been fetched."""
        self._taken = self._next = position
        """Next after what was given out; next to come. Between the two there is no record."""
        self._consumer.assign([TopicPartition(self._name, self._stream[1], position)])

    def seek(self, position: int) -> None:
        """Go on from a position, unless that is where it stands."""
        if not self._taken <= position <= self._next:
            self._assign(position)

    def read(self, lt: int, limit: int) -> list[Record]:
        """Up to `limit` records below `lt`, which is not beyond the partition's end."""
        self._came = clock.monotonic()
        records = self._take(lt, limit)
        while len(records) < limit and self._next < lt:
            self._fetch(min(limit - len(records), lt - self._next))
            records += self._take(lt, limit - len(records))
        return records

    def has_record(self, lt: int) -> bool:
        """Whether a record comes before `lt`, which is not beyond the partition's end."""
        self._came = clock.monotonic()
        while not self._waiting and self._next < lt:
            self._fetch(1)
        return bool(self._waiting)

    def _take(self, lt: int, limit: int) -> list[Record]:
        waiting = self._waiting
        count = min(limit, len(waiting))
        if count and waiting[count - 1].offset >= lt:
            count = next(n for n, record in enumerate(waiting) if record.offset >= lt)
        taken = waiting[:count]
        del waiting[:count]
        if taken:
            self._taken = taken[-1].offset + 1
        self._advance()
        return taken

    def _advance(self) -> None:
        self._next = max(self._next, self._taken, self._waiting[0].offset if self._waiting else self._met_end)

    def _fetch(self, count: int) -> None:
        """Consume what is there, and the partition's end, which may come along with the last records."""
        topic, partition = self._stream
        messages = self._consumer.consume(count, POLL_S)
        came = [m for m in messages if m.error() is None]
        self._waiting += [
            Record(topic, partition, m.offset(), m.key() or b"", m.value() or b"", m.timestamp()[1] * MS_NS)
            for m in cast(list[Any], came)
        ]
        if len(came) < len(messages):
            self._meet(messages)
        self._advance()
        now = clock.monotonic()
        if messages:
            self._came = now
        elif now > self._came + ANSWER_S:
            raise LogError(
                f"{self._url}: nothing of {self._name}/{partition} came in {ANSWER_S:.0f} s; "
                "see that the broker runs, then read again"
            )

    def _meet(self, messages: list[Message]) -> None:
        """The partition's end, and what is an error."""
        for message in messages:
            error = message.error()
            if error is not None and error.code() == KafkaError._PARTITION_EOF:
                self._met_end = message.offset() or 0
            elif error is not None:
                raise LogError(f"{self._url}: {self._name}/{self._stream[1]}: {error.str()}")

    def close(self) -> None:
        self._consumer.close()
