"""What reviews of the account found wrong, one case each."""

from __future__ import annotations

from decimal import Decimal

import pytest

from schemas import Cancelled, CommandRefused, OrderAccepted, OrderDenied, OrderRequested
from support.desk import At, money


def quoted(**m):
    at = At(buffer=Decimal(0), **m)
    at.quote("X", "99.98", "100")
    at.quote("Y", "99.98", "100")
    return at


def denied(at, **t):
    made = at.propose("order", **{"side": "buy", "quantity": 10, **t})
    return [c.name for e in at.of(OrderDenied, made) for c in e.checks]


def loaded(**m):
    at = At(**m)
    at.bought(500, 100)
    return at


def test_denied_close_takes_its_open_along() -> None:
    at = quoted()
    at.fill(at.order("buy", 100), 100)
    at.halt()
    made = at.target(shares=-50)
    assert len(at.of(OrderDenied, made)) == 2
    assert not at.account.open_orders


def test_newest_target_kept_while_cancel_pending() -> None:
    at = quoted()
    o = at.order("buy", 100, order_type="limit", limit=99)
    at.ack(o)
    at.target(shares=50)
    at.target(shares=100)
    made = at.cancelled(o)
    assert [e.quantity for e in at.of(OrderRequested, made)] == [100]


def test_open_waits_for_working_close() -> None:
    at = quoted()
    at.fill(at.order("buy", 100), 100)
    c = at.of(OrderAccepted, at.target(shares=0))[0].order
    assert not at.of(OrderAccepted, at.target(shares=-50))
    assert [e.quantity for e in at.of(OrderAccepted, at.fill(c, 100))] == [50]


def test_trade_print_is_no_second_mark() -> None:
    at = loaded()
    at.quote("X", 50, "50.02")
    at.trade("X", 100)
    assert at.state == "ACTIVE"


def test_flow_and_limits_do_not_confirm_one_bad_quote() -> None:
    at = loaded()
    at.quote("X", 50, "50.02")
    at.deposit(1)
    at.set_limits()
    assert at.state == "ACTIVE"


def test_fill_elsewhere_does_not_confirm_either() -> None:
    at = loaded()
    at.quote("Y", 10, "10.02")
    at.quote("X", 50, "50.02")
    at.outside_fill("buy", 1, 10, symbol="Y")
    assert at.state == "ACTIVE"


def test_one_high_quote_is_no_peak() -> None:
    at = loaded(limits={"day_loss": None, "drawdown": "0.1"})
    at.quote("X", 200, "200.02")
    at.quote("X", 100, "100.02")
    at.quote("X", 100, "100.02")
    assert at.state == "ACTIVE"


def test_bad_quote_falls_to_prior_close() -> None:
    at = loaded()
    at.close()
    at.open()
    at.quote("X", 101, "101.02")
    at.quote("X", 101, 100)
    h = at.account.holdings["X"]
    assert (h.mark, h.tier) == (money("99.99"), "close")


def test_withdrawn_only_price_is_unpriced() -> None:
    at = At()
    at.trade("X", 100, id="t")
    at.fill(at.order("buy", 10), 100)
    at.withdraw_trade("t")
    assert at.equity is None
    assert at.state == "REDUCING"


def test_baseline_found_when_unknown_at_close() -> None:
    at = At()
    at.outside_fill("buy", 10, 100, symbol="Z")
    at.close()
    at.open()
    at.quote("Z", 100, "100.02")
    assert at.account.baseline == 100_000


def test_stale_again_after_clearing() -> None:
    at = loaded()
    at.wait(60)
    assert at.state == "REDUCING"
    at.quote("X", 100, "100.02")
    assert at.state == "ACTIVE"
    at.quote("Y", 1, "1.01", at=300)
    assert at.state == "REDUCING"


def test_rearm_of_the_halt_keeps_reducing() -> None:
    at = loaded()
    for _ in range(2):
        at.quote("X", 90, "90.02")
    for _ in range(2):
        at.quote("X", 91, "91.02")
    at.rearm("day-loss")
    assert at.state == "REDUCING"


