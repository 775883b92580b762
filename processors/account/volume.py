"""What was traded of a symbol from one regular close to the next, each share once."""

from __future__ import annotations

from bisect import bisect_left
from decimal import Decimal

import msgspec

from schemas import ZERO, Bar, Trade, ratio

MINUTE = 60_000_000_000
REVISABLE = 60 * MINUTE
"""How long the bars before the newest are remembered: so long a revision can be told from a backfill."""


class Volume(msgspec.Struct):
    """Shares traded after `since` (UTC ns). Until a bar comes, trades count; from then on, bars.

    Bars of several periods hold the same shares: those of one period count, that nearest to a minute. A
    bar that comes again replaces what it was, if it is less than an hour older than the newest.
    """

    since: int = 0
    total: Decimal = ZERO
    period: int = 0
    """Nanoseconds, of the bars that count; 0: trades do."""
    bars: list[tuple[int, Decimal]] = []
    """The bars of the last hour: their ends (UTC ns), ascending, and volumes."""

    def add_trade(self, trade: Trade, open_from: int) -> None:
        """Count a trade; one that is backfilled, only if it is after `open_from` (0: no session was)."""
        if not self.period and self._is_of(trade, open_from):
            self.total += trade.size

    def add_bar(self, bar: Bar, open_from: int) -> None:
        """Count a bar, or what a revision changes; one that is backfilled, only if after `open_from`."""
        if bar.period != self.period:
            if bar.volume is None or not self._is_of(bar, open_from) or not self._is_nearer(bar.period):
                return
            self.period, self.total, self.bars = bar.period, ZERO, []
        bars, end = self.bars, bar.ts
        newest = bars[-1][0] if bars else 0
        index = len(bars) if end > newest else bisect_left(bars, (end,))
        is_known = index < len(bars) and bars[index][0] == end
        if not is_known and not self._is_of(bar, max(open_from, newest - REVISABLE) if open_from else 0):
            return
        volume = ZERO if bar.volume is None else bar.volume
        self.total += volume - (bars[index][1] if is_known else ZERO)
        bars[index : index + is_known] = [(end, volume)]
        del bars[: bisect_left(bars, (bars[-1][0] - REVISABLE + 1,))]

    def _is_nearer(self, period: int) -> bool:
        """Whether bars of that period count from here on, instead of what did."""
        return not self.period or abs(period - MINUTE) < abs(self.period - MINUTE)

    def _is_of(self, event: Trade | Bar, open_from: int) -> bool:
        if event.backfilled:
            return bool(open_from) and event.ts > max(self.since, open_from)
        return event.ts > self.since

    def scale(self, num: Decimal, den: Decimal) -> None:
        """A split: shares counted so far are restated."""
        self.total = ratio(self.total, num, den)
        self.bars = [(end, ratio(volume, num, den)) for end, volume in self.bars]
