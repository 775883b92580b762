"""The log: one contract, its stores (embedded, Kafka), seals and inspection."""
