"""The circuit breaker: when it trips, what stays possible, and what clears it."""

from __future__ import annotations

import pytest

from processors.account.processor import Accounts
from schemas import (
    BreakerCleared,
    BreakerHalted,
    BreakerReducing,
    CommandRefused,
    InternalTransfer,
    LimitBreached,
    OrderAccepted,
    OrderChanged,
    OrderDenied,
    OrderRequested,
)
from support.desk import At


def loaded(**more) -> At:
    """100,000 in cash, 500 shares at 100: a mark of 90 is a loss of exactly 5 %."""
    at = At(**more)
    at.bought(500, 100)
    return at


def falls_to(at: At, bid, times: int = 2) -> None:
    for _ in range(times):
        at.quote("X", bid, float(bid) + 0.02)


def test_loss_of_exactly_five_percent_halts_once() -> None:
    at = loaded()
    falls_to(at, "90.00")
    assert at.state == "HALTED"
    breached, halted = at.of(LimitBreached), at.of(BreakerHalted)
    assert [(b.limit, b.value, b.threshold) for b in breached if b.limit == "day-loss"] == [
        ("day-loss", -5000, -5000)
    ]
    assert [(h.reason, h.ordinal, h.session) for h in halted] == [("day-loss", 1, "2013-10-07")]
    assert breached[-1].evidence[0].price == 90
    falls_to(at, 80, 5)
    assert len(at.of(BreakerHalted)) == 1


def test_one_cent_less_does_not_halt_but_reduces() -> None:
    at = loaded(cash="100000.01")
    falls_to(at, "90.00", 5)
    assert at.state == "REDUCING"
    assert at.of(BreakerHalted) == []


def test_one_bad_quote_does_not_trip_and_two_good_ones_do() -> None:
    at = loaded()
    falls_to(at, 50, 1)
    assert at.state == "ACTIVE"
    falls_to(at, 100, 1)
    falls_to(at, 50, 1)
    assert at.state == "ACTIVE"
    falls_to(at, 60, 1)
    assert at.state == "HALTED"


@pytest.mark.parametrize(("bid", "ask"), [(50, 49), (0, 50), (50, 60), (None, 50), (50, None)])
def test_quotes_that_are_not_valid_never_trip(bid, ask) -> None:
    at = loaded()
    for _ in range(4):
        at.quote("X", bid, ask)
    assert at.state in ("ACTIVE", "REDUCING")
    assert at.of(BreakerHalted) == []


def test_a_loss_seen_on_a_fill_counts_at_once() -> None:
    at = loaded()
    at.fill(at.order("sell", 500), 90)
    assert at.state == "HALTED"


def test_a_bar_counts_at_once_where_a_symbol_has_no_quotes() -> None:
    at = At()
    at.bar("X", 100)
    at.fill(at.order("buy", 500), 100)
    at.bar("X", 90)
    assert at.state == "HALTED"


def test_two_symbols_need_two_marks_of_the_one_that_fell() -> None:
    at = At()
    at.bought(250, 100, "X")
    at.bought(250, 100, "Y")
    at.quote("X", 60, "60.02")
    at.quote("Y", 100, "100.02")
    at.quote("Y", 100, "100.02")
    assert at.state == "ACTIVE"
    at.quote("X", 60, "60.02")
    assert at.state == "HALTED"


def test_recovery_of_the_price_clears_nothing() -> None:
    at = loaded()
    falls_to(at, 90)
    falls_to(at, 120, 10)
    assert at.state == "HALTED"


def test_it_survives_a_restart() -> None:
    at = loaded()
    falls_to(at, 90)
    kept = at.accounts.snapshot()
    at.accounts = Accounts(at.settings)
    at.accounts.restore(kept)
    assert at.state == "HALTED"
    falls_to(at, 80, 3)
    assert len(at.of(BreakerHalted)) == 1
    at.target(weight=1)
    assert at.last(OrderDenied).checks[0].name == "breaker"


# ------------------------------------------------------------ what a trip does


