"""Read models of the log: Postgres, Parquet, DuckDB, and the query API."""
