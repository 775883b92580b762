"""Where an importer is: the greatest row of its source at the end of each market partition."""

from __future__ import annotations

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
            row = _last_row(log, topic.name, partition, source)
            if row is not None:
                found[topic.name, partition] = row
    return found


def _last_row(log: LogReader, topic: str, partition: int, source: str) -> int | None:
    first, position = log.bounds(topic, partition)
    while position > first:
        start = max(first, position - PAGE)
        for record in reversed(log.read(topic, partition, gte=start, lt=position, limit=PAGE)):
            event: Any = decode(topic, record.value)
            if not isinstance(event, Unreadable) and event.source == source:
                return int(event.row)
        position = start
    return None
