"""The real Kafka that tests run against: one broker a test session, a log's name for each test.

A container by testcontainers where a Docker engine answers, else a Java process of the jars.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from eventlog.kafka import broker as kafka


def say(text: str) -> None:
    """What takes long is said, past pytest's capture."""
    print(text, file=sys.__stderr__, flush=True)


@pytest.fixture(scope="session")
def broker() -> Iterator[kafka.Broker]:
    """A broker of its own, stopped at the end. It fails where Kafka cannot be had."""
    with tempfile.TemporaryDirectory(prefix="tape-kafka-") as folder:
        run = _container if kafka.docker_answers() else _process
        with run(Path(folder)) as started:
            say(f"Kafka {started.version} runs as a {started.how} at {started.address}")
            yield started


@contextmanager
def _process(folder: Path) -> Iterator[kafka.Broker]:
    started = kafka.start(folder, say=say)
    try:
        yield started
    finally:
        kafka.stop(folder)


@contextmanager
def _container(folder: Path) -> Iterator[kafka.Broker]:
    from testcontainers.core.container import DockerContainer
    from testcontainers.core.wait_strategies import LogMessageWaitStrategy

    port, controller = kafka.free_port(), kafka.free_port()
    text = kafka.SETTINGS.format(port=port, controller=controller, logs="/tmp/kafka") + kafka.DURABLE
    settings = dict(line.split("=", 1) for line in text.splitlines())
    say(f"starting a container of apache/kafka:{kafka.VERSION}; the first time, its image is downloaded")
    container = (
        DockerContainer(f"apache/kafka:{kafka.VERSION}")
        .with_envs(**{f"KAFKA_{name.replace('.', '_').upper()}": value for name, value in settings.items()})
        .with_kwargs(network_mode="host")
        .waiting_for(LogMessageWaitStrategy("Kafka Server started").with_startup_timeout(120))
    )
    with container:
        id = container.get_wrapped_container().id
        yield kafka.Broker(port, controller, "container", id, "", str(folder))
