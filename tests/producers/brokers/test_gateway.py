"""The order gateway against a broker in memory, on an embedded log, with the core beside it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from decimal import Decimal
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from eventlog import LogSpec, create_log, open_log
from eventlog.errors import WriterBusy
from processors.hosts.inprocess import InProcessHost
from producers.brokers.contract import Order
from producers.brokers.gateway import SENDINGS_MAX, GatewayError, GatewaySettings, run_gateway
from producers.operator import command_record
from schemas import (
    Acknowledged,
    Anomaly,
    BreakerHalted,
    BreakerReducing,
    BrokerSnapshot,
    Busted,
    Cancelled,
    CancelOrder,
    CoreSettings,
    Drift,
    Event,
    Fill,
    FillBusted,
    FillCorrected,
    Filled,
    HaltAccount,
    NotSent,
    OrderAccepted,
    OrderChanged,
    OrderSending,
    PlaceOrder,
    PositionChanged,
    Rejected,
    Replaced,
    ReplaceOrder,
    Unknown,
    decode,
    evolve,
    log_prefix,
    new_record,
)
from support.fakebroker import FakeBroker
from support.market import SECOND, at, heartbeat, quote, session_opened
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
        self.core_stands = False
        """The core decides no more."""
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

    def advance(self, seconds: int) -> None:
        """Market and clock go on."""
        self.now += seconds * SECOND
        with self.log.writer("feed") as writer:
            writer.append([new_record(evolve(heartbeat(self.now), row=self.now), 0, "*")])
        self.decide()

    def of(self, kind: type[Any]) -> list[Any]:
        """What stands in the log of a type."""
        found = (decode(r.topic, r.value) for r in self.log.read(kind.topic, 0, gte=0, limit=1 << 20))
        return [event for event in found if type(event) is kind]

    def run(self, until: Callable[[], bool], settings: GatewaySettings = QUICK, **options: Any) -> None:
        """Run the gateway, and the core after each report, until something holds."""
        end = time.monotonic() + LIMIT_S

        def stop() -> bool:
            if not self.core_stands and self.log.bounds("broker.reports", 0)[1] != self._seen:
                self.decide()
            assert time.monotonic() < end, "it never came to that"
            return until()

        with open_log(self.url) as log:
            given = {"clock": lambda: self.now, "beats": lambda beat: None, **options}
            run_gateway(log, 0, lambda account: self.broker, settings, stop=stop, **given)
        if not self.core_stands:
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


# ------------------------------------------------------------ what goes, and what never does


def test_cancel_in_the_log_before_sending(world: World) -> None:
    order = world.place()
    world.ask(CancelOrder, order=order)
    world.run(lambda: world.status(order) == "cancelled")
    assert [n.reason for n in world.of(NotSent)] == ["cancelled before it was sent"]
    assert world.broker.sent() == []


def test_cancel_while_the_order_waits_for_a_thread(world: World) -> None:
    """A request that takes long keeps nobody from reading: the cancel of the next order is obeyed."""
    slow, next_ = world.place(), world.place(quantity=6)
    free = threading.Event()
    world.broker.hooks["submit"] = lambda: assert_(free.wait(LIMIT_S))
    ends: list[int] = []

    def beats(beat: Any) -> None:
        if world.broker.sent() and not ends:
            world.ask(CancelOrder, order=next_)
            ends.append(world.log.bounds("orders", 0)[1])
        elif ends and beat.positions.get(("orders", 0), 0) >= ends[0]:
            free.set()

    settings = GatewaySettings(threads=1, lease_s=LIMIT_S)
    world.broker.next["submit"] = []
    world.run(lambda: world.status(next_) == "cancelled", settings, beats=beats)
    assert world.broker.sent() == [slow]


@pytest.mark.parametrize(("age_s", "sent"), [(2.0, True), (2.1, False)])
def test_order_older_than_two_seconds_is_not_sent(world: World, age_s: float, sent: bool) -> None:
    order = world.place()
    world.now += int(age_s * SECOND)
    world.run(lambda: world.status(order) != "accepted")
    assert world.broker.sent() == ([order] if sent else [])
    assert [n.reason for n in world.of(NotSent)] == ([] if sent else ["stale"])


def test_order_whose_cause_is_old_is_not_sent(world: World) -> None:
    """A sale that has waited for the end of a purchase is accepted late: it is as old as its request."""
    buy = world.place(order_type="limit", limit=Decimal(9))
    world.run(lambda: world.status(buy) == "working")
    world.ask(PlaceOrder, symbol="X", side="sell", quantity=Decimal(1))
    world.advance(3)
    world.ask(CancelOrder, order=buy)
    world.run(lambda: world.status(buy) == "cancelled")
    (_, sale) = world.of(OrderAccepted)
    assert sale.side == "sell"
    assert sale.ts == world.now
    world.run(lambda: world.status(sale.order) == "rejected")
    assert world.broker.sent() == [buy]


def test_reduction_goes_however_old(world: World) -> None:
    buy = world.place()
    world.run(lambda: world.status(buy) == "working")
    world.broker.fill(buy, 5, "10.01")
    world.run(lambda: world.status(buy) == "filled")
    sale = world.place("sell")
    world.now += 60 * SECOND
    world.run(lambda: world.status(sale) == "working")
    assert world.broker.sent() == [buy, sale]


def test_reduction_is_announced_until_it_leaves_or_has_arrived(world: World) -> None:
    """No lease is long enough here; then an earlier request turns out to have arrived."""
    buy = working(world)
    world.broker.fill(buy, 5, "10.01")
    world.run(lambda: world.status(buy) == "filled")
    sale = world.place("sell")

    def until() -> bool:
        announced = [s for s in world.of(OrderSending) if s.order == sale]
        if len(announced) > SENDINGS_MAX + 1 and sale not in world.broker.orders:
            world.broker.submit(order_of(world.of(OrderAccepted)[-1]))
            world.broker.acknowledge(sale)
        return world.status(sale) != "accepted"

    world.run(until, GatewaySettings(lease_s=0, reconcile_s=0.1))
    world.run(world.passed())
    assert world.status(sale) == "working"
    assert world.of(NotSent) == []


def test_old_replacement_does_not_go(world: World) -> None:
    order = working(world, order_type="limit", limit=Decimal(9))
    world.ask(ReplaceOrder, order=order, quantity=Decimal(50))
    world.now += 3 * SECOND
    world.run(lambda: bool(world.of(Rejected)))
    assert [(r.what, r.reason) for r in world.of(Rejected)] == [("replace", "stale")]
    assert world.broker.orders[order].order.quantity == 5
    changed = [c for c in world.of(OrderChanged) if c.order == order][-1]
    assert (changed.status, changed.pending) == ("working", "none")


def test_cancel_goes_however_old(world: World) -> None:
    order = world.place()
    world.run(lambda: world.status(order) == "working")
    world.ask(CancelOrder, order=order)
    world.now += 60 * SECOND
    world.run(lambda: world.status(order) == "cancelled")
    assert ("cancel", order) in world.broker.calls


def test_age_does_not_matter_on_a_log_on_data_time(tmp_path: Path) -> None:
    world = World(tmp_path, "data")
    order = world.place()
    world.now += 10**18
    world.run(lambda: world.status(order) == "working")


def test_request_does_not_leave_after_its_lease(world: World) -> None:
    order = world.place()
    world.run(lambda: world.status(order) == "rejected", GatewaySettings(lease_s=0, reconcile_s=0.1))
    assert world.broker.sent() == []
    assert world.of(OrderSending)
    assert [n.reason for n in world.of(NotSent)] == ["stale"]


def test_order_without_its_batch_is_not_sent(world: World) -> None:
    order = world.place()
    world.run(lambda: world.status(order) == "working")
    accepted = world.of(OrderAccepted)[0]
    early = evolve(accepted, seq=1000, order=accepted.order[:-1] + "1000")
    with world.log.writer("forger") as writer:
        writer.append([new_record(early, 0, ME)])
    world.core_stands = True
    world.run(world.passed(3))
    assert world.broker.sent() == [order]


# ------------------------------------------------------------ where it must not run


def test_broker_of_real_money_on_data_time_is_refused(tmp_path: Path) -> None:
    world = World(tmp_path, "data")
    world.broker.simulated = False
    world.place()
    with pytest.raises(GatewayError, match="data time"):
        world.run(lambda: False)
    assert world.broker.calls == []


def test_log_behind_the_broker_is_refused(world: World) -> None:
    newer = f"{log_prefix(world.log.id)}-{ME}-1000"
    world.broker.submit(Order(newer, "X", "buy", Decimal(1), "market", None, None, "day", False))
    order = world.place()
    with pytest.raises(GatewayError, match=newer):
        world.run(lambda: False)
    assert order not in world.broker.sent()
    assert world.of(OrderSending) == world.of(BrokerSnapshot) == []


def test_second_gateway_is_refused(world: World) -> None:
    with (
        open_log(world.url) as other,
        other.writer("gateway-0"),
        pytest.raises(WriterBusy),
    ):
        world.run(lambda: True)


def test_nothing_is_sent_before_the_books_have_been_compared(world: World) -> None:
    order = world.place()
    world.run(lambda: world.status(order) == "working")
    calls = [what for what, _ in world.broker.calls]
    assert calls.index("snapshot") < calls.index("submit")


# ------------------------------------------------------------ what became of it?


def announce(world: World, order: str) -> None:
    """As a gateway that was killed behind its commit would leave it."""
    sending = OrderSending(id=f"{order}:sending", account=ME, ts=world.now, order=order)
    with world.log.writer("gateway-0") as writer:
        writer.append([new_record(sending, 0, ME)])
    world.decide()


def order_of(accepted: OrderAccepted, **changes: Any) -> Order:
    a = evolve(accepted, **changes)
    return Order(a.order, a.symbol, a.side, a.quantity, a.order_type, a.limit, a.stop, a.tif, a.extended)


def test_announced_order_is_looked_up_before_anything_new_is_sent(world: World) -> None:
    first = world.place()
    announce(world, first)
    world.broker.submit(order_of(world.of(OrderAccepted)[0]))
    second = world.place(quantity=6)
    world.run(lambda: world.status(first) == world.status(second) == "working")
    assert world.broker.calls.index(("look up", first)) < world.broker.calls.index(("submit", second))
    assert world.broker.sent() == [first, second]


def test_announced_order_that_never_arrived_is_sent_after_two_looks(world: World) -> None:
    first = world.place()
    announce(world, first)
    second = world.place(quantity=6)
    world.run(lambda: world.status(first) == world.status(second) == "working")
    calls = world.broker.calls
    assert calls[: calls.index(("submit", first))].count(("look up", first)) >= 2
    assert calls.index(("look up", first)) < calls.index(("submit", second))
    assert sorted(world.broker.sent()) == sorted([first, second])


def test_lost_answer_is_unknown_until_it_is_found(world: World) -> None:
    order = world.place()
    world.broker.next["submit"] = ["lose answer"]
    world.run(lambda: world.status(order) == "working")
    assert [u.reason for u in world.of(Unknown)] == ["no answer came"]
    assert world.broker.sent() == [order]
    assert len(world.of(OrderSending)) == 1


def test_lost_request_is_sent_again_after_two_looks(world: World) -> None:
    order = world.place()
    world.broker.next["submit"] = ["lose request"]
    world.run(lambda: world.status(order) == "working")
    assert len(world.of(Unknown)) == 1
    assert len(world.of(OrderSending)) == 2
    calls = world.broker.calls
    assert calls[: calls.index(("submit", order))].count(("look up", order)) == 2


@pytest.mark.parametrize("why", ["ids repeat", "stale", "cancelled"])
def test_lost_request_is_given_up(world: World, why: str) -> None:
    order = world.place()
    world.broker.next["submit"] = ["lose request"]
    world.broker.enforces_unique_ids = why != "ids repeat"

    def meanwhile() -> None:
        world.now += 10 * SECOND * (why == "stale")

    world.broker.hooks["look up"] = meanwhile
    if why == "cancelled":
        world.run(lambda: world.status(order) == "unknown", GatewaySettings(reconcile_s=LIMIT_S))
        world.ask(CancelOrder, order=order)
    world.run(lambda: world.status(order) in ("rejected", "cancelled"))
    assert world.broker.sent() == []
    assert len(world.of(NotSent)) == 1


def test_used_id_is_looked_up_and_not_taken_for_a_refusal(world: World) -> None:
    order = world.place()
    world.broker.submit(order_of(world.of(OrderAccepted)[0]))
    world.broker.orders = {}
    world.run(lambda: world.status(order) == "working")
    assert world.of(Rejected) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"symbol": "Y"},
        {"side": "sell"},
        {"quantity": Decimal(6)},
        {"order_type": "market", "limit": None},
        {"limit": Decimal("9.01")},
    ],
)
def test_found_with_other_terms_is_drift(world: World, changes: dict[str, Any]) -> None:
    order = world.place(order_type="limit", limit=Decimal(9))
    announce(world, order)
    world.broker.submit(order_of(world.of(OrderAccepted)[0], **changes))
    world.run(lambda: bool(world.of(Drift)))
    assert world.of(Drift)[0].what == "terms"
    assert [b.reason for b in world.of(BreakerHalted)] == ["drift"]


def test_found_with_other_terms_can_still_be_cancelled(world: World) -> None:
    order = world.place(order_type="limit", limit=Decimal(9))
    announce(world, order)
    world.broker.submit(order_of(world.of(OrderAccepted)[0], limit=Decimal("9.01")))
    world.run(lambda: bool(world.of(Drift)))
    world.ask(CancelOrder, order=order)
    world.run(lambda: world.status(order) == "cancelled")


def test_broker_whose_books_were_begun_anew_is_said(world: World) -> None:
    order = working(world)
    world.broker.fill(order, 5, "10.01")
    world.run(world.passed())
    world.broker.movements.clear()
    said: list[str] = []
    world.run(
        lambda: any("begun anew" in error for error in said), beats=lambda beat: said.append(beat.error)
    )


def test_order_that_ended_unheard_is_found_to_have(world: World) -> None:
    """Fills come before the end of their order, however they are learnt."""
    order = world.place()
    announce(world, order)
    world.broker.submit(order_of(world.of(OrderAccepted)[0]))
    world.broker.fill(order, 2, "10.01", told=False)
    world.broker.ends(order, told=False)
    world.run(lambda: world.status(order) == "cancelled")
    assert world.of(Anomaly) == []
    assert [f.quantity for f in world.of(Fill)] == [2]


def test_silent_broker_is_waited_for(world: World) -> None:
    order = world.place()
    world.broker.is_silent = True
    errors: list[str] = []

    def beats(beat: Any) -> None:
        if beat.error:
            errors.append(beat.error)
            world.broker.is_silent = False

    world.run(lambda: world.status(order) == "working", beats=beats)
    assert "silent" in errors[0]


# ------------------------------------------------------------ what the broker says


def during(world: World, act: Callable[[], None], until: Callable[[], bool]) -> None:
    """Run until something holds; `act` happens once, when the stream is connected and all before is known."""
    done: list[bool] = []
    is_quiet = world.passed(3)

    def step() -> bool:
        if not done and world.broker.streams and is_quiet():
            done.append(True)
            act()
        return bool(done) and until()

    world.run(step)


def working(world: World, **more: Any) -> str:
    order = world.place(**more)
    world.run(lambda: world.status(order) == "working")
    return order


def test_what_comes_twice_is_written_once(world: World) -> None:
    order = working(world)
    told: list[Filled] = []

    def until() -> bool:
        if not told and world.broker.streams:
            told.append(world.broker.fill(order, 2, "10.01"))
            world.broker.tell(told[0])
        return bool(told) and len(world.of(BrokerSnapshot)) > 4 and world.status(order) == "partial"

    world.run(until)
    assert len(world.of(Filled)) == len(world.of(Fill)) == 1
    assert world.of(Drift) == []


def test_fill_while_the_stream_was_down_is_found(world: World) -> None:
    order = working(world)
    done: list[Any] = []

    def until() -> bool:
        if not done and world.broker.streams:
            world.broker.disconnect()
            done.append(world.broker.fill(order, 5, "10.01", told=False))
        return world.status(order) == "filled"

    world.run(until, GatewaySettings(reconcile_s=LIMIT_S))


def test_fill_before_the_answer(world: World) -> None:
    order = world.place()
    world.broker.hooks["submit"] = lambda: world.broker.fill(order, 5, "10.01") and None
    world.run(lambda: world.status(order) == "filled" and world.passed(0)())
    assert world.of(Anomaly) == []


def test_fill_after_a_cancel_is_booked(world: World) -> None:
    order = working(world)
    world.ask(CancelOrder, order=order)
    world.run(lambda: world.status(order) == "cancelled")
    world.broker.fill(order, 5, "10.01", told=False)
    world.run(lambda: bool(world.of(Fill)))
    assert [a.kind for a in world.of(Anomaly)] == ["fill-after-end"]
    assert world.of(Drift) == []


def test_replacement(world: World) -> None:
    order = working(world, order_type="limit", limit=Decimal(9))
    world.ask(ReplaceOrder, order=order, quantity=Decimal(7), limit=Decimal("9.5"))
    world.run(lambda: bool(world.of(Replaced)))
    changed = [c for c in world.of(OrderChanged) if c.order == order][-1]
    assert (changed.pending, changed.quantity, changed.limit) == ("none", 7, Decimal("9.5"))
    assert world.broker.orders[order].order.quantity == 7


@pytest.mark.parametrize("what", ["cancel", "replace"])
def test_refused_cancel_or_replacement(world: World, what: str) -> None:
    order = working(world, order_type="limit", limit=Decimal(9))
    world.broker.next[what] = ["refuse"]
    if what == "cancel":
        world.ask(CancelOrder, order=order)
    else:
        world.ask(ReplaceOrder, order=order, quantity=Decimal(7))
    world.run(lambda: bool(world.of(Rejected)))
    assert [(r.what, r.reason) for r in world.of(Rejected)] == [(what, "not today")]
    assert world.status(order) == "working"


@pytest.mark.parametrize("what", ["cancel", "replace"])
@pytest.mark.parametrize("fault", ["lose answer", "lose request"])
def test_unanswered_cancel_or_replacement(world: World, what: str, fault: str) -> None:
    order = working(world, order_type="limit", limit=Decimal(9))
    world.broker.next[what] = [fault]
    if what == "cancel":
        world.ask(CancelOrder, order=order)
    else:
        world.ask(ReplaceOrder, order=order, quantity=Decimal(7))
    kind: Any = {"cancel": Cancelled, "replace": Replaced}[what]
    world.run(lambda: bool(world.of(kind)))
    assert len(world.of(kind)) == 1


def test_refused_order(world: World) -> None:
    order = world.place()
    world.broker.next["submit"] = ["refuse"]
    world.run(lambda: world.status(order) == "rejected")
    assert [(r.what, r.reason, r.raw) for r in world.of(Rejected)] == [("order", "not today", "no")]


def test_halt_cancels_what_works(world: World) -> None:
    order = working(world, order_type="limit", limit=Decimal(9))
    world.ask(HaltAccount)
    world.run(lambda: world.status(order) == "cancelled")


def test_busts_corrections_and_cash_keep_the_books_equal(world: World) -> None:
    order = working(world, quantity=9)
    fills = [world.broker.fill(order, 3, price, fee="0.02") for price in ("10.01", "10.02", "10.03")]
    world.broker.bust(fills[0])
    world.broker.correct(fills[1], "10.00")
    world.broker.pay("fee", "-1.25")
    world.broker.pay("dividend", "0.5")
    world.broker.pay("deposit", "100")
    world.run(world.passed())
    assert (len(world.of(Fill)), len(world.of(FillBusted)), len(world.of(FillCorrected))) == (3, 1, 1)
    assert world.of(Drift) == []
    assert world.of(PositionChanged)[-1].net_quantity == 6
    world.broker.cash += 1
    world.run(lambda: bool(world.of(Drift)))


def test_bust_told_before_its_fill_waits_for_the_activities(world: World) -> None:
    order = working(world)
    done: list[Any] = []

    def until() -> bool:
        if not done and world.broker.streams:
            done.append(world.broker.fill(order, 5, "10.01", told=False))
            world.broker.bust(done[0])
        return bool(world.of(FillBusted))

    world.run(until, GatewaySettings(reconcile_s=LIMIT_S))
    assert [type(e) for e in (world.of(Filled) + world.of(Busted))] == [Filled, Busted]
    assert world.of(Anomaly) == []


def test_two_corrections_told_in_the_wrong_order(world: World) -> None:
    order = working(world, quantity=9)
    fill = world.broker.fill(order, 5, "10.01")

    def act() -> None:
        world.broker.correct(fill, "10.02", told=False)
        world.broker.correct(evolve(fill, price=Decimal("10.02")), "10.03", told=False)
        for movement in world.broker.movements[:-3:-1]:
            world.broker.tell(movement.report)

    during(world, act, lambda: len(world.of(FillCorrected)) == 2)
    assert world.of(FillCorrected)[-1].price == Decimal("10.03")
    world.run(world.passed())
    assert world.of(Drift) == world.of(Anomaly) == []


def test_fill_that_overtakes_a_bust_of_as_many_shares(world: World) -> None:
    """Both reach as far into the order: they are told apart by their executions."""
    order = working(world, quantity=15)
    fill = world.broker.fill(order, 5, "10.01")

    def act() -> None:
        world.broker.bust(fill, told=False)
        bust = world.broker.movements[-1].report
        world.broker.fill(order, 5, "10.02")
        world.broker.tell(bust)

    during(world, act, lambda: bool(world.of(FillBusted)) and len(world.of(Fill)) == 2)
    world.run(world.passed())
    assert world.of(Drift) == world.of(Anomaly) == []


def test_end_told_before_the_bust_that_led_to_it(world: World) -> None:
    order = working(world)
    fill = world.broker.fill(order, 5, "10.01")
    world.run(lambda: world.status(order) == "filled")

    def act() -> None:
        world.broker.bust(fill, told=False)
        world.broker.ends(order)
        world.broker.tell(world.broker.movements[-1].report)

    during(world, act, lambda: world.status(order) == "cancelled")
    world.run(world.passed())
    assert world.of(Drift) == world.of(Anomaly) == []


def test_fill_of_what_a_replacement_added_before_that_is_told(world: World) -> None:
    order = working(world, order_type="limit", limit=Decimal(9))
    world.ask(ReplaceOrder, order=order, quantity=Decimal(7))
    world.broker.hooks["replace"] = lambda: world.broker.fill(order, 6, "9.00") and None
    world.broker.replaces_silently = True
    world.run(lambda: bool(world.of(Replaced)))
    assert [f.quantity for f in world.of(Fill)] == [6]
    assert [r.quantity for r in world.of(Replaced)] == [7]
    assert world.of(Anomaly) == world.of(BreakerReducing) == []
    world.ask(CancelOrder, order=order)
    world.run(lambda: world.status(order) == "cancelled")
    assert ("cancel", order) in world.broker.calls


def test_end_told_before_a_fill_is_written_behind_it(world: World) -> None:
    order = working(world)
    done: list[Any] = []

    def until() -> bool:
        if not done and world.broker.streams:
            done.append(world.broker.fill(order, 2, "10.01", told=False))
            world.broker.ends(order)
        return world.status(order) == "cancelled"

    world.run(until, GatewaySettings(reconcile_s=LIMIT_S))
    assert [f.quantity for f in world.of(Fill)] == [2]
    assert world.of(Anomaly) == []


def test_execution_of_a_stranger_goes_to_the_book_external(world: World) -> None:
    world.place()
    world.broker.submit(Order("by-hand", "X", "buy", Decimal(2), "market", None, None, "day", False))
    world.broker.fill("by-hand", 2, "10.01", told=False)
    world.run(lambda: bool(world.of(Fill)))
    assert [f.strategy for f in world.of(Fill)] == ["external"]
    assert world.of(Drift) == []


def test_restart_repeats_nothing(world: World) -> None:
    order = working(world)
    world.broker.fill(order, 2, "10.01", told=False)
    for _ in range(3):
        world.run(world.passed())
    assert world.broker.sent() == [order]
    kinds = [type(decode(r.topic, r.value)) for r in world.log.read("broker.reports", 0, gte=0)]
    assert [kinds.count(kind) for kind in (OrderSending, Acknowledged, Filled)] == [1, 1, 1]


def test_replacement_that_was_done_is_not_asked_for_again_after_a_restart(world: World) -> None:
    order = working(world, order_type="limit", limit=Decimal(9))
    world.ask(ReplaceOrder, order=order, quantity=Decimal(7))
    replaced = world.broker.calls.count
    world.broker.replaces_silently, world.core_stands = True, True
    with pytest.raises(Killed):
        world.run(lambda: False, beats=lambda beat: kill_if(replaced(("replace", order)) == 1))
    assert world.of(Replaced) == []
    world.core_stands = False
    world.run(lambda: bool(world.of(Replaced)))
    world.run(world.passed())
    assert replaced(("replace", order)) == 1


class Killed(Exception):
    """As if the process had gone."""


def kill_if(now: bool) -> None:
    if now:
        raise Killed


def assert_(holds: bool) -> None:
    assert holds
