"""Import: market events of one source, appended to their topics, each exactly once.

An importer's position is what it wrote: the greatest `row` of its source at the end of each
topic's partition. An import killed anywhere and repeated skips up to there and writes the rest,
so that the log is the same as after an undisturbed one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from producers.contract import Appender, Partitioned
from schemas import Event, NewRecord, new_record, partition_of


@dataclass
class Imported:
    """How many events were written, by topic, and how many had been there before."""

    written: Counter[str] = field(default_factory=Counter)
    skipped: int = 0

    @property
    def total(self) -> int:
        """Events gone through so far."""
        return self.written.total() + self.skipped


def import_events(
    events: Iterable[Event],
    log: Partitioned,
    writer: Appender,
    *,
    source: str,
    done: Mapping[tuple[str, int], int],
    progress: Callable[[Imported], None] | None = None,
    batch: int = 5000,
) -> Imported:
    """Append `events`, all of `source` and with ascending rows, `batch` records at a time.

    `done` says which row each (topic, partition) holds of the source already. `progress` is
    called after each append. Raises `ValueError` for an event of another source or out of order;
    whatever `events` or `writer` raises passes through, and the open batch is not written.
    """
    counts = Imported()
    fresh = _fresh_records(_in_order(events, source), log, done, counts)
    while records := list(islice(fresh, batch)):
        writer.append(records)
        counts.written.update(record.topic for record in records)
        if progress is not None:
            progress(counts)
    return counts


def _fresh_records(
    events: Iterable[tuple[Event, str, int]],
    log: Partitioned,
    done: Mapping[tuple[str, int], int],
    counts: Imported,
) -> Iterator[NewRecord]:
    for event, symbol, row in events:
        partition = partition_of(symbol, log.partitions(event.topic))
        if row <= done.get((event.topic, partition), 0):
            counts.skipped += 1
        else:
            yield new_record(event, partition, symbol)


def _in_order(events: Iterable[Event], source: str) -> Iterator[tuple[Event, str, int]]:
    last = 0
    event: Any  # what they share is no type of its own: every market event has symbol, source and row
    for event in events:
        if event.source != source:
            raise ValueError(f"{type(event).__name__} row {event.row} is not of source {source}")
        if event.row <= last:
            raise ValueError(f"source {source}: row {event.row} after row {last}")
        last = event.row
        yield event, event.symbol, last
