"""The breaker's decisions and the evidence they rest on."""

from __future__ import annotations

from decimal import Decimal

from schemas.decision import Decision
from schemas.declare import Value, event, value


@value
class Evidence(Value):
    """A price that a decision rests on: its tier (quote, trade, close) and the market event's identity."""

    symbol: str
    quantity: Decimal
    price: Decimal
    tier: str
    source: str
    ts: int


@event("risk.breaches")
class LimitBreached(Decision):
    """A limit on the account's loss was reached: value <= threshold."""

    limit: str
    value: Decimal
    threshold: Decimal
    session: str
    evidence: tuple[Evidence, ...]


@event("risk.breaches")
class BreakerReducing(Decision):
    """From now on only reductions pass, for `reason`; `reasons` are all that stand."""

    reason: str
    session: str
    ordinal: int
    detail: str
    reasons: tuple[str, ...]


@event("risk.breaches")
class BreakerHalted(Decision):
    """From now on no strategy's order passes, for `reason`; `reasons` are all that stand."""

    reason: str
    session: str
    ordinal: int
    detail: str
    reasons: tuple[str, ...]


@event("risk.breaches")
class BreakerCleared(Decision):
    """A reason no longer stands. `state` is ACTIVE, REDUCING or HALTED after it."""

    reason: str
    of: str
    who: str
    why: str
    state: str
    reasons: tuple[str, ...]
