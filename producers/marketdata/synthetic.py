"""A synthetic market: any number of quotes from a seed, for benchmarks and tests.

The same arguments give the same events on every machine: only `Random.random`, whose sequence
Python guarantees, is drawn from.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from functools import cached_property, lru_cache
from random import Random

from producers.sessions import SECOND_NS
from schemas import Event, Quote, SessionClosed, SessionOpened, canonical, digest

_FLOOR_CENTS = 100


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

    def events(self) -> Iterator[Event]:
        """SessionOpened, the quotes, SessionClosed; memory does not grow with their number."""
        session = datetime.fromtimestamp(self.start // SECOND_NS, UTC).date().isoformat()
        close = self._at(self.quotes)
        yield SessionOpened(
            session=session,
            ts=self.start,
            close=close,
            extended_open=self.start,
            extended_close=close,
            source=self.source,
            row=1,
        )
        yield from self._quotes()
        yield SessionClosed(session=session, ts=close, source=self.source, row=self.quotes + 2)

    def _quotes(self) -> Iterator[Quote]:
        draw, source, symbols = Random(self.seed).random, self.source, self.symbols
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


@lru_cache(maxsize=65536)
def _dollars(cents: int) -> Decimal:
    return canonical(Decimal(cents).scaleb(-2))


@lru_cache(maxsize=64)
def _round_lots(lots: int) -> Decimal:
    return canonical(Decimal(lots * 100))
