"""What an operator asks for. Each command has an id of its own, and says who and why."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Literal

from schemas.declare import Event, Field, Value, event, value
from schemas.market import Price, Text
from schemas.orders import OrderType, Quantity, Side, TimeInForce

Amount = Annotated[Decimal, Field(gt=0)]
Share = Annotated[Decimal, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0)]


@value
class Limits(Value):
    """What an account's orders are held against. None: not limited.

    Shares and dollars are absolute, `*_weight` and `*_exposure` are fractions of equity,
    `*_bps` are basis points, `*_ms` milliseconds of event time.
    """

    restricted: tuple[str, ...] = ()
    tick_size: Amount | None = None
    max_quantity: Amount | None = None
    max_notional: Amount | None = None
    collar_bps: Amount | None = None
    max_spread_bps: Amount | None = None
    max_quote_age_ms: Count | None = None
    position_shares: Amount | None = None
    position_weight: Amount | None = None
    strategy_shares: Amount | None = None
    strategy_weight: Amount | None = None
    gross_exposure: Amount | None = None
    long_exposure: Amount | None = None
    short_exposure: Amount | None = None
    max_volume_share: Amount | None = None
    orders_per_day: Count | None = None
    notional_per_day: Amount | None = None
    orders_per_second: Count | None = None
    duplicate_window_ms: Count | None = None
    max_broker_errors: Count | None = None
    outside_session: Literal["wait", "deny"] = "wait"
    day_loss: Share | None = Decimal("0.05")
    day_loss_reduce: Share | None = Decimal("0.04")
    absolute_loss: Amount | None = None
    drawdown: Share | None = None
    rearm_next_session: bool = False
    on_trip: Literal["cancel", "flatten"] = "cancel"


@event("operator.commands")
class OpenAccount(Event):
    """Open an account with starting cash. `multiplier` is gross exposure allowed per equity."""

    id: Text
    account: Text
    ts: int
    who: str
    why: str
    cash: Annotated[Decimal, Field(ge=0)]
    kind: Literal["cash", "margin"]
    multiplier: Amount
    shorting: bool
    fractions: bool
    limits: Limits


@event("operator.commands")
class Deposit(Event):
    """Cash comes in."""

    id: Text
    account: Text
    ts: int
    who: str
    why: str
    amount: Amount


@event("operator.commands")
class Withdraw(Event):
    """Cash goes out."""

    id: Text
    account: Text
    ts: int
    who: str
    why: str
    amount: Amount


@event("operator.commands")
class SetLimits(Event):
    """Replace the account's limits."""

    id: Text
    account: Text
    ts: int
    who: str
    why: str
    limits: Limits


@event("operator.commands")
class HaltAccount(Event):
    """Refuse every order of a strategy until re-armed."""

    id: Text
    account: Text
    ts: int
    who: str
    why: str


@event("operator.commands")
class Rearm(Event):
    """Clear a reason of a halt or of REDUCING. New limits may come with it."""

    id: Text
    account: Text
    ts: int
    who: str
    why: str
    reason: Text
    limits: Limits | None = None


@event("operator.commands")
class PlaceOrder(Event):
    """An order by hand; it goes to the book `operator` unless another is named."""

    id: Text
    account: Text
    ts: int
    who: str
    why: str
    symbol: Text
    side: Side
    quantity: Quantity
    order_type: OrderType = "market"
    limit: Price | None = None
    stop: Price | None = None
    tif: TimeInForce = "day"
    extended: bool = False
    strategy: Text = "operator"


@event("operator.commands")
class ReplaceOrder(Event):
    """Change quantity or prices of a working order. What is None stays."""

    id: Text
    account: Text
    ts: int
    who: str
    why: str
    order: Text
    quantity: Quantity | None = None
    limit: Price | None = None
    stop: Price | None = None


@event("operator.commands")
class CancelOrder(Event):
    """Cancel a working order."""

    id: Text
    account: Text
    ts: int
    who: str
    why: str
    order: Text


@event("operator.commands")
class Flatten(Event):
    """Close the net position of a symbol, or of all."""

    id: Text
    account: Text
    ts: int
    who: str
    why: str
    symbol: str | None = None


@event("operator.commands")
class ResolveUnread(Event):
    """What to do about a record that could not be read: read it again, or leave it out."""

    id: Text
    account: Text
    ts: int
    who: str
    why: str
    place: Text
    action: Literal["retry", "drop"]
