"""What the account knows of the market: quotes, trades, sessions, and the mark they give.

A mark comes from the best tier there is: a valid quote of this session, the last trade of this
session, the prior close. A quote is valid if 0 < bid <= ask, its spread is within a bound of mid,
and the regular session is open (or extended marks are set). What served at a regular close is the
prior close from then on: it still values, but never authorises added risk.
"""

from __future__ import annotations

from decimal import Decimal
from typing import NamedTuple

import msgspec

from processors.account.volume import Volume
from schemas import EVERY_SYMBOL, ZERO, Bar, CoreSettings, Quote, Trade, quotient, ratio

UNNAMED = ""
"""Stands for the places of unreadable records beyond those that are named."""
HALF = Decimal("0.5")
TWO = Decimal(2)


class MarkPrice(NamedTuple):
    """A price with its tier (quote, trade, close), the identity of its source, and its time (UTC ns)."""

    price: Decimal
    tier: str
    source: str
    ts: int


class PriorClose(msgspec.Struct, frozen=True):
    """Bid and ask at the last regular close, or the last trade for both, and where they come from."""

    bid: Decimal
    ask: Decimal
    source: str
    ts: int


class SymbolState(msgspec.Struct):
    """One symbol, as last seen. Places are (partition, offset) of the market event."""

    symbol: str
    quote: Quote | None = None
    quote_at: tuple[int, int] = (0, 0)
    valid: Quote | None = None
    valid_at: tuple[int, int] = (0, 0)
    bad: bool = False
    """The newest quote of the session is not valid: the next tier serves."""
    trade: Decimal | None = None
    trade_ts: int = 0
    trade_source: str = ""
    trade_id: str = ""
    prior: PriorClose | None = None
    has_quotes: bool = False
    halted: bool = False
    halt_ts: int = 0
    """When the last halt or resume was (UTC ns)."""
    unread_prices: tuple[str, ...] = ()
    """Places of quotes, trades and bars that could not be read since the last good quote or trade."""
    unread_status: tuple[str, ...] = ()
    """Places of unreadable status records: until the operator resolves them, prices are not taken."""
    traded: Volume = msgspec.field(default_factory=Volume)
    """Since the last regular close."""
    traded_before: Volume | None = None
    """From the close before it to the last: what is late, or revised, still changes it."""
    volumes: tuple[Decimal, ...] = ()
    """Volumes of the last sessions, the newest last."""

    def scale(self, num: int, den: int) -> None:
        """A split: prices known so far are of old shares; they are restated."""
        n, d = Decimal(den), Decimal(num)
        for name in ("quote", "valid"):
            quote = getattr(self, name)
            if quote is not None:
                bid = None if quote.bid is None else ratio(quote.bid, n, d)
                ask = None if quote.ask is None else ratio(quote.ask, n, d)
                setattr(self, name, msgspec.structs.replace(quote, bid=bid, ask=ask))
        if self.trade is not None:
            self.trade = ratio(self.trade, n, d)
        if self.prior is not None:
            bid, ask = ratio(self.prior.bid, n, d), ratio(self.prior.ask, n, d)
            self.prior = msgspec.structs.replace(self.prior, bid=bid, ask=ask)
        for traded in (self.traded, self.traded_before):
            if traded is not None:
                traded.scale(d, n)
        self.volumes = tuple(ratio(v, d, n) for v in self.volumes)

    @property
    def average_volume(self) -> Decimal | None:
        """Mean volume of the sessions kept; None before the first has ended."""
        if not self.volumes:
            return None
        return quotient(sum(self.volumes, ZERO), Decimal(len(self.volumes)))


class Session(msgspec.Struct):
    """The regular session: whether it is open, and its bounds (UTC ns)."""

    name: str = ""
    count: int = 0
    is_open: bool = False
    opened: int = 0
    close: int = 0
    extended_open: int = 0
    extended_close: int = 0
    last_close: int = 0
    """When the last regular session ended: what is older is the prior close."""


