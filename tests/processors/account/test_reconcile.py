"""Reconciliation: what is Drift, what is on its way, and when Rearm is taken again."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from processors.account.reconcile import GRACE, GRACE_SENDING
from schemas import (
    BrokerOrder,
    BrokerPosition,
    BrokerSnapshot,
    CashActivity,
    CommandRefused,
    Drift,
    Filled,
    Unknown,
)
from schemas.reports import MISMATCH
from support.desk import At


def snapshot(at: At, cash: Any, positions: dict[str, Any] | None = None, *orders: BrokerOrder) -> list[Drift]:
    """The Drift that a snapshot leads to."""
    held = tuple(BrokerPosition(symbol=s, quantity=Decimal(q)) for s, q in (positions or {}).items())
    made = at.report(BrokerSnapshot, cash=Decimal(cash), positions=held, orders=orders)
    return at.of(Drift, made)


def order_at_broker(id: str, quantity: Any = 10, filled: Any = 0, side: Any = "buy") -> BrokerOrder:
    return BrokerOrder(order=id, symbol="X", side=side, quantity=Decimal(quantity), filled=Decimal(filled))


@pytest.fixture
def at() -> At:
    at = At(100_000)
    at.quote(bid="9.99", ask=10)
    return at


def bought(at: At, quantity: Any = 10) -> str:
    order = at.order("buy", quantity)
    at.ack(order)
    at.fill(order, 10)
    return order


def test_equal_books_say_nothing(at: At) -> None:
    bought(at)
    assert snapshot(at, 99_900, {"X": 10}) == []
    assert at.state == "ACTIVE"


@pytest.mark.parametrize(
    ("cash", "positions", "said"),
    [
        ("99899.99", {"X": 10}, ("cash", "", "99900", "99899.99")),
        ("99900", {"X": 9}, ("position", "X", "10", "9")),
        ("99900", {}, ("position", "X", "10", "0")),
        ("99900", {"X": 10, "Y": -1}, ("position", "Y", "0", "-1")),
    ],
)
def test_difference_is_drift_at_once_and_halts(at: At, cash: str, positions: Any, said: Any) -> None:
    bought(at)
    (drift,) = snapshot(at, cash, positions)
    assert (drift.what, drift.symbol, drift.ours, drift.theirs) == said
    assert "drift" in at.account.breaker.halts


def test_difference_is_written_once_and_again_when_it_changes(at: At) -> None:
    assert len(snapshot(at, 99_000)) == 1
    assert snapshot(at, 99_000) == []
    at.restart()
    assert snapshot(at, 99_000) == []
    at.deposit(500)
    assert snapshot(at, 99_500) == [], "the same difference, whatever moved on both sides"
    assert len(snapshot(at, 99_400)) == 1


def test_rearm_is_refused_until_a_snapshot_is_equal(at: At) -> None:
    snapshot(at, 99_000)
    (refused,) = at.of(CommandRefused, at.rearm("drift"))
    assert "cash" in refused.reason
    at.withdraw(1_000)
    assert at.of(CommandRefused, at.rearm("drift")), "the last snapshot differs"
    snapshot(at, 99_000)
    assert not at.of(CommandRefused, at.rearm("drift"))
    assert at.state == "ACTIVE"


def test_activities_of_cash_explain_it(at: At) -> None:
    for kind, amount in (("fee", "-1.5"), ("dividend", "3"), ("deposit", "100")):
        at.report(CashActivity, kind=kind, amount=Decimal(amount))
    assert snapshot(at, "100101.5") == []


def test_executions_of_strangers_count(at: At) -> None:
    at.report(
        Filled,
        order="by-hand",
        execution="e-1",
        symbol="X",
        side="buy",
        quantity=Decimal(3),
        price=Decimal(10),
        fee=Decimal(0),
    )
    assert at.book("external") == 3
    assert snapshot(at, 99_970, {"X": 3}, order_at_broker("by-hand-2")) == []


def test_execution_that_waits_for_the_operator_is_no_drift(at: At) -> None:
    at.report(
        Filled,
        order="logid0-me-999",
        execution="e-1",
        symbol="X",
        side="buy",
        quantity=Decimal(3),
        price=Decimal(10),
        fee=Decimal(1),
    )
    assert "integrity" in at.account.breaker.halts
    assert snapshot(at, 99_969, {"X": 3}) == []


def test_open_orders_that_agree(at: At) -> None:
    order = at.order("buy", 10, order_type="limit", limit=9)
    at.ack(order)
    for _ in range(GRACE + 1):
        assert snapshot(at, 100_000, {}, order_at_broker(order)) == []
    at.fill(order, 9, 4)
    for _ in range(GRACE + 1):
        assert snapshot(at, 99_964, {"X": 4}, order_at_broker(order, filled=4)) == []


@pytest.mark.parametrize(
    "there",
    [None, {"quantity": 11}, {"filled": 1}, {"side": "sell"}],
    ids=["missing", "quantity", "filled", "side"],
)
@pytest.mark.parametrize("acknowledged", [True, False])
def test_order_that_differs_is_tolerated_for_a_while(at: At, there: Any, acknowledged: bool) -> None:
    order = at.order("buy", 10, order_type="limit", limit=9)
    if acknowledged:
        at.ack(order)
    orders = () if there is None else (order_at_broker(order, **there),)
    for n in range(1, GRACE if acknowledged else GRACE_SENDING):
        assert snapshot(at, 100_000, {}, *orders) == [], n
        at.restart()
    (drift,) = snapshot(at, 100_000, {}, *orders)
    assert (drift.what, drift.symbol) == ("order", "X")
    assert order in drift.ours
    assert snapshot(at, 100_000, {}, *orders) == []
    assert "drift" in at.account.breaker.halts


def test_order_open_there_and_ended_here(at: At) -> None:
    order = at.order("buy", 10, order_type="limit", limit=9)
    at.ack(order)
    at.cancelled(order)
    there = order_at_broker(order)
    assert [len(snapshot(at, 100_000, {}, there)) for _ in range(GRACE + 1)] == [0, 0, 1, 0]


def test_what_was_on_its_way_and_has_come_is_forgotten(at: At) -> None:
    order = at.order("buy", 10, order_type="limit", limit=9)
    at.ack(order)
    for _ in range(GRACE - 1):
        snapshot(at, 100_000)
    assert snapshot(at, 100_000, {}, order_at_broker(order)) == []
    assert snapshot(at, 100_000) == [], "counted from the beginning again"


def test_snapshots_before_the_order_arrived_do_not_count_once_it_has(at: At) -> None:
    """The end of an order may stand behind the first snapshot without it, as its beginning did."""
    order = at.order("buy", 10, order_type="limit", limit=9)
    for _ in range(GRACE):
        assert snapshot(at, 100_000) == []
    at.ack(order)
    for _ in range(GRACE - 1):
        assert snapshot(at, 100_000) == []
    at.cancelled(order)
    assert snapshot(at, 100_000) == []
    assert "drift" not in at.account.breaker.halts


def test_order_that_stands_with_other_terms_is_drift(at: At) -> None:
    order = at.order("buy", 10, order_type="limit", limit=9)
    made = at.report(Unknown, order=order, reason=MISMATCH, raw="buy 10 X limit limit 9.5")
    (drift,) = at.of(Drift, made)
    assert (drift.what, drift.ours, drift.theirs) == (
        "terms",
        f"{order}: buy 10 X limit limit 9",
        "buy 10 X limit limit 9.5",
    )
    assert "drift" in at.account.breaker.halts


def test_no_answer_is_no_drift(at: At) -> None:
    order = at.order("buy", 10, order_type="limit", limit=9)
    made = at.report(Unknown, order=order, reason="no answer", raw="")
    assert at.of(Drift, made) == []
    assert at.status(order) == "unknown"
