"""Following the recorded order: the same facts through the same code, compared with what was written.

Recovery, `verify` and `state_at` all follow batches through `Replay`; they differ in where they
start and in what they do with a difference.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from eventlog.contract import LogReader
from eventlog.errors import LogError
from processors.hosts.journal import Saved, batches, newest_snapshot, order_of, search, state_of
from processors.hosts.merge import Stream
from processors.pipeline import Pipeline
from schemas import DECISIONS, Batch, Configured, Event, Record, decode, encode

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
    """A batch cannot be followed: its inputs are not in the log, or lead nowhere."""


class NotRestored(LogError):
    """The state of a snapshot is not one that the installed code can take."""


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


class Replay:
    """Applies batches in their recorded order to a pipeline."""

    def __init__(
        self, log: LogReader, partition: int, pipeline: Pipeline, after: Batch | None = None
    ) -> None:
        """`after` is the batch whose state the pipeline has; None: that of the log's start."""
        self.log, self.partition, self.pipeline = log, partition, pipeline
        self._cursors: dict[Stream, Cursor] = {}
        for part in after.inputs if after is not None else ():
            stream = (part.topic, part.partition)
            self._cursors[stream] = Cursor(log, *stream, part.next)

    def records(self, batch: Batch) -> Iterator[Record]:
        """The records a batch took, in the order it took them, decoded. Raises `OrderBroken`."""
        cursors = [self._cursor((i.topic, i.partition)) for i in batch.inputs]
        for part, cursor in zip(batch.inputs, cursors, strict=True):
            if part.first != cursor.position:
                raise _broken(batch, f"begins {_name(cursor)} at {part.first}; {cursor.position} was next")
        for index in order_of(batch):
            cursor = cursors[index]
            record = cursor.take()
            if record is None or record.offset >= batch.inputs[index].next:
                raise _broken(batch, f"took a record of {_name(cursor)} that is not in the log")
            record.event = decode(record.topic, record.value)
            yield record
        for part, cursor in zip(batch.inputs, cursors, strict=True):
            if part.next != cursor.position:
                raise _broken(batch, f"ends {_name(cursor)} at {part.next}, not at {cursor.position}")

    def _cursor(self, stream: Stream) -> Cursor:
        cursor = self._cursors.get(stream)
        if cursor is None:
            first, _ = self.log.bounds(*stream)
            cursor = self._cursors[stream] = Cursor(self.log, *stream, first)
        return cursor

    def apply(self, batch: Batch) -> Iterator[Event]:
        """Apply a batch; the decisions it leads to. `OrderBroken` if it ends otherwise than recorded."""
        for record in self.records(batch):
            yield from self.take(record)
        if self.pipeline.seqs != batch.seqs or self.pipeline.now != batch.now:
            raise _broken(
                batch,
                f"ends with seqs {batch.seqs} and now {batch.now}; "
                f"derived are seqs {self.pipeline.seqs} and now {self.pipeline.now}",
            )

    def take(self, record: Record) -> Sequence[Event]:
        """Apply one record; the decisions it leads to. What was decided once must not fail now."""
        try:
            return self.pipeline.apply(record)
        except Exception as problem:
            raise OrderBroken(f"{record.place} cannot be applied again: {problem}") from problem


def _broken(batch: Batch, what: str) -> OrderBroken:
    return OrderBroken(f"batch {batch.number} of partition {batch.partition} {what}")


def _name(cursor: Cursor) -> str:
    return f"{cursor.topic}/{cursor.partition}"


class Written:
    """The decisions that stand in the log, taken one by one beside those derived."""

    def __init__(self, log: LogReader, partition: int, seqs: Mapping[str, int] | None = None) -> None:
        """From the start, or from the first decisions after `seqs` (the last `seq` of each account)."""
        self.log, self.partition = log, partition
        self._ends = {topic: log.bounds(topic, partition)[1] for topic in DECISIONS}
        self.seek(seqs or {})

    def seek(self, seqs: Mapping[str, int]) -> None:
        """Go on with the first decisions after `seqs`."""
        self._cursors = {
            topic: Cursor(
                self.log, topic, self.partition, position_after(self.log, topic, self.partition, seqs)
            )
            for topic in DECISIONS
        }

    def expect(self, decision: Event) -> None:
        """The next decision of its topic must be this one, byte for byte. Raises `Divergence`."""
        stored = self._cursors[decision.topic].take()
        derived = encode(decision)
        if stored is None:
            raise Divergence(decision.topic, self.partition, None, derived, None)
        if stored.value != derived:
            raise Divergence(decision.topic, self.partition, stored.offset, derived, stored.value)
        if stored.key != decision.account.encode():  # type: ignore[attr-defined]
            raise Divergence(decision.topic, self.partition, stored.offset, derived, b"key " + stored.key)

    def expect_end(self) -> None:
        """No decision may stand behind the last batch. Raises `Divergence`.

        Those of batches that were written since this was made are not meant.
        """
        for topic, cursor in self._cursors.items():
            extra = cursor.take()
            if extra is not None and extra.offset < self._ends[topic]:
                raise Divergence(topic, self.partition, extra.offset, None, extra.value)


def position_after(log: LogReader, topic: str, partition: int, seqs: Mapping[str, int]) -> int:
    """Where the decisions begin whose `seq` is beyond their account's in `seqs`."""
    if not seqs:
        return log.bounds(topic, partition)[0]

    def beyond(decision: Any) -> bool:
        return bool(decision.seq > seqs.get(decision.account, 0))

    return search(log, topic, partition, object, beyond)


def restore(pipeline: Pipeline, chunks: Saved) -> None:
    """Give a pipeline the state of a snapshot. Raises `LogDamaged`, `NotRestored`."""
    state = state_of(chunks)
    try:
        pipeline.restore(state)
    except Exception as problem:
        raise NotRestored(
            f"the snapshot after batch {chunks[0].batch} of partition {chunks[0].partition} "
            f"cannot be restored: {type(problem).__name__}: {problem}"
        ) from problem


def from_snapshot(
    log: LogReader, partition: int, pipeline: Pipeline, number: int
) -> tuple[Replay, Batch | None]:
    """A replay on the way to the end of batch `number`: from the newest snapshot up to there.

    Gives the batch whose state the pipeline has; None where there is no snapshot.
    """
    newest = newest_snapshot(log, partition, number)
    if newest is None:
        return Replay(log, partition, pipeline), None
    restore(pipeline, newest)
    after = next(batches(log, partition, newest[0].batch))
    return Replay(log, partition, pipeline, after), after
