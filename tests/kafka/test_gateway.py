"""The order gateway on Kafka: killed at ten moments, and every order reaches the broker exactly once."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from eventlog import LogSpec, create_log
from eventlog.errors import WriterBusy
from eventlog.kafka.broker import Broker
from processors.hosts.inprocess import InProcessHost
from producers.brokers.contract import BrokerUnreachable
from producers.brokers.gateway import run_gateway
from producers.operator import command_record
from schemas import (
    Anomaly,
    CoreSettings,
    Drift,
    Event,
    Fill,
    Filled,
    OrderAccepted,
    OrderChanged,
    OrderSending,
    PlaceOrder,
    PnL,
    PositionChanged,
    decode,
    log_prefix,
    new_record,
)
from support.fakebroker import FakeBroker
from support.market import at, quote, session_opened
from support.much import many
from support.remotebroker import serve
from support.runs import opening
from tape.wiring import build, configure

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(600)]

ME = "me"
ORDERS = 4
"""Placed before each kill."""
LIMIT_S = 120

GATEWAY = """
import sys
from pathlib import Path
from eventlog import open_log
from producers.brokers.gateway import GatewaySettings, run_gateway
from support.remotebroker import RemoteBroker

url, address, stop = sys.argv[1:]
with open_log(url) as log:
    run_gateway(log, 0, lambda account: RemoteBroker(address), GatewaySettings(reconcile_s=2, lease_s=60),
                beats=lambda beat: None, stop=Path(stop).exists)
