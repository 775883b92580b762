"""Apache Kafka as the log: a broker for developers and tests, and the store."""
