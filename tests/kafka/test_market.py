"""The market processor on Kafka: killed at ten moments, partitions falling as they like."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from eventlog import LogSpec, create_log, open_log
from eventlog.kafka.broker import Broker
from processors.hosts.market import run_market
from support.refolds import SETTINGS, audited, in_order, is_all_taken, killed, late, records, stands

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(900)]

SPEC = LogSpec("0123456789abcdef", "data")


def made(broker: Broker) -> str:
    url = f"kafka://{broker.address}/m{uuid.uuid4().hex[:12]}"
    create_log(url, SPEC).close()
    return url


def test_killed_at_many_moments_all_outputs_are_there_once_and_in_order(
    broker: Broker, tmp_path: Path
) -> None:
    url = made(broker)
    killed(url, tmp_path, late(11, 8000), 11)
    with open_log(url, read_only=True) as log:
        assert audited(log) > 1000


def test_killed_on_kafka_it_wrote_what_an_undisturbed_run_on_an_embedded_log_wrote(
    broker: Broker, tmp_path: Path
) -> None:
    kafka_url, calm_url, events = made(broker), f"sqlite:{tmp_path / 'calm.db'}", in_order(12, 6000)
    create_log(calm_url, SPEC).close()
    found = []
    for url in (kafka_url, calm_url):
        with open_log(url) as log, log.writer("feed") as feed:
            feed.append(records(log, events))
    killed(kafka_url, tmp_path, [], 12)
    with open_log(calm_url) as log, open_log(calm_url) as watch:
        run_market(log, SETTINGS, beats=lambda beat: None, stop=lambda: is_all_taken(watch))
    for url in (kafka_url, calm_url):
        with open_log(url, read_only=True) as log:
            found.append(stands(log))
    assert found[0] == found[1]
    assert sum(map(len, found[1].values())) > 1000
