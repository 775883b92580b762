"""Processors that fold one topic with state per key: what runs outside the core, in any host.

A key's records stand in one partition, in order; the state of one never depends on another's. So a
host may keep the states apart, and give each to whichever process has its partition.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Generic, Protocol, TypeVar

import msgspec

from processors.contract import Processor
from schemas import Event, Record

NOTHING: tuple[Event, ...] = ()


class KeyedProcessor(Processor, Protocol):
    """A processor of one topic whose state falls apart by key. Its `inputs` are one topic."""

    outputs: tuple[str, ...]
    """The topics it writes; every event of them has an `id` that its cause determines."""

    def key(self, record: Record) -> str:
        """Which state a record is folded into: a part of its partition."""
        ...

    def save(self, key: str) -> str:
        """The state of a key, as canonical text."""
        ...

    def load(self, key: str, saved: str) -> None:
        """Be, for a key, as was saved."""
        ...


S = TypeVar("S", bound=msgspec.Struct)


class PerKey(Generic[S]):
    """Keeps a state for each key. A subclass names its `State` and says how `fold` changes one."""

    name: str
    version: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    State: ClassVar[Any]
    """A msgspec struct that can be made without arguments."""

    def __init__(self) -> None:
        self._states: dict[str, S] = {}

    def fold(self, state: S, record: Record) -> Sequence[Event]:
        """Take a record into its key's state; what it leads to."""
        raise NotImplementedError

    def key(self, record: Record) -> str:
        """Partition and key: a key that somebody wrote into a wrong partition has a state of its own."""
        return f"{record.partition}/{record.key.decode('latin-1')}"

    def apply(self, record: Record) -> Sequence[Event]:
        """Take one record, which can be read."""
        key = self.key(record)
        state = self._states.get(key)
        if state is None:
            state = self._states[key] = self.State()
        return self.fold(state, record)

    def save(self, key: str) -> str:
        """The state of a key as JSON."""
        return msgspec.json.encode(self._states.get(key) or self.State(), order="deterministic").decode()

    def load(self, key: str, saved: str) -> None:
        """Give a key the state that was saved."""
        self._states[key] = msgspec.json.decode(saved, type=self.State)

    def snapshot(self) -> bytes:
        """The states of all keys, as canonical JSON."""
        return msgspec.json.encode(self._states, order="deterministic")

    def restore(self, snapshot: bytes) -> None:
        """Go back to a snapshot's states."""
        self._states = msgspec.json.decode(snapshot, type=dict[str, self.State])  # type: ignore[name-defined]
