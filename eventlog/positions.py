"""Where an importer is: the greatest row of its source at the end of each market partition."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from eventlog.contract import LogReader, Stream
from schemas import TOPICS, Unreadable, decode

PAGE, PAGE_MAX = 1000, 64_000
"""Records of the first look back, and of the largest: each is twice the one before."""


def last_rows(log: LogReader, source: str) -> dict[Stream, int]:
    """The last row of `source` in each market partition that has any; read backwards from the ends."""
    found: dict[Stream, int] = {}
    for topic in TOPICS.values():
        if topic.kind != "market" or topic.name == "market.marks":
            continue
        for partition in range(log.partitions(topic.name)):
            last = last_of_source(log, (topic.name, partition), source)
            if last is not None:
                found[topic.name, partition] = int(last.row)
    return found


def last_of_source(log: LogReader, stream: Stream, source: str) -> Any:
    """The last event of a source in a market partition; None if there is none."""
    return last_of(log, stream, lambda event: event.source == source, containing=msgspec.json.encode(source))


def last_of(
    log: LogReader, stream: Stream, is_wanted: Callable[[Any], bool], *, containing: bytes = b""
) -> Any:
    """The last event of a partition that is wanted; None if there is none. Read backwards from the end.

    `containing`: what each that is wanted holds, as it was written; the others are not decoded.
    """
    (first, position), page = log.bounds(*stream), PAGE
    while position > first:
        start = max(first, position - page)
        for record in reversed(log.read(*stream, gte=start, lt=position, limit=page)):
            if containing not in record.value:
                continue
            event = decode(record.topic, record.value)
            if not isinstance(event, Unreadable) and is_wanted(event):
                return event
        position, page = start, min(2 * page, PAGE_MAX)
    return None
