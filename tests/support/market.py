"""Market events with short arguments: `quote(at("09:31"), 10, "10.02")`.

Prices and sizes may be given as text or integers; "-" and None stand for an empty side. Times are
UTC nanoseconds; `at` reads a clock in New York on the first sample day (2 January 2024, UTC-5) or
`day` days later. `Feed` gives events the places they would have in a log.
"""

from __future__ import annotations

from collections import Counter
from decimal import Decimal
from typing import Any

from schemas import (
    EVERY_SYMBOL,
    Bar,
    Event,
    Heartbeat,
    Quote,
    Record,
    SessionClosed,
    SessionOpened,
    Split,
    Trade,
    TradingHalt,
    TradingResume,
)

SECOND = 1_000_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR
MIDNIGHT = 1_704_171_600 * SECOND
"""2 January 2024, 00:00 in New York."""

Number = Decimal | str | int | None


def at(clock: str, day: int = 0) -> int:
    """UTC ns of HH:MM or HH:MM:SS (with decimals) in New York, `day` days after the first."""
    hours, minutes, *seconds = clock.split(":")
    past = Decimal(seconds[0]) if seconds else Decimal(0)
    return MIDNIGHT + day * DAY + int(hours) * HOUR + int(minutes) * MINUTE + int(past * SECOND)


def number(value: Number) -> Any:
    """A decimal, or None for "-"."""
    return None if value is None or value == "-" else Decimal(value)


def quote(
    ts: int,
    bid: Number,
    ask: Number,
    sizes: tuple[Number, Number] = (1000, 1000),
    *,
    symbol: str = "SPY",
    bar: bool = False,
    backfilled: bool = False,
) -> Quote:
    """A national best bid and ask; `sizes` of bid and ask."""
    return Quote(
        symbol=symbol,
        ts=ts,
        bid=number(bid),
        bid_size=number(sizes[0]),
        ask=number(ask),
        ask_size=number(sizes[1]),
        source="test",
        row=0,
        bar=bar,
        backfilled=backfilled,
    )


def trade(
    ts: int, price: Number, size: Number = 100, *, symbol: str = "SPY", backfilled: bool = False
) -> Trade:
    """A trade print."""
    return Trade(
        symbol=symbol,
        ts=ts,
        price=number(price),
        size=number(size),
        source="test",
        row=0,
        backfilled=backfilled,
    )


def prices(text: Number) -> tuple[Any, Any, Any, Any]:
    """Open, high, low and close from "10 11 9 10.5"; "-" stands for none of them."""
    parts = str(text).split()
    return tuple(number(p) for p in parts) if len(parts) == 4 else (None, None, None, None)  # type: ignore[return-value]


def bar(
    ts: int,
    trades: str = "-",
    bids: str = "-",
    asks: str = "-",
    *,
    period: int = MINUTE,
    symbol: str = "SPY",
    volume: Number = 1000,
    backfilled: bool = False,
) -> Bar:
    """A bar that ends at `ts`; open, high, low, close of trades, bids and asks as text."""
    o, h, low, c = prices(trades)
    bid_open, bid_high, bid_low, bid_close = prices(bids)
    ask_open, ask_high, ask_low, ask_close = prices(asks)
    return Bar(
        symbol=symbol,
        ts=ts,
        period=period,
        open=o,
        high=h,
        low=low,
        close=c,
        volume=number(volume),
        source="test",
        row=0,
        bid_open=bid_open,
        bid_high=bid_high,
        bid_low=bid_low,
        bid_close=bid_close,
        ask_open=ask_open,
        ask_high=ask_high,
        ask_low=ask_low,
        ask_close=ask_close,
        backfilled=backfilled,
    )


def session_opened(day: int = 0, opened: str = "09:30", close: str = "16:00") -> SessionOpened:
    """The regular session begins; extended hours are 04:00 to 20:00."""
    return SessionOpened(
        session=f"day {day}",
        ts=at(opened, day),
        close=at(close, day),
        extended_open=at("04:00", day),
        extended_close=at("20:00", day),
        source="test",
        row=0,
    )


def session_closed(day: int = 0, close: str = "16:00") -> SessionClosed:
    """The regular session ends."""
    return SessionClosed(session=f"day {day}", ts=at(close, day), source="test", row=0)


def halt(ts: int, symbol: str = "SPY") -> TradingHalt:
    """Trading in a symbol ("*": in all of them) stops."""
    return TradingHalt(symbol=symbol, ts=ts, source="test", row=0)


def resume(ts: int, symbol: str = "SPY") -> TradingResume:
    """Trading in a symbol goes on."""
    return TradingResume(symbol=symbol, ts=ts, source="test", row=0)


def split(ts: int, num: int, den: int, symbol: str = "SPY") -> Split:
    """`num` new shares for `den` old ones."""
    return Split(symbol=symbol, ts=ts, ex="", num=num, den=den, source="test", row=0)


def heartbeat(ts: int) -> Heartbeat:
    """Time passes."""
    return Heartbeat(ts=ts, source="test", row=0)


class Feed:
    """Gives market events their places: one partition a topic, offsets from 0."""

    def __init__(self) -> None:
        self._next: Counter[str] = Counter()

    def record(self, event: Event) -> Record:
        """The record of the event, in the order of the calls; a decision has no offset."""
        if not event.topic.startswith("market."):
            return Record(event.topic, 0, -1, b"", b"", event=event)
        offset = self._next[event.topic]
        self._next[event.topic] += 1
        symbol: str = getattr(event, "symbol", EVERY_SYMBOL)
        return Record(event.topic, 0, offset, symbol.encode(), b"", event=event)
