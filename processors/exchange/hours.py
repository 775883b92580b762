"""When an order may trade: the regular session, extended hours, trading halts.

The only sources are SessionOpened and SessionClosed; before the first of them nothing trades.
What a morning's pre-market is, is known only when its session opens: until then the bounds of
the last session stand for the next day, by the time of day (UTC).
"""

from __future__ import annotations

import msgspec

from schemas import EVERY_SYMBOL, SessionOpened

DAY = 86_400 * 1_000_000_000


class Hours(msgspec.Struct):
    """The session as known so far. `session` counts SessionOpened; times are UTC ns."""

    session: int = 0
    is_open: bool = False
    opened: int = 0
    close: int = 0
    extended_open: int = 0
    extended_close: int = 0
    halted: list[str] = []

    def open(self, event: SessionOpened) -> None:
        """A regular session begins."""
        self.session += 1
        self.is_open = True
        self.opened, self.close = event.ts, event.close
        self.extended_open, self.extended_close = event.extended_open, event.extended_close

    def since(self, at: int, *, extended: bool) -> int | None:
        """Since when an order has been able to trade at `at`; None: it cannot.

        What was seen before that instant belongs to another session and fills nothing.
        """
        if self.is_open and at <= self.close:
            return self.opened
        if not extended or not self.session:
            return None
        elapsed = (at - self.extended_open) % DAY
        return at - elapsed if elapsed <= self.extended_close - self.extended_open else None

    def session_of(self, at: int, *, extended: bool, quoted: bool) -> int:
        """The session that an order arriving at `at` belongs to.

        Without quotes an order that arrives at the close was decided on the last bar, and is
        for the next session.
        """
        if extended:
            return self.session if self.session and at <= self.extended_close else self.session + 1
        within = self.is_open and (at <= self.close if quoted else at < self.close)
        return self.session if within else self.session + 1

    def start_of_bar(self, ts: int, period: int) -> int:
        """When a bar began; the session's own bar began at its open, whatever its period says."""
        start = ts - period
        return self.opened if start < self.opened and ts == self.close else start

    def halt(self, symbol: str) -> None:
        """Trading stops in a symbol, or in all of them."""
        if symbol not in self.halted:
            self.halted = sorted([*self.halted, symbol])

    def resume(self, symbol: str) -> None:
        """Trading goes on."""
        self.halted = [halted for halted in self.halted if halted != symbol]

    def is_halted(self, symbol: str) -> bool:
        """Whether trading in the symbol stands still."""
        return symbol in self.halted or EVERY_SYMBOL in self.halted
