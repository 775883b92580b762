"""What a broker says, in one vocabulary. `raw` keeps its own words.

`order` is the client order id. `cause` is set by the simulated exchange alone: the identity of
the event that made it report; such reports are handed on inside the core and never written.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Literal

from schemas.declare import Event, Field, Value, event, value
from schemas.market import Price, Text
from schemas.orders import Quantity, Side

MISMATCH = "mismatch"
"""The reason of an `Unknown` for an order that stands at the broker with other terms than it was sent with;
its `raw` has them."""


@event("broker.reports")
class OrderSending(Event):
    """The gateway is about to send the order; without an outcome it must be looked up."""

    id: Text
    account: Text
    ts: int
    order: Text
    raw: str = ""
    cause: str = ""


@event("broker.reports")
class Acknowledged(Event):
    """The broker works the order."""

    id: Text
    account: Text
    ts: int
    order: Text
    broker_id: str = ""
    raw: str = ""
    cause: str = ""


@event("broker.reports")
class Filled(Event):
    """An execution. `cumulative` is the order's filled quantity after it, where the broker says."""

    id: Text
    account: Text
    ts: int
    order: str
    execution: Text
    symbol: Text
    side: Side
    quantity: Quantity
    price: Price
    fee: Decimal
    cumulative: Quantity | None = None
    raw: str = ""
    cause: str = ""


@event("broker.reports")
class Busted(Event):
    """An execution is withdrawn."""

    id: Text
    account: Text
    ts: int
    execution: Text
    reason: str = ""
    raw: str = ""
    cause: str = ""


@event("broker.reports")
class Corrected(Event):
    """An execution's quantity, price or fee is not what was first reported."""

    id: Text
    account: Text
    ts: int
    execution: Text
    quantity: Quantity
    price: Price
    fee: Decimal
    reason: str = ""
    raw: str = ""
    cause: str = ""


@event("broker.reports")
class Cancelled(Event):
    """The rest of the order is cancelled, by us or by the broker."""

    id: Text
    account: Text
    ts: int
    order: Text
    reason: str = ""
    raw: str = ""
    cause: str = ""


@event("broker.reports")
class Replaced(Event):
    """The order now stands with these terms."""

    id: Text
    account: Text
    ts: int
    order: Text
    quantity: Quantity
    limit: Price | None
    stop: Price | None
    broker_id: str = ""
    raw: str = ""
    cause: str = ""


@event("broker.reports")
class Expired(Event):
    """The order's time ran out."""

    id: Text
    account: Text
    ts: int
    order: Text
    raw: str = ""
    cause: str = ""


@event("broker.reports")
class Rejected(Event):
    """The broker refused a new order, a cancel or a replacement."""

    id: Text
    account: Text
    ts: int
    order: Text
    what: Literal["order", "cancel", "replace"]
    reason: str
    raw: str = ""
    cause: str = ""


@event("broker.reports")
class NotSent(Event):
    """The gateway did not send the order."""

    id: Text
    account: Text
    ts: int
    order: Text
    reason: str
    raw: str = ""
    cause: str = ""


@event("broker.reports")
class Unknown(Event):
    """No answer: the order counts as working until it has been looked up."""

    id: Text
    account: Text
    ts: int
    order: Text
    reason: str
    raw: str = ""
    cause: str = ""


@event("broker.reports")
class CashActivity(Event):
    """Cash moved at the broker without a trade of ours. Negative: it left the account."""

    id: Text
    account: Text
    ts: int
    kind: Literal["dividend", "interest", "fee", "deposit", "withdrawal"]
    amount: Decimal
    symbol: str = ""
    raw: str = ""
    cause: str = ""


@value
class BrokerPosition(Value):
    """A position as the broker sees it."""

    symbol: str
    quantity: Decimal


@value
class BrokerOrder(Value):
    """An open order as the broker sees it."""

    order: str
    symbol: str
    side: Side
    quantity: Quantity
    filled: Annotated[Decimal, Field(ge=0)]


@event("broker.reports")
class BrokerSnapshot(Event):
    """Everything the broker holds for the account at one moment, for reconciliation."""

    id: Text
    account: Text
    ts: int
    cash: Decimal
    positions: tuple[BrokerPosition, ...]
    orders: tuple[BrokerOrder, ...]
    raw: str = ""
    cause: str = ""
