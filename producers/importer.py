"""Import: market events of one source, appended to their topics, each exactly once.

An importer's position is what it wrote: the greatest `row` of its source at the end of each
topic's partition, and among the dead letters of what its quality gate set aside. An import killed
anywhere and repeated skips up to there and writes the rest, so that the log is the same as after an
undisturbed one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from eventlog import LogReader, last_rows
from producers.contract import Appender, Partitioned
from producers.marketdata.quality import imported_row
from schemas import DeadLetter, Event, NewRecord, decode, new_record, partition_of

DEAD_LETTERS = DeadLetter.topic
_PAGE = 1000


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
    before_first: Callable[[Event], None] = lambda event: None,
    batch: int = 5000,
) -> Imported:
    """Append `events`, all of `source` and with ascending rows, `batch` records at a time.

    `done` says which row each (topic, partition) holds of the source already: see `rows_done`.
    What a quality gate has set aside goes to the dead letters of its symbol. `progress` is
    called after each append, and `before_first` once, with the first market event that is to be
    written, before it is. Raises `ValueError` for an event of another source or out of order; whatever
    `events`, `writer` or `before_first` raises passes through, and the open batch is not written.
    """
    counts = Imported()
    fresh = _fresh_records(_in_order(events, source), log, done, counts, before_first)
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
    before_first: Callable[[Event], None],
) -> Iterator[NewRecord]:
    is_first = True
    for event, symbol, row in events:
        partition = partition_of(symbol, log.partitions(event.topic))
        if row <= done.get((event.topic, partition), 0):
            counts.skipped += 1
        else:
            if is_first and type(event) is not DeadLetter:
                is_first = False
                before_first(event)
            yield new_record(event, partition, symbol)


def _in_order(events: Iterable[Event], source: str) -> Iterator[tuple[Event, str, int]]:
    last = 0
    for event in events:
        symbol, origin, row = _identity(event)
        if origin != source:
            raise ValueError(f"{type(event).__name__} row {row} is not of source {source}")
        if row <= last:
            raise ValueError(f"source {source}: row {row} after row {last}")
        last = row
        yield event, symbol, row


def _identity(event: Any) -> tuple[str, str, int]:
    """Symbol, source and row, which every market event has; what was set aside keeps those it had."""
    if type(event) is not DeadLetter:
        return event.symbol, event.source, event.row
    source, row = imported_row(event) or ("", 0)
    return event.key, source, row


def rows_done(log: LogReader, source: str) -> dict[tuple[str, int], int]:
    """The last row of `source` in each partition of the market topics and of the dead letters."""
    done = last_rows(log, source)
    for partition in range(log.partitions(DEAD_LETTERS)):
        row = _last_letter(log, partition, source)
        if row is not None:
            done[DEAD_LETTERS, partition] = row
    return done


def _last_letter(log: LogReader, partition: int, source: str) -> int | None:
    first, position = log.bounds(DEAD_LETTERS, partition)
    while position > first:
        start = max(first, position - _PAGE)
        for record in reversed(log.read(DEAD_LETTERS, partition, gte=start, lt=position, limit=_PAGE)):
            event = decode(DEAD_LETTERS, record.value)
            found = imported_row(event) if isinstance(event, DeadLetter) else None
            if found and found[0] == source:
                return found[1]
        position = start
    return None
