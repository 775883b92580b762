"""What a strategy wants, before the account has looked at it."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Literal

from schemas.decision import Decision
from schemas.declare import Event, Field, event
from schemas.market import Price, Text
from schemas.orders import OrderType, Quantity, Side, TimeInForce

Intent = Literal["target", "order", "cancel", "replace"]


@event("strategy.proposals")
class Proposal(Event):
    """A target (weight of equity, or shares), an order, a cancel or a replacement.

    `id` is made of strategy, version, and the identity and ordinal of its cause. `source`,
    `position` and `ordinal` order the proposals of a strategy: one at or below the last seen
    from the same source is a repeat. `ts` is the time of what it was made on (UTC ns).
    """

    id: Text
    account: Text
    ts: int
    strategy: Text
    version: Text
    cause: Text
    source: Text
    position: Annotated[int, Field(ge=0)]
    ordinal: Annotated[int, Field(ge=0)]
    intent: Intent
    symbol: Text
    weight: Decimal | None = None
    shares: Decimal | None = None
    side: Side | None = None
    quantity: Quantity | None = None
    order_type: OrderType = "market"
    limit: Price | None = None
    stop: Price | None = None
    tif: TimeInForce = "day"
    extended: bool = False
    order: str = ""
    confidence: Decimal | None = None
    features: dict[str, str] = {}  # noqa: RUF012


@event("signals")
class Signal(Decision):
    """A proposal, as the core took it. Root of the trace of the orders it leads to."""

    proposal: str
    strategy: str
    version: str
    intent: Intent
    symbol: str
    weight: Decimal | None
    shares: Decimal | None
    side: Side | None
    quantity: Quantity | None
    order_type: OrderType
    limit: Price | None
    stop: Price | None
    tif: TimeInForce
    extended: bool
    order: str
    confidence: Decimal | None
    features: dict[str, str]
