"""Latency, cancels and replacements, and the races between them and the market."""

from __future__ import annotations

from support.market import SECOND, at, heartbeat, quote, session_closed, session_opened
from support.venue import Venue

T = at("10:00:00")


def slow(**settings) -> Venue:
    """A second of latency, a quote of 10.00 / 10.02 at 10:00:00."""
    venue = Venue(latency=SECOND, **settings)
    venue.see(quote(T, "10.00", "10.02"))
    return venue


# ---------------------------------------------------------------- latency


def test_an_order_meets_the_quote_of_its_arrivals_own_time() -> None:
    venue = slow()
    assert venue.order("buy 100 market") == []
    assert venue.see(heartbeat(T + SECOND - 1)) == []
    assert venue.see(quote(T + SECOND, "11.00", "11.02")) == []
    assert venue.see(heartbeat(T + SECOND + 1)) == ["acknowledged a", "a bought 100 at 11.02"]


def test_a_later_quote_is_not_met() -> None:
    venue = slow()
    venue.order("buy 100 market")
    assert venue.see(quote(T + SECOND + 1, "11.00", "11.02")) == ["acknowledged a", "a bought 100 at 10.02"]


def test_what_arrives_at_the_close_still_meets_it() -> None:
    venue = Venue(latency=SECOND)
    venue.see(session_opened())
    venue.see(quote(at("16:00:00") - SECOND, "10.00", "10.02"))
    venue.order("buy 100 market")
    assert venue.see(session_closed()) == ["acknowledged a", "a bought 100 at 10.02"]


def test_it_meets_the_last_quote_before_its_arrival() -> None:
    venue = slow()
    venue.order("buy 100 market")
    venue.see(quote(T + SECOND - 1, "10.10", "10.12"))
    assert venue.see(heartbeat(T + 2 * SECOND)) == ["acknowledged a", "a bought 100 at 10.12"]
    assert [report.ts for report in venue.reports] == [T + 2 * SECOND] * 2


def test_orders_keep_their_order() -> None:
    venue = slow(size="displayed")
    venue.order("buy 600 market")
    venue.order("buy 600 market")
    assert venue.see(heartbeat(T + SECOND + 1)) == [
        "acknowledged a",
        "a bought 600 at 10.02",
        "acknowledged b",
        "b bought 400 at 10.02",
    ]


# ---------------------------------------------------------------- cancels


def test_a_resting_order_is_cancelled() -> None:
    venue = Venue()
    venue.see(quote(T, "10.00", "10.02"))
    venue.order("buy 100 limit 9.95")
    assert venue.cancel("a") == ["cancelled a"]
    assert venue.see(quote(T + 1, "9.90", "9.91")) == []


def test_an_order_on_its_way_is_taken_back_at_once() -> None:
    venue = slow()
    venue.order("buy 100 market")
    venue.replace("a", 50)
    assert venue.cancel("a") == ["cancelled a"]
    assert venue.see(heartbeat(T + 5 * SECOND)) == []


def test_a_fill_wins_over_a_cancel_on_its_way() -> None:
    venue = slow()
    venue.order("buy 100 limit 9.95")
    venue.see(heartbeat(T + 2 * SECOND))
    assert venue.cancel("a") == []
    assert venue.see(quote(T + 2 * SECOND + 1, "9.90", "9.95")) == ["a bought 100 at 9.95"]
    assert venue.see(heartbeat(T + 4 * SECOND)) == ["rejected cancel a"]


def test_a_fill_wins_over_a_cancel_that_arrives_with_its_quote_and_not_before_a_later_one() -> None:
    for late, said in ((0, ["a bought 100 at 9.95"]), (1, ["cancelled a"])):
        venue = slow()
        venue.order("buy 100 limit 9.95")
        venue.see(heartbeat(T + 2 * SECOND))
        venue.cancel("a")
        assert venue.see(quote(T + 3 * SECOND + late, "9.90", "9.95")) == said


def test_a_cancel_of_what_is_not_open_is_refused() -> None:
    venue = Venue()
    assert venue.cancel("a") == ["rejected cancel a"]
    assert venue.replace("a", 1) == ["rejected replace a"]
    venue.see(quote(T, "10.00", "10.02"))
    venue.order("buy 100 market")
    assert venue.cancel("a") == ["rejected cancel a"]
    assert [r.id for r in venue.reports if hasattr(r, "what")] == ["a/A:1", "a/A:2", "a/A:4"]


def test_a_change_that_repeats_a_pending_request_is_none() -> None:
    venue = slow(size="displayed")
    venue.see(quote(T, "10.00", "10.02", (100, 100)))
    venue.order("buy 300 limit 9.95")
    venue.see(heartbeat(T + 2 * SECOND))
    venue.cancel("a")
    assert venue.see(quote(T + 2 * SECOND + 1, "9.90", "9.95", (100, 100))) == ["a bought 100 at 9.95"]
    assert venue.cancel("a") == []
    assert venue.see(heartbeat(T + 4 * SECOND)) == ["cancelled a"]
    assert venue.cancel("a") == [], "the account repeats itself once more before it knows"


# ---------------------------------------------------------------- replacements


def test_a_replacement_changes_terms_and_then_trades() -> None:
    venue = Venue()
    venue.see(quote(T, "10.00", "10.02"))
    venue.order("buy 100 limit 9.95")
    assert venue.replace("a", 50) == ["replaced a 50 9.95 -"]
    assert venue.answered("a") == []
    assert venue.replace("a", 50, "10.05") == ["replaced a 50 10.05 -", "a bought 50 at 10.02"]


def test_a_replacement_below_what_is_filled_ends_the_order() -> None:
    venue = Venue(size="displayed")
    venue.see(quote(T, "10.00", "10.02", (0, 60)))
    assert venue.order("buy 100 limit 10.02")[1:] == ["a bought 60 at 10.02"]
    assert venue.replace("a", 40) == ["replaced a 60 10.02 -"]
    assert venue.see(quote(T + 1, "10.00", "10.02")) == []
    assert venue.cancel("a") == ["rejected cancel a"]


def test_a_replacement_keeps_the_place_in_the_queue() -> None:
    venue = Venue()
    venue.see(quote(T, "10.00", "10.02"))
    venue.order("buy 100 limit 9.95")
    venue.order("buy 100 limit 9.96")
    venue.replace("a", 100, "9.97")
    assert venue.see(quote(T + 1, "9.90", "9.95")) == ["a bought 100 at 9.97", "b bought 100 at 9.96"]


def test_a_replacement_takes_the_latency_and_a_fill_belongs_to_the_original() -> None:
    venue = slow(size="displayed")
    venue.order("buy 100 limit 9.95")
    venue.see(heartbeat(T + 2 * SECOND))
    assert venue.replace("a", 80, "9.90") == []
    assert venue.see(quote(T + 2 * SECOND + 1, "9.90", "9.95", (0, 60))) == ["a bought 60 at 9.95"]
    assert venue.replace("a", 80, "9.90") == []
    assert venue.see(quote(T + 4 * SECOND, "9.90", "9.95")) == ["replaced a 80 9.9 -"]


def test_a_stop_can_be_moved() -> None:
    venue = Venue(stop_trigger="quote")
    venue.see(quote(T, "10.00", "10.02"))
    venue.order("sell 100 stop 9.90")
    assert venue.replace("a", 100, None, "9.80") == ["replaced a 100 - 9.8"]
    assert venue.see(quote(T + 1, "9.85", "9.87")) == []
    venue.answered("a")
    assert venue.replace("a", 100, None, "9.86") == ["replaced a 100 - 9.86", "a sold 100 at 9.85"]
