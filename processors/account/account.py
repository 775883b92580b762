"""One account: its money, its positions at their marks, its orders.

Held exactly after every event, when every position has a price:

    equity = cash + receivables + sum(quantity x mark)
           = starting + deposits + realized - fees + income + unrealized

where unrealized = sum(quantity x mark - cost) over the net positions.
"""

from __future__ import annotations

from decimal import Decimal

import msgspec

from processors.account.books import Book, Ledger
from processors.account.breaker import Breaker, watch_level
from processors.account.orders import Order
from schemas import ZERO, Filled, Limits, ratio


class Holding(msgspec.Struct):
    """A symbol of the account: its books, and the mark of the net position.

    `before` is the mark before the current one, None while there was none: a loss seen on quotes must
    hold on both.
    """

    symbol: str
    ledger: Ledger = msgspec.field(default_factory=Ledger)
    mark: Decimal | None = None
    before: Decimal | None = None
    tier: str = ""
    source: str = ""
    mark_ts: int = 0
    value: Decimal = ZERO
    """quantity x mark, as counted in the account's value; zero while unpriced."""
    counted: Book = msgspec.field(default_factory=Book)
    """The net book, as counted in the account's totals."""

    @property
    def quantity(self) -> Decimal:
        """Signed shares held, net."""
        return self.ledger.net.quantity


class Payment(msgspec.Struct):
    """A dividend that is owed: paid on the date `pay`."""

    symbol: str
    pay: str
    amount: Decimal


class Target(msgspec.Struct):
    """The newest target of a strategy for a symbol, kept until the orders `after` have ended; `since`: the
    time of the fact that led to it (UTC ns)."""

    weight: Decimal | None
    shares: Decimal | None
    cause: str
    trace: str
    since: int = 0
    after: tuple[str, ...] = ()


class Flattening(msgspec.Struct):
    """A symbol that is being flattened, and the order that does it once it is placed."""

    cause: str
    trace: str
    order: str = ""


class Execution(msgspec.Struct):
    """Where an execution was booked: for repeats, busts and corrections.

    `cumulative` is what its order had filled after it.
    """

    fill: str
    order: str
    symbol: str
    session: int
    quantity: Decimal
    cumulative: Decimal
    is_busted: bool = False


class Difference(msgspec.Struct):
    """Where the broker's last snapshots and ours differ: by how much, in how many in a row, and whether that
    has been written.
    """

    amount: str
    snapshots: int
    is_written: bool = False


