"""What holds for all tests: the order of files, and the servers that a process of tests has."""

import os

import pytest

from support.kafka import broker
from support.postgres import dsn, postgres

__all__ = ["broker", "dsn", "postgres"]

os.environ.setdefault("JAVA_TOOL_OPTIONS", "-XX:TieredStopAtLevel=1")
"""A broker that lives for a few tests starts in half the time without the second compiler."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What runs against Kafka first: it waits most, and the rest fills the time of the other processes."""
    items.sort(key=lambda item: item.get_closest_marker("kafka") is None)
