"""A configuration that is changed while `tape up` runs on Kafka, and one that is refused."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from eventlog import LogReader, open_log
from eventlog.kafka.broker import Broker
from processors.hosts.journal import configurations
from schemas import Configured, Fill, PositionChanged, decode, partition_of
from support.cli import start, tape
from support.lean import SAMPLE
from tape.asking import as_of

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(600)]

ONE, TWO = (next(n for n in ("one", "two", "three", "four") if partition_of(n, 2) == p) for p in (0, 1))
CONFIG = f"""
time = "data"
account_partitions = 2
market_partitions = 2
[[accounts]]
id = "{ONE}"
cash = 100_000
[[strategies]]
name = "cross"
kind = "sma-cross"
account = "{ONE}"
symbols = ["SPY", "IBM", "AIG"]
params = {{ fast = 2, slow = 9 }}
[[accounts]]
id = "{TWO}"
cash = 50_000
[[strategies]]
name = "hold"
kind = "buy-and-hold"
account = "{TWO}"
symbols = ["AIG"]
[feed]
data = "{SAMPLE}"
symbols = ["SPY", "IBM", "AIG"]
from = 2013-10-07
to = 2013-10-09
speed = 600
"""

LATE = """
[[accounts]]
id = "late"
cash = 10_000
"""


def until(holds: Callable[[], bool], what: str, limit_s: float = 180) -> None:
    end = time.monotonic() + limit_s
    while not holds():
        assert time.monotonic() < end, f"not in {limit_s:.0f} s: {what}"
        time.sleep(0.1)


def events(log: LogReader, topic: str, partition: int) -> list[Any]:
    return [decode(topic, r.value) for r in log.read(topic, partition, gte=0, limit=1 << 20)]


def traded(log: LogReader, since: int) -> bool:
    """Whether the first account's fills are more than so many."""
    return len(events(log, "fills", 0)) > since


def params(configured: Configured) -> list[str]:
    return [s.params["slow"] for s in configured.settings.strategies]


def told(process: Any, wanted: str, said: list[dict[str, Any]]) -> dict[str, Any]:
    """Read on to the next event of that name; `said` gets all."""
    for line in process.stdout:
        said.append(json.loads(line))
        if said[-1]["event"] == wanted:
            return said[-1]
    raise AssertionError(f"it ended before {wanted}: {process.communicate()[1]}")


def test_a_changed_parameter_begins_an_epoch_and_a_wrong_one_stops_nothing(
    broker: Broker, tmp_path: Path
) -> None:
    url, file, out = f"kafka://{broker.address}/changed", tmp_path / "tape.toml", tmp_path / "out"
    file.write_text(CONFIG)
    said: list[dict[str, Any]] = []
    process = start("up", "--config", file, "--log", url, "--no-postgres", "--out", out, "--json")
    try:
        told(process, "all-ready", said)
        with open_log(url, read_only=True) as log:
            until(lambda: traded(log, 0), "a fill")

            file.write_text(CONFIG.replace("slow = 9", "slow = 7") + LATE)
            process.send_signal(signal.SIGHUP)
            assert told(process, "changed", said)["opened"] == ["late"]
            until(lambda: len(configurations(log, 0)) == 2, "an epoch")
            before = len(events(log, "fills", 0))
            until(lambda: traded(log, before), "a fill in it")

            file.write_text(CONFIG.replace("sma-cross", "sma-kross"))
            process.send_signal(signal.SIGHUP)
            assert "there is no built-in strategy 'sma-kross'" in told(process, "refused", said)["error"]
            (core,) = (e["pid"] for e in said if (e["event"], e.get("role")) == ("started", "core"))
            os.kill(core, signal.SIGHUP)
            refused = "configuration refused, the old one goes on"
            until(lambda: refused in (out / "core.log").read_text(), "refused by the core itself")
            before = len(events(log, "fills", 0))
            until(lambda: traded(log, before), "a fill after that")

        process.send_signal(signal.SIGINT)
        said += [json.loads(line) for line in process.stdout or ()]
        assert process.wait(120) == 130
    finally:
        process.kill()
        process.communicate()
    assert not [e for e in said if e["event"] == "died"]
    feed = [json.loads(line)["event"] for line in (out / "feed.log").read_text().splitlines()]
    assert feed == ["starting", "ready", "configuration read again", "ended", "starting", "ready", "ended"]
    with open_log(url, read_only=True) as log:
        assert [params(c) for c in configurations(log, 0)] == [["9"], ["7"]]
        assert len(configurations(log, 1)) == 1
        held = bought(events(log, "fills", 0))
        assert held == {s: q for s, q in positions(log) if q}
        changes = (e for e in events(log, "positions", 0) if isinstance(e, PositionChanged))
        assert held == {s: q for s, q in {e.symbol: e.quantity for e in changes}.items() if q}
    verified = tape("verify", url)
    assert verified.code == 0, verified.out + verified.err


def bought(fills: list[Any]) -> dict[str, Decimal]:
    """Quantities by symbol that all fills come to, over both epochs."""
    held: dict[str, Decimal] = {}
    for fill in fills:
        assert isinstance(fill, Fill)
        held[fill.symbol] = held.get(fill.symbol, Decimal(0)) + fill.quantity * (
            1 if fill.side == "buy" else -1
        )
    return {symbol: quantity for symbol, quantity in held.items() if quantity}


def positions(log: LogReader) -> Iterator[tuple[str, Decimal]]:
    for position in as_of(log, ONE)["positions"]:
        yield position["symbol"], Decimal(position["quantity"])
