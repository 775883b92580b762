"""Books, orders, risk checks and breaker of one account, folded from the log."""
