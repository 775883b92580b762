"""What is asked of a log on Kafka is what is asked of the embedded one."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import pytest

from eventlog.kafka import broker as kafka
from support.cli import BACKTEST, MONDAY, Ran, log_in, tape

pytestmark = pytest.mark.kafka


def asked(ran: Ran) -> dict[str, Any]:
    assert ran.code == 0, ran.err
    return {k: v for k, v in ran.json.items() if k not in ("log", "place", "causes")}


def test_same_answers_as_of_the_embedded_log(broker: kafka.Broker, tmp_path: Path) -> None:
    url = f"kafka://{broker.address}/a{uuid.uuid4().hex[:12]}"
    run = (*BACKTEST, *MONDAY, "--symbols", "SPY", "--strategy", "sma-cross")
    assert tape(*run, "--out", tmp_path / "sqlite").code == 0
    ran = tape(*run, "--log", url, "--out", tmp_path / "kafka")
    assert ran.json["fills"] > 0
    there = log_in(tmp_path / "sqlite")
    for seq in ("5", "40", "100"):
        question = ("--account", "backtest", "--seq", seq, "--json")
        assert asked(tape("asof", url, *question)) == asked(tape("asof", there, *question))
        traced = asked(tape("trace", url, f"backtest:{seq}", "--json"))
        assert traced == asked(tape("trace", there, f"backtest:{seq}", "--json"))
    assert tape("status", url).code == 0
