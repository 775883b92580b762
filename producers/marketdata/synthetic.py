"""Synthetic markets from a seed: `Synthetic` for benchmarks and tests, `SyntheticMarket` on the calendar.

The same arguments give the same events on every machine: only `Random.random`, whose sequence
Python guarantees, is drawn from, and floats are only added, multiplied, divided and rooted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from decimal import Decimal
from functools import cached_property, lru_cache
from math import sqrt
from random import Random
from typing import Any

from producers.marketdata.drafts import QUOTE, TRADE, Draft, session_drafts
from producers.marketdata.errors import BadRequest
from producers.sessions import SECOND_NS, Session, midnight, sessions
from schemas import Event, Quote, SessionClosed, SessionOpened, Trade, canonical, digest

_FLOOR_CENTS = 100
_RATE_MAX = 1_000_000
_VOLATILITY_MAX = 10
_YEAR_S = 252 * 6.5 * 3600  # seconds in which the market is open
_UNIFORM = sqrt(12)  # a uniform draw from an interval of this length has a standard deviation of one


@dataclass(frozen=True)
class Synthetic:
    """One session of `quotes` quotes from `start` (UTC ns), `rate_per_s` of them a second of event time.

    Each quote moves a symbol, drawn at random, by at most one cent; prices begin between 20 and
    200 dollars and stay above one; bid and ask are 1 to `spread_cents_max` cents apart.
    Raises `ValueError` without a symbol, or with a rate or spread below one.
    """

    symbols: tuple[str, ...]
    seed: int
    quotes: int
    start: int
    rate_per_s: int = 1000
    spread_cents_max: int = 3

    def __post_init__(self) -> None:
        if not self.symbols or self.rate_per_s < 1 or self.spread_cents_max < 1:
            raise ValueError("a synthetic market needs a symbol, and a rate and a spread of at least one")

    @cached_property
    def source(self) -> str:
        """A digest of the arguments."""
        return digest(repr(self).encode())[:12]

    def check(self, progress: Callable[[int, int], None] | None = None) -> int:
        """How many events there are."""
        return self.quotes + 2

    def events(self, source: str | None = None) -> Iterator[Event]:
        """SessionOpened, the quotes, SessionClosed; memory does not grow with their number."""
        source = source or self.source
        session = datetime.fromtimestamp(self.start // SECOND_NS, UTC).date().isoformat()
        close = self._at(self.quotes)
        yield SessionOpened(
            session=session,
            ts=self.start,
            close=close,
            extended_open=self.start,
            extended_close=close,
            source=source,
            row=1,
        )
        yield from self._quotes(source)
        yield SessionClosed(session=session, ts=close, source=source, row=self.quotes + 2)

    def _quotes(self, source: str) -> Iterator[Quote]:
        draw, symbols = Random(self.seed).random, self.symbols
        bids = [2000 + int(draw() * 18000) for _ in symbols]
        for i in range(self.quotes):
            which = int(draw() * len(symbols))
            bid = bids[which] = max(_FLOOR_CENTS, bids[which] + int(draw() * 3) - 1)
            yield Quote(
                symbol=symbols[which],
                ts=self._at(i),
                bid=_dollars(bid),
                bid_size=_round_lots(1 + int(draw() * 10)),
                ask=_dollars(bid + 1 + int(draw() * self.spread_cents_max)),
                ask_size=_round_lots(1 + int(draw() * 10)),
                source=source,
                row=i + 2,
                feed="synthetic",
            )

    def _at(self, i: int) -> int:
        return self.start + i * SECOND_NS // self.rate_per_s


def synthetic(
    symbols: Sequence[str], seed: int, quotes: int, start: int, rate_per_s: int = 1000
) -> Iterator[Event]:
    """The events of a `Synthetic` market."""
    return Synthetic(tuple(symbols), seed, quotes, start, rate_per_s).events()


@dataclass(frozen=True)
class SyntheticMarket:
    """Quotes and trades of `symbols` in every session from `first` to `last`, both inclusive.

    `rate_per_s` quotes come in a second, evenly, each of a symbol drawn at random; `trade_share` of
    them are followed by a trade at their bid or ask. Prices begin between 20 and 200 dollars and
    walk with `volatility`, the standard deviation of a year's return while the market is open; they
    stay above one dollar. Spreads are `spread_bps` of the price on average, and at least a cent.
    Sessions open and close when the calendar says, or else at `opens` and `closes` in New York.

    Raises a `BadRequest` for a market of nothing.
    """

    symbols: tuple[str, ...]
    seed: int
    first: date
    last: date
    rate_per_s: float = 1.0
    volatility: float = 0.2
    spread_bps: float = 2.0
    trade_share: float = 0.2
    opens: time | None = None
    closes: time | None = None

    def __post_init__(self) -> None:
        if not self.symbols or len(set(self.symbols)) < len(self.symbols):
            raise BadRequest("a synthetic market needs symbols, each once: name at least one")
        if not (0 < self.rate_per_s <= _RATE_MAX and 0 <= self.volatility <= _VOLATILITY_MAX):
            raise BadRequest(
                f"a rate of {self.rate_per_s} and a volatility of {self.volatility} make no market: "
                f"choose a rate above 0, at most {_RATE_MAX}, and a volatility from 0 to {_VOLATILITY_MAX}"
            )
        if not (0 <= self.spread_bps <= 10_000 and 0 <= self.trade_share <= 1):
            raise BadRequest(
                f"a spread of {self.spread_bps} basis points and {self.trade_share} trades a quote make no "
                "market: choose a spread from 0 to 10000 and a share from 0 to 1"
            )
        if any(session.open >= session.close for session in self.sessions):
            raise BadRequest(f"the market opens at {self.opens}, not before its close: open it earlier")
        if not self.sessions:
            raise BadRequest(f"no session from {self.first} to {self.last}: choose other dates")

    @cached_property
    def sessions(self) -> list[Session]:
        """The sessions, with the opens and closes that were asked for."""
        return [self._session(session) for session in sessions(self.first, self.last)]

    @cached_property
    def source(self) -> str:
        """A digest of the arguments."""
        return digest(repr(self).encode())[:12]

    def check(self, progress: Callable[[int, int], None] | None = None) -> int:
        """How many events there are; `progress` is called with the sessions gone through, and all."""
        count = done = 0
        for event in self.events():
            count += 1
            if progress is not None and isinstance(event, SessionClosed):
                done += 1
                progress(done, len(self.sessions))
        return count

    def events(self, source: str | None = None) -> Iterator[Event]:
        """Every session's open, quotes, trades and close; memory does not grow with their number."""
        source = source or self.source
        for row, (_, _, _, kind, fields) in enumerate(self._drafts(), start=1):
            yield kind(source=source, row=row, **fields)

    def _drafts(self) -> Iterator[Draft]:
        draw = Random(self.seed).random
        cents = [2000 + draw() * 18000 for _ in self.symbols]
        for session in self.sessions:
            opened, closed = session_drafts(session)
            yield opened
            yield from self._trading(session, draw, cents)
            yield closed

    def _trading(self, session: Session, draw: Callable[[], float], cents: list[float]) -> Iterator[Draft]:
        interval = SECOND_NS / self.rate_per_s
        step = self.volatility * sqrt(len(self.symbols) / (self.rate_per_s * _YEAR_S)) * _UNIFORM
        for i in range(int((session.close - session.open) / interval)):
            which, ts = int(draw() * len(self.symbols)), session.open + int(i * interval)
            at = cents[which] = max(_FLOOR_CENTS + 1.0, cents[which] * (1 + step * (draw() - 0.5)))
            spread = max(1, int(at * self.spread_bps / 10_000 * 2 * draw() + 0.5))
            bid = max(1, int(at - spread / 2))
            fields = {
                "symbol": self.symbols[which],
                "ts": ts,
                "bid": _dollars(bid),
                "bid_size": _round_lots(1 + int(draw() * 10)),
                "ask": _dollars(bid + spread),
                "ask_size": _round_lots(1 + int(draw() * 10)),
                "feed": "synthetic",
            }
            yield ts, QUOTE, self.symbols[which], Quote, fields
            if draw() < self.trade_share:
                yield _trade(fields, "ask" if draw() < 0.5 else "bid")

    def _session(self, session: Session) -> Session:
        base = midnight(session.date)
        opened = session.open if self.opens is None else base + _ns(self.opens)
        closed = session.close if self.closes is None else base + _ns(self.closes)
        begin, end = min(opened, session.extended_open), max(closed, session.extended_close)
        return session._replace(open=opened, close=closed, extended_open=begin, extended_close=end)


def _trade(quote: dict[str, Any], side: str) -> Draft:
    """A trade of all that a quote shows on a side."""
    fields = {name: quote[name] for name in ("symbol", "ts", "feed")}
    fields |= {"price": quote[side], "size": quote[f"{side}_size"]}
    return quote["ts"], TRADE, quote["symbol"], Trade, fields


def _ns(clock: time) -> int:
    return (clock.hour * 3600 + clock.minute * 60 + clock.second) * SECOND_NS


@lru_cache(maxsize=65536)
def _dollars(cents: int) -> Decimal:
    return canonical(Decimal(cents).scaleb(-2))


@lru_cache(maxsize=64)
def _round_lots(lots: int) -> Decimal:
    return canonical(Decimal(lots * 100))
