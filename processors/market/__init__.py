"""What is derived of the market for screens and outside strategies: marks, bars, gaps of feeds."""
