"""The simulated broker over HTTP: orders, books, restarts, faults."""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eventlog import open_log
from processors.exchange import Exchange
from producers.brokers.sim.api import Bust, CashMovement, Correction, FaultSettings, NewOrder, NewTerms
from producers.brokers.sim.broker import Broker, Refused
from producers.brokers.sim.faults import BadFault, Faults
from producers.brokers.sim.store import Store
from producers.brokers.sim.updates import Updates
from schemas import CashDividend, CoreSettings
from support.market import Feed, at, heartbeat, quote, session_closed, session_opened, split, trade
from support.simbroker import CASH, Desk, check_fold, desk, free_port, make_log, start_process, until
from tape.brokersim import BrokerSimError, faults_of, run_broker_sim

TEN = Decimal(10)


@pytest.fixture
def d(tmp_path: Path) -> Iterator[Desk]:
    with desk(tmp_path, fee="per-share:0.005:1") as made:
        made.see(quote(at("09:31"), 10, "10.02"))
        yield made
        made.check_books()


# ------------------------------------------------------------ orders


def test_a_market_order_fills_at_the_quote_and_is_told_after_its_answer(d: Desk) -> None:
    updates = d.listen()
    order = d.order("a", "buy 100 market")
    assert (order.status, order.filled_qty, order.filled_notional) == ("filled", 100, 1002)
    new, fill = updates.next(), updates.next()
    assert (new.event, fill.event) == ("new", "fill")
    assert fill.activity is not None
    assert (fill.activity.price, fill.activity.fee, fill.activity.cumulative_qty) == (
        Decimal("10.02"),
        1,
        100,
    )
    assert d.snapshot().cash == CASH - 1002 - 1


def test_a_limit_order_rests_until_the_market_reaches_it(d: Desk) -> None:
    updates = d.listen()
    assert d.order("a", "buy 100 limit 9.90").status == "new"
    d.see(quote(at("09:32"), "9.80", "9.90"))
    assert updates.events(2) == ["new", "fill"]
    assert d.look_up("a").filled_notional == 990


@pytest.mark.parametrize(
    ("text", "price"), [("buy 10 stop 10.10", "10.12"), ("buy 10 stop_limit 10.10 10.15", "10.12")]
)
def test_a_stop_goes_off_on_a_trade(d: Desk, text: str, price: str) -> None:
    assert d.order("a", text).status == "new"
    d.see(quote(at("09:32"), "10.10", price), trade(at("09:32:01"), "10.11"))
    order = d.look_up("a")
    assert (order.status, order.filled_notional) == ("filled", Decimal(price) * 10)


def test_a_day_order_expires_and_a_good_till_cancelled_one_does_not(d: Desk) -> None:
    d.order("a", "buy 10 limit 9 day")
    d.order("b", "buy 10 limit 9 gtc")
    d.see(session_closed())
    assert d.look_up("a").status == "expired"
    assert d.look_up("b").status == "new"


def test_immediate_orders_are_cancelled_and_flawed_ones_rejected(d: Desk) -> None:
    assert d.order("a", "buy 10 limit 9 ioc").status == "canceled"
    rejected = d.order("b", "buy 10 stop 11 ioc")
    assert (rejected.status, rejected.reason) == ("rejected", "a stop order is day or gtc, not ioc")


def test_cancel_and_replace_are_answered_and_come_as_updates(d: Desk) -> None:
    first = d.order("a", "buy 10 limit 9")
    updates = d.listen()
    assert d.replace("a", qty="20", limit_price="9.50").status_code == 202
    assert d.replace("a", limit_price="9.60").status_code == 202
    assert d.cancel("a").status_code == 202
    assert updates.events(3) == ["replaced", "replaced", "canceled"]
    order = d.look_up("a")
    assert (order.status, order.qty, order.limit_price) == ("canceled", 20, Decimal("9.60"))
    assert order.replacements == 2
    assert order.id != first.id
    again = d.cancel("a")
    assert (again.status_code, again.json()["code"]) == (422, "order_not_open")


def test_a_partial_fill_stays_open(tmp_path: Path) -> None:
    with desk(tmp_path, size="displayed") as d:
        d.see(quote(at("09:31"), 10, "10.02", (30, 40)))
        assert d.order("a", "buy 100 limit 10.02").status == "partially_filled"
        assert d.snapshot().orders[0].filled_qty == 40
        d.replace("a", qty="30")
        assert d.look_up("a").status == "filled"
        d.check_books()


