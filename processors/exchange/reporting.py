"""The exchange's reports, and what each of them does to the order it is about.

A report's `id` is ORDER/N, N counting the reports of the order; a refusal that finds no order is
ORDER/ACCOUNT:SEQ, after the request refused.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Literal, TypeVar

from processors.exchange.book import Order
from processors.fees import FeeModel
from schemas import ZERO, Acknowledged, Cancelled, Event, Expired, Filled, Rejected, Replaced

E = TypeVar("E", bound=Event)
What = Literal["order", "cancel", "replace"]


class Reports:
    """Reports made since the last `taken`, and the orders they ended. `now` is in UTC ns."""

    def __init__(self, fees: FeeModel) -> None:
        self.now = 0
        self.out: list[Event] = []
        self.ended: list[Order] = []
        self._fees = fees

    def taken(self) -> list[Event]:
        """The reports, handed over."""
        out, self.out = self.out, []
        return out

    def acknowledged(self, order: Order) -> None:
        """The order works."""
        self._report(Acknowledged, order, order.cause)

    def filled(self, order: Order, quantity: Decimal, price: Decimal, cause: str) -> None:
        """Shares of the order trade; the fee is what its total has grown by."""
        order.filled += quantity
        order.notional += quantity * price
        fee = max(ZERO, self._fees.total(order.side, order.filled, order.notional, self.now) - order.fees)
        order.fees += fee
        self._report(
            Filled,
            order,
            cause,
            execution=f"{order.id}/{order.reports + 1}",
            symbol=order.symbol,
            side=order.side,
            quantity=quantity,
            price=price,
            fee=fee,
            cumulative=order.filled,
        )
        if not order.leaves:
            self._end(order)

    def replaced(self, order: Order, cause: str) -> None:
        """The order stands with other terms; with none left to fill it has ended."""
        terms: dict[str, Any] = {"quantity": order.quantity, "limit": order.limit, "stop": order.stop}
        self._report(Replaced, order, cause, **terms)
        if order.done:
            self._end(order)

    def cancelled(self, order: Order, reason: str, cause: str) -> None:
        """What is left of the order is cancelled."""
        self._report(Cancelled, order, cause, reason=reason)
        self._end(order)

    def expired(self, order: Order, cause: str) -> None:
        """The order's time ran out."""
        self._report(Expired, order, cause)
        self._end(order)

    def rejected(self, order: Order, reason: str) -> None:
        """The exchange does not take the order."""
        self._report(Rejected, order, order.cause, what="order", reason=reason)
        self._end(order)

    def refused(self, account: str, order: str, what: What, cause: str) -> None:
        """A request about an order that is not open."""
        self.out.append(
            Rejected(
                id=f"{order}/{cause}",
                account=account,
                ts=self.now,
                order=order,
                what=what,
                reason="the order is not open",
                cause=cause,
            )
        )

    def _report(self, kind: type[E], order: Order, cause: str, **fields: Any) -> None:
        order.reports += 1
        make: Any = kind
        made: E = make(
            id=f"{order.id}/{order.reports}",
            account=order.account,
            ts=self.now,
            order=order.id,
            cause=cause,
            **fields,
        )
        self.out.append(made)

    def _end(self, order: Order) -> None:
        order.done = True
        self.ended.append(order)
