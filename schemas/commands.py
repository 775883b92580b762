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


class Command(Event):
    """What every command carries: an id of its own, whom it concerns, when (UTC ns), who and why."""

    id: Text
    account: Text
    ts: int
    who: str
    why: str


@event("operator.commands")
class OpenAccount(Command):
    """Open an account with starting cash. `multiplier` is gross exposure allowed per equity."""

    cash: Annotated[Decimal, Field(ge=0)]
    kind: Literal["cash", "margin"]
    multiplier: Amount
    shorting: bool
    fractions: bool
    limits: Limits


@event("operator.commands")
class Deposit(Command):
    """Cash comes in."""

    amount: Amount


@event("operator.commands")
class Withdraw(Command):
    """Cash goes out."""

    amount: Amount


@event("operator.commands")
class SetLimits(Command):
    """Replace the account's limits."""

    limits: Limits


@event("operator.commands")
class HaltAccount(Command):
    """Refuse every order of a strategy until re-armed."""


@event("operator.commands")
class Rearm(Command):
    """Clear a reason of a halt or of REDUCING. New limits may come with it."""

    reason: Text
    limits: Limits | None = None


@event("operator.commands")
class PlaceOrder(Command):
    """An order by hand; it goes to the book `operator` unless another is named."""

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
class ReplaceOrder(Command):
    """Change quantity or prices of a working order. What is None stays."""

    order: Text
    quantity: Quantity | None = None
    limit: Price | None = None
    stop: Price | None = None


@event("operator.commands")
class CancelOrder(Command):
    """Cancel a working order."""

    order: Text


@event("operator.commands")
class Flatten(Command):
    """Close the net position of a symbol, or of all."""

    symbol: str | None = None


@event("operator.commands")
class ResolveUnread(Command):
    """What to do about a record that could not be read: read it again, or leave it out."""

    place: Text
    action: Literal["retry", "drop"]
