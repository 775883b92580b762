"""The simulated exchange: fills orders against recorded market data."""

from processors.exchange.exchange import Exchange

__all__ = ["Exchange"]