@pytest.mark.parametrize(
    ("status", "code", "body"),
    [
        (422, "invalid", {"qty": "0"}),
        (422, "invalid", {"qty": 1.5}),
        (422, "invalid", {"type": "iceberg"}),
        (422, "invalid", {"client_order_id": "a" * 49}),
        (422, "duplicate_client_order_id", {}),
    ],
)
def test_what_cannot_be_taken_is_refused_and_changes_nothing(
    d: Desk, status: int, code: str, body: dict[str, object]
) -> None:
    d.order("a", "buy 1 market")
    order = {"client_order_id": "a", "symbol": "SPY", "side": "buy", "qty": "1", "type": "market"}
    answer = d.http.post("/v1/accounts/A/orders", json=order | {"time_in_force": "day"} | body)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert d.books().executions == 1


def test_what_there_is_not_is_not_found(d: Desk) -> None:
    assert d.http.get("/v1/accounts/A/orders/x").json()["code"] == "unknown_order"
    assert d.http.get("/v1/accounts/B/snapshot").json()["code"] == "unknown_account"
    assert d.admin("bust", execution_id="x").json()["code"] == "unknown_execution"
    assert d.http.post("/v1/accounts", json={"id": "A", "cash": "5"}).status_code == 409


def test_orders_are_listed_by_number_and_the_newest_of_a_prefix_is_known(d: Desk) -> None:
    d.order("x-1", "buy 1 market")
    d.order("x-2", "buy 1 limit 9")
    d.order("y-1", "buy 1 limit 9")
    orders = d.http.get("/v1/accounts/A/orders", params={"status": "all", "after": 1}).json()
    assert [o["client_order_id"] for o in orders] == ["x-2", "y-1"]
    assert len(d.http.get("/v1/accounts/A/orders").json()) == 2
    newest = d.http.get("/v1/accounts/A/newest-order", params={"prefix": "x-"}).json()
    assert newest == {"client_order_id": "x-2"}


def test_accounts_have_client_ids_and_books_of_their_own(d: Desk) -> None:
    assert d.http.post("/v1/accounts", json={"id": "B", "cash": "1000"}).status_code == 201
    d.order("a", "buy 1 market")
    d.order("a", "sell 2 market", account="B")
    assert d.http.get("/v1/accounts/B/positions").json() == [{"symbol": "SPY", "qty": "-2"}]
    assert d.http.get("/v1/accounts/B/account").json()["cash"] == "1019"


# ------------------------------------------------------------ what else moves the books


def test_a_bust_ends_the_order_it_had_filled(d: Desk) -> None:
    d.order("a", "buy 100 market")
    execution = d.activities()[0].execution_id
    updates = d.listen()
    assert d.admin("bust", execution_id=execution, reason="in error").status_code == 200
    assert updates.events(2) == ["trade_bust", "canceled"]
    assert (d.snapshot().cash, d.snapshot().positions) == (CASH, [])
    assert d.look_up("a").filled_qty == 0


def test_a_correction_and_cash_are_activities(d: Desk) -> None:
    d.order("a", "buy 100 market")
    execution = d.activities()[0].execution_id
    d.admin("correct", execution_id=execution, price="10")
    d.admin("cash", type="interest", amount="2.50")
    assert [a.type for a in d.activities(after=1)] == ["correction", "interest"]
    assert d.snapshot().cash == CASH - 1000 - 1 + Decimal("2.50")


def test_splits_and_dividends_move_shares_and_cash(d: Desk) -> None:
    d.order("a", "buy 100 market")
    about = {"symbol": "SPY", "source": "test", "row": 0, "amount": Decimal("0.5")}
    d.see(
        CashDividend(ts=at("09:30", 1), ex="2024-01-03", pay="2024-01-05", **about),  # type: ignore[arg-type]
        split(at("09:31", 1), 2, 1),
    )
    assert d.snapshot().positions[0].qty == 200
    before = d.snapshot().cash
    d.see(session_opened(3))
    assert d.snapshot().cash == before + 50


# ------------------------------------------------------------ faults


def test_a_lost_answer_is_an_order_taken(d: Desk) -> None:
    d.faults(lose_answer="1x")
    with pytest.raises(httpx.RemoteProtocolError):
        d.send("a", "buy 10 market")
    assert d.look_up("a").status == "filled"
    assert d.send("a", "buy 10 market").json()["code"] == "duplicate_client_order_id"


