"""What goes wrong around the core, on a log on wall time: the roles are the real ones, the clock is set."""

from __future__ import annotations

import time
from collections.abc import Callable
from decimal import Decimal
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from eventlog import EventLog, LogSpec, create_log, open_log
from processors.hosts.journal import last
from processors.hosts.live import LiveHost
from processors.hosts.market import run_market
from processors.market.settings import MarketSettings
from producers.brokers.gateway import GatewaySettings, run_gateway
from producers.feed import Feed
from producers.heartbeat import run_heartbeat
from producers.operator import command_record
from schemas import (
    Batch,
    BreakerCleared,
    BreakerReducing,
    CoreSettings,
    DeadLetter,
    Event,
    FeedGap,
    FeedRecovered,
    Fill,
    Filled,
    NotSent,
    OrderAccepted,
    OrderDenied,
    OrderRequested,
    PlaceOrder,
    SessionOpened,
    decode,
    evolve,
    log_prefix,
)
from support.fakebroker import FakeBroker
from support.market import SECOND, at, quote
from support.refolds import is_all_taken
from support.runs import opening, strategy, verified
from tape.wiring import build, configure, installed

pytestmark = pytest.mark.timeout(300)

ME = "me"
LIMIT_S = 120
QUICK = GatewaySettings(reconcile_s=0.1, answer_s=0.1)
TEN_MINUTES = 600


class Plane:
    """Roles that take turns on one log; `now` is the clock of all of them. The session is open."""

    def __init__(self, folder: Path, *, simulated: bool, **limits: Any) -> None:
        self.url = f"sqlite:{folder / 'log'}"
        self.log: EventLog = create_log(self.url, LogSpec("0123456789abcdef", "wall", 1, 2))
        self.now = at("12:00")
        self.broker = FakeBroker(ME)
        self._simulated, self._rows, self._ids = simulated, count(1), count(1)
        self.heart()
        self.tell(opening(ME, self.now, **{"day_loss": None, "day_loss_reduce": None, **limits}))

    def heart(self) -> None:
        """The heartbeat says the time, once."""
        looks = iter((False, True))
        with open_log(self.url) as log:
            run_heartbeat(
                log,
                beats=lambda beat: None,
                stop=lambda: next(looks, True),
                clock=lambda: self.now,
                every_s=0,
            )

    def quotes(self, *symbols: str, ahead: int = 0) -> None:
        """The feed brings quotes of now, or of `ahead` nanoseconds later."""
        with self.log.writer("feed") as writer:
            Feed(self.log, writer, clock=lambda: self.now).append(
                [
                    evolve(
                        quote(self.now + ahead, "10.00", "10.01", symbol=symbol),
                        source="feed",
                        row=next(self._rows),
                    )
                    for symbol in symbols
                ]
            )

    def advance(self, seconds: int, *symbols: str, step: int = 1) -> None:
        """Time goes on, with a heartbeat and quotes of some symbols each `step` seconds."""
        for _ in range(0, seconds, step):
            self.now += step * SECOND
            self.quotes(*symbols)
            self.heart()

    def tell(self, command: Event) -> None:
        with self.log.writer("operator-1") as writer:
            writer.append([command_record(command, self.log)])

    def buy(self) -> None:
        """The operator buys a share of X."""
        self.tell(
            PlaceOrder(
                id=f"c{next(self._ids)}",
                account=ME,
                ts=self.now,
                who="ann",
                why="",
                symbol="X",
                side="buy",
                quantity=Decimal(1),
            )
        )

    def decide(self, *held: str) -> None:
        """The core runs until all there is has been decided on, with a strategy that holds some symbols."""
        strategies = (strategy("buy-and-hold", "hold", ME, held, weight="0.1"),) if held else ()
        settings = CoreSettings(
            log_prefix=log_prefix(self.log.id), simulated=self._simulated, strategies=strategies
        )
        made = configure(settings, log=self.log.id, time="wall", partition=0)
        end = time.monotonic() + LIMIT_S

        def is_decided() -> bool:
            assert time.monotonic() < end
            batch = last(watch, "batches", 0, Batch)
            return batch is not None and all(
                i.next == watch.bounds(i.topic, i.partition)[1] for i in batch.inputs
            )

        with open_log(self.url) as log, open_log(self.url, read_only=True) as watch:
            LiveHost(log, 0, made, build, installed=installed).run(lambda beat: None, is_decided)

    def send(self, until: Callable[[], bool]) -> None:
        """The gateway runs until something holds."""
        end = time.monotonic() + LIMIT_S

        def stop() -> bool:
            assert time.monotonic() < end
            return until()

        with open_log(self.url) as log:
            run_gateway(
                log,
                0,
                lambda account: self.broker,
                QUICK,
                clock=lambda: self.now,
                beats=lambda beat: None,
                stop=stop,
            )

    def derive_market(self) -> None:
        """The role market runs until it has taken all there is."""
        settings = MarketSettings(feed_silence=5 * SECOND)
        with open_log(self.url) as log, open_log(self.url, read_only=True) as watch:
            run_market(log, settings, beats=lambda beat: None, stop=lambda: is_all_taken(watch))

    def of(self, kind: type[Any]) -> list[Any]:
        """What stands in the log of a type."""
        found = (
            decode(r.topic, r.value)
            for p in range(self.log.partitions(kind.topic))
            for r in self.log.read(kind.topic, p, gte=0, limit=1 << 20)
        )
        return [event for event in found if type(event) is kind]

    def check(self) -> None:
        """All decisions follow from the facts."""
        derived = verified(self.log)
        assert (derived.difference, derived.not_derived) == (None, [])


