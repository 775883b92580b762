"""What brings facts into the log: market data, brokers, operator commands, sessions."""
