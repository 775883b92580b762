"""Orders against quotes and trades as they come."""

from __future__ import annotations

from decimal import Decimal

import pytest

from support.market import at, bar, quote, trade
from support.venue import Venue

T = at("10:00:00")


def ts(seconds: int) -> int:
    return at(f"10:00:{seconds:02d}")


ARRIVALS = """
    # order                      slippage   reports (quote 10.00 / 10.02)
    buy 100 market               0          a bought 100 at 10.02
    sell 100 market              0          a sold 100 at 10
    buy 100 market               10         a bought 100 at 10.03002
    sell 100 market              10         a sold 100 at 9.99
    buy 0.5 market               0          a bought 0.5 at 10.02
    buy 100 limit 10.02          0          a bought 100 at 10.02
    buy 100 limit 10.05          0          a bought 100 at 10.02
    buy 100 limit 10.025         10         a bought 100 at 10.025
    buy 100 limit 10.01          0          -
    sell 100 limit 10.00         0          a sold 100 at 10
    sell 100 limit 10.01         0          -
    buy 100 limit 10.01 ioc      0          cancelled a
    buy 100 limit 10.02 ioc      0          a bought 100 at 10.02
    buy 100 limit 10.01 fok      0          cancelled a
    sell 100 market fok          0          a sold 100 at 10
    buy 100 stop 10.01           0          -
    buy 100 stop_limit 10.01 11  0          -
"""


def arrivals() -> list[tuple[str, str, str]]:
    lines = [line for line in ARRIVALS.splitlines() if line.strip() and "#" not in line]
    return [(line[4:33].strip(), line[33:44].strip(), line[44:].strip()) for line in lines]


@pytest.mark.parametrize(("order", "slippage", "reports"), arrivals())
def test_an_order_meets_the_prevailing_quote(order: str, slippage: str, reports: str) -> None:
    venue = Venue(slippage_bps=Decimal(slippage))
    venue.see(quote(T, "10.00", "10.02"))
    assert venue.order(order) == ["acknowledged a", *([] if reports == "-" else [reports])]


RESTING = """
    # order                  quotes after it          reports
    buy 100 limit 9.98       9.97/9.99                -
    buy 100 limit 9.98       9.97/9.98                a bought 100 at 9.98
    buy 100 limit 9.98       9.90/9.92                a bought 100 at 9.98
    buy 100 limit 9.98       9.99/9.97                -
    buy 100 limit 9.98       -/9.98                   a bought 100 at 9.98
    sell 100 limit 10.05     10.04/10.06              -
    sell 100 limit 10.05     10.05/10.06              a sold 100 at 10.05
    sell 100 limit 10.05     10.05/-                  a sold 100 at 10.05
"""


def resting() -> list[tuple[str, str, str]]:
    lines = [line for line in RESTING.splitlines() if line.strip() and "#" not in line]
    return [(line[4:29].strip(), line[29:54].strip(), line[54:].strip()) for line in lines]


@pytest.mark.parametrize(("order", "then", "reports"), resting())
def test_a_resting_limit_fills_at_its_limit(order: str, then: str, reports: str) -> None:
    venue = Venue(slippage_bps=Decimal(10))
    venue.see(quote(T, "10.00", "10.02"))
    assert venue.order(order) == ["acknowledged a"]
    assert venue.see(quote(ts(1), *then.split("/"))) == ([] if reports == "-" else [reports])


def test_a_market_order_waits_for_a_price() -> None:
    venue = Venue()
    venue.see(quote(T, "10.03", "10.02"))
    assert venue.order("buy 100 market") == ["acknowledged a"]
    assert venue.see(quote(ts(1), "10.00", None)) == []
    assert venue.see(quote(ts(2), "10.00", "10.02")) == ["a bought 100 at 10.02"]


def test_quotes_of_the_past_are_ignored() -> None:
    venue = Venue()
    venue.see(quote(ts(5), "10.00", "10.02"))
    venue.order("buy 100 limit 9.98")
    assert venue.see(quote(ts(4), "9.90", "9.92")) == []
    assert venue.see(quote(ts(6), "9.90", "9.92", backfilled=True)) == []
    assert venue.order("buy 100 market") == ["acknowledged b", "b bought 100 at 10.02"]


def test_each_symbol_has_its_own_quotes() -> None:
    venue = Venue()
    venue.see(quote(T, 10, 11), quote(T, 20, 21, symbol="QQQ"))
    assert venue.order("buy 1 market", symbol="QQQ")[1:] == ["a bought 1 at 21"]


# ---------------------------------------------------------------- displayed size


def test_takers_consume_what_is_displayed_until_the_quote_changes() -> None:
    venue = Venue(size="displayed")
    venue.see(quote(T, "10.00", "10.02", (300, 500)))
    assert venue.order("buy 400 market")[1:] == ["a bought 400 at 10.02"]
    assert venue.order("buy 300 market")[1:] == ["b bought 100 at 10.02"]
    assert venue.order("buy 50 limit 10.02")[1:] == []
    assert venue.order("sell 300 market")[1:] == ["d sold 300 at 10"]
    assert venue.see(quote(ts(1), "10.01", "10.02", (300, 220))) == [
        "b bought 200 at 10.02",
        "c bought 20 at 10.02",
    ]