def test_after_ten_minutes_without_a_core_nothing_is_sent_that_was_decided_on_old_quotes(
    tmp_path: Path,
) -> None:
    """The market went on, and the broker is there; the core comes back and decides on all of it."""
    plane = Plane(tmp_path, simulated=False)
    plane.decide("X", "Y")
    plane.send(lambda: bool(plane.log.bounds("broker.reports", 0)[1]))
    began = plane.now
    plane.advance(TEN_MINUTES, "X", "Y", step=5)
    plane.decide("X", "Y")
    old = plane.of(OrderAccepted)
    assert {order.symbol for order in old} == {"X", "Y"}
    assert all(order.ts == began + 5 * SECOND for order in old)
    plane.send(lambda: len(plane.of(NotSent)) == len(old))
    assert {report.reason for report in plane.of(NotSent)} == {"stale"}
    assert plane.broker.sent() == []

    plane.decide("X", "Y")
    plane.advance(1, "X", "Y")
    plane.decide("X", "Y")
    fresh = [order for order in plane.of(OrderAccepted) if order not in old]
    assert {order.symbol for order in fresh} == {"X", "Y"}
    assert all(order.ts > began + TEN_MINUTES * SECOND for order in fresh)
    plane.send(lambda: len(plane.broker.sent()) == 2)
    for order in fresh:
        plane.broker.fill(order.order, order.quantity, "10.01")
    plane.send(lambda: len(plane.of(Filled)) == 2)
    plane.decide("X", "Y")
    assert sorted(plane.broker.sent()) == sorted(order.order for order in fresh)
    assert {fill.symbol: fill.quantity for fill in plane.of(Fill)} == plane.broker.positions
    plane.check()


def test_an_order_decided_on_a_late_quote_is_not_sent(tmp_path: Path) -> None:
    """One partition of the market lags: the core is at the time of the others when its quote comes."""
    plane = Plane(tmp_path, simulated=False)
    plane.advance(5, "Y")
    plane.decide("X")
    plane.quotes("X", ahead=-4 * SECOND)
    plane.decide("X")
    (late,) = plane.of(OrderAccepted)
    assert late.ts == plane.now
    (requested,) = plane.of(OrderRequested)
    assert requested.since == plane.now - 4 * SECOND
    plane.send(lambda: bool(plane.of(NotSent)))
    assert [(report.order, report.reason) for report in plane.of(NotSent)] == [(late.order, "stale")]

    plane.decide("X")
    plane.advance(1, "X")
    plane.decide("X")
    plane.send(lambda: len(plane.broker.sent()) == 1)
    assert late.order not in plane.broker.sent()
    plane.check()


def test_a_feed_that_goes_mute_while_connected_reduces_the_account_until_it_speaks(tmp_path: Path) -> None:
    plane = Plane(tmp_path, simulated=True)
    plane.advance(2, "X")
    plane.decide("X")
    assert [fill.symbol for fill in plane.of(Fill)] == ["X"]
    heard = plane.now

    plane.advance(50, step=5)
    plane.advance(9)
    plane.derive_market()
    plane.decide("X")
    (gap,) = plane.of(FeedGap)
    assert (gap.symbol, gap.since, gap.ts) == ("*", heard, heard + 5 * SECOND)
    assert plane.of(BreakerReducing) == []

    plane.advance(1)
    plane.decide("X")
    (reducing,) = plane.of(BreakerReducing)
    assert (reducing.reasons, reducing.ts) == (("stale",), heard + 60 * SECOND)
    plane.buy()
    plane.decide("X")
    (denied,) = plane.of(OrderDenied)
    assert "breaker" in [check.name for check in denied.checks if not check.ok]
    assert len(plane.of(Fill)) == 1

    plane.advance(1, "X")
    plane.derive_market()
    plane.decide("X")
    (recovered,) = plane.of(FeedRecovered)
    assert recovered.ts == plane.now
    (cleared,) = plane.of(BreakerCleared)
    assert (cleared.reasons, cleared.ts) == ((), plane.now)
    plane.buy()
    plane.decide("X")
    plane.advance(1, "X")
    plane.decide("X")
    assert [fill.symbol for fill in plane.of(Fill)] == ["X", "X"]
    plane.check()


def test_a_quote_from_the_future_is_parked_and_moves_nobodys_time(tmp_path: Path) -> None:
    plane = Plane(tmp_path, simulated=False)
    plane.advance(1, "X")
    plane.quotes("X", ahead=3600 * SECOND)
    plane.derive_market()
    plane.decide("X")
    (letter,) = plane.of(DeadLetter)
    assert letter.reason.startswith("ahead of its receipt")
    batch = last(plane.log, "batches", 0, Batch)
    assert batch is not None
    assert batch.now == plane.now
    plane.send(lambda: len(plane.broker.sent()) == 1)
    assert plane.of(NotSent) == []
    plane.check()


@pytest.mark.parametrize("jump_s", [3600, -3600])
def test_nothing_is_sent_by_a_clock_that_has_jumped(jump_s: int, tmp_path: Path) -> None:
    """Set forward, orders are old; set back, they are of the future, and nobody knows how old they are."""
    plane = Plane(tmp_path, simulated=False)
    plane.advance(1, "X")
    plane.decide("X")
    real, plane.now = plane.now, plane.now + jump_s * SECOND
    plane.send(lambda: len(plane.of(NotSent)) == 1)
    assert plane.of(NotSent)[0].reason == "stale"
    assert plane.broker.sent() == []

    plane.now = real
    plane.decide("X")
    plane.advance(1, "X")
    plane.decide("X")
    plane.send(lambda: len(plane.broker.sent()) == 1)
    assert len(plane.of(SessionOpened)) == 1
    plane.check()
