"""Risk checks: each with a row that passes and one that fails; what reductions skip; what works counts."""

from __future__ import annotations

from decimal import Decimal

import pytest

from schemas import OrderAccepted, OrderDenied
from support.desk import At

ROWS = [
    # check, limits, passes, fails (order terms)
    ("restricted", {"restricted": ["Y"]}, {}, {"symbol": "Y"}),
    ("tick-size", {"tick_size": "0.01"}, {"limit": "99.01"}, {"limit": "99.015"}),
    ("quantity", {"max_quantity": "100"}, {"quantity": 100}, {"quantity": 101}),
    ("notional", {"max_notional": "9901"}, {"limit": "99.01"}, {"limit": "99.02"}),
    ("collar", {"collar_bps": "100"}, {"limit": "101"}, {"limit": "101.01"}),
    ("position-shares", {"position_shares": "100"}, {"quantity": 100}, {"quantity": 101}),
    ("position-weight", {"position_weight": "0.1"}, {"limit": "100"}, {"limit": "100.01"}),
    ("strategy-shares", {"strategy_shares": "100"}, {"quantity": 100}, {"quantity": 101}),
    ("strategy-weight", {"strategy_weight": "0.1"}, {"limit": "100"}, {"limit": "100.01"}),
    ("gross-exposure", {"gross_exposure": "0.1"}, {"limit": "100"}, {"limit": "100.01"}),
    ("long-exposure", {"long_exposure": "0.1"}, {"limit": "100"}, {"limit": "100.01"}),
    (
        "short-exposure",
        {"short_exposure": "0.103"},
        {"side": "sell", "limit": "100"},
        {"side": "sell", "limit": "104"},
    ),
    ("buying-power", {"gross_exposure": "99"}, {"quantity": 4000}, {"quantity": 4001}),
    ("notional-per-day", {"notional_per_day": "10000"}, {"limit": "100"}, {"limit": "100.01"}),
]


def quoted(**more) -> At:
    at = At(**more)
    at.quote("X", "99.98", "100")
    at.quote("Y", "99.98", "100")
    return at


@pytest.mark.parametrize(("name", "limits", "passes", "fails"), ROWS)
def test_each_check_passes_and_fails(name, limits, passes, fails) -> None:
    basic = {"side": "buy", "quantity": 100, "symbol": "X", "limit": "100"}
    for terms, accepted in ((passes, True), (fails, False)):
        at = quoted(limits=limits)
        made = at.propose("order", order_type="limit", **{**basic, **terms})
        if accepted:
            assert at.of(OrderAccepted, made), at.of(OrderDenied, made)
        else:
            failed = {c.name: c for c in at.of(OrderDenied, made)[0].checks}
            assert name in failed
            assert failed[name].value
            assert failed[name].limit
            assert not failed[name].ok


def denied(at: At, **terms) -> list[str]:
    """The names of the checks that an order fails; empty when it is accepted."""
    made = at.propose("order", **{"side": "buy", "quantity": 10, **terms})
    return [c.name for e in at.of(OrderDenied, made) for c in e.checks]


def test_every_check_that_fails_is_named() -> None:
    at = quoted(
        limits={"max_quantity": "1", "max_notional": "1", "restricted": ["X"], "position_shares": "1"}
    )
    at.halt()
    assert denied(at) == ["breaker", "restricted", "quantity", "notional", "position-shares"]


def test_spread_and_age_and_tier() -> None:
    at = quoted(limits={"max_spread_bps": "50", "max_quote_age_ms": 1000})
    assert denied(at) == []
    at.quote("X", "99", "100")
    assert denied(at) == ["spread"]
    assert denied(at, order_type="limit", limit="100") == []
    at.quote("Y", 10, "10.02")
    at.quote("Y", 10, "10.02")
    assert denied(at) == ["spread", "quote-age"]
    assert denied(at, symbol="Z") == ["price-tier", "quote-age", "gross-exposure", "buying-power"]


