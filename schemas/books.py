"""What the core books: fills, positions, profit and loss."""

from __future__ import annotations

from decimal import Decimal

from schemas.decision import Decision
from schemas.declare import event
from schemas.market import Price
from schemas.orders import Quantity, Side


@event("fills")
class Fill(Decision):
    """An execution, booked. `cause` is the broker's report, or in simulation the event that filled it."""

    order: str
    execution: str
    strategy: str
    symbol: str
    side: Side
    quantity: Quantity
    price: Price
    fee: Decimal


@event("fills")
class FillBusted(Decision):
    """A booked execution is taken out again. `fill` is its account:seq."""

    fill: str
    execution: str
    reason: str


@event("fills")
class FillCorrected(Decision):
    """A booked execution is replaced by these terms."""

    fill: str
    execution: str
    quantity: Quantity
    price: Price
    fee: Decimal
    reason: str


@event("fills")
class InternalTransfer(Decision):
    """Shares move between two books of the account at `price`; no order, no fee, no cash."""

    symbol: str
    giver: str
    taker: str
    quantity: Quantity
    price: Price


@event("positions")
class PositionChanged(Decision):
    """A book's state after a change, with the account's net position of the symbol beside it.

    `quantity` and `cost` are signed; `average` is cost / quantity for display, None when flat.
    `realized` is gross of fees.
    """

    strategy: str
    symbol: str
    quantity: Decimal
    cost: Decimal
    average: Decimal | None
    realized: Decimal
    fees: Decimal
    income: Decimal
    net_quantity: Decimal
    net_cost: Decimal
    net_realized: Decimal


@event("pnl")
class DayOpened(Decision):
    """A session's baseline: equity at the last regular close."""

    session: str
    baseline: Decimal | None
    peak: Decimal | None


@event("pnl")
class PnL(Decision):
    """The account's money at one moment.

    equity = cash + receivables + value = starting cash + net deposits + realized - fees + income
    + unrealized, exactly. What depends on a position without a price is None, and `unpriced`
    lists it. `day` = equity - flows since the baseline - baseline. `crossing` is the net
    valuation less the sum of the strategies' books.
    """

    equity: Decimal | None
    cash: Decimal
    receivables: Decimal
    value: Decimal | None
    realized: Decimal
    unrealized: Decimal | None
    fees: Decimal
    income: Decimal
    deposits: Decimal
    day: Decimal | None
    drawdown: Decimal | None
    long: Decimal | None
    short: Decimal | None
    crossing: Decimal | None
    unpriced: tuple[str, ...]