def test_market_order_with_a_limit_is_refused() -> None:
    assert "order-terms" in denied(quoted(), limit=1)
    assert "order-terms" in denied(quoted(), order_type="limit")


def test_whole_shares() -> None:
    assert denied(quoted(), quantity="1.5") == ["fractions"]
    assert denied(quoted(fractions=True), quantity="1.5") == []


def test_reductions_do_not_skip_pace() -> None:
    at = quoted()
    at.bought(100, 100)
    at.set_limits(orders_per_day=1)
    assert denied(at, side="sell") == ["orders-per-day"]


def test_repeats() -> None:
    at = quoted()
    o = at.order("buy", 100)
    at.fill(o, 100, 60, execution="e2", cumulative=100)
    assert at.fill(o, 100, 60, execution="rest", cumulative=100) == []
    at.fill(o, 100, 40, execution="e1", cumulative=40)
    assert at.account.net("X") == 100
    at.bust("e1")
    assert at.bust("e1") == []
    assert at.fill(o, 100, 40, execution="e1") == []
    a = at.cash_activity("interest", 5)
    at.count -= 1
    assert a
    assert at.cash_activity("interest", 5) == []
    assert at.state == "ACTIVE"


def test_stranger_status_does_not_halt() -> None:
    at = At()
    assert at.report(Cancelled, order="other") == []
    assert at.state == "ACTIVE"


def test_held_back_fill_is_booked_at_rearm() -> None:
    at = quoted()
    at.outside_fill("buy", 5, 10, order="logid0-me-999")
    at.rearm("integrity")
    assert at.book("external") == 5
    assert at.state == "ACTIVE"


def test_held_back_fill_that_is_busted_or_corrected_is_booked_as_it_is_now() -> None:
    at = quoted()
    at.outside_fill("buy", 5, 10, order="logid0-me-998", execution="gone")
    at.outside_fill("buy", 5, 10, order="logid0-me-999", execution="other")
    at.bust("gone")
    at.correct("other", 4, 11)
    at.rearm("integrity")
    assert (at.book("external"), at.account.cash) == (4, 100_000 - 44)


@pytest.mark.parametrize(("num", "den"), [(2, 3), (3, 7), (7, 3)])
def test_split_parts_add_up(num, den) -> None:
    at = quoted()
    for s in "st":
        at.fill(at.order("buy", 10, strategy=s), 100)
    before = at.equity
    at.split(num=num, den=den)
    assert abs(at.equity - before) < Decimal("1e-12")
    assert at.book("s") + at.book("t") == at.account.net("X") == int(20 * num / den)


def test_waiting_order_scales_prices() -> None:
    at = quoted()
    at.order("sell", 5, order_type="limit", limit=101, strategy="a")
    o = at.order("buy", 10, order_type="limit", limit=98, strategy="b")
    at.split(num=7)
    assert (at.account.orders[o].quantity, at.account.orders[o].limit) == (70, 14)


def test_flatten_evens_flat_net() -> None:
    at = quoted()
    at.bought(10, 100, strategy="s")
    at.fill(at.order("sell", 10, strategy="t"), 100)
    at.flatten()
    assert at.book("s") == at.book("t") == 0


def test_operator_replace_that_fails_is_refused() -> None:
    at = quoted(limits={"max_quantity": "10"})
    o = at.order("buy", 10, order_type="limit", limit=99)
    at.ack(o)
    assert type(at.replace_order(o, quantity=11)[0]) is CommandRefused


def test_cash_account_reserves_fees() -> None:
    at = quoted(cash=10_000, kind="cash", multiplier=1, fee="per-share:0:1")
    assert denied(at, quantity=50, order_type="limit", limit="99.98") == []
    assert "buying-power" in denied(at, quantity=50, order_type="limit", limit="99.99")


def test_inside_causes_are_identities() -> None:
    at = At()
    at.outside_fill("buy", 10, 100, symbol="Z")
    assert not [e for e in at.all if e.cause.endswith("/-1")]
