"""What the account knows of the market: quotes, trades, sessions, and the mark they give.

A mark comes from the best tier there is: a valid quote of this session, the last trade of this
session, the prior close. A quote is valid if 0 < bid <= ask, its spread is within a bound of mid,
and the regular session is open (or extended marks are set). After the close, what was quoted and
traded becomes the prior close: it still values, but never authorises added risk.
"""

from __future__ import annotations

from decimal import Decimal
from typing import NamedTuple

import msgspec

from schemas import Bar, CoreSettings, Quote, quotient, ratio

HALF = Decimal("0.5")
TWO = Decimal(2)


class MarkPrice(NamedTuple):
    """A price with its tier (quote, trade, close), the identity of its source, and its time (UTC ns)."""

    price: Decimal
    tier: str
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
    has_quotes: bool = False
    halted: bool = False
    unread: bool = False
    """A record of the symbol could not be read since its last good quote or trade."""
    unread_status: tuple[str, ...] = ()
    """Places of unreadable status records: only the operator resolves those."""
    volume: Decimal = Decimal(0)
    has_bars: bool = False
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
        self.volume = ratio(self.volume, d, n)
        self.volumes = tuple(ratio(v, d, n) for v in self.volumes)

    @property
    def average_volume(self) -> Decimal | None:
        """Mean volume of the sessions kept; None before the first has ended."""
        if not self.volumes:
            return None
        return quotient(sum(self.volumes, Decimal(0)), Decimal(len(self.volumes)))


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
        self.now = 0

    def symbol(self, name: str) -> SymbolState:
        """The state of a symbol, made when it is first named."""
        state = self.symbols.get(name)
        if state is None:
            state = self.symbols[name] = SymbolState(name)
        return state

    def on_quote(self, state: SymbolState, quote: Quote, partition: int, offset: int) -> bool:
        """Take a quote; True if the symbol's mark may have changed by it."""
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
        state.unread = False
        return True

    def on_trade(self, state: SymbolState, price: Decimal, ts: int, source: str, trade_id: str = "") -> bool:
        """Take a trade price; True if it became the last trade."""
        if ts < state.trade_ts or not (self.session.is_open or self._settings.mark_extended):
            return False
        state.trade, state.trade_ts, state.trade_source, state.trade_id = price, ts, source, trade_id
        if not state.has_quotes:
            state.unread = False
        return True

    def on_bar(self, state: SymbolState, bar: Bar, source: str) -> bool:
        """Take a bar's close as the last trade, and its volume."""
        if bar.volume is not None:
            if not state.has_bars:
                state.has_bars = True
                state.volume = Decimal(0)
            state.volume += bar.volume
        if bar.close is None or bar.backfilled:
            return False
        if (
            self.session.is_open
            and bar.ts - bar.period < self.session.opened
            and not self._settings.mark_extended
        ):
            return False
        return self.on_trade(state, bar.close, bar.ts, source)

    def price(self, state: SymbolState, long: bool) -> MarkPrice | None:
        """What a long (or short) position of the symbol is marked at; None: unpriced."""
        since = self.session.last_close
        quote = None if state.bad else state.valid
        fresh_quote = quote is not None and quote.ts > since
        fresh_trade = state.trade is not None and state.trade_ts > since
        if self._rule == "last":
            if fresh_trade:
                return self._of_trade(state, "trade")
            if fresh_quote:
                return self._of_quote(state, long, "quote")
            if state.trade is not None:
                return self._of_trade(state, "close")
            return self._of_quote(state, long, "close") if quote is not None else None
        if fresh_quote:
            return self._of_quote(state, long, "quote")
        if fresh_trade:
            return self._of_trade(state, "trade")
        if quote is not None:
            return self._of_quote(state, long, "close")
        return self._of_trade(state, "close") if state.trade is not None else None

    def _of_quote(self, state: SymbolState, long: bool, tier: str) -> MarkPrice:
        quote = state.valid
        assert quote is not None
        assert quote.bid is not None
        assert quote.ask is not None
        side = quote.bid if long else quote.ask
        price = (quote.bid + quote.ask) * HALF if self._rule == "mid" else side
        return MarkPrice(price, tier, place("market.quotes", state.valid_at), quote.ts)

    @staticmethod
    def _of_trade(state: SymbolState, tier: str) -> MarkPrice:
        assert state.trade is not None
        return MarkPrice(state.trade, tier, state.trade_source, state.trade_ts)

    def taker_price(self, state: SymbolState, side: str) -> MarkPrice | None:
        """What a taker pays (ask) or gets (bid) now; the last trade where a symbol has no quotes."""
        since = self.session.last_close
        quote = None if state.bad else state.valid
        if quote is not None and quote.ask is not None and quote.bid is not None:
            tier = "quote" if quote.ts > since else "close"
            trade_is_newer = tier == "close" and state.trade is not None and state.trade_ts > since
            if not trade_is_newer:
                price = quote.ask if side == "buy" else quote.bid
                return MarkPrice(price, tier, place("market.quotes", state.valid_at), quote.ts)
        if state.trade is None:
            return None
        return self._of_trade(state, "trade" if state.trade_ts > since else "close")

    def stale_at(self, state: SymbolState) -> int:
        """When the symbol becomes stale if nothing more is heard of it (UTC ns, in session)."""
        if state.unread or state.unread_status:
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
        """The regular session ends; its volumes are kept, 20 sessions at most."""
        self.session.is_open = False
        self.session.last_close = ts
        for state in self.symbols.values():
            state.volumes = (*state.volumes, state.volume)[-20:]
            state.volume = Decimal(0)


def place(topic: str, at: tuple[int, int]) -> str:
    """TOPIC/PARTITION/OFFSET."""
    return f"{topic}/{at[0]}/{at[1]}"
