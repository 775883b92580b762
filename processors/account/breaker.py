"""The circuit breaker: a set of reasons to halt, a set of reasons to reduce, and the loss conditions.

HALTED while any halt stands, else REDUCING while any reducing reason stands, else ACTIVE. Each
reason is set once and cleared on its own; a recovering price clears nothing.
"""

from __future__ import annotations

from decimal import Decimal
from typing import NamedTuple

import msgspec

from schemas import ZERO, Limits, plain
from schemas.decimals import WIDE

ACTIVE, REDUCING, HALTED = "ACTIVE", "REDUCING", "HALTED"

DAY_LOSS = "day-loss"
ABSOLUTE_LOSS = "absolute-loss"
DRAWDOWN = "drawdown"
OPERATOR = "operator"
INTEGRITY = "integrity"
DRIFT = "drift"
STALE = "stale"
OVERFILL = "overfill"

LOSSES = (DAY_LOSS, ABSOLUTE_LOSS, DRAWDOWN)


class Breaker(msgspec.Struct):
    """The reasons that stand, each with what it rests on; and how often each tripped in a session."""

    halts: dict[str, str] = msgspec.field(default_factory=dict)
    reduces: dict[str, str] = msgspec.field(default_factory=dict)
    trips: dict[str, int] = msgspec.field(default_factory=dict)
    trips_session: str = ""

    @property
    def state(self) -> str:
        """ACTIVE, REDUCING or HALTED."""
        if self.halts:
            return HALTED
        return REDUCING if self.reduces else ACTIVE

    @property
    def reasons(self) -> tuple[str, ...]:
        """All that stand, in order of name."""
        return tuple(sorted({*self.halts, *self.reduces}))

    def halt(self, reason: str, detail: str, session: str) -> int:
        """Set a halt; its ordinal in the session, or 0 if it stands already."""
        if reason in self.halts:
            return 0
        self.halts[reason] = detail
        return self._count(f"halt {reason}", session)

    def reduce(self, reason: str, detail: str, session: str) -> int:
        """Set a reducing reason; its ordinal in the session, or 0 if it stands already."""
        if reason in self.reduces:
            return 0
        self.reduces[reason] = detail
        return self._count(f"reduce {reason}", session)

    def _count(self, trip: str, session: str) -> int:
        if session != self.trips_session:
            self.trips, self.trips_session = {}, session
        self.trips[trip] = self.trips.get(trip, 0) + 1
        return self.trips[trip]


class Loss(NamedTuple):
    """A loss condition: reached when `value` <= `threshold` (both dollars, negative for a loss)."""

    reason: str
    halts: bool
    value: Decimal
    threshold: Decimal

    @property
    def reached(self) -> bool:
        """Inclusive: exactly at the threshold counts."""
        return self.value <= self.threshold

    @property
    def text(self) -> str:
        """For people."""
        return f"{plain(self.value)} <= {plain(self.threshold)}"


def losses(limits: Limits, equity: Decimal, flows: Decimal, baseline: Decimal, peak: Decimal) -> list[Loss]:
    """The loss conditions in force, at this equity. Products only, and exact: no division decides a halt."""
    day = equity - flows - baseline
    found = []
    if limits.day_loss is not None:
        found.append(Loss(DAY_LOSS, True, day, WIDE.multiply(-limits.day_loss, baseline)))
    if limits.absolute_loss is not None:
        found.append(Loss(ABSOLUTE_LOSS, True, day, -limits.absolute_loss))
    if limits.drawdown is not None:
        found.append(Loss(DRAWDOWN, True, equity - peak, WIDE.multiply(-limits.drawdown, peak)))
    if limits.day_loss_reduce is not None and limits.day_loss is not None:
        found.append(Loss(DAY_LOSS, False, day, WIDE.multiply(-limits.day_loss_reduce, baseline)))
    return found


def watch_level(
    breaker: Breaker, limits: Limits, flows: Decimal, baseline: Decimal, peak: Decimal
) -> Decimal | None:
    """The equity at or below which a condition that does not stand yet would be reached; None: no such."""
    levels = []
    for loss in losses(limits, ZERO, flows, baseline, peak):
        standing = breaker.halts if loss.halts else breaker.reduces
        if loss.reason in standing or (not loss.halts and loss.reason in breaker.halts):
            continue
        levels.append(WIDE.subtract(loss.threshold, loss.value))
    return max(levels) if levels else None
