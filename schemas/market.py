"""Facts of the market: quotes, trades, bars, and what happens to sessions and symbols.

All times are UTC nanoseconds. `source` is the digest of the import or the feed's session and
`row` ascends within it: together they tell a repeat. `feed` names where the data came from.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated

from schemas.declare import Event, Field, event

Price = Annotated[Decimal, Field(gt=0)]
Size = Annotated[Decimal, Field(ge=0)]
Text = Annotated[str, Field(min_length=1)]

EVERY_SYMBOL = "*"
"""The symbol of a status that concerns all of them."""


@event("market.quotes")
class Quote(Event):
    """National best bid and ask. A side without orders is None. `bar`: it is a bar's close."""

    symbol: Text
    ts: int
    bid: Price | None
    bid_size: Size | None
    ask: Price | None
    ask_size: Size | None
    source: str
    row: int
    feed: str = ""
    bar: bool = False
    backfilled: bool = False


@event("market.trades")
class Trade(Event):
    """A trade print. `id` is the venue's, where there is one."""

    symbol: Text
    ts: int
    price: Price
    size: Size
    source: str
    row: int
    feed: str = ""
    id: str = ""
    exchange: str = ""
    condition: str = ""
    backfilled: bool = False


@event("market.trades")
class TradeCorrection(Event):
    """A trade print, corrected: `id` names the print, price and size are what it should have been."""

    symbol: Text
    ts: int
    id: Text
    price: Price
    size: Size
    source: str
    row: int
    feed: str = ""


@event("market.trades")
class TradeCancel(Event):
    """A trade print withdrawn."""

    symbol: Text
    ts: int
    id: Text
    source: str
    row: int
    feed: str = ""


@event("market.bars")
class Bar(Event):
    """What happened in the `period` nanoseconds that end at `ts`.

    Trade prices are None where nothing traded, bid and ask prices where they are not known.
    """

    symbol: Text
    ts: int
    period: Annotated[int, Field(gt=0)]
    open: Price | None
    high: Price | None
    low: Price | None
    close: Price | None
    volume: Size | None
    source: str
    row: int
    bid_open: Price | None = None
    bid_high: Price | None = None
    bid_low: Price | None = None
    bid_close: Price | None = None
    ask_open: Price | None = None
    ask_high: Price | None = None
    ask_low: Price | None = None
    ask_close: Price | None = None
    feed: str = ""
    backfilled: bool = False


@event("market.status")
class SessionOpened(Event):
    """The regular session begins. `session` is its date (YYYY-MM-DD); all times UTC ns.

    `extended_open` and `extended_close` bound what trades before and after it.
    """

    session: Text
    ts: int
    close: int
    extended_open: int
    extended_close: int
    source: str
    row: int
    symbol: str = EVERY_SYMBOL


@event("market.status")
class SessionClosed(Event):
    """The regular session ends."""

    session: Text
    ts: int
    source: str
    row: int
    symbol: str = EVERY_SYMBOL


@event("market.status")
class TradingHalt(Event):
    """The exchange halts a symbol."""

    symbol: Text
    ts: int
    source: str
    row: int
    reason: str = ""


@event("market.status")
class TradingResume(Event):
    """The exchange resumes a symbol."""

    symbol: Text
    ts: int
    source: str
    row: int


@event("market.status")
class FeedGap(Event):
    """A feed is known to have missed data since `since`."""

    symbol: Text
    ts: int
    since: int
    source: str
    row: int
    feed: str = ""
    reason: str = ""


@event("market.status")
class FeedRecovered(Event):
    """A feed is whole again."""

    symbol: Text
    ts: int
    source: str
    row: int
    feed: str = ""


@event("market.status")
class Split(Event):
    """`num` new shares for every `den` old ones; the first record of its ex-date."""

    symbol: Text
    ts: int
    ex: Text
    num: Annotated[int, Field(gt=0)]
    den: Annotated[int, Field(gt=0)]
    source: str
    row: int


@event("market.status")
class CashDividend(Event):
    """`amount` dollars per share to who held before `ex`, paid on `pay` (dates, YYYY-MM-DD)."""

    symbol: Text
    ts: int
    ex: Text
    pay: Text
    amount: Price
    source: str
    row: int


@event("market.status")
class Heartbeat(Event):
    """Time passes although nothing trades."""

    ts: int
    source: str
    row: int
    symbol: str = EVERY_SYMBOL


@event("market.marks")
class Mark(Event):
    """A conflated quote for screens and outside strategies, never an input of the core."""

    symbol: Text
    ts: int
    bid: Price | None
    ask: Price | None
    last: Price | None
    quote: str
