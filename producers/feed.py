"""How every feed writes to a log: what is too far ahead of its receipt is parked.

On a log on wall time the market's `now` is the greatest time seen, and a single record from the
future would move it for everybody. So what is more than `AHEAD_MAX` ahead of the clock goes to the
dead letters, with the reason, and not into the market topics.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from eventlog import LogReader
from producers.contract import Appender
from producers.marketdata.quality import iso_ns, set_aside
from producers.sessions import SECOND_NS
from schemas import DeadLetter, Event, NewRecord, new_record, partition_of

AHEAD_MAX = 5 * SECOND_NS
FUTURE = "ahead of its receipt"
WRITER = "feed"
"""The writer id of feeds: one at a time."""

Clock = Callable[[], int]
"""The time (UTC ns)."""


class Feed:
    """Appends market events, each in the partition of its symbol.

    `written` counts them by topic, `parked` those that were ahead of their receipt.
    """

    def __init__(self, log: LogReader, writer: Appender, clock: Clock = time.time_ns) -> None:
        self.written: Counter[str] = Counter()
        self.parked = 0
        self._log, self._writer, self._clock = log, writer, clock
        self._counts: dict[str, int] = {}

    def append(self, events: Sequence[Event]) -> None:
        """Append market events, and what a quality gate has put in the place of some, in one append."""
        now = self._clock()
        latest = now + AHEAD_MAX if self._log.time == "wall" else None
        records = [self._record(event, now, latest) for event in events]
        self._writer.append(records)
        self.written.update([record.topic for record in records])

    def partition(self, event: Event) -> int:
        """Where an event goes."""
        return partition_of(symbol_of(event), self._count(event.topic))

    def _record(self, event: Any, now: int, latest: int | None) -> NewRecord:
        if latest is not None and type(event) is not DeadLetter and event.ts > latest:
            self.parked += 1
            event = set_aside(event, f"{FUTURE}: {iso_ns(event.ts)}, received at {iso_ns(now)}")
        symbol = symbol_of(event)
        return new_record(event, partition_of(symbol, self._count(event.topic)), symbol)

    def _count(self, topic: str) -> int:
        count = self._counts.get(topic)
        if count is None:
            count = self._counts[topic] = self._log.partitions(topic)
        return count


def symbol_of(event: Any) -> str:
    """The symbol of a market event, or of one that was set aside."""
    symbol: str = event.key if type(event) is DeadLetter else event.symbol
    return symbol
