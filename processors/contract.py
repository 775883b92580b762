"""What a processor is: a pure fold over records, whose state can be saved between any two of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from schemas import Event, Record


class Processor(Protocol):
    """Folds records. No clock, no chance, no I/O: what comes out depends on what went in, in order."""

    name: str
    version: str
    inputs: tuple[str, ...]
    """The topics it reads."""

    def apply(self, record: Record) -> Sequence[Event]:
        """Take one record; what it leads to, in order. State changes here, and only here."""
        ...

    def snapshot(self) -> bytes:
        """All state, as canonical bytes."""
        ...

    def restore(self, snapshot: bytes) -> None:
        """Be as a snapshot says."""
        ...
