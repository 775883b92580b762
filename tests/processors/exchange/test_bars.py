"""Orders on bars: with the quote of their close (minute files), and without quotes (daily files)."""

from __future__ import annotations

from decimal import Decimal

from support.market import DAY, HOUR, at, bar, quote, session_closed, session_opened
from support.venue import Venue

FIRST = at("09:31")
SECOND = at("09:32")
THIRD = at("09:33")


def minute(ts: int, bids: str, asks: str) -> list:
    """A bar of bids and asks, and before it the quote of its close."""
    close = (bids.split()[3], asks.split()[3])
    return [quote(ts, *close, (100, 100), bar=True), bar(ts, "-", bids=bids, asks=asks)]


def after_one_bar(**settings) -> Venue:
    venue = Venue(**settings)
    venue.see(*minute(FIRST, "10 10.1 9.9 10.00", "10.02 10.12 9.92 10.02"))
    return venue


# ---------------------------------------------------------------- bars with quotes


def test_an_arrival_fills_on_the_closing_quote_in_full() -> None:
    venue = after_one_bar()
    assert venue.order("buy 500 market")[1:] == ["a bought 500 at 10.02"]
    assert venue.order("sell 500 limit 9.99")[1:] == ["b sold 500 at 10"]


def test_displayed_size_limits_arrivals_and_the_rest_fills_at_the_next_open() -> None:
    venue = after_one_bar(size="displayed")
    assert venue.order("buy 150 market")[1:] == ["a bought 100 at 10.02"]
    assert venue.see(*minute(SECOND, "10 10 10 10", "10.05 10.1 10 10.02")) == ["a bought 50 at 10.05"]


def test_a_resting_limit_waits_for_the_bar_and_must_be_gone_through() -> None:
    venue = after_one_bar()
    venue.order("buy 100 limit 9.95")
    touched, through = minute(SECOND, "9.9 10 9.9 9.94", "9.97 10 9.95 9.96"), "9.97 10 9.94 9.96"
    assert venue.see(*touched) == []
    assert venue.see(quote(THIRD, "9.90", "9.91", bar=True)) == []
    assert venue.see(bar(THIRD, bids="9.9 10 9.9 9.94", asks=through)) == ["a bought 100 at 9.95"]


def test_a_bar_that_had_begun_before_the_arrival_fills_nothing() -> None:
    venue = after_one_bar(latency=1)
    venue.order("buy 100 limit 9.95")
    venue.order("buy 100 limit 9.95")
    low = "9.9 9.9 9.8 9.9"
    assert venue.see(*minute(SECOND, low, low)) == ["acknowledged a", "acknowledged b"]
    assert venue.see(*minute(THIRD, low, low)) == ["a bought 100 at 9.9", "b bought 100 at 9.9"]


def test_a_limit_replaced_within_a_bar_waits_for_the_next() -> None:
    venue = after_one_bar(latency=1)
    venue.order("buy 100 limit 9.50")
    venue.see(*minute(SECOND, "10 10 10 10", "10.02 10.02 10.02 10.02"))
    venue.replace("a", None, "9.95")
    low = "10 10 9.90 10"
    assert venue.see(*minute(THIRD, low, low)) == ["replaced a 100 9.95 -"]
    assert venue.see(*minute(at("09:34"), low, low)) == ["a bought 100 at 9.95"]


def test_market_orders_then_stops_then_limits() -> None:
    venue = after_one_bar(size="displayed")
    venue.order("sell 100 limit 10.20", strategy="other")
    venue.order("sell 100 limit 10.15", strategy="third")
    venue.order("sell 100 stop 9.90")
    venue.order("buy 150 market")
    wide = "10 10.30 9.80 10"
    assert venue.see(*minute(SECOND, wide, wide)) == [
        "d bought 50 at 10",
        "c sold 100 at 9.9",
        "a sold 100 at 10.2",
        "b sold 100 at 10.15",
    ]


def test_a_target_waits_when_the_stop_of_its_strategy_has_filled() -> None:
    venue = after_one_bar()
    venue.order("sell 100 limit 10.20")
    venue.order("sell 100 stop 9.90")
    wide = "10 10.30 9.80 10"
    assert venue.see(*minute(SECOND, wide, wide)) == ["b sold 100 at 9.9"]
    assert venue.cancel("a") == ["cancelled a"]