def test_a_lost_request_is_none(d: Desk) -> None:
    d.faults(lose_request="1x")
    with pytest.raises(httpx.RemoteProtocolError):
        d.send("a", "buy 10 market")
    assert d.http.get("/v1/accounts/A/orders/a").status_code == 404
    assert d.order("a", "buy 10 market").status == "filled"


def test_an_early_fill_comes_before_the_answer(d: Desk) -> None:
    updates = d.listen()
    d.faults(early_fill="1x", delay="1x")
    answers: list[str] = []
    thread = threading.Thread(target=lambda: answers.append(d.order("a", "buy 10 market").status))
    thread.start()
    assert updates.events(2) == ["new", "fill"]
    assert answers == []
    thread.join()
    assert answers == ["filled"]


def test_without_that_fault_updates_wait_for_a_late_answer(d: Desk) -> None:
    updates = d.listen()
    d.faults(delay="1x")
    sent = time.monotonic()
    assert d.order("a", "buy 10 market").status == "filled"
    assert updates.events(2) == ["new", "fill"]
    assert updates.came > sent + 0.3


def test_updates_are_repeated_and_reordered(d: Desk) -> None:
    updates = d.listen()
    d.faults(repeat_update="2x")
    d.order("a", "buy 10 market")
    assert updates.events(4) == ["new", "new", "fill", "fill"]
    d.faults(reorder_updates="1x")
    d.order("b", "buy 10 market")
    assert updates.events(2) == ["fill", "new"]
    d.faults(reorder_updates="1x")
    d.order("c", "buy 10 limit 9")
    assert updates.events(1) == ["new"]


def test_an_order_fills_while_its_cancel_is_on_its_way(d: Desk) -> None:
    d.order("a", "buy 10 limit 9")
    updates = d.listen()
    d.faults(fill_on_cancel="1x")
    assert d.cancel("a").status_code == 202
    assert updates.events(2) == ["fill", "cancel_rejected"]
    assert d.look_up("a").status == "filled"
    d.see(quote(at("09:32"), "8.90", 9))
    assert d.books().executions == 1


def test_a_cancelled_order_has_filled_in_part_and_tells_it_late(d: Desk) -> None:
    d.order("a", "buy 11 limit 9")
    updates = d.listen()
    d.faults(late_fill="1x")
    d.cancel("a")
    assert [a.qty for a in d.activities()] == [5]
    assert updates.events(2) == ["canceled", "partial_fill"]
    assert (d.look_up("a").status, d.look_up("a").filled_qty) == ("canceled", 5)


def test_executions_are_corrected_and_busted(d: Desk) -> None:
    updates = d.listen()
    d.faults(correct="1x", bust="1x")
    d.order("a", "buy 10 market")
    assert updates.events(5) == ["new", "fill", "trade_correct", "trade_bust", "canceled"]
    assert d.snapshot().cash == CASH


def test_an_order_is_rejected(d: Desk) -> None:
    d.faults(reject="1x")
    assert d.order("a", "buy 10 market").status == "rejected"
    assert d.order("b", "buy 10 market").status == "filled"


def test_a_stream_breaks_off_and_nothing_is_repeated(d: Desk) -> None:
    updates = d.listen()
    d.faults(disconnect="1x")
    d.order("a", "buy 10 market")
    assert updates.next_or_end() is None
    updates = d.listen()
    d.order("b", "buy 10 limit 9")
    order = updates.next().order
    assert order is not None
    assert order.client_order_id == "b"
    d.http.post("/v1/accounts/A/disconnect")
    assert updates.next_or_end() is None
    assert [a.client_order_id for a in d.activities()] == ["a"]


def test_faults_are_known_by_name_and_off_by_default(d: Desk) -> None:
    assert d.http.get("/v1/faults").json()["faults"] == {}
    answer = d.http.post("/v1/faults", json={"faults": {"earthquake": "1"}})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid")
    with pytest.raises(BrokerSimError, match="from 0 to 1"):
        faults_of(["bust=2"])
    with pytest.raises(BadFault, match="there is no fault"):
        Faults(FaultSettings(faults={"": "1"}))


def test_the_same_seed_strikes_the_same_occasions() -> None:
    def struck(seed: int) -> list[bool]:
        faults = Faults(FaultSettings(faults={"bust": "0.5"}, seed=seed))
        return [faults.strikes("bust") for _ in range(50)]

    assert struck(1) == struck(1) != struck(2)