class Account(msgspec.Struct, eq=False):
    """The whole state of an account. Money in dollars; `seq` is that of its last decision."""

    id: str
    kind: str
    multiplier: Decimal
    shorting: bool
    fractions: bool
    limits: Limits
    starting: Decimal
    cash: Decimal
    baseline: Decimal | None
    peak: Decimal | None
    seq: int = 0
    prev: dict[str, int] = msgspec.field(default_factory=dict)
    receivables: Decimal = ZERO
    deposits: Decimal = ZERO
    realized: Decimal = ZERO
    fees: Decimal = ZERO
    income: Decimal = ZERO
    flows: Decimal = ZERO
    """Deposits less withdrawals since the baseline."""
    value: Decimal = ZERO
    """Sum of quantity x mark over what has a price."""
    cost: Decimal = ZERO
    """Sum of the net positions' costs."""
    unpriced: tuple[str, ...] = ()
    holdings: dict[str, Holding] = msgspec.field(default_factory=dict)
    payments: list[Payment] = msgspec.field(default_factory=list)
    breaker: Breaker = msgspec.field(default_factory=Breaker)
    watch: Decimal | None = None
    orders: dict[str, Order] = msgspec.field(default_factory=dict)
    open_orders: dict[str, list[str]] = msgspec.field(default_factory=dict)
    """Ids of the orders that have not ended, by symbol, oldest first."""
    executions: dict[str, Execution] = msgspec.field(default_factory=dict)
    held_back: list[Filled] = msgspec.field(default_factory=list)
    """Executions under ids of ours that we do not know: they wait for the operator."""
    targets: dict[str, dict[str, Target]] = msgspec.field(default_factory=dict)
    """Kept targets: symbol, then strategy."""
    flattening: dict[str, Flattening] = msgspec.field(default_factory=dict)
    seen: dict[str, tuple[int, int]] = msgspec.field(default_factory=dict)
    """The last proposal of each strategy and source: position and ordinal."""
    commands: dict[str, int] = msgspec.field(default_factory=dict)
    """Ids of commands seen, with the session they came in."""
    cash_reports: dict[str, int] = msgspec.field(default_factory=dict)
    """Ids of the broker's cash activities seen, with the session they came in."""
    unread: dict[str, str] = msgspec.field(default_factory=dict)
    """Places of unreadable records that the operator has not resolved."""
    orders_today: int = 0
    notional_today: Decimal = ZERO
    recent: list[tuple[int, str]] = msgspec.field(default_factory=list)
    """Times (UTC ns) and descriptions of the last accepted orders, for rate and duplicates."""
    broker_errors: int = 0
    changed: bool = False
    """Equity changed since the last PnL was written."""
    pnl_ts: int = 0
    differences: dict[str, Difference] = msgspec.field(default_factory=dict)
    """Between the broker's last snapshot and ours."""

    @property
    def equity(self) -> Decimal | None:
        """Dollars; None while something held has no price."""
        return None if self.unpriced else self.cash + self.receivables + self.value

    @property
    def unrealized(self) -> Decimal | None:
        """Dollars; None while something held has no price."""
        return None if self.unpriced else self.value - self.cost

    @property
    def day(self) -> Decimal | None:
        """Profit since the baseline, without flows; None where equity or baseline is not known."""
        equity = self.equity
        return None if equity is None or self.baseline is None else equity - self.flows - self.baseline

    @property
    def state(self) -> str:
        """ACTIVE, REDUCING or HALTED."""
        return self.breaker.state

    def holding(self, symbol: str) -> Holding:
        """The account's books of a symbol, opened when they do not exist."""
        found = self.holdings.get(symbol)
        if found is None:
            found = self.holdings[symbol] = Holding(symbol)
        return found

    def net(self, symbol: str) -> Decimal:
        """Signed shares held, net."""
        found = self.holdings.get(symbol)
        return found.quantity if found is not None else ZERO

    def open_of(self, symbol: str) -> list[Order]:
        """The orders of a symbol that have not ended, oldest first."""
        return [self.orders[i] for i in self.open_orders.get(symbol, ())]

    def working_of(self, symbol: str) -> list[Order]:
        """The orders of a symbol that are at the broker, or on their way."""
        return [o for o in self.open_of(symbol) if o.status != "requested"]

    def track(self, order: Order) -> None:
        """Keep an order among the open ones while it is open."""
        ids = self.open_orders.setdefault(order.symbol, [])
        if order.ended:
            if order.id in ids:
                ids.remove(order.id)
            if not ids:
                del self.open_orders[order.symbol]
        elif order.id not in ids:
            ids.append(order.id)

    def settle(self, holding: Holding) -> None:
        """Bring the account's totals up to a holding whose net book or mark has changed."""
        net, counted = holding.ledger.net, holding.counted
        self.realized += net.realized - counted.realized
        self.fees += net.fees - counted.fees
        self.income += net.income - counted.income
        self.cost += net.cost - counted.cost
        holding.counted = msgspec.structs.replace(net)
        value = ZERO if holding.mark is None else net.quantity * holding.mark
        self.value += value - holding.value
        holding.value = value
        lacks = bool(net.quantity) and holding.mark is None
        if lacks != (holding.symbol in self.unpriced):
            names = {*self.unpriced, holding.symbol} if lacks else {*self.unpriced} - {holding.symbol}
            self.unpriced = tuple(sorted(names))
        self.changed = True

    def flow(self, amount: Decimal) -> None:
        """Cash came in (or went out): it is no profit, and scales the peak by (equity + flow) / equity.

        Where equity is not known, or not positive, the peak moves by the flow.
        """
        equity = self.equity
        if self.peak is not None and equity is not None and equity > 0:
            self.peak = ratio(self.peak, equity + amount, equity)
        elif self.peak is not None:
            self.peak += amount
        self.cash += amount
        self.deposits += amount
        self.flows += amount
        self.changed = True

    def arm(self) -> None:
        """Work out anew at which equity the breaker must look closer."""
        if self.baseline is None or self.peak is None:
            self.watch = None
        else:
            self.watch = watch_level(self.breaker, self.limits, self.flows, self.baseline, self.peak)