def test_a_stop_fills_at_the_worse_of_stop_and_open_with_slippage() -> None:
    venue = after_one_bar(slippage_bps=Decimal(10))
    venue.order("sell 100 stop 9.90")
    venue.order("buy 100 stop 10.50")
    assert venue.see(bar(SECOND, "9.80 10 9.70 10")) == ["a sold 100 at 9.7902"]
    assert venue.see(bar(THIRD, "10 10.60 10 10")) == ["b bought 100 at 10.5105"]


def test_a_stop_limit_fills_within_its_limit_or_rests_from_the_next_bar_on() -> None:
    venue = after_one_bar()
    venue.order("buy 100 stop_limit 10.50 10.55")
    venue.order("buy 100 stop_limit 10.60 10.61")
    assert venue.see(bar(SECOND, "10 10.52 10 10.5")) == ["a bought 100 at 10.5"]
    assert venue.see(bar(THIRD, "10.70 10.80 10.50 10.7")) == []
    assert venue.see(bar(at("09:34"), "10.70 10.80 10.60 10.7")) == ["b bought 100 at 10.61"]


def test_an_order_from_before_the_open_fills_at_the_first_bar() -> None:
    venue = Venue(opened=False)
    venue.see(quote(at("16:00", -1), 9, 9, bar=True))
    assert venue.order("buy 100 market") == ["acknowledged a"]
    venue.see(session_opened())
    assert venue.see(*minute(FIRST, "10 10.1 9.9 10", "10.02 10.12 9.92 10.03")) == ["a bought 100 at 10.02"]


def test_bars_before_the_open_fill_no_regular_order() -> None:
    venue = Venue(opened=False)
    venue.order("buy 100 market")
    assert venue.see(bar(at("09:15"), "9 9 9 9"), session_opened()) == []
    across = bar(at("10:00"), "9 9 9 9", period=HOUR)
    assert venue.see(across) == []
    assert venue.see(bar(at("10:30"), "9 9 9 9", period=HOUR // 2)) == ["a bought 100 at 9"]


# ---------------------------------------------------------------- daily bars without quotes


def day(number: int, trades: str, period: int = DAY) -> list:
    opened = session_opened(number)
    return [opened, bar(opened.close, trades, period=period)]


def test_an_order_decided_on_a_daily_bar_fills_at_the_next_open() -> None:
    venue = Venue(opened=False)
    venue.see(*day(0, "9 11 8 10"))
    venue.order("buy 100 market")
    venue.order("buy 100 limit 9.50")
    venue.order("sell 100 stop 9")
    assert venue.see(session_closed(0)) == []
    assert venue.see(*day(1, "10.10 10.50 9.40 10.20")) == ["a bought 100 at 10.1", "b bought 100 at 9.5"]
    assert venue.see(session_closed(1)) == ["expired c"]


def test_a_daily_bar_begins_at_its_open_whatever_its_period() -> None:
    for period in (DAY, 6 * HOUR + HOUR // 2, 7 * DAY):
        venue = Venue(opened=False)
        venue.see(*day(0, "9 11 8 10", period))
        venue.order("buy 100 market")
        venue.see(session_closed(0), session_opened(1, close="13:00"))
        assert venue.see(bar(at("13:00", 1), "10.10 10.50 9.40 10.20", period=period)) == [
            "a bought 100 at 10.1"
        ]


def test_immediate_orders_are_for_the_open_of_the_next_bar() -> None:
    venue = Venue(opened=False)
    venue.see(*day(0, "9 11 8 10"))
    venue.order("buy 100 limit 10.05 ioc")
    venue.order("buy 100 limit 10.15 fok")
    assert venue.see(session_closed(0), *day(1, "10.10 10.50 9.40 10.20")) == [
        "cancelled a",
        "b bought 100 at 10.1",
    ]


def test_a_bar_without_trades_leaves_orders_waiting() -> None:
    venue = Venue()
    venue.order("buy 100 market")
    venue.order("buy 100 market ioc")
    assert venue.see(bar(FIRST)) == []
    assert venue.see(bar(SECOND, "10 10 10 10", backfilled=True)) == []
    assert venue.see(bar(SECOND, "10 10 10 10"))[0] == "a bought 100 at 10"
