"""The alert rules, one input topic each. An alert's id is made of its rule and its cause."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar

import msgspec

from processors.keyed import NOTHING, KeyedProcessor, PerKey
from schemas import (
    Alert,
    Anomaly,
    BreakerCleared,
    BreakerHalted,
    BreakerReducing,
    Drift,
    Event,
    FeedGap,
    FeedRecovered,
    OrderDenied,
    Record,
    RoleHeartbeat,
    Unread,
    decision_id,
)

SECOND_NS = 1_000_000_000
Texts = dict[type, Callable[[Any], str]]
"""What is said of an event, by its type."""


class Nothing(msgspec.Struct):
    """No state."""


class _Rule(PerKey[Nothing]):
    """Tells of single events: `TEXTS` says of which, and how."""

    version = "1"
    outputs: tuple[str, ...] = ("alerts",)
    State = Nothing
    TEXTS: ClassVar[Texts]

    def fold(self, state: Nothing, record: Record) -> Sequence[Event]:
        """The alert of an event that is told of."""
        event: Any = record.event
        text = self.TEXTS.get(type(event))
        if text is None:
            return NOTHING
        is_market = record.topic.startswith("market.")
        cause = record.place if is_market else decision_id(event.account, event.seq)
        return (_alert(self.name, cause, event.ts, text(event)),)


class BreakerRule(_Rule):
    """An account's breaker trips, or is cleared."""

    name = "breaker"
    inputs: tuple[str, ...] = ("risk.breaches",)
    TEXTS: ClassVar[Texts] = {
        BreakerHalted: lambda e: f"account {e.account} is HALTED: {e.reason}. {e.detail}".strip(),
        BreakerReducing: lambda e: (
            f"account {e.account} is REDUCING, only reductions pass: {e.reason}. {e.detail}".strip()
        ),
        BreakerCleared: lambda e: f"account {e.account} is {e.state}: {e.reason} was cleared by {e.who}",
    }


def _failed(denied: OrderDenied) -> str:
    return ", ".join(check.name for check in denied.checks if not check.ok)


class OrderRule(_Rule):
    """An order is denied, or the books and the broker do not agree."""

    name = "orders"
    inputs: tuple[str, ...] = ("orders",)
    TEXTS: ClassVar[Texts] = {
        OrderDenied: lambda e: (
            f"account {e.account}: {e.side} {e.quantity} {e.symbol} was denied: {_failed(e)}"
        ),
        Anomaly: lambda e: f"account {e.account}: anomaly: {e.detail}",
        Drift: lambda e: (
            f"account {e.account}: {e.what} of {e.symbol} is {e.ours} in the books, {e.theirs} at the broker"
        ),
        Unread: lambda e: f"account {e.account}: {e.place} cannot be read: {e.reason}",
    }


class FeedRule(_Rule):
    """A market data feed has missed data, or is whole again."""

    name = "feed"
    inputs: tuple[str, ...] = ("market.status",)
    TEXTS: ClassVar[Texts] = {
        FeedGap: lambda e: f"feed {e.feed or '?'}: data of {e.symbol} are missing. {e.reason}".strip(),
        FeedRecovered: lambda e: f"feed {e.feed or '?'}: {e.symbol} is whole again",
    }


class Pulse(msgspec.Struct):
    """What a role said last (UTC ns), and what has been told of it."""

    last: int
    error: str = ""
    late_since: int = 0
    told_late: bool = False
    told_silent: bool = False


class Pulses(msgspec.Struct):
    """Every role's pulse, by role and instance."""

    roles: dict[str, Pulse] = {}
    now: int = 0


class RoleRule(PerKey[Pulses]):
    """A role is in error, behind for some time, or silent while others are heard.

    Where every role is silent, nothing tells of it: see to that from outside the log.
    """

    name = "roles"
    version = "1"
    inputs: tuple[str, ...] = ("roles",)
    outputs: tuple[str, ...] = ("alerts",)
    State = Pulses

    def __init__(self, *, silent_s: int = 30, behind: int = 10_000, behind_s: int = 30) -> None:
        """Silent after `silent_s` seconds; late when more than `behind` records behind for `behind_s`."""
        super().__init__()
        self._silent_ns, self._behind_ns = silent_s * SECOND_NS, behind_s * SECOND_NS
        self._behind = behind
        self.version = f"1-{silent_s}-{behind}-{behind_s}"

    def key(self, record: Record) -> str:
        """All roles together: one that is silent is noticed by what others say."""
        return str(record.partition)

    def fold(self, state: Pulses, record: Record) -> Sequence[Event]:
        """The alerts that a heartbeat leads to."""
        beat = record.event
        if not isinstance(beat, RoleHeartbeat):
            return NOTHING
        name = f"{beat.role}/{beat.instance}"
        state.now = max(state.now, beat.ts)
        pulse = state.roles.setdefault(name, Pulse(beat.ts))
        pulse.last, pulse.told_silent = max(pulse.last, beat.ts), False
        return [*self._of(name, pulse, beat), *self._silent(state)]

    def _of(self, name: str, pulse: Pulse, beat: RoleHeartbeat) -> Iterator[Event]:
        """What the role says of itself."""
        if beat.error and beat.error != pulse.error:
            yield _alert(self.name, f"{name}/error/{beat.ts}", beat.ts, f"role {name}: {beat.error}")
        pulse.error = beat.error
        if beat.behind is None or beat.behind <= self._behind:
            pulse.late_since, pulse.told_late = 0, False
            return
        pulse.late_since = pulse.late_since or beat.ts
        if not pulse.told_late and beat.ts - pulse.late_since >= self._behind_ns:
            pulse.told_late = True
            text = f"role {name} is {beat.behind:,} records behind"
            yield _alert(self.name, f"{name}/behind/{pulse.late_since}", beat.ts, text)

    def _silent(self, state: Pulses) -> Iterator[Event]:
        """Who has not been heard of."""
        for name, pulse in sorted(state.roles.items()):
            if not pulse.told_silent and state.now - pulse.last >= self._silent_ns:
                pulse.told_silent = True
                silent_s = (state.now - pulse.last) // SECOND_NS
                text = f"role {name} has been silent for {silent_s} s"
                yield _alert(self.name, f"{name}/silent/{pulse.last}", state.now, text)


def _alert(rule: str, cause: str, ts: int, text: str) -> Alert:
    return Alert(id=f"{rule}/{cause}", rule=rule, ts=ts, cause=cause, text=text)


RULES: dict[str, Callable[[], KeyedProcessor]] = {
    "breaker": BreakerRule,
    "orders": OrderRule,
    "roles": RoleRule,
    "feed": FeedRule,
}
"""Every rule by its name."""
