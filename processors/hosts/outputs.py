"""What the hosts of keyed processors have in common: a record taken, its outputs placed and named."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from typing import Any

from processors.keyed import KeyedProcessor
from schemas import DeadLetter, Event, NewRecord, Record, Unreadable, exact, new_record, partition_of
from schemas.codec import read_into

DEAD_LETTERS = "dead-letters"


def take(processor: KeyedProcessor, record: Record) -> Sequence[Event]:
    """Give a record to a processor; one that cannot be read leads to a dead letter instead."""
    event = read_into(record).event
    if isinstance(event, Unreadable):
        return (
            DeadLetter(
                place=record.place,
                key=base64.b64encode(record.key).decode(),
                bytes=base64.b64encode(record.value).decode(),
                reason=event.reason,
            ),
        )
    with exact():
        return processor.apply(record)


def identity(event: Event) -> str:
    """What a repeat of the event has in common with it."""
    made: Any = event
    return str(made.place if isinstance(event, DeadLetter) else made.id)


def placed(event: Event, record: Record, partitions: Callable[[str], int]) -> NewRecord:
    """The record of an output: its account's or rule's partition; a dead letter stands by where it was."""
    made: Any = event
    count = partitions(event.topic)
    if isinstance(event, DeadLetter):
        return new_record(event, record.partition % count, str(record.partition % count))
    key = str(made.account if hasattr(made, "account") else made.rule)
    return new_record(event, partition_of(key, count), key)
