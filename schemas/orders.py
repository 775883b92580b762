"""What an order is, and what the core decides about it.

Every decision carries `account`, `seq` (gapless per account), `prev` (the account's previous
`seq` in the same topic, 0 for the first), `cause` (the identity of what led to it), `trace`
(the identity of the root: for an order, its signal) and `ts` (UTC ns).
"""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Literal

from schemas.declare import Event, Field, Value, event, value
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
class OrderRequested(Event):
    """A signal or command, sized: the order that Tape would like to send."""

    account: str
    seq: int
    prev: int
    cause: str
    trace: str
    ts: int
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


@event("orders")
class OrderAccepted(Event):
    """The order passed every check and goes to the broker under `order` as its client id."""

    account: str
    seq: int
    prev: int
    cause: str
    trace: str
    ts: int
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
class OrderDenied(Event):
    """The order failed at least one check; all that failed are in `checks`."""

    account: str
    seq: int
    prev: int
    cause: str
    trace: str
    ts: int
    order: str
    strategy: str
    symbol: str
    side: Side
    quantity: Quantity
    reduces: bool
    quote: str
    checks: tuple[Check, ...]


@event("orders")
class OrderChanged(Event):
    """The order's state after something happened to it.

    `pending` is what was asked of the broker and not yet answered; with "replace",
    `new_quantity`, `new_limit` and `new_stop` are what was asked for. `fix` is the FIX OrdStatus.
    """

    account: str
    seq: int
    prev: int
    cause: str
    trace: str
    ts: int
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
class CommandApplied(Event):
    """An operator's command took effect."""

    account: str
    seq: int
    prev: int
    cause: str
    trace: str
    ts: int
    command: str
    kind: str
    who: str
    why: str


@event("orders")
class CommandRefused(Event):
    """An operator's command changed nothing, and why."""

    account: str
    seq: int
    prev: int
    cause: str
    trace: str
    ts: int
    command: str
    kind: str
    who: str
    reason: str


@event("orders")
class Anomaly(Event):
    """Something happened that should not; `kind` is one of a fixed list, `detail` for people."""

    account: str
    seq: int
    prev: int
    cause: str
    trace: str
    ts: int
    kind: str
    order: str
    detail: str


@event("orders")
class Drift(Event):
    """Our books and the broker's differ."""

    account: str
    seq: int
    prev: int
    cause: str
    trace: str
    ts: int
    what: str
    symbol: str
    ours: str
    theirs: str


@event("orders")
class Unread(Event):
    """A record could not be read. `place` is TOPIC/PARTITION/OFFSET."""

    account: str
    seq: int
    prev: int
    cause: str
    trace: str
    ts: int
    place: str
    reason: str
