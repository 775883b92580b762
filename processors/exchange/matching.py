"""At what price an order fills: rules of one quote, one trade, one bar, without any state.

`side` is the order's. A buyer takes the ask, a seller the bid; prices are dollars a share. The
rules of bars use bid and ask where the bar has them, and trade prices where it has none.
"""

from __future__ import annotations

from decimal import Decimal

from schemas import ONE, ZERO, Bar, Quote, canonical

Price = Decimal | None


def touch(quote: Quote, side: str) -> Price:
    """The other side of the quote; None where it is empty, not positive, or the quote is crossed."""
    bid, ask = quote.bid, quote.ask
    if bid is not None and ask is not None and not 0 < bid <= ask:
        return None
    price = ask if side == "buy" else bid
    return price if price is not None and price > 0 else None


def displayed(quote: Quote, side: str) -> Decimal:
    """Shares displayed on the other side of the quote; a size that is not known counts as none."""
    size = quote.ask_size if side == "buy" else quote.bid_size
    return ZERO if size is None else size


def reaches(side: str, price: Decimal, limit: Decimal) -> bool:
    """Whether an order with this limit may trade at the price."""
    return price <= limit if side == "buy" else price >= limit


def triggers(side: str, price: Decimal, stop: Decimal) -> bool:
    """Whether the price sets off a stop."""
    return price >= stop if side == "buy" else price <= stop


def worse(side: str, one: Decimal, other: Decimal) -> Decimal:
    """The price that is worse for the order."""
    return max(one, other) if side == "buy" else min(one, other)


def better(side: str, one: Decimal, other: Decimal) -> Decimal:
    """The price that is better for the order."""
    return min(one, other) if side == "buy" else max(one, other)


class Slippage:
    """What a taker loses against the price it takes: `bps` hundredths of a per cent."""

    def __init__(self, bps: Decimal) -> None:
        share = bps.scaleb(-4)
        self._buy = canonical(ONE + share)
        self._sell = canonical(ONE - share)

    def taken(self, side: str, price: Decimal, limit: Price = None) -> Decimal:
        """The price a taker pays or gets, never worse than its limit."""
        slipped = price * (self._buy if side == "buy" else self._sell)
        return slipped if limit is None else better(side, slipped, limit)


def bar_open(bar: Bar, side: str) -> Price:
    """The price a taker meets when the bar begins."""
    opened = bar.ask_open if side == "buy" else bar.bid_open
    return bar.open if opened is None else opened


def limit_on_bar(bar: Bar, side: str, limit: Decimal) -> Price:
    """Where a resting limit fills: the bar went through it, not only to it; at the open on a gap."""
    if side == "buy":
        extreme, opened = (bar.ask_low, bar.ask_open) if bar.ask_low is not None else (bar.low, bar.open)
    else:
        extreme, opened = (bar.bid_high, bar.bid_open) if bar.bid_high is not None else (bar.high, bar.open)
    if extreme is None or extreme == limit or not reaches(side, extreme, limit):
        return None
    return limit if opened is None else better(side, opened, limit)


def stop_on_bar(bar: Bar, side: str, stop: Decimal, *, by_quote: bool = False) -> Price:
    """Where a stop goes off: at the worse of stop and open. Trade prices first, or bid and ask."""
    if side == "buy":
        trade, quote = (bar.high, bar.open), (bar.ask_high, bar.ask_open)
    else:
        trade, quote = (bar.low, bar.open), (bar.bid_low, bar.bid_open)
    first, second = (quote, trade) if by_quote else (trade, quote)
    extreme, opened = first if first[0] is not None else second
    if extreme is None or not triggers(side, extreme, stop):
        return None
    return stop if opened is None else worse(side, opened, stop)
