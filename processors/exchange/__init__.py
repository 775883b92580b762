"""The simulated exchange: fills orders against recorded market data."""