# ------------------------------------------------------------ restarts


def test_a_restart_goes_on_with_what_rests(tmp_path: Path) -> None:
    url = make_log(tmp_path)
    with desk(tmp_path, url=url) as d:
        d.see(quote(at("09:31"), 10, "10.02"))
        d.order("a", "buy 10 limit 9")
    with desk(tmp_path, url=url) as d:
        assert d.look_up("a").status == "new"
        d.see(quote(at("09:32"), "8.90", 9))
        assert d.look_up("a").status == "filled"
        assert d.order("b", "sell 10 market").filled_notional == 89
        d.check_books()


def test_a_broker_of_another_log_is_refused(tmp_path: Path) -> None:
    with desk(tmp_path):
        pass
    other = make_log(tmp_path / "other", id="2" * 32)
    with open_log(other) as log, pytest.raises(BrokerSimError, match="not of"):
        run_broker_sim(
            log,
            CoreSettings(log_prefix="x", simulated=False),
            tmp_path / "broker",
            port=free_port(),
            beats=lambda beat: None,
            stop=lambda: True,
        )


def test_killed_ten_times_while_orders_flow_nothing_acknowledged_is_lost(tmp_path: Path) -> None:
    url, port = make_log(tmp_path), free_port()
    chance = random.Random(7)
    answered: dict[str, str] = {}
    number = 0
    with open_log(url) as log:
        d = Desk(log, port)
        d.now = at("09:30")
        for round in range(11):
            process = start_process(url, tmp_path / "broker", port, {"bust": "0.05", "late_fill": "0.2"})
            try:
                d.wait_ready()
                killer = threading.Timer(chance.uniform(0.05, 0.8), process.kill)
                if round < 10:
                    killer.start()
                while process.poll() is None and (round < 10 or number % 50):
                    number += 1
                    bid = Decimal(chance.randrange(990, 1010)).scaleb(-2)
                    d.write(quote(at("09:31") + number * 1_000_000, bid, bid + Decimal("0.02")))
                    name = f"x-{number}"
                    text = chance.choice(["buy 10 market", "sell 7 limit 10.05", "buy 5 limit 9.95"])
                    try:
                        answered[name] = d.order(name, text).status
                        if chance.random() < 0.3:
                            d.cancel(f"x-{number - chance.randrange(3)}")
                    except httpx.HTTPError:
                        pass
                killer.cancel() if round < 10 else None
                if round == 10:
                    _check_all(d, answered)
            finally:
                process.kill()
                process.wait()
        d.close()


def _check_all(d: Desk, answered: dict[str, str]) -> None:
    until(lambda: d.health().get("ready"), "the broker is ready")
    assert len(answered) > 50
    for name, status in answered.items():
        order = d.look_up(name)
        assert order.client_order_id == name
        if status not in ("new", "partially_filled"):
            assert order.status in (status, "canceled")
    orders = d.http.get("/v1/accounts/A/orders", params={"status": "all", "limit": 10_000}).json()
    assert {o["client_order_id"] for o in orders} >= set(answered)
    filled = {o["client_order_id"]: Decimal(o["filled_qty"]) for o in orders}
    standing: dict[str, tuple[str, Decimal]] = {}
    for activity in d.activities():
        standing[activity.execution_id] = (activity.client_order_id, activity.qty or Decimal(0))
        if activity.type == "bust":
            del standing[activity.execution_id]
    for name, quantity in filled.items():
        assert quantity == sum(qty for order, qty in standing.values() if order == name)
    d.check_books()


# ------------------------------------------------------------ books against activities

SYMBOLS = ("SPY", "IBM")
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("quote"), st.sampled_from(SYMBOLS), st.integers(950, 1050)),
        st.tuples(
            st.just("order"),
            st.sampled_from(SYMBOLS),
            st.sampled_from(["buy", "sell"]),
            st.integers(1, 500),
            st.one_of(st.none(), st.integers(950, 1050)),
        ),
        st.tuples(st.just("cancel"), st.integers(0, 30)),
        st.tuples(st.just("replace"), st.integers(0, 30), st.integers(1, 600), st.integers(950, 1050)),
        st.tuples(st.just("bust"), st.integers(0, 30)),
        st.tuples(st.just("correct"), st.integers(0, 30), st.integers(1, 500), st.integers(950, 1050)),
        st.tuples(st.just("split"), st.sampled_from(SYMBOLS), st.sampled_from([(2, 1), (1, 2), (3, 2)])),
        st.tuples(st.just("cash"), st.integers(-500, 500)),
        st.tuples(st.just("restart")),
    ),
    min_size=15,
    max_size=40,
)


