"""Bars from trades: which trade belongs to which bar, and what a late one or a correction changes.

The bar of [t, t + period) has `ts` t + period. Prices of a bar are taken by the trades' own times: the
open is its earliest trade, the close its latest, whatever order they came in. A trade without an id can
never be corrected and is only added up; those with an id are kept one by one while the bar can change.
"""

from __future__ import annotations

from decimal import Decimal

import msgspec

from schemas import Bar

Moment = tuple[int, int]
"""When a trade was (UTC ns), and which one it is of those that came."""


class Side(msgspec.Struct):
    """Open, high, low, close of one side of the quote."""

    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal


def moved(side: Side | None, price: Decimal | None) -> Side | None:
    """The side, now at `price`; as it was where there is no price."""
    if price is None:
        return side
    if side is None:
        return Side(price, price, price, price)
    return Side(side.open, max(side.high, price), min(side.low, price), price)


class Prints(msgspec.Struct):
    """Trades added up: prices with the moments of the first and the last."""

    first: Moment
    last: Moment
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal

    @classmethod
    def of(cls, moment: Moment, price: Decimal, size: Decimal) -> Prints:
        """One trade."""
        return cls(moment, moment, price, price, price, price, size)

    def plus(self, other: Prints) -> Prints:
        """Both together."""
        return Prints(
            min(self.first, other.first),
            max(self.last, other.last),
            self.open if self.first < other.first else other.open,
            max(self.high, other.high),
            min(self.low, other.low),
            self.close if self.last > other.last else other.close,
            self.volume + other.volume,
        )


class Bucket(msgspec.Struct):
    """One bar while it can still change. `named` are its trades that have an id."""

    sum: Prints | None = None
    """Its trades without an id."""
    named: dict[str, tuple[Moment, Decimal, Decimal]] = {}
    bid: Side | None = None
    ask: Side | None = None
    is_out: bool = False
    """Whether the bar has been written: from then on a change is a revision."""

    @property
    def prints(self) -> Prints | None:
        """All its trades; None where there are none."""
        total = self.sum
        for name in sorted(self.named):
            one = Prints.of(*self.named[name])
            total = one if total is None else total.plus(one)
        return total

    def bar(self, symbol: str, end: int, period: int, source: str, row: int) -> Bar:
        """As an event; a revision says that it is backfilled, so that nothing is marked at it."""
        made, bid, ask = self.prints, self.bid, self.ask
        return Bar(
            symbol=symbol,
            ts=end,
            period=period,
            open=made.open if made else None,
            high=made.high if made else None,
            low=made.low if made else None,
            close=made.close if made else None,
            volume=made.volume if made else None,
            source=source,
            row=row,
            bid_open=bid.open if bid else None,
            bid_high=bid.high if bid else None,
            bid_low=bid.low if bid else None,
            bid_close=bid.close if bid else None,
            ask_open=ask.open if ask else None,
            ask_high=ask.high if ask else None,
            ask_low=ask.low if ask else None,
            ask_close=ask.close if ask else None,
            backfilled=self.is_out,
        )


class Series(msgspec.Struct):
    """The bars of one symbol and period that can still change, by their ends (UTC ns)."""

    buckets: dict[int, Bucket] = {}

    def forget(self, before: int) -> None:
        """Bars that ended before that time change no more."""
        buckets = self.buckets
        while buckets and (end := next(iter(buckets))) < before:
            del buckets[end]


def end_of(ts: int, period: int) -> int:
    """The end of the bar that something at `ts` belongs to."""
    return (ts // period + 1) * period
