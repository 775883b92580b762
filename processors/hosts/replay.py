"""Following the recorded order: the same facts through the same code, compared with what was written.

Recovery, `verify` and `state_at` all follow batches through `Replay`; they differ in where they
start and in what they do with a difference.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from eventlog.contract import LogReader
from eventlog.errors import LogError

from processors.hosts.journal import order_of
from processors.hosts.merge import Stream
from processors.pipeline import Pipeline
from schemas import DECISIONS, Batch, Configured, Event, Record, Unreadable, decode, encode

Build = Callable[[Configured], Pipeline]
"""Makes the pipeline that a configuration describes."""

PAGE = 5000


class Divergence(LogError):
    """A derived decision is not what stands in the log."""

    def __init__(
        self, topic: str, partition: int, offset: int | None, derived: bytes | None, stored: bytes | None
    ):
        self.topic, self.partition, self.offset = topic, partition, offset
        self.derived, self.stored = derived, stored
        where = f"{topic}/{partition}" + (f"/{offset}" if offset is not None else "")
        super().__init__(
            f"{where} differs from what the facts lead to\n"
            f"  stored:  {_text(stored)}\n"
            f"  derived: {_text(derived)}"
        )


class OrderBroken(LogError):
    """An input that a batch took is not where the batch says."""


def _text(value: bytes | None) -> str:
    return "nothing" if value is None else value.decode("utf-8", "replace")


class Cursor:
    """Reads one topic's partition forward, in pages."""

    def __init__(self, log: LogReader, topic: str, partition: int, position: int) -> None:
        self.log, self.topic, self.partition, self.position = log, topic, partition, position
        self._page: list[Record] = []
        self._next = 0

    def take(self) -> Record | None:
        """The next record; None at the end."""
        if self._next >= len(self._page):
            self._page = self.log.read(self.topic, self.partition, gte=self.position, limit=PAGE)
            self._next = 0
            if not self._page:
                return None
        record = self._page[self._next]
        self._next += 1
        self.position = record.offset + 1
        return record

    def peek(self) -> Record | None:
        """The next record without taking it."""
        record = self.take()
        if record is not None:
            self._next -= 1
            self.position = record.offset
        return record


class Replay:
    """Applies batches in their recorded order to a pipeline."""

    def __init__(self, log: LogReader, partition: int, pipeline: Pipeline) -> None:
        self.log, self.partition, self.pipeline = log, partition, pipeline
        self._inputs: dict[Stream, Cursor] = {}

    def records(self, batch: Batch) -> Iterator[Record]:
        """The records a batch took, in the order it took them, decoded."""
        cursors = []
        for part in batch.inputs:
            stream = (part.topic, part.partition)
            cursor = self._inputs.get(stream)
            if cursor is None or cursor.position != part.first:
                cursor = self._inputs[stream] = Cursor(self.log, *stream, part.first)
            cursors.append(cursor)
        for index in order_of(batch):
            cursor = cursors[index]
            record = cursor.take()
            if record is None or record.offset >= batch.inputs[index].next:
                place = f"{cursor.topic}/{cursor.partition}"
                raise OrderBroken(f"batch {batch.number} took a record of {place} that is not in the log")
            record.event = decode(record.topic, record.value)
            yield record

    def apply(self, batch: Batch) -> Iterator[tuple[Record, Event]]:
        """Apply a batch; the decisions it leads to, each with the input that led to it."""
        for record in self.records(batch):
            for decision in self.pipeline.apply(record):
                yield record, decision

    def settle(self, batch: Batch) -> None:
        """Compare what the pipeline came to with what the batch recorded. Raises `OrderBroken`."""
        if self.pipeline.seqs != batch.seqs or self.pipeline.now != batch.now:
            raise OrderBroken(
                f"after batch {batch.number} the log says seqs {batch.seqs} and now {batch.now}; "
                f"derived are seqs {self.pipeline.seqs} and now {self.pipeline.now}"
            )


class Written:
    """The decisions that stand in the log, taken one by one beside those derived."""

    def __init__(self, log: LogReader, partition: int, seqs: Mapping[str, int] | None = None) -> None:
        """From the start, or from the first decisions after `seqs` (the last `seq` of each account)."""
        self._cursors = {
            topic: Cursor(
                log, topic, partition, 0 if seqs is None else _position_after(log, topic, partition, seqs)
            )
            for topic in DECISIONS
        }
        self.partition = partition
        self.count = 0

    def expect(self, decision: Event) -> None:
        """The next decision of its topic must be this one, byte for byte. Raises `Divergence`."""
        cursor = self._cursors[decision.topic]
        stored = cursor.take()
        derived = encode(decision)
        if stored is None or stored.value != derived:
            offset = stored.offset if stored is not None else None
            raise Divergence(
                decision.topic, self.partition, offset, derived, stored.value if stored else None
            )
        if stored.key != decision.account.encode():  # type: ignore[attr-defined]
            raise Divergence(decision.topic, self.partition, stored.offset, derived, b"key " + stored.key)
        self.count += 1

    def expect_end(self) -> None:
        """No decision may stand behind the last batch. Raises `Divergence`."""
        for cursor in self._cursors.values():
            extra = cursor.take()
            if extra is not None:
                raise Divergence(cursor.topic, self.partition, extra.offset, None, extra.value)


def _position_after(log: LogReader, topic: str, partition: int, seqs: Mapping[str, int]) -> int:
    """The offset of the first decision of `topic` whose account's `seq` is beyond `seqs`."""
    first, end = log.bounds(topic, partition)
    position = end
    while position > first:
        page = max(first, position - PAGE)
        records = log.read(topic, partition, gte=page, lt=position, limit=PAGE)
        for record in reversed(records):
            event: Any = decode(topic, record.value)
            if isinstance(event, Unreadable) or event.seq <= seqs.get(event.account, 0):
                return record.offset + 1
        position = page
    return first
