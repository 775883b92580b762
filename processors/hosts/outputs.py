"""What hosts have in common: dead letters; those of keyed processors, a record taken, its outputs placed."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from typing import Any

from processors.keyed import KeyedProcessor
from schemas import DeadLetter, Event, NewRecord, Record, Unreadable, exact, new_record, partition_of
from schemas.codec import read_into

DEAD_LETTERS = "dead-letters"

COPIED_MAX = 1024 * 1024
"""Bytes of a key, and of a value, that a letter copies: it has to fit into a record, which they may fill."""


def dead_letter(record: Record, reason: str) -> DeadLetter:
    """What says that a record could not be read. All of its bytes stay where they are."""
    return DeadLetter(
        place=record.place,
        key=base64.b64encode(record.key[:COPIED_MAX]).decode(),
        bytes=base64.b64encode(record.value[:COPIED_MAX]).decode(),
        reason=reason,
    )


def take(processor: KeyedProcessor, record: Record) -> Sequence[Event]:
    """Give a record to a processor; one that cannot be read leads to a dead letter instead."""
    event = read_into(record).event
    if isinstance(event, Unreadable):
        return (dead_letter(record, event.reason),)
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
