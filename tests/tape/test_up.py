"""`tape up` and the broker that it started: one that cannot start again is told, and tried again."""

from __future__ import annotations

from pathlib import Path

import pytest

import tape.up
from eventlog import create_log
from eventlog.kafka import broker
from eventlog.kafka.jars import NoKafka
from support.runs import SPEC
from tape.config import LiveConfig
from tape.up import Standing, Up


def test_broker_that_does_not_start_again_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[Path] = []

    def start(folder: Path) -> None:
        tries.append(folder)
        if len(tries) == 1:
            raise NoKafka("no room on the disk")

    monkeypatch.setattr(tape.up, "BROKER_S", 0.0)
    monkeypatch.setattr(broker, "start", start)
    url = f"sqlite:{tmp_path / 'log'}"
    create_log(url, SPEC).close()
    standing = Standing(url, SPEC.id, [], None, False, tmp_path / "kafka")
    up = Up(LiveConfig(), None, standing, tmp_path / "roles")
    try:
        first, then = up.step(), up.step()
    finally:
        up.stop()
    assert [(t.what, t.error) for t in first if t.name == "Kafka"] == [("died", "no room on the disk")]
    assert [t for t in then if t.name == "Kafka"] == []
    assert tries == [tmp_path / "kafka"] * 2
