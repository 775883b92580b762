"""The order gateway against a broker in memory, on an embedded log, with the core beside it."""

from __future__ import annotations

import time
from collections.abc import Callable
from decimal import Decimal
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from eventlog import LogSpec, create_log, open_log
from processors.hosts.inprocess import InProcessHost
from producers.brokers.gateway import GatewaySettings, run_gateway
from producers.operator import command_record
from schemas import (
    BrokerSnapshot,
    CoreSettings,
    Event,
    Fill,
    Filled,
    OrderAccepted,
    OrderChanged,
    OrderSending,
    PlaceOrder,
    decode,
    log_prefix,
    new_record,
)
from support.fakebroker import FakeBroker
from support.market import at, quote, session_opened
from support.runs import opening
from tape.wiring import build, configure

ME = "me"
NOON = at("12:00")
LIMIT_S = 60
QUICK = GatewaySettings(reconcile_s=0.1, answer_s=0.1)


class World:
    """A log with an account and a market, the core that decides on it, and a clock that stands."""

    def __init__(self, folder: Path, time_of: Any = "wall") -> None:
        self.url = f"sqlite:{folder / 'log'}"
        self.log = create_log(self.url, LogSpec("0123456789abcdef", time_of, 1, 1))
        self.broker = FakeBroker(ME)
        self.now = NOON
        self._ids = count(1)
        self._seen = -1
        with self.log.writer("feed") as writer:
            events = [session_opened(), quote(NOON, "10.00", "10.01", symbol="X")]
            writer.append([new_record(event, 0, "X") for event in events])
        self.tell(opening(ME, day_loss=None, day_loss_reduce=None))

    def tell(self, *commands: Event) -> None:
        with self.log.writer(f"operator-{next(self._ids)}") as writer:
            writer.append([command_record(command, self.log) for command in commands])
        self.decide()

    def decide(self) -> None:
        """Let the core take all there is."""
        settings = CoreSettings(log_prefix=log_prefix(self.log.id), simulated=False)
        made = configure(settings, log=self.log.id, time=self.log.time, partition=0)
        InProcessHost(self.log, 0, made, build).run()
        self._seen = self.log.bounds("broker.reports", 0)[1]

    def place(self, side: str = "buy", quantity: Any = 5, **more: Any) -> str:
        """An order by the operator; its client id."""
        before = len(self.of(OrderAccepted))
        self.tell(
            PlaceOrder(
                id=f"c{next(self._ids)}",
                account=ME,
                ts=self.now,
                who="ann",
                why="",
                symbol="X",
                side=side,  # type: ignore[arg-type]
                quantity=Decimal(quantity),
                **more,
            )
        )
        (accepted,) = self.of(OrderAccepted)[before:]
        return accepted.order

    def ask(self, kind: Any, **fields: Any) -> None:
        self.tell(kind(id=f"c{next(self._ids)}", account=ME, ts=self.now, who="ann", why="", **fields))

    def of(self, kind: type[Any]) -> list[Any]:
        """What stands in the log of a type."""
        found = (decode(r.topic, r.value) for r in self.log.read(kind.topic, 0, gte=0, limit=1 << 20))
        return [event for event in found if type(event) is kind]

    def run(self, until: Callable[[], bool], settings: GatewaySettings = QUICK, **options: Any) -> None:
        """Run the gateway, and the core after each report, until something holds."""
        end = time.monotonic() + LIMIT_S

        def stop() -> bool:
            if self.log.bounds("broker.reports", 0)[1] != self._seen:
                self.decide()
            assert time.monotonic() < end, "it never came to that"
            return until()

        with open_log(self.url) as log:
            given = {"clock": lambda: self.now, "beats": lambda beat: None, **options}
            run_gateway(log, 0, lambda account: self.broker, settings, stop=stop, **given)
        self.decide()

    def status(self, order: str) -> str:
        changes = [change for change in self.of(OrderChanged) if change.order == order]
        return changes[-1].status if changes else "accepted"

    def passed(self, count: int = 2) -> Callable[[], bool]:
        """Holds when so many snapshots more have been written."""
        before = len(self.of(BrokerSnapshot))
        return lambda: len(self.of(BrokerSnapshot)) >= before + count


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_order_is_announced_sent_acknowledged_filled(world: World) -> None:
    order = world.place()
    announced: list[bool] = []

    def look() -> None:
        with open_log(world.url, read_only=True) as log:
            found = [decode(r.topic, r.value) for r in log.read("broker.reports", 0, gte=0)]
            announced.append(any(type(e) is OrderSending and e.order == order for e in found))

    world.broker.hooks["submit"] = look
    world.run(lambda: world.status(order) == "working")
    assert announced == [True]
    world.broker.fill(order, 2, "10.01", told=False)
    world.run(lambda: world.status(order) == "partial")
    world.broker.fill(order, 3, "10.02", fee="0.01", told=False)
    world.run(lambda: world.status(order) == "filled")
    assert world.broker.sent() == [order]
    assert [(f.quantity, f.price, f.fee) for f in world.of(Fill)] == [
        (2, Decimal("10.01"), 0),
        (3, Decimal("10.02"), Decimal("0.01")),
    ]
    assert world.of(Filled)[0].raw == "said so"