@pytest.mark.parametrize(
    ("order", "reports"),
    [
        ("buy 500 limit 10.02 fok", ["a bought 500 at 10.02"]),
        ("buy 501 limit 10.02 fok", ["cancelled a"]),
        ("buy 501 market fok", ["cancelled a"]),
        ("buy 501 market ioc", ["a bought 500 at 10.02", "cancelled a"]),
        ("buy 501 limit 10.02 day", ["a bought 500 at 10.02"]),
        ("sell 1 market day", []),
    ],
)
def test_time_in_force_against_displayed_size(order: str, reports: list[str]) -> None:
    venue = Venue(size="displayed")
    venue.see(quote(T, "10.00", "10.02", (None, 500)))
    assert venue.order(order)[1:] == reports


# ---------------------------------------------------------------- stops


def test_trades_set_off_stops_and_quotes_fill_them() -> None:
    venue = Venue(slippage_bps=Decimal(10))
    venue.see(quote(T, "10.00", "10.02"))
    venue.order("buy 100 stop 10.10")
    venue.order("sell 100 stop 9.95")
    assert venue.see(quote(ts(1), "10.10", "10.20")) == []
    assert venue.see(trade(ts(2), "10.09")) == []
    assert venue.see(trade(ts(3), "10.10")) == ["a bought 100 at 10.2102"]
    assert venue.see(quote(ts(4), "9.80", "9.82"), trade(ts(5), "9.95")) == ["b sold 100 at 9.7902"]


def test_quotes_set_off_stops_where_so_chosen() -> None:
    venue = Venue(stop_trigger="quote")
    venue.see(quote(T, "10.00", "10.02"))
    assert venue.order("sell 100 stop 10.00") == ["acknowledged a", "a sold 100 at 10"]
    venue.order("sell 100 stop 9.95")
    assert venue.see(trade(ts(1), "9.90")) == []
    assert venue.see(quote(ts(2), "9.94", "9.99")) == ["b sold 100 at 9.94"]


def test_a_stop_limit_becomes_a_limit() -> None:
    venue = Venue()
    venue.see(quote(T, "10.00", "10.12"))
    venue.order("buy 100 stop_limit 10.10 10.11")
    assert venue.see(trade(ts(1), "10.10")) == []
    assert venue.see(quote(ts(2), "10.05", "10.11")) == ["a bought 100 at 10.11"]


def test_a_marketable_stop_limit_takes_the_quote() -> None:
    venue = Venue()
    venue.see(quote(T, "10.00", "10.12"))
    venue.order("buy 100 stop_limit 10.10 10.15")
    assert venue.see(trade(ts(1), "10.10")) == ["a bought 100 at 10.12"]


def test_a_stop_set_off_without_a_quote_waits_for_one() -> None:
    venue = Venue()
    venue.see(quote(T, "10.00", None))
    venue.order("buy 100 stop 10.10")
    assert venue.see(trade(ts(1), "10.15")) == []
    assert venue.see(quote(ts(2), "10.15", "10.17")) == ["a bought 100 at 10.17"]


# ---------------------------------------------------------------- trades without quotes


def test_the_last_trade_stands_for_both_sides() -> None:
    venue = Venue(slippage_bps=Decimal(10))
    venue.see(trade(T, "10.00"))
    assert venue.order("buy 100 market") == ["acknowledged a"]
    venue.order("buy 100 limit 9.99")
    venue.order("sell 100 stop 9.98")
    assert venue.see(trade(ts(1), "10.00")) == ["a bought 100 at 10.01"]
    assert venue.see(trade(ts(2), "9.99", backfilled=True), trade(ts(0), "9.99")) == []
    assert venue.see(trade(ts(3), "9.99")) == ["b bought 100 at 9.99"]
    assert venue.see(trade(ts(4), "9.90")) == ["c sold 100 at 9.8901"]


def test_immediate_orders_without_quotes_are_for_the_next_trade() -> None:
    venue = Venue()
    venue.see(trade(T, "10.00"))
    venue.order("buy 100 limit 9.99 ioc")
    venue.order("buy 100 limit 10.01 fok")
    assert venue.see(trade(ts(1), "10.00")) == ["cancelled a", "b bought 100 at 10"]


def test_bars_of_a_symbol_with_ticks_fill_nothing() -> None:
    venue = Venue()
    venue.see(quote(T, "10.00", "10.02"))
    venue.order("buy 100 limit 9.98")
    assert venue.see(bar(at("10:02"), "9 9 9 9", asks="9 9 9 9")) == []


@pytest.mark.parametrize(
    "order", ["buy 1 stop 10 ioc", "buy 1 stop_limit 10 11 fok", "sell 1 stop 10 fok"], ids=str
)
def test_a_stop_cannot_be_immediate(order: str) -> None:
    assert Venue().order(order) == ["rejected order a"]
