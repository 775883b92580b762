"""The real Kafka that tests run against: one broker a test session, a log's name for each test."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from eventlog.kafka import broker as kafka


def say(text: str) -> None:
    """What takes long is said, past pytest's capture."""
    print(text, file=sys.__stderr__, flush=True)


@pytest.fixture(scope="session")
def broker() -> Iterator[kafka.Broker]:
    """A broker of its own data folder, stopped at the end. It fails where Kafka cannot be had."""
    with tempfile.TemporaryDirectory(prefix="tape-kafka-") as folder:
        started = kafka.start(Path(folder), say=say)
        say(f"Kafka {started.version} runs as a {started.how} at {started.address}")
        try:
            yield started
        finally:
            kafka.stop(Path(folder))
