"""Strategies that run outside the core, and write what they want as proposals."""

from processors.outside.reversion import MeanReversion

__all__ = ["MeanReversion"]