class _Bench:
    """A broker without a service, and the market it sees."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.feed, self.orders, self.ts = folder, Feed(), 0, at("09:30")
        self.faults = Faults(
            FaultSettings(
                faults={"bust": "0.1", "correct": "0.1", "late_fill": "0.3", "fill_on_cancel": "0.3"}
            )
        )
        self.open()
        self.broker.open_account("A", CASH)
        self.see(session_opened())

    def open(self) -> None:
        exchange = Exchange(
            CoreSettings(log_prefix="x", simulated=False, size="displayed", fee="per-share:0.005:1")
        )
        self.store = Store(self.folder, "1" * 32)
        self.broker = Broker(exchange, self.store, self.faults, Updates(self.faults))
        self.broker.is_ready = True

    def see(self, *events: object) -> None:
        self.broker.see([self.feed.record(e) for e in events], {("market.quotes", 0): self.ts})  # type: ignore[arg-type]

    def price(self, cents: int) -> Decimal:
        return Decimal(cents).scaleb(-2)

    def do(self, step: tuple) -> None:  # type: ignore[type-arg]
        self.ts += 1_000_000_000
        kind, *rest = step
        with contextlib.suppress(Refused):
            getattr(self, f"do_{kind}")(*rest)

    def do_quote(self, symbol: str, cents: int) -> None:
        bid = self.price(cents)
        self.see(quote(self.ts, bid, bid + Decimal("0.01"), (70, 90), symbol=symbol))

    def do_order(self, symbol: str, side: str, qty: int, limit: int | None) -> None:
        self.orders += 1
        new = {"symbol": symbol, "side": side, "qty": str(qty), "type": "limit" if limit else "market"}
        price = None if limit is None else str(self.price(limit))
        order = NewOrder(
            client_order_id=f"o{self.orders}",
            time_in_force="gtc",
            limit_price=price,
            **new,  # type: ignore[arg-type]
        )
        self.broker.submit("A", order)

    def do_cancel(self, number: int) -> None:
        self.broker.cancel("A", f"o{number}")

    def do_replace(self, number: int, qty: int, cents: int) -> None:
        self.broker.replace("A", f"o{number}", NewTerms(qty=Decimal(qty), limit_price=self.price(cents)))

    def do_bust(self, number: int) -> None:
        self.broker.bust("A", Bust(execution_id=self._execution(number)))

    def do_correct(self, number: int, qty: int, cents: int) -> None:
        terms = {"qty": Decimal(qty), "price": self.price(cents)}
        self.broker.correct("A", Correction(execution_id=self._execution(number), **terms))  # type: ignore[arg-type]

    def _execution(self, number: int) -> str:
        found = [a.execution_id for a in self.broker.activities("A", 0, 1000) if a.type == "fill"]
        return found[number % len(found)] if found else "none"

    def do_split(self, symbol: str, terms: tuple[int, int]) -> None:
        self.see(split(self.ts, *terms, symbol=symbol))

    def do_cash(self, cents: int) -> None:
        self.broker.move_cash("A", CashMovement(type="interest", amount=self.price(cents)))

    def do_restart(self) -> None:
        self.see(heartbeat(self.ts))
        self.store.close()
        self.open()

    def check(self) -> None:
        broker = self.broker
        activities = broker.activities("A", 0, 10_000)
        check_fold(broker.snapshot("A"), activities, broker.books("A"))
        opened = {o.number for o in broker.orders("A", only_open=True, after=0, limit=1000)}
        resting = self.store.prefix
        at_exchange = broker._exchange.snapshot().decode()  # its own account of what is open
        for order in broker.orders("A", only_open=False, after=0, limit=1000):
            assert (f'"id":"{resting}-{order.number}"' in at_exchange) == (order.number in opened), order


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(STEPS)
def test_after_every_event_books_are_the_fold_of_the_activities(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[object, ...]]
) -> None:
    bench = _Bench(tmp_path_factory.mktemp("bench"))
    try:
        for step in steps:
            bench.do(step)
            bench.check()
    finally:
        bench.store.close()