def test_a_trip_cancels_what_could_grow_and_keeps_protective_stops() -> None:
    at = loaded()
    stop = at.order("sell", 500, order_type="stop", stop=85)
    at.ack(stop)
    falls_to(at, 90)
    assert at.state == "HALTED"
    assert at.account.orders[stop].pending == "none"
    assert at.of(OrderChanged)[-1].order == stop


def test_a_trip_cancels_buys_and_targets_beyond_the_position() -> None:
    at = At()
    at.bought(500, 100)
    buy = at.order("buy", 10, order_type="limit", limit=80)
    at.ack(buy)
    falls_to(at, 90)
    assert at.account.orders[buy].pending == "cancel"


def test_of_orders_that_reduce_together_too_much_stops_are_kept_first() -> None:
    at = loaded()
    take = at.order("sell", 400, order_type="limit", limit=120)
    stop = at.order("sell", 100, order_type="stop", stop=85)
    at.outside_fill("sell", 200, 100)
    falls_to(at, 83)
    assert at.state == "HALTED"
    assert at.account.orders[stop].pending == "none"
    assert at.account.orders[take].pending == "cancel"


def test_after_a_trip_strategies_are_refused_reductions_too() -> None:
    at = loaded()
    falls_to(at, 90)
    for shares in (0, 600):
        at.target(shares=shares)
        assert at.last(OrderDenied).checks[0].name == "breaker"
    assert at.of(OrderRequested)[-1].order == at.last(OrderDenied).order


def test_an_order_that_raced_the_trip_does_not_get_through() -> None:
    """The strategy decides on the very quote that trips: the account has seen that quote first."""
    at = loaded()
    falls_to(at, 90)
    made = at.target(shares=700)
    assert at.of(OrderAccepted, made) == []
    assert len(at.of(OrderDenied, made)) == 1


def test_operator_may_reduce_and_flatten_but_not_add() -> None:
    at = loaded()
    falls_to(at, 90)
    assert at.of(OrderAccepted, at.place("sell", 100))
    assert at.of(OrderDenied, at.place("buy", 100, "Y"))
    at.fill(at.of(OrderRequested)[-2].order, 90)
    made = at.flatten()
    order = at.of(OrderAccepted, made)[0]
    assert (order.side, order.quantity) == ("sell", 400)
    at.fill(order.order, 90)
    assert at.account.net("X") == 0
    assert at.account.holdings["X"].ledger.books["s"].quantity == 0
    assert {t.giver for t in at.of(InternalTransfer)} == {"s"}


def test_operators_flatten_is_free_of_quantity_notional_collar_and_age() -> None:
    at = loaded()
    at.set_limits(max_quantity="1", max_notional="1", max_quote_age_ms=1, collar_bps="1")
    falls_to(at, 90)
    assert at.of(OrderAccepted, at.flatten())


def test_flatten_waits_for_the_open_and_for_the_end_of_a_trading_halt() -> None:
    at = loaded()
    at.close()
    assert at.of(OrderAccepted, at.flatten()) == []
    assert len(at.of(OrderAccepted, at.open())) == 1
    other = loaded()
    other.halt_trading()
    assert other.of(OrderAccepted, other.flatten()) == []
    assert len(other.of(OrderAccepted, other.resume_trading())) == 1


def test_on_trip_flatten() -> None:
    at = loaded(limits={"on_trip": "flatten"})
    falls_to(at, 90)
    assert at.of(OrderAccepted)[-1].side == "sell"
    at.fill(at.of(OrderAccepted)[-1].order, 89)
    assert at.account.net("X") == 0


def test_flatten_waits_for_the_cancels_it_asked_for() -> None:
    at = loaded()
    stop = at.order("sell", 500, order_type="stop", stop=85)
    at.ack(stop)
    assert at.of(OrderAccepted, at.flatten()) == []
    assert len(at.of(OrderAccepted, at.cancelled(stop))) == 1


# ------------------------------------------------------------ reasons, each on its own


def test_reducing_at_four_percent_until_the_session_ends() -> None:
    at = loaded()
    falls_to(at, 92)
    assert at.state == "REDUCING"
    falls_to(at, 99, 3)
    assert at.state == "REDUCING"
    assert at.of(OrderDenied, at.target(shares=600))
    assert at.of(OrderAccepted, at.target(shares=400))
    at.close()
    assert at.state == "ACTIVE"
    assert at.last(BreakerCleared).reason == "day-loss"


