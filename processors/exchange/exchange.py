"""The simulated exchange: market events and orders in, a broker's reports out.

How time passes. `now` is the greatest `ts` of the market events seen. An order or request that
leaves at `now` arrives at `now` + latency: at once without latency, else before the first market
event of a later time is applied, so that it meets the market as it stood, the quote of its own
time too. What arrives at the very close meets it. Requests keep their order. An order that is
cancelled on its way is taken back at once.

What fills what, per symbol. On quotes (ticks): arrivals take the other side; what rests fills at
its limit when the other side reaches it; trades set off stops. On bars: a Quote flagged `bar`
fills arrivals only, the Bar itself what had arrived when it began; a market order that waits
fills at its open. With neither quotes nor bars: the last trade stands for both sides, but only
trades after the arrival count. Where quotes come as ticks, bars repeat them and fill nothing.

Where a stop has filled on a bar, limits of the same account, strategy and side wait for the next
one: the bar does not say which came first, and the strategy may want to cancel its target.

Market orders wait for a price (out of session, in a halt, on a crossed quote); IOC and FOK are
cancelled instead, except on a symbol without quotes, where the next trade or bar decides. A
displayed size that is not known counts as none. Anything on its way when a split comes arrives
before it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

import msgspec

from processors.exchange.book import IMMEDIATE, Asked, Book, Offer, Order, open_day_orders
from processors.exchange.hours import Hours
from processors.exchange.matching import (
    Slippage,
    bar_open,
    limit_on_bar,
    reaches,
    stop_on_bar,
    triggers,
)
from processors.exchange.reporting import Reports, What
from processors.exchange.state import BookState, Request, State
from processors.fees import fee_model
from schemas import (
    CORE_MARKET_INPUTS,
    EVERY_SYMBOL,
    Bar,
    CashDividend,
    CoreSettings,
    Event,
    FeedGap,
    FeedRecovered,
    Heartbeat,
    OrderAccepted,
    OrderChanged,
    Quote,
    Record,
    SessionClosed,
    SessionOpened,
    Split,
    Trade,
    TradeCancel,
    TradeCorrection,
    TradingHalt,
    TradingResume,
    decision_id,
)

NEVER = 2**63 - 1
NOTHING: tuple[Event, ...] = ()


class Exchange:
    """One simulated venue for all symbols and accounts of a core partition."""

    name = "exchange"
    version = "1"
    inputs: tuple[str, ...] = CORE_MARKET_INPUTS

    def __init__(self, settings: CoreSettings) -> None:
        self._latency = settings.latency
        self._limited = settings.size == "displayed"
        self._stops_on_quotes = settings.stop_trigger == "quote"
        self._slippage = Slippage(settings.slippage_bps)
        self._reports = Reports(fee_model(settings.fee))
        self._hours = Hours()
        self._books: dict[str, Book] = {}
        self._orders: dict[str, Order] = {}
        self._requests: deque[Request] = deque()
        self._closed: dict[str, Asked | None] = {}
        """Orders that ended since the last market event, with the request that stood."""
        self._wake = NEVER
        """The market time from which an event has more to do than what it says."""
        self._handlers = self._table()

    def apply(self, record: Record) -> Sequence[Event]:
        """Take one record; the reports it leads to, in order."""
        event: Any = record.event
        handler = self._handlers.get(type(event))
        return NOTHING if handler is None else handler(record, event)

    def _table(self) -> dict[type, Callable[[Record, Any], Sequence[Event]]]:
        passing = dict.fromkeys(
            (TradeCorrection, TradeCancel, FeedGap, FeedRecovered, CashDividend, Heartbeat), self._passing
        )
        return passing | {
            Quote: self._quote,
            Trade: self._trade,
            Bar: self._bar,
            SessionOpened: self._session_opened,
            SessionClosed: self._session_closed,
            TradingHalt: self._trading_halt,
            TradingResume: self._trading_resume,
            Split: self._split,
            OrderAccepted: self._order_accepted,
            OrderChanged: self._order_changed,
        }

    # ------------------------------------------------------------ prices

    def _quote(self, record: Record, quote: Quote) -> Sequence[Event]:
        reports = self._reports
        ts = quote.ts
        if ts > self._wake:
            self._pass_time(record, ts)
        elif ts > reports.now:
            reports.now = ts
        book = self._books.get(quote.symbol)
        if book is None:
            book = self._book(quote.symbol)
        if quote.backfilled or ts < book.quote_ts:
            return self._done() if reports.out else NOTHING
        book.quote_ts = ts
        book.quote = record
        if not quote.bar:
            book.ticks = True
            if book.orders and not self._hours.is_halted(quote.symbol):
                for order in book.by_precedence():
                    self._meet_quote(order, book, reports.now, taking=order.tif in IMMEDIATE)
        return self._done() if reports.out else NOTHING

    def _trade(self, record: Record, trade: Trade) -> Sequence[Event]:
        self._clock(record, trade.ts)
        book = self._book(trade.symbol)
        if trade.backfilled or trade.ts < book.trade_ts:
            return self._done()
        book.trade_ts = trade.ts
        if book.orders and not self._hours.is_halted(trade.symbol):
            for order in book.by_precedence():
                self._meet_trade(order, book, trade, record)
        return self._done()

    def _bar(self, record: Record, bar: Bar) -> Sequence[Event]:
        self._clock(record, bar.ts)
        book = self._book(bar.symbol)
        if bar.backfilled or bar.ts < book.bar_ts:
            return self._done()
        book.bar_ts = bar.ts
        if book.orders and not book.ticks and not self._hours.is_halted(bar.symbol):
            self._meet_bar(book, bar, record.place)
        return self._done()

    def _meet_quote(self, order: Order, book: Book, at: int, *, taking: bool) -> None:
        """Let an order meet the prevailing quote at `at`. `taking`: it arrives there, and takes it."""
        since = self._hours.since(at, extended=order.extended)
        offer = None if since is None else book.offer(order.side, since, limited=self._limited)
        if offer is None or self._hours.is_halted(order.symbol):
            if taking and order.tif in IMMEDIATE:
                self._reports.cancelled(order, f"{order.tif}: no price to trade at", order.cause)
            return
        if order.kind == "stop":
            assert order.stop is not None
            if not self._stops_on_quotes or not triggers(order.side, offer.price, order.stop):
                return
            order.trigger(at)
            taking = True
        self._meet(order, book, offer, taking=taking)

    def _meet_trade(self, order: Order, book: Book, trade: Trade, record: Record) -> None:
        """Let a trade set off a stop and, on a symbol without quotes, stand for both sides."""
        since = self._hours.since(self._reports.now, extended=order.extended)
        if since is None or trade.ts < since:
            return
        taking = order.tif in IMMEDIATE
        if order.kind == "stop":
            assert order.stop is not None
            ignored = self._stops_on_quotes and book.quoted
            if ignored or not triggers(order.side, trade.price, order.stop):
                return
            order.trigger(self._reports.now)
            taking = True
            if book.quoted:
                self._meet_quote(order, book, self._reports.now, taking=True)
        if not book.quoted:
            self._meet(order, book, Offer(trade.price, None, record), taking=taking)

    def _meet(self, order: Order, book: Book, offer: Offer, *, taking: bool) -> None:
        """Fill what price and size allow; IOC and FOK end here."""
        price = self._price(order, offer.price, taking=taking)
        if price is not None:
            quantity = order.leaves if offer.size is None else min(order.leaves, offer.size)
            if quantity == order.leaves or (quantity > 0 and order.tif != "fok"):
                self._reports.filled(order, quantity, price, offer.record.place)
                if offer.size is not None:
                    book.take(order.side, quantity)
        if order.tif in IMMEDIATE and not order.done:
            self._reports.cancelled(order, f"{order.tif}: not at this price and size", offer.record.place)

    def _price(self, order: Order, price: Decimal, *, taking: bool) -> Decimal | None:
        """What a market or limit order trades at when the other side stands at `price`."""
        if order.kind == "market":
            return self._slippage.taken(order.side, price)
        assert order.limit is not None
        if not reaches(order.side, price, order.limit):
            return None
        return self._slippage.taken(order.side, price, order.limit) if taking else order.limit

    def _meet_bar(self, book: Book, bar: Bar, place: str) -> None:
        """Fill what had arrived when the bar began."""
        start = self._hours.start_of_bar(bar.ts, bar.period)
        stopped: set[tuple[str, str, str]] = set()
        for order in book.by_precedence():
            since = self._hours.since(self._reports.now, extended=order.extended)
            if since is None or start < since or start < order.since:
                continue
            whose = (order.account, order.strategy, order.side)
            kind = order.kind
            if kind == "limit" and whose in stopped:
                continue
            price = self._price_on_bar(order, bar)
            if price is not None:
                self._reports.filled(order, order.leaves, price, place)
                if kind == "stop":
                    stopped.add(whose)
            elif order.tif in IMMEDIATE and bar_open(bar, order.side) is not None:
                self._reports.cancelled(order, f"{order.tif}: not at the bar's open", place)

    def _price_on_bar(self, order: Order, bar: Bar) -> Decimal | None:
        """What an order trades at on a bar; a stop that goes off beyond its limit rests from then on."""
        side, limit = order.side, order.limit
        if order.kind == "stop":
            assert order.stop is not None
            price = stop_on_bar(bar, side, order.stop, by_quote=self._stops_on_quotes)
            if price is not None and limit is not None and not reaches(side, price, limit):
                order.trigger(bar.ts)
                return None
        elif order.kind == "market":
            price = bar_open(bar, side)
        elif order.tif in IMMEDIATE:
            price = bar_open(bar, side)
            if price is not None and limit is not None and not reaches(side, price, limit):
                return None
        else:
            assert limit is not None
            return limit_on_bar(bar, side, limit)
        return None if price is None else self._slippage.taken(side, price, limit)

    # ------------------------------------------------------------ time and status

    def _passing(self, record: Record, event: Any) -> Sequence[Event]:
        self._clock(record, event.ts)
        return self._done()

    def _session_opened(self, record: Record, event: SessionOpened) -> Sequence[Event]:
        self._clock(record, event.ts)
        self._expire(open_day_orders(self._orders.values(), self._hours.session), record)
        self._hours.open(event)
        self._set_wake()
        return self._done()

    def _session_closed(self, record: Record, event: SessionClosed) -> Sequence[Event]:
        self._clock(record, event.ts)
        self._let_in(event.ts)
        self._hours.is_open = False
        ending = open_day_orders(self._orders.values(), self._hours.session)
        self._expire([order for order in ending if not order.extended], record)
        return self._done()

    def _trading_halt(self, record: Record, event: TradingHalt) -> Sequence[Event]:
        self._clock(record, event.ts)
        self._hours.halt(event.symbol)
        return self._done()

    def _trading_resume(self, record: Record, event: TradingResume) -> Sequence[Event]:
        """What was quoted before or during the halt fills nothing."""
        self._clock(record, event.ts)
        self._hours.resume(event.symbol)
        symbols = self._books if event.symbol == EVERY_SYMBOL else [event.symbol]
        for symbol in symbols:
            self._book(symbol).forget()
        return self._done()

    def _split(self, record: Record, event: Split) -> Sequence[Event]:
        """Orders scale on a forward split and are cancelled on a reverse one."""
        self._clock(record, event.ts)
        while self._requests:
            self._arrive(self._requests.popleft(), event.ts)
        self._sweep()
        book = self._book(event.symbol)
        book.forget()
        for order in list(book.orders):
            if event.num < event.den:
                self._reports.cancelled(order, "reverse split", record.place)
            elif event.num > event.den:
                order.split(event.num, event.den)
                self._reports.replaced(order, record.place)
        return self._done()

    def _clock(self, record: Record, ts: int) -> None:
        if ts > self._wake:
            self._pass_time(record, ts)
        elif ts > self._reports.now:
            self._reports.now = ts

    def _pass_time(self, record: Record, ts: int) -> None:
        """Before the event of `record`: what arrives until then, and what its time has run out for."""
        self._closed.clear()
        self._reports.now = max(self._reports.now, ts)
        self._let_in(ts - 1)
        if self._reports.now > self._hours.extended_close:
            over = open_day_orders(self._orders.values(), self._hours.session)
            self._expire([order for order in over if order.extended], record)
        self._sweep()
        self._set_wake()

    def _let_in(self, until: int) -> None:
        """What has arrived by `until`; what arrives with an event's own time meets the state after it."""
        while self._requests and self._requests[0].due <= until:
            request = self._requests.popleft()
            self._arrive(request, request.due)

    def _expire(self, orders: list[Order], record: Record) -> None:
        for order in orders:
            if not order.done:
                self._reports.expired(order, record.place)

    # ------------------------------------------------------------ orders and requests

    def _order_accepted(self, _: Record, event: OrderAccepted) -> Sequence[Event]:
        order = Order.of(event)
        self._orders[order.id] = order
        return self._send("order", order.id, order.account, order.cause)

    def _order_changed(self, _: Record, event: OrderChanged) -> Sequence[Event]:
        """A request, if it is a new one: a change while a request is pending repeats it."""
        asked: Asked | None = None
        if event.pending == "replace":
            asked = ("replace", event.new_quantity, event.new_limit, event.new_stop)
        elif event.pending == "cancel":
            asked = ("cancel", None, None, None)
        order = self._orders.get(event.order)
        if asked == (order.asked if order is not None else self._closed.get(event.order)):
            return NOTHING
        if order is not None:
            order.asked = asked
        if asked is None:
            return NOTHING
        cause = decision_id(event.account, event.seq)
        if order is not None and not order.arrived and event.pending == "cancel":
            self._requests = deque(r for r in self._requests if r.order != order.id)
            self._reports.cancelled(order, "cancelled on its way", cause)
            return self._done()
        what: What = "cancel" if event.pending == "cancel" else "replace"
        return self._send(what, event.order, event.account, cause, *asked[1:])

    def _send(
        self,
        what: What,
        order: str,
        account: str,
        cause: str,
        quantity: Decimal | None = None,
        limit: Decimal | None = None,
        stop: Decimal | None = None,
    ) -> Sequence[Event]:
        due = self._reports.now + self._latency
        request = Request(due, what, order, account, cause, quantity, limit, stop)
        if self._latency:
            self._requests.append(request)
            self._wake = min(self._wake, due)
            return NOTHING
        self._arrive(request, due)
        return self._done()

    def _arrive(self, request: Request, at: int) -> None:
        """An order or request reaches the exchange at `at`."""
        order = self._orders.get(request.order)
        if order is None or order.done or order.arrived == (request.what == "order"):
            self._reports.refused(request.account, request.order, request.what, request.cause)
        elif request.what == "order":
            self._arrive_order(order, at)
        elif request.what == "cancel":
            self._reports.cancelled(order, "", request.cause)
        else:
            moved = order.replace(request.quantity, request.limit, request.stop)
            self._reports.replaced(order, request.cause)
            if moved and not order.done:
                order.since = at
                self._meet_market(order, at)

    def _arrive_order(self, order: Order, at: int) -> None:
        if order.flaw:
            self._reports.rejected(order, order.flaw)
            return
        book = self._book(order.symbol)
        order.arrived, order.since = True, at
        order.session = self._hours.session_of(at, extended=order.extended, quoted=book.quoted)
        book.orders.append(order)
        self._reports.acknowledged(order)
        if order.extended and order.session == self._hours.session:
            self._wake = min(self._wake, self._hours.extended_close)
        self._meet_market(order, at)

    def _meet_market(self, order: Order, at: int) -> None:
        """An arrival meets the prevailing quote; a symbol without quotes has nothing to meet yet."""
        book = self._books[order.symbol]
        if book.quoted:
            self._meet_quote(order, book, at, taking=True)

    # ------------------------------------------------------------ keeping the state in step

    def _book(self, symbol: str) -> Book:
        book = self._books.get(symbol)
        if book is None:
            book = self._books[symbol] = Book()
        return book

    def _done(self) -> Sequence[Event]:
        self._sweep()
        return self._reports.taken() if self._reports.out else NOTHING

    def _sweep(self) -> None:
        """Take orders that have ended out of the books; the next market event forgets them."""
        for order in self._reports.ended:
            if order.arrived:
                self._books[order.symbol].orders.remove(order)
            del self._orders[order.id]
            self._closed[order.id] = order.asked
            self._wake = -1
        self._reports.ended.clear()

    def _set_wake(self) -> None:
        if self._closed:
            self._wake = -1
            return
        self._wake = self._requests[0].due if self._requests else NEVER
        if any(order.extended for order in open_day_orders(self._orders.values(), self._hours.session)):
            self._wake = min(self._wake, self._hours.extended_close)

    def snapshot(self) -> bytes:
        """All state, as canonical JSON."""
        state = State(
            self._reports.now,
            self._hours,
            list(self._orders.values()),
            list(self._requests),
            self._closed,
            {symbol: BookState.of(book) for symbol, book in self._books.items()},
        )
        return msgspec.json.encode(state, order="deterministic")

    def restore(self, snapshot: bytes) -> None:
        """Be as the snapshot says. Settings are not in it."""
        state = msgspec.json.decode(snapshot, type=State)
        self._reports.now, self._hours = state.now, state.hours
        self._orders = {order.id: order for order in state.orders}
        self._requests = deque(state.requests)
        self._closed = state.closed
        self._books = {symbol: kept.book() for symbol, kept in state.books.items()}
        for order in state.orders:
            if order.arrived:
                self._books[order.symbol].orders.append(order)
        self._set_wake()
