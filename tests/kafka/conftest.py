from support.kafka import broker
from support.postgres import dsn, postgres

__all__ = ["broker", "dsn", "postgres"]
