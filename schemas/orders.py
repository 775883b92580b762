"""What an order is, and what the core decides about it."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Literal

from schemas.decision import Decision
from schemas.declare import Field, Value, event, value
from schemas.market import Price

Quantity = Annotated[Decimal, Field(gt=0)]
Filled = Annotated[Decimal, Field(ge=0)]
Side = Literal["buy", "sell"]
OrderType = Literal["market", "limit", "stop", "stop_limit"]
TimeInForce = Literal["day", "gtc", "ioc", "fok"]
Status = Literal[
    "requested",
    "accepted",
    "working",
    "partial",
    "filled",
    "cancelled",
    "expired",
    "rejected",
    "denied",
    "unknown",
]
Pending = Literal["none", "cancel", "replace"]


@value
class Check(Value):
    """One risk check: what was found and what it was held against. Empty text: not known."""

    name: str
    ok: bool
    value: str
    limit: str


@event("orders")
class OrderRequested(Decision):
    """A signal or command, sized: the order that Tape would like to send.

    `since` is the time of the quote, bar or command that led to it (UTC ns): of a late one it is before
    `ts`. 0: not recorded.
    """

    order: str
    strategy: str
    symbol: str
    side: Side
    quantity: Quantity
    order_type: OrderType
    limit: Price | None
    stop: Price | None
    tif: TimeInForce
    extended: bool
    since: int = 0


@event("orders")
class OrderAccepted(Decision):
    """The order passed every check and goes to the broker under `order` as its client id."""

    order: str
    strategy: str
    symbol: str
    side: Side
    quantity: Quantity
    order_type: OrderType
    limit: Price | None
    stop: Price | None
    tif: TimeInForce
    extended: bool
    reduces: bool
    quote: str
    checks: tuple[Check, ...]


@event("orders")
class OrderDenied(Decision):
    """The order failed at least one check; all that failed are in `checks`."""

    order: str
    strategy: str
    symbol: str
    side: Side
    quantity: Quantity
    reduces: bool
    quote: str
    checks: tuple[Check, ...]


@event("orders")
class OrderChanged(Decision):
    """The order's state after something happened to it.

    `pending` is what was asked of the broker and not yet answered; with "replace",
    `new_quantity`, `new_limit` and `new_stop` are what was asked for. `fix` is the FIX OrdStatus.
    """

    order: str
    strategy: str
    symbol: str
    side: Side
    status: Status
    pending: Pending
    fix: str
    quantity: Quantity
    filled: Filled
    leaves: Filled
    limit: Price | None
    stop: Price | None
    new_quantity: Quantity | None = None
    new_limit: Price | None = None
    new_stop: Price | None = None
    reason: str = ""


@event("orders")
class CommandApplied(Decision):
    """An operator's command took effect."""

    command: str
    kind: str
    who: str
    why: str


@event("orders")
class CommandRefused(Decision):
    """An operator's command changed nothing, and why."""

    command: str
    kind: str
    who: str
    reason: str


@event("orders")
class Anomaly(Decision):
    """Something happened that should not; `kind` is one of a fixed list, `detail` for people."""

    kind: str
    order: str
    detail: str


@event("orders")
class Drift(Decision):
    """Our books and the broker's differ."""

    what: str
    symbol: str
    ours: str
    theirs: str


@event("orders")
class Unread(Decision):
    """A record could not be read. `place` is TOPIC/PARTITION/OFFSET."""

    place: str
    reason: str
