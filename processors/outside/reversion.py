"""Mean reversion on one-minute bars: bought far below the mean of the last closes, sold far above it."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from decimal import Decimal

import msgspec

from processors.keyed import NOTHING, PerKey
from schemas import Bar, Event, Proposal, Record, digest

MINUTE_NS = 60_000_000_000
JUMP = 0.3
"""A close that differs from the one before by more than this share of it begins the window anew: a split."""
PLACES = 6
"""Of a feature, as text."""


class Window(msgspec.Struct):
    """The last closes of a symbol, the end of the last bar (UTC ns), and the side last proposed."""

    closes: list[float] = []
    last: int = 0
    side: int = 0


class MeanReversion(PerKey[Window]):
    """Proposes target weights for one account from the closes of `market.bars`.

    z is the close's distance from the mean of the last `length` closes, its own among them, in standard
    deviations (of the population). At z <= -`entry` the target is `weight`; at z >= `entry` it is
    -`weight` where `short`, else zero; at |z| <= `leave` it is zero. A target is proposed when it
    changes. A bar that comes again for the same minute corrects the window and proposes nothing; late,
    backfilled and empty bars, and those of another period, are passed over.
    """

    name = "mean-reversion"
    inputs: tuple[str, ...] = ("market.bars",)
    outputs: tuple[str, ...] = ("strategy.proposals",)
    State = Window

    def __init__(
        self,
        strategy: str,
        account: str,
        symbols: Collection[str],
        *,
        length: int = 20,
        entry: float = 2.0,
        leave: float = 0.5,
        weight: Decimal = Decimal("0.1"),
        short: bool = False,
    ) -> None:
        """`strategy` is its name in signals and books. Raises `ValueError` for what cannot be meant."""
        super().__init__()
        if length < 2 or not 0 <= leave < entry or not symbols:
            raise ValueError("mean reversion needs symbols, a length of 2 or more, and 0 <= leave < entry")
        self._strategy, self._account, self._symbols = strategy, account, frozenset(symbols)
        self._length, self._entry, self._leave = length, float(entry), float(leave)
        self._weights = {0: Decimal(0), 1: weight, -1: -weight if short else Decimal(0)}
        meant = (account, sorted(self._symbols), length, self._entry, self._leave, str(weight), short)
        self.version = f"1-{digest(repr(meant).encode())[:8]}"

    def fold(self, state: Window, record: Record) -> Sequence[Event]:
        """The proposal that a bar leads to, if any."""
        bar = record.event
        if (
            not isinstance(bar, Bar)
            or bar.symbol not in self._symbols
            or bar.period != MINUTE_NS
            or bar.close is None
            or bar.backfilled
            or bar.ts < state.last
        ):
            return NOTHING
        close = float(bar.close)
        if bar.ts == state.last:
            state.closes[-1] = close
            return NOTHING
        state.last = bar.ts
        if state.closes and abs(close / state.closes[-1] - 1) > JUMP:
            state.closes = []
        state.closes = [*state.closes, close][-self._length :]
        return self._propose(state, bar, record) if len(state.closes) == self._length else NOTHING

    def _propose(self, state: Window, bar: Bar, record: Record) -> Sequence[Event]:
        mean = math.fsum(state.closes) / self._length
        deviation = math.sqrt(math.fsum((c - mean) ** 2 for c in state.closes) / self._length)
        if not deviation:
            return NOTHING
        z = (state.closes[-1] - mean) / deviation
        side = self._side(z, state.side)
        if self._weights[side] == self._weights[state.side]:
            state.side = side
            return NOTHING
        state.side = side
        features = {"z": z, "mean": mean, "deviation": deviation}
        return (
            Proposal(
                id=f"{self._strategy}/{self.version}/{record.place}/0",
                account=self._account,
                ts=bar.ts,
                strategy=self._strategy,
                version=self.version,
                cause=record.place,
                source=f"{record.topic}/{record.partition}",
                position=record.offset,
                ordinal=0,
                intent="target",
                symbol=bar.symbol,
                weight=self._weights[side],
                features={name: str(round(value, PLACES)) for name, value in features.items()},
            ),
        )

    def _side(self, z: float, before: int) -> int:
        if z <= -self._entry:
            return 1
        if z >= self._entry:
            return -1
        return 0 if abs(z) <= self._leave else before
