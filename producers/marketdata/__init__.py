"""Market data: LEAN folders, CSV, Parquet, synthetic, Alpaca."""
