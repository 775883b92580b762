"""A simulated exchange under test: orders as text, reports as text.

    venue.order("buy 100 limit 10.05 day")  ->  ["acknowledged a"]
    venue.see(quote(...))                   ->  ["a bought 100 at 10.05"]

Orders are named a, b, c … in the order of their acceptance.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from processors.exchange import Exchange
from schemas import (
    Acknowledged,
    Cancelled,
    CoreSettings,
    Event,
    Expired,
    Filled,
    OrderAccepted,
    OrderChanged,
    Rejected,
    Replaced,
    exact,
    plain,
)
from support.market import Feed, number, session_opened

WORDS_OF_TYPE = {"market": 1, "limit": 2, "stop": 2, "stop_limit": 3}


def accepted(seq: int, order: str, text: str, *, symbol: str = "SPY", strategy: str = "s") -> OrderAccepted:
    """OrderAccepted from SIDE QUANTITY TYPE [STOP] [LIMIT] [TIF] [extended]."""
    side, quantity, order_type, *rest = text.split()
    given = WORDS_OF_TYPE[order_type] - 1
    values, words = [Decimal(word) for word in rest[:given]], rest[given:]
    return OrderAccepted(
        account="A",
        seq=seq,
        prev=0,
        cause="",
        trace="",
        ts=0,
        order=order,
        strategy=strategy,
        symbol=symbol,
        side=side,  # type: ignore[arg-type]
        quantity=Decimal(quantity),
        order_type=order_type,  # type: ignore[arg-type]
        limit=values[-1] if "limit" in order_type else None,
        stop=values[0] if "stop" in order_type else None,
        tif=next((w for w in words if w != "extended"), "day"),  # type: ignore[arg-type]
        extended="extended" in words,
        reduces=False,
        quote="",
        checks=(),
    )


def changed(seq: int, order: str, pending: str, *terms: Any) -> OrderChanged:
    """OrderChanged with what is pending, and of a replacement quantity, limit and stop."""
    quantity, limit, stop = (*(number(term) for term in terms), None, None, None)[:3]
    return OrderChanged(
        account="A",
        seq=seq,
        prev=0,
        cause="",
        trace="",
        ts=0,
        order=order,
        strategy="s",
        symbol="SPY",
        side="buy",
        status="working",
        pending=pending,  # type: ignore[arg-type]
        fix="",
        quantity=Decimal(1),
        filled=Decimal(0),
        leaves=Decimal(1),
        limit=None,
        stop=None,
        new_quantity=quantity,
        new_limit=limit,
        new_stop=stop,
    )


def said(report: Event) -> str:
    """A report in words."""
    match report:
        case Filled():
            verb = "bought" if report.side == "buy" else "sold"
            return f"{report.order} {verb} {plain(report.quantity)} at {plain(report.price)}"
        case Acknowledged():
            return f"acknowledged {report.order}"
        case Cancelled():
            return f"cancelled {report.order}"
        case Expired():
            return f"expired {report.order}"
        case Rejected():
            return f"rejected {report.what} {report.order}"
        case Replaced():
            terms = (report.quantity, report.limit, report.stop)
            return f"replaced {report.order} " + " ".join("-" if t is None else plain(t) for t in terms)
    raise AssertionError(report)


class Venue:
    """An exchange fed event by event; `reports` keeps everything it said."""

    def __init__(self, *, opened: bool = True, **settings: Any) -> None:
        self.exchange = Exchange(CoreSettings(log_prefix="x", simulated=True, **settings))
        self.reports: list[Any] = []
        self.orders = 0
        self._seq = 0
        self._feed = Feed()
        if opened:
            self.see(session_opened())

    def see(self, *events: Event) -> list[str]:
        """Market events, or decisions, and what the exchange says to them."""
        before = len(self.reports)
        for event in events:
            with exact():
                made: Sequence[Event] = self.exchange.apply(self._feed.record(event))
            self.reports.extend(made)
        return [said(report) for report in self.reports[before:]]

    def order(self, text: str, **kwargs: Any) -> list[str]:
        """An accepted order goes to the exchange."""
        name = chr(ord("a") + self.orders)
        self.orders += 1
        return self.see(accepted(self._next(), name, text, **kwargs))

    def cancel(self, order: str) -> list[str]:
        """A cancel is asked for."""
        return self.see(changed(self._next(), order, "cancel"))

    def replace(self, order: str, *terms: Any) -> list[str]:
        """A replacement is asked for: quantity, limit, stop."""
        return self.see(changed(self._next(), order, "replace", *terms))

    def answered(self, order: str) -> list[str]:
        """The account took an answer: nothing is pending any more."""
        return self.see(changed(self._next(), order, "none"))

    def _next(self) -> int:
        self._seq += 1
        return self._seq