"""


class Floor:
    """A log on Kafka, the core beside it, a broker that outlives every gateway."""

    def __init__(self, url: str, folder: Path) -> None:
        # on data time, orders do not grow stale: each must go, however slow the machine is
        self.log = create_log(url, LogSpec("0123456789abcdef", "data", 1, 1))
        self.url, self.stop = url, folder / "stop"
        self.broker = FakeBroker(ME)
        self.address = serve(self.broker)
        self.process: subprocess.Popen[bytes] | None = None
        self.placed = 0
        with self.log.writer("feed") as writer:
            events = [session_opened(), quote(at("12:00"), "10.00", "10.01", symbol="X")]
            writer.append([new_record(event, 0, "X") for event in events])
        self.tell(opening(ME, day_loss=None, day_loss_reduce=None))

    def tell(self, *commands: Event) -> None:
        with self.log.writer("operator-test") as writer:
            writer.append([command_record(command, self.log) for command in commands])
        self.decide()

    def decide(self) -> None:
        settings = CoreSettings(log_prefix=log_prefix(self.log.id), simulated=False)
        made = configure(settings, log=self.log.id, time=self.log.time, partition=0)
        InProcessHost(self.log, 0, made, build).run()

    def place(self) -> None:
        said: dict[str, Any] = {"account": ME, "ts": at("12:00"), "who": "ann", "why": "", "symbol": "X"}
        numbers = range(self.placed, self.placed + ORDERS)
        self.placed += ORDERS
        self.tell(*[PlaceOrder(id=f"p{n}", side="buy", quantity=Decimal(n % 7 + 2), **said) for n in numbers])

    def start(self) -> None:
        environment = os.environ | {"PYTHONPATH": f"{Path.cwd()}:{Path.cwd() / 'tests'}"}
        arguments = [sys.executable, "-c", GATEWAY, self.url, self.address, str(self.stop)]
        self.process = subprocess.Popen(arguments, env=environment)

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()

    def killed(self) -> None:
        """Wait until it is."""
        assert self.process is not None
        assert self.process.wait(LIMIT_S) == -signal.SIGKILL

    def of(self, kind: type[Any]) -> list[Any]:
        found = (decode(r.topic, r.value) for r in self.log.read(kind.topic, 0, gte=0, limit=1 << 20))
        return [event for event in found if type(event) is kind]

    def fill_some(self, draw: random.Random) -> None:
        """Executions of what is open, in parts; the stream tells of some of them only."""
        for id, found in list(self.broker.orders.items()):
            left = found.order.quantity - found.filled
            if found.standing == "open" and draw.random() < 0.7:
                part = left if draw.random() < 0.5 else Decimal(1)
                self.broker.fill(id, part, "10.01", fee="0.01", told=draw.random() < 0.5)

    def until(self, holds: Callable[[], bool], what: str) -> None:
        end = time.monotonic() + LIMIT_S
        while not holds():
            assert self.process is not None
            assert self.process.poll() is None, "the gateway has ended"
            assert time.monotonic() < end, f"never: {what}"
            self.decide()
            time.sleep(0.2)

    def all_filled(self) -> bool:
        last = {change.order: change.status for change in self.of(OrderChanged)}
        return all(last.get(a.order) == "filled" for a in self.of(OrderAccepted))


MOMENTS = (
    "before submit", "submit", "submit", "snapshot", "look up", "before submit", "submit", 0.4, 0.9, 1.4
)  # fmt: skip
"""Where a gateway is killed: inside a request at the broker, or so many seconds after the start."""
CHOSEN = MOMENTS[:: len(MOMENTS) // many(10)]


def test_killed_at_many_moments(broker: Broker, tmp_path: Path) -> None:
    floor = Floor(f"kafka://{broker.address}/gateway-kills", tmp_path)
    draw = random.Random(5)
    for moment in CHOSEN:
        floor.place()
        if isinstance(moment, str):
            floor.broker.hooks[moment] = lambda moment=moment: _killed_inside(floor, moment)  # type: ignore[misc]
        floor.start()
        if not isinstance(moment, str):
            time.sleep(moment)
            floor.kill()
        floor.killed()
        floor.fill_some(draw)
        floor.decide()
    floor.start()
    floor.until(lambda: _fill_all(floor), "every order is filled")
    floor.stop.touch()
    assert floor.process is not None
    assert floor.process.wait(LIMIT_S) == 0
    floor.decide()
    _check(floor)


def _killed_inside(floor: Floor, moment: str) -> None:
    """The process dies while the broker has its request; one that is lost has not arrived."""
    floor.kill()
    floor.killed()
    if moment.startswith("before"):
        raise BrokerUnreachable("the request is lost")


def _fill_all(floor: Floor) -> bool:
    for id, found in list(floor.broker.orders.items()):
        if found.standing == "open":
            floor.broker.fill(id, found.order.quantity - found.filled, "10.01", fee="0.01")
    return floor.all_filled()


def _check(floor: Floor) -> None:
    accepted = [a.order for a in floor.of(OrderAccepted)]
    assert len(accepted) == ORDERS * len(CHOSEN)
    assert Counter(floor.broker.sent()) == Counter(accepted), "each reached the broker, once"
    ids = [decode(r.topic, r.value).id for r in floor.log.read("broker.reports", 0, gte=0, limit=1 << 20)]  # type: ignore[union-attr]
    assert max(Counter(ids).values()) == 1
    told = sorted(m.report.execution for m in floor.broker.movements)  # type: ignore[union-attr]
    assert sorted(f.execution for f in floor.of(Fill)) == told
    assert sorted(f.execution for f in floor.of(Filled)) == told
    assert floor.of(Drift) == floor.of(Anomaly) == []
    assert floor.of(PositionChanged)[-1].net_quantity == floor.broker.positions["X"]
    assert floor.of(PnL)[-1].cash == floor.broker.cash
    assert len(floor.of(OrderSending)) >= len(accepted)


def test_second_gateway_of_a_partition_is_refused(broker: Broker, tmp_path: Path) -> None:
    floor = Floor(f"kafka://{broker.address}/gateway-two", tmp_path)
    floor.place()
    floor.start()
    try:
        floor.until(lambda: len(floor.broker.sent()) == ORDERS, "all are sent")
        with pytest.raises(WriterBusy):
            run_gateway(floor.log, 0, lambda account: floor.broker, beats=lambda b: None, stop=lambda: True)
    finally:
        floor.kill()
        floor.killed()
