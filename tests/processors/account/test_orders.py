"""The order's life: legal and illegal transitions, FIX's cases, fills that always count."""

from __future__ import annotations

from decimal import Decimal

import pytest

from processors.account.orders import ENDED, FIX, TRANSITIONS, Order
from schemas import Anomaly, BreakerReducing, Fill, OrderAccepted, OrderChanged, PnL
from support.desk import At

TABLE = """
            accept    deny    sending   acknowledge unknown   reject    not_sent  cancel    expire    replace
requested   accepted  denied  -         -           -         -         -         cancelled -         -
accepted    -         -       accepted  working     unknown   rejected  rejected  cancelled expired   working
unknown     -         -       unknown   working     unknown   rejected  rejected  cancelled expired   working
working     -         -       working   working     working   rejected  -         cancelled expired   working
partial     -         -       partial   partial     partial   -         -         cancelled expired   partial
filled      -         -       -         -           -         -         -         -         -         filled
cancelled   -         -       -         -           -         -         -         -         -         -
expired     -         -       -         -           -         -         -         -         -         -
rejected    -         -       -         -           -         -         -         -         -         -
denied      -         -       -         -           -         -         -         -         -         -
"""


def test_every_pair_of_status_and_report() -> None:
    reports, *rows = (line.split() for line in TABLE.strip().splitlines())
    legal = {
        (row[0], report): status
        for row in rows
        for report, status in zip(reports, row[1:], strict=True)
        if status != "-"
    }
    assert legal == TRANSITIONS
    assert {row[0] for row in rows if set(row[1:]) == {"-"}} == ENDED - {"filled"}
    assert {row[0] for row in rows} == set(FIX)


def order(status: str = "working", filled: int = 0, pending: str = "none") -> Order:
    made = Order("o", 1, "s", "X", "buy", Decimal(100), "limit", Decimal(10), None, "day", False, "t")
    made.status, made.filled, made.pending = status, Decimal(filled), pending
    return made


FIX_TABLE = [
    # status, filled, pending, OrdStatus (FIX 4.4, tag 39)
    ("accepted", 0, "none", "A"),
    ("working", 0, "none", "0"),
    ("partial", 10, "none", "1"),
    ("filled", 100, "none", "2"),
    ("cancelled", 10, "none", "4"),
    ("expired", 0, "none", "C"),
    ("rejected", 0, "none", "8"),
    ("working", 0, "cancel", "6"),
    ("partial", 10, "cancel", "6"),
    ("working", 0, "replace", "E"),
    ("partial", 10, "replace", "E"),
    ("filled", 100, "cancel", "6"),
    ("unknown", 0, "none", "A"),
    ("unknown", 10, "none", "1"),
]


@pytest.mark.parametrize(("status", "filled", "pending", "fix"), FIX_TABLE)
def test_fix_status_by_precedence(status, filled, pending, fix) -> None:
    assert order(status, filled, pending).fix == fix


# ------------------------------------------------------------ FIX 4.4, appendix D


def resting(**more) -> tuple[At, str]:
    at = At()
    at.quote("X", 99, "99.02")
    made = at.order("buy", 100, order_type="limit", limit=98, **more)
    at.ack(made)
    return at, made


def test_d1_part_fill_then_fill() -> None:
    at, o = resting()
    at.fill(o, 98, 40)
    assert at.status(o) == "partial"
    at.fill(o, 98, 60)
    assert at.status(o) == "filled"
    assert [c.fix for c in at.of(OrderChanged)] == ["0", "1", "2"]


def test_d4_fill_while_a_cancel_is_pending_belongs_to_the_order_and_wins() -> None:
    at, o = resting()
    at.cancel_order(o)
    assert at.last(OrderChanged).fix == "6"
    at.fill(o, 98, 40)
    assert (at.last(OrderChanged).status, at.last(OrderChanged).fix) == ("partial", "6")
    at.fill(o, 98, 60)
    at.rejected(o, "cancel")
    assert (at.status(o), at.account.orders[o].fix) == ("filled", "2")


