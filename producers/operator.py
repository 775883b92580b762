"""What an operator writes: commands, in the partition of the account they concern."""

from __future__ import annotations

from producers.contract import Partitioned
from schemas import Event, NewRecord, new_record, partition_of

COMMANDS = "operator.commands"


def command_record(event: Event, log: Partitioned) -> NewRecord:
    """The record of a command, keyed by its account. Raises `ValueError` for any other event."""
    if event.topic != COMMANDS:
        raise ValueError(f"{type(event).__name__} is not an operator command")
    account: str = event.account  # type: ignore[attr-defined]  # every command has one
    return new_record(event, partition_of(account, log.partitions(COMMANDS)), account)