class Market:
    """Folds market records into `SymbolState`s and says what a position is worth."""

    def __init__(self, settings: CoreSettings) -> None:
        self._settings = settings
        self._rule = settings.mark
        self._max_spread = settings.max_spread
        self.session = Session()
        self.symbols: dict[str, SymbolState] = {}
        self.unread_status: tuple[str, ...] = ()
        """Places of unreadable status records that concern all symbols, also those not seen yet."""
        self.now = 0

    def symbol(self, name: str) -> SymbolState:
        """The state of a symbol, made when it is first named."""
        state = self.symbols.get(name)
        if state is None:
            state = self.symbols[name] = SymbolState(name, traded=Volume(self.session.last_close))
        return state

    def on_quote(self, state: SymbolState, quote: Quote, partition: int, offset: int) -> bool:
        """Take a quote; True if the symbol's mark may have changed by it."""
        if state.unread_status or self.unread_status:
            return False
        state.quote = quote
        state.quote_at = (partition, offset)
        state.has_quotes = True
        if not (self.session.is_open or self._settings.mark_extended):
            return False
        bid, ask = quote.bid, quote.ask
        if (
            bid is None
            or ask is None
            or not 0 < bid <= ask
            or (ask - bid) * TWO > self._max_spread * (ask + bid)
        ):
            changed = not state.bad
            state.bad = True
            return changed
        state.valid = quote
        state.valid_at = (partition, offset)
        state.bad = False
        state.unread_prices = ()
        return True

    def on_trade(self, state: SymbolState, price: Decimal, ts: int, source: str, trade_id: str = "") -> bool:
        """Take a trade price; True if it became the last trade."""
        if self.is_blind(state):
            return False
        if ts < state.trade_ts or not (self.session.is_open or self._settings.mark_extended):
            return False
        state.trade, state.trade_ts, state.trade_source, state.trade_id = price, ts, source, trade_id
        if not state.has_quotes:
            state.unread_prices = ()
        return True

    def on_bar(self, state: SymbolState, bar: Bar, source: str) -> bool:
        """Take a bar's close as the last trade, and its volume."""
        if self.is_blind(state):
            return False
        self.count(state, bar)
        if bar.close is None or bar.backfilled:
            return False
        if (
            self.session.is_open
            and bar.ts - bar.period < self.session.opened
            and not self._settings.mark_extended
        ):
            return False
        return self.on_trade(state, bar.close, bar.ts, source)

    def count(self, state: SymbolState, event: Trade | Bar) -> None:
        """Take what was traded into the volume since the last close, or, where it was before, until then."""
        session = self.session
        is_before = event.ts <= session.last_close
        traded = state.traded_before if is_before else state.traded
        if traded is None:
            return
        if isinstance(event, Bar):
            traded.add_bar(event, session.extended_open)
        else:
            traded.add_trade(event, session.extended_open)
        if is_before:
            state.volumes = (*state.volumes[:-1], traded.total)

    def price(self, state: SymbolState, long: bool) -> MarkPrice | None:
        """What a long (or short) position of the symbol is marked at; None: unpriced."""
        if self.is_blind(state):
            return None
        since = self.session.last_close
        quote = None if state.bad else state.valid
        if quote is not None and quote.ts <= since:
            quote = None
        if state.trade is not None and state.trade_ts > since and (quote is None or self._rule == "last"):
            return MarkPrice(state.trade, "trade", state.trade_source, state.trade_ts)
        if quote is not None:
            assert quote.bid is not None
            assert quote.ask is not None
            price = self._between(quote.bid, quote.ask, long)
            return MarkPrice(price, "quote", place("market.quotes", state.valid_at), quote.ts)
        prior = state.prior
        if prior is None:
            return None
        return MarkPrice(self._between(prior.bid, prior.ask, long), "close", prior.source, prior.ts)

    def _between(self, bid: Decimal, ask: Decimal, long: bool) -> Decimal:
        if self._rule == "mid":
            return (bid + ask) * HALF
        return bid if long else ask

    def taker_price(self, state: SymbolState, side: str) -> MarkPrice | None:
        """What a taker pays (ask) or gets (bid) now; the last trade where no quote is valid."""
        if self.is_blind(state):
            return None
        since = self.session.last_close
        quote = None if state.bad else state.valid
        if quote is not None and quote.ts > since:
            price = quote.ask if side == "buy" else quote.bid
            assert price is not None
            return MarkPrice(price, "quote", place("market.quotes", state.valid_at), quote.ts)
        if state.trade is not None and state.trade_ts > since:
            return MarkPrice(state.trade, "trade", state.trade_source, state.trade_ts)
        prior = state.prior
        if prior is None:
            return None
        return MarkPrice(prior.ask if side == "buy" else prior.bid, "close", prior.source, prior.ts)

    def is_blind(self, state: SymbolState) -> bool:
        """Whether a status record of the symbol is unreadable: a missed split makes any price a wrong one."""
        return bool(state.unread_status or self.unread_status)

    def is_halted(self, symbol: str) -> bool:
        """Whether the exchange has halted the symbol, or all of them."""
        states = (self.symbols.get(symbol), self.symbols.get(EVERY_SYMBOL))
        return any(state is not None and state.halted for state in states)

    def stale_at(self, state: SymbolState) -> int:
        """When the symbol becomes stale if nothing more is heard of it (UTC ns, in session)."""
        if state.unread_prices or self.is_blind(state):
            return 0
        quoted = state.valid.ts if state.valid is not None else 0
        heard = quoted if state.has_quotes else state.trade_ts
        return max(heard, self.session.opened) + max(
            self._settings.stale_after, 3 * self._settings.resolution
        )

    def open_session(
        self, name: str, opened: int, close: int, extended_open: int, extended_close: int
    ) -> None:
        """The regular session begins."""
        before = self.session
        self.session = Session(
            name, before.count + 1, True, opened, close, extended_open, extended_close, before.last_close
        )

    def close_session(self, ts: int) -> None:
        """The regular session ends: its prices and volumes (of 20 sessions at most) are kept."""
        for state in self.symbols.values():
            state.prior = self._closing(state)
            state.volumes = (*state.volumes, state.traded.total)[-20:]
            state.traded_before, state.traded = state.traded, Volume(ts)
        self.session.is_open = False
        self.session.last_close = ts

    def _closing(self, state: SymbolState) -> PriorClose | None:
        """What serves at the close, or else the last that did; the close before it, where nothing came."""
        since = self.session.last_close
        trade = None
        if state.trade is not None and state.trade_ts > since:
            trade = PriorClose(state.trade, state.trade, state.trade_source, state.trade_ts)
        quote = state.valid
        if quote is None or quote.bid is None or quote.ask is None or quote.ts <= since:
            return trade or state.prior
        if trade is not None and (state.bad or self._rule == "last"):
            return trade
        return PriorClose(quote.bid, quote.ask, place("market.quotes", state.valid_at), quote.ts)


def place(topic: str, at: tuple[int, int]) -> str:
    """TOPIC/PARTITION/OFFSET."""
    return f"{topic}/{at[0]}/{at[1]}"
