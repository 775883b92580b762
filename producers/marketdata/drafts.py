"""Events before they have a row: the order of a session's events is made of these.

The order is that in which the core merges its inputs: (ts, rank, symbol, row).
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from datetime import date, timedelta
from decimal import Decimal
from fractions import Fraction
from operator import itemgetter
from typing import Any

from producers.marketdata.leandaily import DailyRow
from producers.marketdata.leanfiles import Prices, QuoteRow, TradeRow
from producers.marketdata.leanticks import BestQuote, TickTrade
from producers.sessions import Calendar, Session
from schemas import EVERY_SYMBOL, EXACT, Bar, Event, Quote, SessionClosed, SessionOpened, Trade, canonical

SESSION_OPENED, ACTION, QUOTE, TRADE, BAR, OTHER, SESSION_CLOSED = range(7)

Draft = tuple[int, int, str, Callable[..., Event], dict[str, Any]]
"""ts, rank, symbol, the event's class, and its fields without source and row."""

draft_order = itemgetter(0, 1, 2)

FEED = "lean"
MS = 1_000_000
_DAY = timedelta(days=1)
_NO_PRICES = (None, None, None, None)
_MEMORY_MAX = 100_000


def session_drafts(session: Session) -> Iterator[Draft]:
    """The open and the close of a session."""
    opened = {
        "session": session.date.isoformat(),
        "ts": session.open,
        "close": session.close,
        "extended_open": session.extended_open,
        "extended_close": session.extended_close,
    }
    yield session.open, SESSION_OPENED, EVERY_SYMBOL, SessionOpened, opened
    closed = {"session": session.date.isoformat(), "ts": session.close}
    yield session.close, SESSION_CLOSED, EVERY_SYMBOL, SessionClosed, closed


def with_sessions(drafts: Iterable[Draft], calendar: Calendar) -> Iterator[Draft]:
    """`drafts` with open and close of each session from the first day to the last.

    They are in order, but for some that go back in time: those change nothing for the rest.
    """
    pending = deque[Draft]()
    last: date | None = None
    for draft in drafts:
        day = calendar.day(draft[0])
        if last is None or day > last:
            for session in calendar.between(last + _DAY if last else day, day):
                pending.extend(session_drafts(session))
            last = day
        while pending and draft_order(pending[0]) <= draft_order(draft):
            yield pending.popleft()
        yield draft
    yield from pending


class Scale:
    """The decimals that a file's whole numbers stand for.

    Prices are divided by 10,000 and multiplied by `price` x `split`, exactly; sizes are divided
    by `split`, half-even to whole shares.
    """

    def __init__(self, price: Decimal = Decimal(1), split: Decimal = Decimal(1)) -> None:
        factor = EXACT.multiply(EXACT.multiply(price, split), Decimal("0.0001"))
        self._price = _Memory(lambda number: EXACT.multiply(Decimal(number), factor))
        self.price = self._price.__getitem__
        self.size = _Memory(lambda number: Decimal(round(number / Fraction(split)))).__getitem__

    def bar(self, prices: Prices) -> tuple[Decimal, Decimal, Decimal, Decimal]:
        """Open, high, low, close in dollars."""
        made = self._price
        return made[prices[0]], made[prices[1]], made[prices[2]], made[prices[3]]


class _Memory(dict[int, Decimal]):
    """Canonical decimals by whole number, made at first use; forgotten when there are too many."""

    def __init__(self, make: Callable[[int], Decimal]) -> None:
        self._make = make

    def __missing__(self, number: int) -> Decimal:
        if len(self) >= _MEMORY_MAX:
            self.clear()
        made = self[number] = canonical(self._make(number))
        return made


