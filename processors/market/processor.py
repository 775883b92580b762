"""The market processor: marks, bars and gaps of feeds, derived of quotes, trades and status.

Time is the greatest `ts` seen in any input. What is due as time passes comes out before the record that
moved it takes effect, in order of (due time, kind, symbol, period), so that it does not matter which
record that was. Nothing here depends on where a batch ends; the order of records does matter, and is
recorded by the host (`processors.hosts.refold`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal
from heapq import heapify, heappop, heappush
from typing import Any

import msgspec

from processors.market.bars import Bucket, Prints, Series, end_of, moved
from processors.market.marks import Shown, is_valid
from processors.market.settings import SECOND, MarketSettings
from schemas import (
    EVERY_SYMBOL,
    Event,
    FeedGap,
    FeedRecovered,
    Quote,
    Record,
    SessionClosed,
    SessionOpened,
    Trade,
    TradeCancel,
    TradeCorrection,
    TradingHalt,
    TradingResume,
    Unreadable,
)

BAR, MARK, SYMBOL, FEED = range(4)
Due = tuple[int, int, str, int, int]
"""When (UTC ns), what, of which symbol or feed, period, end of the bar."""


class Heard(msgspec.Struct):
    """A symbol or a feed that is watched: when it last spoke (UTC ns), and whether a gap has been told."""

    last: int
    is_mute: bool = False


class Symbol(msgspec.Struct):
    """One symbol: what was last seen of it, its bars, and when its trades with an id were."""

    shown: Shown = msgspec.field(default_factory=Shown)
    quote_ts: int = -1
    bid: Decimal | None = None
    ask: Decimal | None = None
    series: dict[int, Series] = {}
    trades: dict[str, int] = {}
    is_halted: bool = False


class State(msgspec.Struct):
    """All that there is to remember.

    `count` numbers trades. `too_late` counts trades, corrections and cancels of bars that are kept no
    more, `unknown` corrections and cancels of a trade that was never seen, or is kept no more.
    """

    now: int = -1
    row: int = 0
    count: int = 0
    is_open: bool = False
    symbols: dict[str, Symbol] = {}
    feeds: dict[str, Heard] = {}
    watched: dict[str, Heard] = {}
    due: list[Due] = []
    too_late: int = 0
    unknown: int = 0


class MarketProcessor:
    """Folds market records. `apply` gives Marks, Bars, FeedGaps and FeedRecovereds, in order."""

    name = "market"
    version = "1"
    inputs: tuple[str, ...] = ("market.status", "market.quotes", "market.trades")

    def __init__(self, settings: MarketSettings) -> None:
        self.settings = settings
        self.source = settings.source
        self.state = State()
        self._out: list[Event] = []
        self._handlers: dict[type, Callable[[Record, Any], None]] = {
            Quote: self._quote,
            Trade: self._trade,
            TradeCorrection: self._correct,
            TradeCancel: self._cancel,
            SessionOpened: self._opened,
            SessionClosed: self._closed,
            TradingHalt: self._halted,
            TradingResume: self._halted,
        }

    def apply(self, record: Record) -> Sequence[Event]:
        """Take one record; what it leads to."""
        event: Any = record.event
        kind = type(event)
        if kind is Unreadable or kind is FeedGap or kind is FeedRecovered:
            return ()  # gaps are what this processor says itself
        state = self.state
        if event.ts > state.now:
            self._pass_time(event.ts)
            state.now = event.ts
        handler = self._handlers.get(kind)
        if handler is not None:
            handler(record, event)
        if not self._out:
            return ()
        out, self._out = self._out, []
        return out

    # ------------------------------------------------------------ time

    def _pass_time(self, now: int) -> None:
        """All that is due by then."""
        due = self.state.due
        while due and due[0][0] <= now:
            at, kind, name, period, end = heappop(due)
            if kind == BAR:
                self._finish_bar(name, period, end)
            elif kind == MARK:
                self._show_held(name, at)
            else:
                self._check_silence(kind, name, at)

    def _row(self) -> int:
        self.state.row += 1
        return self.state.row

    def _symbol(self, name: str) -> Symbol:
        symbol = self.state.symbols.get(name)
        if symbol is None:
            symbol = self.state.symbols[name] = Symbol()
            if self.settings.has_bars(name):
                symbol.series = {period: Series() for period in self.settings.periods}
        return symbol

    # ------------------------------------------------------------ quotes and marks

    def _quote(self, record: Record, quote: Quote) -> None:
        """A quote that is backfilled, or older than its symbol's last, changes nothing."""
        self._hear(quote)
        symbol = self._symbol(quote.symbol)
        if quote.backfilled or quote.ts < symbol.quote_ts:
            return
        symbol.quote_ts = quote.ts
        self._quote_bars(symbol, quote)
        if self._may_mark() and is_valid(quote, self.settings.max_spread):
            symbol.shown.quote(quote, record.place)
            self._show(quote.symbol, symbol.shown)

    def _may_mark(self) -> bool:
        return self.state.is_open or self.settings.mark_extended

    def _show(self, name: str, shown: Shown) -> None:
        """Now, if enough time has passed or it has moved far enough; else when the interval has passed."""
        now = self.state.now
        due = shown.at + self.settings.mark_interval
        if shown.at < 0 or now >= due or shown.moved(self.settings.mark_move_bps):
            self._out.append(shown.mark(name, now))
        elif not shown.is_held:
            shown.is_held = True
            heappush(self.state.due, (due, MARK, name, 0, 0))

    def _show_held(self, name: str, at: int) -> None:
        """What is still held back. A move may have been shown meanwhile, and more be held since."""
        shown = self.state.symbols[name].shown
        due = shown.at + self.settings.mark_interval
        if shown.is_held and due <= at:
            self._out.append(shown.mark(name, at))

    # ------------------------------------------------------------ bars

    def _quote_bars(self, symbol: Symbol, quote: Quote) -> None:
        """The prevailing bid and ask of the bars that the time of the quote belongs to."""
        for period in symbol.series:
            end = end_of(quote.ts, period)
            if not self._is_over(end):
                bucket = self._bucket(quote.symbol, symbol, period, end)
                bucket.bid = moved(bucket.bid, quote.bid)
                bucket.ask = moved(bucket.ask, quote.ask)
        symbol.bid, symbol.ask = quote.bid, quote.ask

    def _is_over(self, end: int) -> bool:
        return end + self.settings.bar_allowance <= self.state.now

    def _bucket(self, name: str, symbol: Symbol, period: int, end: int) -> Bucket:
        """The bar that ends at `end`. A new one begins with the quote that holds; one that is over is out."""
        series = symbol.series[period]
        bucket = series.buckets.get(end)
        if bucket is not None:
            return bucket
        series.forget(self.state.now - self.settings.keep)
        bucket = series.buckets[end] = Bucket(is_out=self._is_over(end))
        if not bucket.is_out:
            heappush(self.state.due, (end + self.settings.bar_allowance, BAR, name, period, end))
            if symbol.quote_ts < end:
                bucket.bid, bucket.ask = moved(None, symbol.bid), moved(None, symbol.ask)
        return bucket

    def _finish_bar(self, name: str, period: int, end: int) -> None:
        """A bar is over; where nothing traded, there is none."""
        series = self.state.symbols[name].series[period]
        bucket = series.buckets.get(end)
        if bucket is None or bucket.prints is None:
            series.buckets.pop(end, None)
            return
        self._out.append(bucket.bar(name, end, period, self.source, self._row()))
        bucket.is_out = True

    def _trade(self, record: Record, trade: Trade) -> None:
        self._hear(trade)
        state, symbol = self.state, self._symbol(trade.symbol)
        state.count += 1
        if symbol.series:
            self._trade_bars(symbol, trade)
        shown = symbol.shown
        if self._may_mark() and not trade.backfilled and trade.ts >= shown.last_ts:
            shown.trade(trade.price, trade.ts, record.place)
            self._show(trade.symbol, shown)

    def _trade_bars(self, symbol: Symbol, trade: Trade) -> None:
        """Add the trade to its bars; one that has been written comes out again, revised."""
        if self._is_too_late(trade.ts) or (trade.id and trade.id in symbol.trades):
            return
        moment = (trade.ts, self.state.count)
        if trade.id:
            self._forget(symbol)
            symbol.trades[trade.id] = trade.ts
        for period in symbol.series:
            end = end_of(trade.ts, period)
            bucket = self._bucket(trade.symbol, symbol, period, end)
            if trade.id:
                bucket.named[trade.id] = (moment, trade.price, trade.size)
            else:
                one = Prints.of(moment, trade.price, trade.size)
                bucket.sum = one if bucket.sum is None else bucket.sum.plus(one)
            self._revise(trade.symbol, bucket, period, end)

    def _revise(self, name: str, bucket: Bucket, period: int, end: int) -> None:
        if bucket.is_out:
            self._out.append(bucket.bar(name, end, period, self.source, self._row()))

    def _is_too_late(self, ts: int) -> bool:
        """Whether bars of that time may have been forgotten; it is counted."""
        is_late = ts < self.state.now - self.settings.keep
        self.state.too_late += is_late
        return is_late

    def _correct(self, record: Record, event: TradeCorrection) -> None:
        symbol = self._symbol(event.symbol)
        for period, end, bucket in self._bars_with(symbol, event.id):
            moment, _, _ = bucket.named[event.id]
            bucket.named[event.id] = (moment, event.price, event.size)
            self._revise(event.symbol, bucket, period, end)

    def _cancel(self, record: Record, event: TradeCancel) -> None:
        symbol = self._symbol(event.symbol)
        for period, end, bucket in self._bars_with(symbol, event.id):
            del bucket.named[event.id]
            self._revise(event.symbol, bucket, period, end)
        symbol.trades.pop(event.id, None)

    def _bars_with(self, symbol: Symbol, id: str) -> list[tuple[int, int, Bucket]]:
        """Period, end and bar of each that a trade is part of; none where it is not known or too late."""
        if not symbol.series:
            return []
        ts = symbol.trades.get(id)
        if ts is None:
            self.state.unknown += 1
            return []
        if self._is_too_late(ts):
            return []
        ends = [(period, end_of(ts, period)) for period in symbol.series]
        return [(period, end, symbol.series[period].buckets[end]) for period, end in ends]

    def _forget(self, symbol: Symbol) -> None:
        """Trades that can be corrected no more."""
        before = self.state.now - self.settings.keep
        trades = symbol.trades
        while trades and (oldest := next(iter(trades.items())))[1] < before:
            del trades[oldest[0]]

    # ------------------------------------------------------------ status

    def _opened(self, record: Record, event: SessionOpened) -> None:
        """Silence counts from here, of all that is not known to be mute."""
        state = self.state
        self._closed(record, event)
        state.is_open = True
        for symbol in sorted(self.settings.expected):
            state.watched.setdefault(symbol, Heard(event.ts))
        for kind, watched in ((SYMBOL, state.watched), (FEED, state.feeds)):
            for name in sorted(watched):
                watched[name].last = max(watched[name].last, event.ts)
                self._watch(kind, name)

    def _closed(self, record: Record, event: SessionClosed | SessionOpened) -> None:
        """Nobody has to speak out of session."""
        self.state.is_open = False
        self.state.due = [due for due in self.state.due if due[1] in (BAR, MARK)]
        heapify(self.state.due)

    def _halted(self, record: Record, event: TradingHalt | TradingResume) -> None:
        self._symbol(event.symbol).is_halted = type(event) is TradingHalt
        heard = self.state.watched.get(event.symbol)
        if heard is not None:
            heard.last = max(heard.last, event.ts)

    # ------------------------------------------------------------ silence

    def _hear(self, event: Quote | Trade) -> None:
        """A symbol and its feed speak; what was mute has recovered."""
        if event.backfilled:
            return
        heard = self.state.watched.get(event.symbol)
        if heard is not None:
            self._speak(heard, SYMBOL, event.symbol, event)
        if type(event) is Quote and event.bar:
            return  # a feed of bars is as quiet as its bars are long
        feed = self.state.feeds.get(event.feed)
        if feed is None:
            self.state.feeds[event.feed] = Heard(event.ts)
            self._watch(FEED, event.feed)
        else:
            self._speak(feed, FEED, event.feed, event)

    def _speak(self, heard: Heard, kind: int, name: str, event: Quote | Trade) -> None:
        heard.last = max(heard.last, event.ts)
        if heard.is_mute:
            heard.is_mute = False
            self._out.append(
                FeedRecovered(
                    symbol=name if kind == SYMBOL else EVERY_SYMBOL,
                    ts=self.state.now,
                    source=self.source,
                    row=self._row(),
                    feed=event.feed,
                )
            )
            self._watch(kind, name)

    def _watch(self, kind: int, name: str) -> None:
        """From now on, in session, until it is found mute."""
        heard = self._heard(kind, name)
        if self.state.is_open and not heard.is_mute:
            heappush(self.state.due, (heard.last + self._bound(kind, name), kind, name, 0, 0))

    def _heard(self, kind: int, name: str) -> Heard:
        return self.state.watched[name] if kind == SYMBOL else self.state.feeds[name]

    def _bound(self, kind: int, name: str) -> int:
        settings = self.settings
        if kind == FEED:
            return settings.feed_silence
        return max(settings.symbol_silence, 3 * settings.expected[name])

    def _check_silence(self, kind: int, name: str, at: int) -> None:
        """Whether what was to speak by now has; if so, it is looked at again when it next must."""
        heard = self._heard(kind, name)
        if kind == SYMBOL and (self._symbol(name).is_halted or self._symbol(EVERY_SYMBOL).is_halted):
            heard.last = at
        if heard.last + self._bound(kind, name) > at:
            self._watch(kind, name)
            return
        heard.is_mute = True
        seconds = Decimal(self._bound(kind, name)) / SECOND
        self._out.append(
            FeedGap(
                symbol=name if kind == SYMBOL else EVERY_SYMBOL,
                ts=at,
                since=heard.last,
                source=self.source,
                row=self._row(),
                feed=name if kind == FEED else "",
                reason=f"nothing for {seconds:f} s",
            )
        )

    # ------------------------------------------------------------ snapshots

    def snapshot(self) -> bytes:
        """All state, as JSON, with what it holds in the order in which it came to be held."""
        self.state.due.sort()  # a sorted list is a heap
        return msgspec.json.encode(self.state)

    def restore(self, snapshot: bytes) -> None:
        """Be as the snapshot says; where it is one of other settings, these hold from now on."""
        self.state = state = msgspec.json.decode(snapshot, type=State)
        settings = self.settings
        for name, symbol in state.symbols.items():
            periods = settings.periods if settings.has_bars(name) else ()
            symbol.series = {period: symbol.series.get(period, Series()) for period in periods}
        state.watched = {name: heard for name, heard in state.watched.items() if name in settings.expected}
        state.due = [due for due in state.due if self._is_wanted(due)]

    def _is_wanted(self, due: Due) -> bool:
        _, kind, name, period, _ = due
        if kind == BAR:
            return period in self.state.symbols[name].series
        return kind != SYMBOL or name in self.state.watched
