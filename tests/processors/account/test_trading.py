"""Targets, sizing, and how orders wait for each other."""

from __future__ import annotations

from decimal import Decimal

import pytest

from processors.account.sizing import shares_of_weight
from processors.fees import fee_model
from schemas import OrderAccepted, OrderChanged, OrderDenied, OrderRequested, Signal, exact
from support.desk import At

SIZES = [
    # weight, equity, buffer, side, price, fee, shares
    ("1", "100000", "0.0025", "buy", "144.78172417", "per-share:0.005:1", "688"),
    ("1", "100000", "0", "buy", "100", "none", "1000"),
    ("1", "100000", "0", "buy", "100", "bps:10", "999"),
    ("0.333333", "100000", "0", "buy", "100", "none", "333"),
    ("-0.5", "100000", "0", "sell", "99.5", "none", "-502"),
    ("0", "100000", "0", "buy", "100", "none", "0"),
    ("1", "-5", "0", "buy", "100", "none", "0"),
]


@pytest.mark.parametrize(("weight", "equity", "buffer", "side", "price", "fee", "shares"), SIZES)
def test_shares_of_a_weight(weight, equity, buffer, side, price, fee, shares) -> None:
    w, e, b, p = (Decimal(x) for x in (weight, equity, buffer, price))
    with exact():
        assert shares_of_weight(w, e, b, side, p, fee_model(fee), 0, False) == Decimal(shares)


def test_fractions_are_millionths() -> None:
    with exact():
        got = shares_of_weight(
            Decimal(1), Decimal(100), Decimal(0), "buy", Decimal(3), fee_model("none"), 0, True
        )
    assert got == Decimal("33.333333")


def quoted(bid="99.98", ask="100", **more) -> At:
    at = At(buffer=Decimal(0), **more)
    at.quote("X", bid, ask)
    return at


def requested(at: At, events) -> list[tuple[str, Decimal]]:
    return [(e.side, e.quantity) for e in at.of(OrderRequested, events)]


def test_buys_at_the_ask_and_sells_at_the_bid() -> None:
    at = quoted("50", "100")
    assert at.accounts.desk.market.symbols["X"].bad
    at = quoted("98", "100")
    assert requested(at, at.target(weight="1")) == [("buy", 1000)]
    at.fill(at.of(OrderRequested)[0].order, 100)
    assert requested(at, at.target(weight="0.49")) == [("sell", 1000 - 490)]


def test_working_orders_on_the_needed_side_leave_the_remainder() -> None:
    at = quoted()
    at.order("buy", 40, order_type="limit", limit="99")
    assert requested(at, at.target(shares=100)) == [("buy", 60)]


def test_working_orders_on_the_other_side_are_cancelled_and_the_newest_target_kept() -> None:
    at = quoted()
    o = at.order("buy", 100, order_type="limit", limit="99")
    at.ack(o)
    assert requested(at, at.target(shares=50)) == []
    assert at.account.orders[o].pending == "cancel"
    at.target(shares=30)
    at.fill(o, 99, 10)
    made = at.cancelled(o)
    assert requested(at, made) == [("buy", 20)]


def test_small_changes_make_no_order_and_a_target_of_zero_always_does() -> None:
    at = quoted()
    at.fill(at.of(OrderRequested, at.target(shares=100))[0].order, 100)
    assert requested(at, at.target(shares="100.5")) == []
    assert requested(at, at.target(shares=101)) == [("buy", 1)]
    at = quoted(min_change=Decimal("0.5"))
    at.fill(at.order("buy", 1), 100)
    assert requested(at, at.target(shares=10)) == []
    assert requested(at, at.target(weight=0)) == [("sell", 1)]


def test_no_price_no_order() -> None:
    at = At()
    assert requested(at, at.target("Z", weight="0.5")) == []
    assert len(at.of(Signal)) == 1


def test_a_signal_seen_before_makes_no_second_order() -> None:
    at = quoted()
    assert requested(at, at.target(shares=10, position=7))
    assert at.target(shares=20, position=7) == []
    assert at.target(shares=20, position=6, ordinal=5) == []
    assert requested(at, at.target(shares=20, position=7, ordinal=1)) == [("buy", 10)]
    assert requested(at, at.target(shares=25, position=7, strategy="other")) == [("buy", 25)]


def test_a_target_is_one_shot() -> None:
    at = quoted(limits={"max_quantity": "10"})
    assert at.of(OrderDenied, at.target(shares=100))
    assert requested(at, at.quote("X", "99.98", "100")) == []


# ------------------------------------------------------------ waiting


def test_crossing_zero_closes_first_and_opens_after_the_close_has_filled() -> None:
    at = quoted()
    at.fill(at.order("buy", 100), 100)
    made = at.target(shares=-50)
    assert requested(at, made) == [("sell", 100), ("sell", 50)]
    assert [e.quantity for e in at.of(OrderAccepted, made)] == [100]
    close = at.of(OrderAccepted, made)[0].order
    assert at.of(OrderAccepted, at.fill(close, "99.98", 60)) == []
    assert [e.quantity for e in at.of(OrderAccepted, at.fill(close, "99.98", 40))] == [50]


@pytest.mark.parametrize("end", ["cancelled", "rejected", "expired"])
def test_the_open_is_dropped_by_name_where_the_close_did_not_fill(end) -> None:
    at = quoted()
    at.fill(at.order("buy", 100), 100)
    close = at.of(OrderAccepted, at.target(shares=-50))[0].order
    made = getattr(at, end)(close)
    assert [c.name for e in at.of(OrderDenied, made) for c in e.checks] == ["crossing-zero"]


def test_an_order_opposite_to_a_working_one_waits_for_its_end() -> None:
    at = quoted()
    buy = at.order("buy", 10, order_type="limit", limit="99", strategy="a")
    sell = at.order("sell", 5, strategy="b")
    assert (at.status(buy), at.status(sell)) == ("accepted", "requested")
    made = at.cancelled(buy)
    assert [e.order for e in at.of(OrderAccepted, made)] == [sell]


def test_a_waiting_order_can_be_cancelled_and_never_goes() -> None:
    at = quoted()
    buy = at.order("buy", 10, order_type="limit", limit="99", strategy="a")
    sell = at.order("sell", 5, strategy="b")
    at.propose("cancel", order=sell, strategy="b")
    assert at.status(sell) == "cancelled"
    assert at.of(OrderAccepted, at.cancelled(buy)) == []


def test_strategies_cancel_and_replace_their_own_orders_only() -> None:
    at = quoted()
    o = at.order("buy", 10, order_type="limit", limit="99", strategy="a")
    at.ack(o)
    at.propose("cancel", order=o, strategy="b")
    assert at.account.orders[o].pending == "none"
    at.propose("replace", order=o, strategy="a", limit="98.5")
    assert at.last(OrderChanged).new_limit == Decimal("98.5")


def test_replace_that_fails_a_check_changes_nothing() -> None:
    at = quoted(limits={"max_quantity": "10"})
    o = at.order("buy", 10, order_type="limit", limit="99", strategy="a")
    at.ack(o)
    at.propose("replace", order=o, strategy="a", quantity=11)
    assert at.account.orders[o].pending == "none"
    assert "quantity 11 against 10" in at.last(OrderChanged).reason


def test_chain_from_signal_to_order() -> None:
    at = quoted()
    made = at.target(shares=10)
    signal, request, accepted = made
    assert signal.trace == f"me:{signal.seq}" == request.cause == request.trace == accepted.trace
    assert accepted.cause == f"me:{request.seq}"
    assert accepted.quote == "market.quotes/0/0"
    assert len(accepted.order) <= 48