def test_day_loss_rearms_next_session_only_if_set() -> None:
    for set_, state in ((True, "ACTIVE"), (False, "HALTED")):
        at = loaded(limits={"rearm_next_session": set_})
        falls_to(at, 90)
        at.close()
        assert at.state == "HALTED"
        at.open()
        assert at.state == state


def test_rearm_is_refused_while_the_condition_holds_unless_with_a_new_limit() -> None:
    at = loaded()
    falls_to(at, 90)
    at.rearm("day-loss")
    assert "still holds" in at.last(CommandRefused).reason
    at.rearm("day-loss", day_loss="0.2", day_loss_reduce="0.19")
    assert at.state == "ACTIVE"
    falls_to(at, 55)
    assert [h.ordinal for h in at.of(BreakerHalted)] == [1, 2]


def test_reasons_are_a_set_and_each_is_cleared_on_its_own() -> None:
    at = loaded()
    falls_to(at, 90)
    at.halt()
    assert set(at.account.breaker.halts) == {"day-loss", "operator"}
    at.rearm("operator")
    assert at.state == "HALTED"
    at.rearm("operator")
    assert "no reason operator stands" in at.last(CommandRefused).reason


def test_absolute_loss_and_drawdown() -> None:
    at = loaded(limits={"day_loss": None, "absolute_loss": "1000"})
    falls_to(at, "98.01", 3)
    assert at.state == "ACTIVE"
    falls_to(at, "98.00")
    assert at.last(BreakerHalted).reason == "absolute-loss"
    at = loaded(limits={"day_loss": None, "drawdown": "0.1"})
    falls_to(at, 120)
    falls_to(at, "98.01")
    assert at.state == "ACTIVE"
    falls_to(at, "98.00")
    assert at.last(BreakerHalted).reason == "drawdown"


def test_flows_are_no_profit_and_scale_the_peak() -> None:
    at = loaded(limits={"day_loss": "0.05", "drawdown": "0.5"})
    at.withdraw(40_000)
    falls_to(at, "99.99", 3)
    assert at.state == "ACTIVE"
    peak, equity = at.account.peak, at.equity
    at.deposit(60_000)
    assert at.account.peak == pytest.approx(peak * (equity + 60_000) / equity)
    assert at.account.day == -5


def test_baseline_that_is_not_positive_halts() -> None:
    at = At(cash=0)
    assert at.last(BreakerHalted).reason == "integrity"


def test_baseline_is_equity_at_the_last_regular_close() -> None:
    at = loaded()
    falls_to(at, 98)
    at.close()
    at.open()
    assert at.account.baseline == 100_000 - 1000
    falls_to(at, "88.11", 3)
    assert at.state == "REDUCING"
    falls_to(at, "88.10", 2)
    assert at.state == "HALTED"


# ------------------------------------------------------------ staleness


def test_stale_reduces_in_session_and_clears_itself() -> None:
    at = loaded()
    at.quote("Y", 10, "10.02", at=59)
    assert at.state == "ACTIVE"
    at.quote("Y", 10, "10.02", at=100)
    assert at.last(BreakerReducing).reason == "stale"
    at.quote("X", 100, "100.02")
    assert at.state == "ACTIVE"


def test_stale_counts_from_the_open_and_never_out_of_session() -> None:
    at = loaded()
    at.close()
    at.quote("Y", 10, "10.02", at=-3600)
    assert at.state == "ACTIVE"
    at.open()
    at.quote("Y", 10, "10.02", at=59)
    assert at.state == "ACTIVE"
    at.quote("Y", 10, "10.02", at=60)
    assert at.state == "REDUCING"


def test_unpriced_position_makes_equity_unknown_and_reduces() -> None:
    at = At()
    at.outside_fill("buy", 10, 100, symbol="Z")
    at.quote("X", 10, "10.02")
    assert at.equity is None
    assert at.account.unpriced == ("Z",)
    assert at.state == "REDUCING"
    at.quote("Z", 100, "100.02")
    assert (at.equity, at.state) == (100_000, "ACTIVE")
