"""Strategies: from market data and positions to signals."""
