"""Every parameter that the market processor's output depends on, and the name of that output."""

from __future__ import annotations

from decimal import Decimal

import msgspec

from schemas import digest

SECOND = 1_000_000_000
MINUTE = 60 * SECOND


class MarketSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Times are nanoseconds of event time."""

    mark_interval: int = 100_000_000
    mark_move_bps: Decimal = Decimal(5)
    """A move of the mid or of the last trade beyond so many basis points is shown at once."""
    mark_extended: bool = False
    max_spread: Decimal = Decimal("0.05")
    periods: tuple[int, ...] = (SECOND, MINUTE)
    bar_allowance: int = 0
    """How long after its end a bar waits for late trades."""
    keep: int = 3600 * SECOND
    """How long after its end a bar can be revised."""
    vendor_bars: tuple[str, ...] = ()
    """Symbols whose bars a vendor brings: they get none from here. "*" is every symbol."""
    feed_silence: int = 5 * SECOND
    """How long a feed may say nothing in session."""
    symbol_silence: int = 60 * SECOND
    expected: dict[str, int] = msgspec.field(default_factory=dict)
    """Symbols that are watched, each with the spacing expected of it: gaps are told after the larger of
    three times that and `symbol_silence`. Others may be as quiet as they like."""
    version: str = "1"
    """Of the processor's code: see `processors.market.processor`."""

    @property
    def text(self) -> str:
        """Canonical JSON."""
        return msgspec.json.encode(self, order="deterministic").decode()

    @property
    def source(self) -> str:
        """The `source` of bars and gaps made with these settings."""
        return f"market-{digest(self.text.encode())[:12]}"

    @classmethod
    def of(cls, text: str) -> MarketSettings:
        """What `text` wrote. Raises `msgspec.ValidationError`."""
        return msgspec.json.decode(text, type=cls)

    def has_bars(self, symbol: str) -> bool:
        """Whether bars of the symbol are made here."""
        return "*" not in self.vendor_bars and symbol not in self.vendor_bars
