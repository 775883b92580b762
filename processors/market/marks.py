"""What is shown of a symbol, and when: conflated quotes and last trades."""

from __future__ import annotations

from decimal import Decimal

import msgspec

from schemas import Mark, Quote

TWO, BPS = Decimal(2), Decimal(10_000)


class Shown(msgspec.Struct):
    """The quote and last trade of a symbol that may mark, what of them was shown, and when.

    `place` is the identity of the quote, or of the trade where there is no quote.
    """

    bid: Decimal | None = None
    ask: Decimal | None = None
    last: Decimal | None = None
    last_ts: int = -1
    place: str = ""
    at: int = -1
    """Event time of the last mark (UTC ns); -1: there was none."""
    shown_twice_mid: Decimal | None = None
    shown_last: Decimal | None = None
    is_held: bool = False
    """Whether there is something that has not been shown."""

    def quote(self, quote: Quote, place: str) -> None:
        """A valid quote."""
        self.bid, self.ask, self.place = quote.bid, quote.ask, place

    def trade(self, price: Decimal, ts: int, place: str) -> None:
        """The last trade."""
        self.last, self.last_ts = price, ts
        if self.bid is None:
            self.place = place

    def moved(self, bps: Decimal) -> bool:
        """Whether the mid, or the last trade, is beyond so many basis points of what was shown."""
        return _beyond(self._twice_mid, self.shown_twice_mid, bps) or _beyond(self.last, self.shown_last, bps)

    def mark(self, symbol: str, ts: int) -> Mark:
        """Show it."""
        self.at, self.is_held = ts, False
        self.shown_twice_mid, self.shown_last = self._twice_mid, self.last
        return Mark(symbol=symbol, ts=ts, bid=self.bid, ask=self.ask, last=self.last, quote=self.place)

    @property
    def _twice_mid(self) -> Decimal | None:
        return None if self.bid is None or self.ask is None else self.bid + self.ask


def _beyond(now: Decimal | None, before: Decimal | None, bps: Decimal) -> bool:
    if now is None or before is None:
        return now is not before
    return abs(now - before) * BPS > bps * before


def is_valid(quote: Quote, max_spread: Decimal) -> bool:
    """Whether a quote may mark: 0 < bid <= ask, and the spread is within a share of mid."""
    bid, ask = quote.bid, quote.ask
    return (
        bid is not None
        and ask is not None
        and 0 < bid <= ask
        and (ask - bid) * TWO <= max_spread * (ask + bid)
    )