def test_refused_cancel_leaves_the_order_working() -> None:
    at, o = resting()
    at.cancel_order(o)
    at.rejected(o, "cancel")
    assert (at.status(o), at.account.orders[o].pending) == ("working", "none")


def test_d5_part_filled_then_cancelled() -> None:
    at, o = resting()
    at.fill(o, 98, 40)
    at.cancel_order(o)
    at.cancelled(o)
    assert (at.status(o), at.account.orders[o].filled, at.account.orders[o].leaves) == ("cancelled", 40, 0)


def test_d6_replace_up_and_fill_during_it_belongs_to_the_original() -> None:
    at, o = resting()
    at.replace_order(o, quantity=150)
    assert at.last(OrderChanged).fix == "E"
    at.fill(o, 98, 40)
    assert at.last(OrderChanged).quantity == 100
    at.replaced(o, 150, 98)
    now = at.account.orders[o]
    assert (now.status, now.quantity, now.filled, now.pending) == ("partial", 150, 40, "none")


def test_d7_filled_while_it_is_to_become_more() -> None:
    """The broker had replaced it before, and says so after the fills."""
    at, o = resting()
    at.replace_order(o, quantity=150)
    at.fill(o, 98, 100)
    assert (at.status(o), at.account.orders[o].pending) == ("partial", "replace")
    at.fill(o, 98, 20)
    at.replaced(o, 150, 98)
    now = at.account.orders[o]
    assert (now.status, now.quantity, now.filled, now.leaves) == ("partial", 150, 120, 30)
    assert (at.of(Anomaly), at.state) == ([], "ACTIVE")
    at.cancel_order(o)
    at.cancelled(o)
    assert at.status(o) == "cancelled"


def test_more_than_a_replacement_asks_for_is_an_overfill() -> None:
    at, o = resting()
    at.replace_order(o, quantity=150)
    at.fill(o, 98, 151)
    assert (at.last(Anomaly).kind, at.state) == ("overfill", "REDUCING")


def test_filled_and_then_its_replacement_is_refused() -> None:
    at, o = resting()
    at.replace_order(o, quantity=150)
    at.fill(o, 98, 100)
    at.rejected(o, "replace")
    now = at.account.orders[o]
    assert (now.status, now.pending, now.leaves, at.of(Anomaly)) == ("filled", "none", 0, [])


def test_filled_beyond_and_then_its_replacement_is_refused() -> None:
    at, o = resting()
    at.replace_order(o, quantity=150)
    at.fill(o, 98, 120)
    at.rejected(o, "replace")
    assert (at.status(o), at.last(Anomaly).kind, at.state) == ("filled", "overfill", "REDUCING")


def test_filled_and_then_told_of_its_replacement() -> None:
    at, o = resting()
    at.replace_order(o, limit=97)
    at.fill(o, 97, 100)
    assert at.status(o) == "filled"
    at.replaced(o, 100, 97)
    now = at.account.orders[o]
    assert (now.status, now.limit, at.of(Anomaly)) == ("filled", 97, [])


def test_d8_replace_to_below_what_is_filled_becomes_what_is_filled() -> None:
    at, o = resting()
    at.fill(o, 98, 60)
    at.replace_order(o, quantity=50)
    at.replaced(o, 50, 98)
    now = at.account.orders[o]
    assert (now.status, now.quantity, now.leaves) == ("filled", 60, 0)


def test_rejected_replace_leaves_the_order_as_it_was() -> None:
    at, o = resting()
    at.replace_order(o, quantity=150, limit=97)
    at.rejected(o, "replace")
    now = at.account.orders[o]
    assert (now.status, now.quantity, now.limit, now.pending) == ("working", 100, 98, "none")


# ------------------------------------------------------------ what should not happen