def bar_drafts(
    symbol: str,
    trades: Iterable[TradeRow],
    quotes: Iterable[QuoteRow],
    scale: Scale,
    midnight: int,
    period: int,
) -> Iterator[Draft]:
    """The Bars of one symbol and day, each with the closing Quote before it where there is one.

    `midnight` is New York's in UTC nanoseconds, `period` is in nanoseconds; a bar's ts is its end.
    """
    traded = {row.ms: row for row in trades}
    quoted = {row.ms: row for row in quotes}
    for ms in sorted(traded.keys() | quoted.keys()):
        ts = midnight + ms * MS + period
        fields: dict[str, Any] = {"symbol": symbol, "ts": ts, "period": period, "feed": FEED}
        if quote := quoted.get(ms):
            yield ts, QUOTE, symbol, Quote, _add_quote(fields, quote, scale)
        _add_trades(fields, traded.get(ms), scale)
        yield ts, BAR, symbol, Bar, fields


def daily_draft(symbol: str, row: DailyRow, session: Session, scale: Scale) -> Draft:
    """The Bar of a session: its ts is the close, its period the regular hours."""
    period = session.close - session.open
    fields: dict[str, Any] = {"symbol": symbol, "ts": session.close, "period": period, "feed": FEED}
    fields["open"], fields["high"], fields["low"], fields["close"] = scale.bar(row.prices)
    fields["volume"] = scale.size(row.volume)
    return session.close, BAR, symbol, Bar, fields


def tick_drafts(
    symbol: str, trades: Iterable[TickTrade], quotes: Iterable[BestQuote], scale: Scale, midnight: int
) -> Iterator[Draft]:
    """The Quotes and Trades of one symbol and day; `midnight` is New York's in UTC nanoseconds."""
    made = _tick_quotes(symbol, quotes, scale, midnight), _tick_trades(symbol, trades, scale, midnight)
    return heapq.merge(*made, key=draft_order)


def _tick_quotes(symbol: str, rows: Iterable[BestQuote], scale: Scale, midnight: int) -> Iterator[Draft]:
    price, size = scale.price, scale.size
    for ms, bid, bid_size, ask, ask_size in rows:
        ts = midnight + ms * MS
        yield (
            ts,
            QUOTE,
            symbol,
            Quote,
            {
                "symbol": symbol,
                "ts": ts,
                "bid": price(bid) if bid else None,
                "bid_size": size(bid_size) if bid else None,
                "ask": price(ask) if ask else None,
                "ask_size": size(ask_size) if ask else None,
                "feed": FEED,
            },
        )


def _tick_trades(symbol: str, rows: Iterable[TickTrade], scale: Scale, midnight: int) -> Iterator[Draft]:
    for ms, price, size, exchange, condition in rows:
        ts = midnight + ms * MS
        yield (
            ts,
            TRADE,
            symbol,
            Trade,
            {
                "symbol": symbol,
                "ts": ts,
                "price": scale.price(price),
                "size": scale.size(size),
                "feed": FEED,
                "exchange": exchange,
                "condition": condition,
            },
        )


def _add_trades(fields: dict[str, Any], row: TradeRow | None, scale: Scale) -> None:
    prices = scale.bar(row.prices) if row else _NO_PRICES
    fields["open"], fields["high"], fields["low"], fields["close"] = prices
    fields["volume"] = scale.size(row.volume) if row else None


def _add_quote(fields: dict[str, Any], row: QuoteRow, scale: Scale) -> dict[str, Any]:
    """Give a bar its bid and ask prices; returns the fields of its closing Quote."""
    bid = scale.bar(row.bid) if row.bid else _NO_PRICES
    ask = scale.bar(row.ask) if row.ask else _NO_PRICES
    fields["bid_open"], fields["bid_high"], fields["bid_low"], fields["bid_close"] = bid
    fields["ask_open"], fields["ask_high"], fields["ask_low"], fields["ask_close"] = ask
    return {
        "symbol": fields["symbol"],
        "ts": fields["ts"],
        "bid": bid[3],
        "bid_size": scale.size(row.bid_size) if row.bid else None,
        "ask": ask[3],
        "ask_size": scale.size(row.ask_size) if row.ask else None,
        "feed": FEED,
        "bar": True,
    }
