"""What every host of the core does with an input: apply it, remember the order, commit in batches.

A batch is one append: the decisions, the batch with its order of inputs, and now and then a snapshot.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from eventlog.contract import Writer
from processors.account.unread import problem
from processors.hosts.journal import journal_records, make_batch, make_snapshot
from processors.hosts.merge import Stream
from processors.hosts.outputs import dead_letter
from processors.hosts.recovery import Recovered
from schemas import (
    CORE_ACCOUNT_INPUTS,
    Configured,
    Event,
    NewRecord,
    Record,
    Snapshot,
    Unreadable,
    encode,
    evolve,
)


class Worker:
    """Applies records and commits them in batches."""

    def __init__(
        self,
        writer: Writer,
        core: Recovered,
        partition: int,
        snapshot_every: int,
        firsts: Mapping[Stream, int],
    ) -> None:
        """`firsts` are the streams in order, with the first offset that each of them has."""
        self.core, self.streams = core, list(firsts)
        self.order = bytearray()
        """The sources of the inputs applied and not yet committed."""
        self.taken = 0
        self.decisions = 0
        self._facts = {i for i, (topic, _) in enumerate(self.streams) if topic in CORE_ACCOUNT_INPUTS}
        self._writer, self._partition = writer, partition
        self._snapshot_every = snapshot_every
        self._since_snapshot = core.replayed
        self._next = [core.positions.get(stream, first) for stream, first in firsts.items()]
        """Of each stream, the next offset to read."""
        self._before = self.positions
        self._made: list[NewRecord] = []
        self._dead: list[Event] = []

    @property
    def positions(self) -> dict[Stream, int]:
        """The next offset of each stream."""
        return dict(zip(self.streams, self._next, strict=True))

    @property
    def has_decided(self) -> bool:
        """Whether what is not committed yet led to decisions, or has to be set aside."""
        return bool(self._made or self._dead)

    def take(self, source: int, record: Record) -> None:
        """Apply one input."""
        made = self.core.pipeline.apply(record)
        self.order.append(source)
        self._next[source] = record.offset + 1
        if made:
            self._made.extend(decision_record(event, self._partition) for event in made)
        if (type(record.event) is Unreadable or source in self._facts) and (why := problem(record)):
            self._dead.append(dead_letter(record, why))

    def commit(self) -> None:
        """Append what is pending: decisions, the batch, and a snapshot when one is due."""
        core, positions = self.core, self.positions
        batch = make_batch(
            self._partition,
            core.next_batch,
            core.epoch,
            self.streams,
            self._before,
            bytes(self.order),
            positions,
            core.pipeline.seqs,
            core.pipeline.now,
        )
        self._since_snapshot += len(self.order)
        due = self._since_snapshot >= self._snapshot_every
        journal = [*self._dead, batch, *(self._snapshot(batch.number) if due else ())]
        self._writer.append([*self._made, *journal_records(journal, self._partition)])
        self._since_snapshot = 0 if due else self._since_snapshot
        self.taken += len(self.order)
        self.decisions += len(self._made)
        core.next_batch += 1
        self._before = positions
        self.order.clear()
        self._made.clear()
        self._dead.clear()

    def finish(self) -> None:
        """Commit what is pending, and a snapshot of the end: another configuration may begin there."""
        if self.order:
            self.commit()
        if self._since_snapshot:
            self._writer.append(journal_records(self._snapshot(self.core.next_batch - 1), self._partition))
            self._since_snapshot = 0

    def _snapshot(self, batch: int) -> list[Snapshot]:
        return make_snapshot(self._partition, self.core.epoch, batch, self.core.pipeline.snapshot())


def open_epoch(writer: Writer, core: Recovered, configured: Configured) -> None:
    """Write the configuration of a new epoch, after the snapshot that closes the one before it."""
    if core.new_epoch:
        opened = evolve(configured, epoch=core.epoch)
        writer.append(journal_records([*core.closing, opened], opened.partition))


@contextmanager
def rare_collections() -> Iterator[None]:
    """Look for reference cycles rarely: events have none, and a scan of all pages read costs a third."""
    before = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(200_000, 20, 100)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


def decision_record(event: Event, partition: int) -> NewRecord:
    """A decision's record: it stands in the core's partition under its account."""
    account: str = event.account  # type: ignore[attr-defined]
    return NewRecord(event.topic, partition, account.encode(), encode(event))