@pytest.mark.parametrize("end", ["cancelled", "expired", "rejected"])
def test_fill_after_an_end_is_booked_and_reduces(end) -> None:
    at, o = resting()
    getattr(at, end)(o)
    at.fill(o, 98, 40)
    assert at.account.net("X") == 40
    assert at.last(Anomaly).kind == "fill-after-end"
    assert at.last(BreakerReducing).reason == "overfill"
    assert at.status(o) == end
    at.fill(o, 98, 60)
    assert at.status(o) == "filled"
    at.rearm("overfill")
    assert at.state == "ACTIVE"


def test_bust_of_a_fill_after_an_end_opens_nothing() -> None:
    at, o = resting()
    at.cancelled(o)
    at.fill(o, 98, 100, execution="late")
    assert at.status(o) == "filled"
    at.bust("late")
    assert (at.status(o), at.account.orders[o].leaves, at.account.net("X")) == ("cancelled", 0, 0)


def test_overfill_is_booked_and_reduces() -> None:
    at, o = resting()
    at.fill(o, 98, 101)
    assert at.account.net("X") == 101
    assert at.last(Anomaly).kind == "overfill"
    assert at.state == "REDUCING"


def test_illegal_status_changes_nothing_and_is_recorded() -> None:
    at, o = resting()
    at.cancelled(o)
    at.ack(o)
    assert at.status(o) == "cancelled"
    assert at.last(Anomaly).kind == "illegal-transition"


def test_repeat_of_an_execution_is_dropped() -> None:
    at, o = resting()
    at.fill(o, 98, 40, execution="e1")
    assert at.fill(o, 98, 40, execution="e1") == []
    assert at.account.net("X") == 40


def test_repeat_over_another_channel_is_known_by_the_cumulative_quantity() -> None:
    at, o = resting()
    at.fill(o, 98, 40, execution="stream-1", cumulative=40)
    assert at.fill(o, 98, 40, execution="rest-1", cumulative=40) == []
    at.fill(o, 98, 60, execution="rest-2", cumulative=100)
    assert at.account.net("X") == 100


def test_cumulative_quantity_is_rebuilt_after_a_bust() -> None:
    at, o = resting()
    at.fill(o, 98, 40, execution="e1", cumulative=40)
    at.fill(o, 98, 60, execution="e2", cumulative=100)
    at.bust("e2")
    assert (at.status(o), at.account.orders[o].filled) == ("partial", 40)
    at.fill(o, 98, 60, execution="e3", cumulative=100)
    assert (at.status(o), at.account.net("X")) == ("filled", 100)


def test_fill_of_an_unknown_order_of_ours_halts_and_waits() -> None:
    at = At()
    at.outside_fill("buy", 5, 10, order="logid0-me-999")
    assert at.state == "HALTED"
    assert "integrity" in at.account.breaker.halts
    assert at.of(Fill) == []


def test_fill_of_a_stranger_goes_to_the_external_book() -> None:
    at = At()
    at.quote("X", 10, "10.02")
    at.outside_fill("buy", 5, 10)
    assert at.last(Fill).strategy == "external"
    assert at.account.holdings["X"].ledger.books["external"].quantity == 5
    assert at.state == "ACTIVE"


def test_bust_of_an_execution_that_left_the_state_halts() -> None:
    at = At()
    at.bust("long-ago")
    assert at.last(Anomaly).kind == "unknown-execution"
    assert at.state == "HALTED"


def test_closed_orders_and_their_executions_leave_after_some_sessions() -> None:
    at = At()
    o = at.bought(10, 100)
    for _ in range(5):
        at.close()
        at.open()
    assert o not in at.account.orders
    assert at.account.executions == {}
    assert at.account.net("X") == 10


def test_each_fill_is_followed_by_its_profit_and_loss() -> None:
    at, o = resting()
    made = at.fill(o, 98, 40)
    assert [type(e).__name__ for e in made] == ["Fill", "OrderChanged", "PositionChanged", "PnL"]
    assert made[0].trace == at.of(OrderAccepted)[0].trace
    assert made[3].cause == f"me:{made[0].seq}"
    assert isinstance(made[3], PnL)
