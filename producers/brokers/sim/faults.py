"""The faults of the simulated broker: what goes wrong, how often, by chance of a seed."""

from __future__ import annotations

import random
import re
import threading
from collections.abc import Mapping

from producers.brokers.sim.api import FaultSettings

FAULTS = {
    "delay": "an answer comes late, by a time within `delay_ms`",
    "lose_answer": "the request is done, and the connection closed without an answer",
    "lose_request": "nothing is done, and the connection closed without an answer",
    "repeat_update": "an update is sent twice",
    "reorder_updates": "an update is sent after the next one of its account, or half a second late",
    "early_fill": "the updates of a new order come before its answer",
    "fill_on_cancel": "an order fills while its cancel is on its way; the cancel is rejected",
    "late_fill": "half of a cancelled order's rest was executed all the same; told `late_ms` later",
    "bust": "an execution is withdrawn again",
    "correct": "an execution's price is corrected by a cent",
    "reject": "a new order is rejected",
    "disconnect": "the update streams are closed, and the update is lost",
}
"""Each fault, and what it does."""

_NEXT = re.compile(r"([0-9]{1,9})x")


class BadFault(ValueError):
    """A fault that there is not, or a frequency that cannot be read."""


class Faults:
    """Says of each occasion whether a fault strikes. May be asked from several threads."""

    def __init__(self, settings: FaultSettings | None = None) -> None:
        self._lock = threading.Lock()
        self._random = random.Random(0)
        self._chances: dict[str, float] = {}
        self._counts: dict[str, int] = {}
        self.settings = FaultSettings()
        if settings is not None:
            self.set(settings)

    def set(self, settings: FaultSettings) -> None:
        """These faults instead of all before; a seed begins its chances anew. Raises `BadFault`."""
        chances, counts = _read(settings.faults)
        with self._lock:
            self._chances, self._counts, self.settings = chances, counts, settings
            if settings.seed is not None:
                self._random.seed(settings.seed)

    def strikes(self, name: str) -> bool:
        """Whether it goes wrong this time."""
        if not self._chances and not self._counts:
            return False
        with self._lock:
            if left := self._counts.get(name, 0):
                self._counts[name] = left - 1
                return True
            chance = self._chances.get(name, 0.0)
            return chance > 0 and self._random.random() < chance

    @property
    def delay_s(self) -> float:
        """How late an answer is that comes late."""
        least, most = self.settings.delay_ms
        with self._lock:
            return self._random.uniform(least, max(least, most)) / 1000

    @property
    def late_s(self) -> float:
        """How late a late fill is told."""
        return self.settings.late_ms / 1000


def _read(faults: Mapping[str, str]) -> tuple[dict[str, float], dict[str, int]]:
    chances: dict[str, float] = {}
    counts: dict[str, int] = {}
    for name, text in faults.items():
        if name not in FAULTS:
            raise BadFault(f"there is no fault '{name}'; there are {', '.join(FAULTS)}")
        if found := _NEXT.fullmatch(text):
            counts[name] = int(found[1])
            continue
        try:
            chance = float(text)
        except ValueError:
            chance = -1.0
        if not 0 <= chance <= 1:
            raise BadFault(f"{name}={text}: give a probability from 0 to 1, or a count of occasions as in 3x")
        chances[name] = chance
    return chances, counts