def test_a_prior_close_values_but_never_authorises_added_risk() -> None:
    at = At()
    at.bought(10, 100)
    at.close()
    at.open()
    assert at.equity == 100_000 - 10 * Decimal("0.01")
    assert "price-tier" in denied(at)
    assert denied(at, side="sell") == []


def test_what_is_not_known_counts_against_added_risk_only() -> None:
    at = At(limits={"collar_bps": "10"})
    at.outside_fill("buy", 100, 100)
    assert "collar" in denied(at, order_type="limit", limit="100")
    assert denied(at, side="sell", quantity=100) == []


def test_reductions_skip_position_exposure_power_list_and_price_but_not_the_rest() -> None:
    at = quoted()
    at.bought(100, 100)
    at.set_limits(restricted=["X"], position_shares="1", position_weight="0.1", gross_exposure="0.001")
    assert denied(at, side="sell", quantity=100) == []
    at = quoted()
    at.bought(100, 100)
    at.set_limits(max_quantity="5", outside_session="deny")
    at.close()
    assert denied(at, side="sell", quantity=10) == ["session", "quantity"]


def test_an_order_is_no_reduction_where_others_on_its_side_work_already() -> None:
    at = quoted(shorting=False)
    at.bought(100, 100)
    at.order("sell", 60, order_type="stop", stop=90)
    assert denied(at, side="sell", quantity=40, order_type="stop", stop=91) == []
    assert "short-permission" in denied(at, side="sell", quantity=1)


def test_two_halves_cannot_both_pass() -> None:
    at = quoted(limits={"position_shares": "100"})
    assert denied(at, quantity=60, order_type="limit", limit="99") == []
    assert denied(at, quantity=60, order_type="limit", limit="99") == ["position-shares"]


def test_cash_account_spends_what_it_has() -> None:
    at = quoted(cash=10_000, kind="cash", multiplier=1)
    assert denied(at, quantity=100, order_type="limit", limit="99") == []
    assert "buying-power" in denied(at, quantity=2, order_type="limit", limit="99")


def test_opening_shorts_count_at_the_larger_of_limit_and_1_03_x_ask() -> None:
    at = quoted(cash=10_300, multiplier=1)
    assert denied(at, side="sell", quantity=100) == []
    at = quoted(cash=10_299, multiplier=1)
    assert "buying-power" in denied(at, side="sell", quantity=100)


def test_no_shorting() -> None:
    at = quoted(shorting=False)
    assert denied(at, side="sell", quantity=1) == ["short-permission"]


def test_rate_duplicates_and_counts_a_day() -> None:
    at = quoted(limits={"orders_per_second": 2})
    assert [denied(at), denied(at, quantity=11), denied(at, quantity=12)] == [[], [], ["order-rate"]]
    at.quote("X", "99.98", "100")
    assert denied(at) == []
    at = quoted(limits={"duplicate_window_ms": 1000})
    assert [denied(at), denied(at), denied(at, quantity=11)] == [[], ["duplicate"], []]
    at.quote("X", "99.98", "100")
    at.quote("X", "99.98", "100")
    assert denied(at) == []
    at = quoted(limits={"orders_per_day": 1})
    assert [denied(at), denied(at)] == [[], ["orders-per-day"]]
    at.close()
    at.open()
    at.quote("X", "99.98", "100")
    assert denied(at) == []


def test_share_of_average_volume() -> None:
    at = quoted(limits={"max_volume_share": "0.1"})
    assert "volume-share" in denied(at)
    at.trade("X", 100)
    at.close()
    at.open()
    at.quote("X", "99.98", "100")
    assert denied(at, quantity=10) == []
    assert denied(at, quantity=11) == ["volume-share"]


def test_consecutive_broker_errors() -> None:
    at = quoted(limits={"max_broker_errors": 1})
    for _ in range(2):
        at.rejected(at.order("buy", 1))
    assert denied(at) == ["broker-errors"]


def test_trading_halt_refuses_until_it_ends() -> None:
    at = quoted()
    at.halt_trading("X")
    assert denied(at) == ["trading-halt"]
    at.resume_trading("X")
    assert denied(at) == []
