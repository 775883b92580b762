"""What the exchange holds: orders, and what it has seen of a symbol."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import NamedTuple

import msgspec

from processors.exchange.matching import displayed, touch
from schemas import ZERO, OrderAccepted, Quote, Record, canonical, decision_id, ratio, truncate

IMMEDIATE = ("ioc", "fok")
PRECEDENCE = {"market": 0, "stop": 1, "limit": 2}
"""Within one event: what trades at its open, then stops, then limits (targets); each by arrival."""

Asked = tuple[str, Decimal | None, Decimal | None, Decimal | None]
"""A request that stands: "cancel" or "replace", and of the latter quantity, limit and stop."""


class Offer(NamedTuple):
    """What a taker meets: a price, how many shares of it (None: any number), and in which record."""

    price: Decimal
    size: Decimal | None
    record: Record


class Order(msgspec.Struct):
    """An order at the exchange, or on its way there (not `arrived`).

    `cause` is the account:seq of its OrderAccepted. `since` is the instant from which its prices
    stand: a bar that began earlier cannot fill it. `reports` counts those made of it. `notional`
    and `fees` are dollars.
    """

    id: str
    account: str
    strategy: str
    symbol: str
    side: str
    quantity: Decimal
    order_type: str
    limit: Decimal | None
    stop: Decimal | None
    tif: str
    extended: bool
    cause: str
    arrived: bool = False
    since: int = 0
    session: int = 0
    triggered: bool = False
    filled: Decimal = ZERO
    notional: Decimal = ZERO
    fees: Decimal = ZERO
    reports: int = 0
    asked: Asked | None = None
    done: bool = False

    @classmethod
    def of(cls, event: OrderAccepted) -> Order:
        """The order that was accepted. Only a limit order can trade in extended hours."""
        kind = event.order_type
        return cls(
            event.order,
            event.account,
            event.strategy,
            event.symbol,
            event.side,
            event.quantity,
            kind,
            event.limit if kind in ("limit", "stop_limit") else None,
            event.stop if kind in ("stop", "stop_limit") else None,
            event.tif,
            event.extended and kind == "limit",
            decision_id(event.account, event.seq),
        )

    @property
    def leaves(self) -> Decimal:
        """Shares still to fill."""
        return self.quantity - self.filled

    @property
    def kind(self) -> str:
        """How it trades now: "market", "limit", or "stop" while it has not been triggered."""
        if self.order_type in ("market", "limit"):
            return self.order_type
        if not self.triggered:
            return "stop"
        return "market" if self.order_type == "stop" else "limit"

    @property
    def flaw(self) -> str:
        """Why no exchange would take it; empty: it is in order."""
        if self.order_type in ("limit", "stop_limit") and self.limit is None:
            return f"a {self.order_type} order needs a limit"
        if self.order_type in ("stop", "stop_limit"):
            if self.stop is None:
                return f"a {self.order_type} order needs a stop"
            if self.tif in IMMEDIATE:
                return f"a {self.order_type} order is day or gtc, not {self.tif}"
        return ""

    def trigger(self, at: int) -> None:
        """The stop has been set off: from now on it is a market or a limit order."""
        self.triggered = True
        self.since = at

    def replace(self, quantity: Decimal | None, limit: Decimal | None, stop: Decimal | None) -> bool:
        """Stand with new terms; what is None stays. Whether its prices changed.

        A quantity below what is filled becomes what is filled.
        """
        before = (self.limit, self.stop)
        if quantity is not None:
            self.quantity = max(quantity, self.filled)
        if limit is not None and self.limit is not None:
            self.limit = limit
        if stop is not None and self.stop is not None:
            self.stop = stop
        self.done = not self.leaves
        return (self.limit, self.stop) != before

    def split(self, num: int, den: int) -> None:
        """Scale what is open, `num` new shares for `den` old ones, and the prices with it.

        What is filled was filled in old shares and stays; of whole shares, whole ones remain.
        """
        new, old, leaves = Decimal(num), Decimal(den), self.leaves
        scaled = canonical(ratio(leaves, new, old))
        whole = truncate(scaled)
        self.quantity = self.filled + (whole if whole == scaled or leaves == truncate(leaves) else scaled)
        self.limit = None if self.limit is None else canonical(ratio(self.limit, old, new))
        self.stop = None if self.stop is None else canonical(ratio(self.stop, old, new))


class Book:
    """A symbol: its resting and waiting orders by arrival, its last quote, and what was taken of it.

    `quote` is the record itself; its place is written out only when something fills on it.
    `ticks`: quotes come by themselves, so bars only repeat them and fill nothing.
    """

    __slots__ = ("bar_ts", "orders", "quote", "quote_ts", "taken", "taken_of", "ticks", "trade_ts")

    def __init__(self) -> None:
        self.orders: list[Order] = []
        self.quote: Record | None = None
        self.quote_ts = self.trade_ts = self.bar_ts = 0
        self.ticks = False
        self.taken = {"buy": ZERO, "sell": ZERO}
        self.taken_of: Record | None = None

    @property
    def quoted(self) -> bool:
        """Whether the symbol has quotes at all."""
        return self.quote_ts > 0

    def by_precedence(self) -> list[Order]:
        """The orders as an event meets them."""
        if len(self.orders) == 1:
            return self.orders[:]
        return sorted(self.orders, key=lambda order: PRECEDENCE[order.kind])

    def offer(self, side: str, since: int, *, limited: bool) -> Offer | None:
        """What a taker meets now, of a quote no older than `since`; `limited` to the size displayed."""
        record = self.quote
        if record is None:
            return None
        quote = record.event
        assert isinstance(quote, Quote)
        price = touch(quote, side)
        if price is None or quote.ts < since:
            return None
        left = displayed(quote, side) - self._taken(side) if limited else None
        return Offer(price, left, record)

    def take(self, side: str, quantity: Decimal) -> None:
        """Shares are taken from the quote, and gone until it changes."""
        before = self._taken(side)
        if self.taken_of is not self.quote:
            self.taken = {"buy": ZERO, "sell": ZERO}
            self.taken_of = self.quote
        self.taken[side] = before + quantity

    def _taken(self, side: str) -> Decimal:
        return self.taken[side] if self.taken_of is self.quote else ZERO

    def forget(self) -> None:
        """Prices seen so far fill nothing any more."""
        self.quote = self.taken_of = None


def open_day_orders(orders: Iterable[Order], session: int) -> list[Order]:
    """The orders, by arrival, that do not outlive `session`."""
    return [o for o in orders if o.arrived and o.tif != "gtc" and o.session <= session]
