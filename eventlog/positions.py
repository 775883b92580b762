"""Where an importer is: the greatest row of its source at the end of each market partition."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from eventlog.contract import LogReader, Stream
from schemas import TOPICS, Unreadable, decode

PAGE = 1000


def last_rows(log: LogReader, source: str) -> dict[Stream, int]:
    """The last row of `source` in each market partition that has any; read backwards from the ends."""
    found: dict[Stream, int] = {}
    for topic in TOPICS.values():
        if topic.kind != "market" or topic.name == "market.marks":
            continue
        for partition in range(log.partitions(topic.name)):
            last = last_of(log, (topic.name, partition), lambda event: event.source == source)
            if last is not None:
                found[topic.name, partition] = int(last.row)
    return found


def last_of(log: LogReader, stream: Stream, is_wanted: Callable[[Any], bool]) -> Any:
    """The last event of a partition that is wanted; None if there is none. Read backwards from the end."""
    first, position = log.bounds(*stream)
    while position > first:
        start = max(first, position - PAGE)
        for record in reversed(log.read(*stream, gte=start, lt=position, limit=PAGE)):
            event = decode(record.topic, record.value)
            if not isinstance(event, Unreadable) and is_wanted(event):
                return event
        position = start
    return None
