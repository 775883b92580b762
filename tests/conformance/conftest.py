from support.kafka import broker

__all__ = ["broker"]
