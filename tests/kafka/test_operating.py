"""An operator's halt on Kafka, while quotes arrive at full rate."""

from __future__ import annotations

import json
import signal
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from eventlog import open_log
from eventlog.kafka.broker import Broker
from schemas import OrderAccepted, OrderDenied, decode
from support.cli import start, tape

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(300)]

NOISY = Path(__file__).parents[1] / "support" / "noisy.py"
RATE = 10_000
SYMBOLS = [f"S{n:02}" for n in range(100)]
CONFIG = f"""
time = "wall"
account_partitions = 1
market_partitions = 1
[[accounts]]
id = "busy"
cash = 10_000_000
limits = {{ day_loss = "none", day_loss_reduce = "none" }}
[[strategies]]
name = "noisy"
kind = "{NOISY}:Noisy"
account = "busy"
symbols = {SYMBOLS[:10]}
params = {{ every = 200, size = 20 }}
[feed]
symbols = {SYMBOLS}
rate = {RATE}
"""


def read(url: str, after: int) -> Iterator[Any]:
    """Decisions of topic orders behind the decision `after`."""
    with open_log(url, read_only=True) as log:
        position = 0
        while records := log.read("orders", 0, gte=position):
            position = records[-1].offset + 1
            yield from (e for r in records if (e := decode("orders", r.value)).seq > after)  # type: ignore[union-attr]


def quotes(url: str) -> int:
    with open_log(url, read_only=True) as log:
        return log.bounds("market.quotes", 0)[1]


def until_decided(url: str, kind: Any, after: int, count: int) -> int:
    """Wait until so many of a kind stand behind the decision `after`; how many quotes came meanwhile."""
    before = quotes(url)
    end = time.monotonic() + 120
    while sum(type(e) is kind for e in read(url, after)) < count:
        assert time.monotonic() < end, f"no {count} {kind.__name__} behind decision {after}"
        time.sleep(0.2)
    return quotes(url) - before


def test_a_halt_takes_effect_at_full_rate(broker: Broker, tmp_path: Path) -> None:
    url = f"kafka://{broker.address}/h{uuid.uuid4().hex[:12]}"
    (tmp_path / "tape.toml").write_text(CONFIG)
    place = ("--config", tmp_path / "tape.toml", "--log", url, "--out", tmp_path / "out")
    up = start("up", *place, "--no-postgres", "--json")
    try:
        assert up.stdout is not None
        assert any(json.loads(line)["event"] == "all-ready" for line in up.stdout)
        until_decided(url, OrderAccepted, 0, 20)
        halted = told(url, "halt", "--account", "busy")
        (breach,) = [d for d in halted["decisions"] if d["type"] == "BreakerHalted"]
        assert until_decided(url, OrderDenied, breach["seq"], 20) > 0
        armed = told(url, "rearm", "--account", "busy", "--reason", "operator")
        (cleared,) = [d for d in armed["decisions"] if d["type"] == "BreakerCleared"]
        until_decided(url, OrderAccepted, cleared["seq"], 1)
        passed = [e for e in read(url, breach["seq"]) if type(e) is OrderAccepted and e.seq < cleared["seq"]]
        assert passed == []
        up.send_signal(signal.SIGINT)
        up.communicate(timeout=120)
        assert up.returncode == 130
    finally:
        up.kill()
        up.communicate()
    verified = tape("verify", url)
    assert verified.code == 0, verified.out + verified.err


def told(url: str, name: str, *args: str) -> dict[str, Any]:
    ran = tape(name, url, *args, "--why", "a test", "--wait", "60", "--json")
    assert ran.code == 0, ran.out + ran.err
    assert ran.json["outcome"] == "applied"
    return ran.json
