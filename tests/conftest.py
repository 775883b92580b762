"""The order in which files are run."""

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What runs against Kafka first: it waits most, and the rest fills the time of the other processes."""
    items.sort(key=lambda item: item.get_closest_marker("kafka") is None)
