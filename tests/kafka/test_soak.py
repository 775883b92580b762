"""The whole live plane under kills: ten in CI, a hundred at full rate by `make soak`."""

from __future__ import annotations

from pathlib import Path

import pytest

from eventlog.kafka import broker as kafka
from support.kafka import say
from support.soak import soak

pytestmark = pytest.mark.kafka


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """The folder of a broker that the test kills."""
    return tmp_path / "kafka"


@pytest.mark.timeout(900)
def test_ten_kills(own: Path, dsn: str, tmp_path: Path) -> None:
    try:
        report = soak(tmp_path, own, dsn, kills=10, every_s=3, rate=10_000, seed=1, say=say)
    finally:
        kafka.stop(own)
    assert sum(report.kills.values()) == 10
    assert report.fills > 20


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_a_hundred_kills(own: Path, dsn: str, tmp_path: Path) -> None:
    try:
        report = soak(tmp_path, own, dsn, kills=100, every_s=8, rate=12_000, seed=2, say=say)
    finally:
        kafka.stop(own)
    say(str(report))
    assert sum(report.kills.values()) == 100
    assert report.kills["Kafka"] >= 5
    assert report.fills > 200
