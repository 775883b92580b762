"""Sessions, extended hours, halts, expiry, splits."""

from __future__ import annotations

from decimal import Decimal

import pytest

from support.market import at, halt, heartbeat, quote, resume, session_closed, session_opened, split, trade
from support.venue import Venue

T = at("10:00")


def test_nothing_fills_before_the_first_session() -> None:
    venue = Venue(opened=False)
    venue.see(quote(at("09:00"), "10.00", "10.02"))
    assert venue.order("buy 100 market") == ["acknowledged a"]
    assert venue.order("buy 100 limit 11 ioc") == ["acknowledged b", "cancelled b"]
    assert venue.order("buy 100 limit 11 extended") == ["acknowledged c"]
    assert venue.see(quote(at("09:29"), "10.00", "10.02"), session_opened()) == []
    assert venue.see(quote(at("09:30"), "10.01", "10.03")) == ["a bought 100 at 10.03", "c bought 100 at 11"]


def test_a_quote_of_the_day_before_fills_nothing() -> None:
    venue = Venue()
    venue.see(quote(T, "10.00", "10.02"), session_closed(), session_opened(1))
    assert venue.order("buy 100 market") == ["acknowledged a"]
    assert venue.see(quote(at("09:30:01", 1), "10.00", "10.02")) == ["a bought 100 at 10.02"]


def test_a_quote_at_the_close_still_fills() -> None:
    venue = Venue()
    venue.order("buy 100 market")
    assert venue.see(quote(at("16:00"), "10.00", "10.02")) == ["a bought 100 at 10.02"]


def test_trades_out_of_session_fill_nothing() -> None:
    venue = Venue()
    venue.order("buy 100 limit 10 gtc")
    assert venue.see(session_closed(), trade(at("17:00"), "9.00")) == []


def test_a_feed_that_forgets_to_close_does_not_prolong_the_session() -> None:
    venue = Venue()
    venue.order("buy 100 market")
    assert venue.see(quote(at("16:00:01"), "10.00", "10.02")) == []


# ---------------------------------------------------------------- expiry


EXPIRY = """
    # order                          arrives      expires
    buy 1 limit 9 day                10:00        at the close
    buy 1 limit 9 gtc                10:00        never
    buy 1 limit 9 day extended       10:00        after 20:00
    buy 1 limit 9 gtc extended       10:00        never
    buy 1 stop 99 day                10:00        at the close
    buy 1 limit 9 day                17:00        at the next close
    buy 1 limit 9 day extended       17:00        after 20:00
    buy 1 limit 9 day extended       21:00        after 20:00 of the next day
"""


def expiry() -> list[tuple[str, str, str]]:
    lines = [line for line in EXPIRY.splitlines() if line.strip() and "#" not in line]
    return [(line[4:37].strip(), line[37:50].strip(), line[50:].strip()) for line in lines]


@pytest.mark.parametrize(("order", "arrives", "expires"), expiry())
def test_expiry(order: str, arrives: str, expires: str) -> None:
    venue = Venue()
    moments = [
        ("", quote(T, 10, 11)),
        ("at the close", session_closed()),
        ("", heartbeat(at("17:00"))),
        ("", heartbeat(at("20:00"))),
        ("after 20:00", heartbeat(at("20:00:01"))),
        ("", heartbeat(at("21:00"))),
        ("", session_opened(1)),
        ("at the next close", session_closed(1)),
        ("after 20:00 of the next day", heartbeat(at("20:00:01", 1))),
    ]
    expired = "never"
    for moment, event in moments:
        if "expired a" in venue.see(event):
            expired = moment
        if event.ts == at(arrives) and not venue.orders:
            assert venue.order(order) == ["acknowledged a"]
    assert expired == expires


def test_what_is_left_of_a_session_that_never_closed_expires_at_the_next_open() -> None:
    venue = Venue()
    venue.order("buy 100 market")
    venue.order("buy 100 limit 9 extended")
    assert venue.see(session_opened(1)) == ["expired b", "expired a"]


def test_an_expiry_is_caused_by_what_moved_time() -> None:
    venue = Venue()
    venue.order("buy 1 limit 9")
    venue.see(session_closed())
    assert venue.reports[-1].cause == "market.status/0/1"


# ---------------------------------------------------------------- extended hours


def test_extended_limits_trade_from_four_to_eight() -> None:
    venue = Venue()
    venue.see(quote(T, "10.00", "10.03"), session_closed())
    assert venue.order("buy 100 limit 10.02 gtc extended") == ["acknowledged a"]
    assert venue.order("buy 100 limit 10.02 gtc") == ["acknowledged b"]
    assert venue.see(quote(at("19:59"), "10.00", "10.02")) == ["a bought 100 at 10.02"]
    assert venue.order("buy 100 limit 10.02 gtc extended")[1:] == ["c bought 100 at 10.02"]
    assert venue.order("buy 100 limit 10.00 gtc extended")[1:] == []
    assert venue.see(quote(at("20:01"), "9.00", "9.02")) == []
    assert venue.see(quote(at("03:59", 1), "9.00", "9.02")) == []
    assert venue.order("buy 100 limit 9.50 gtc extended")[1:] == []
    assert venue.see(quote(at("04:00", 1), "9.00", "9.02")) == ["d bought 100 at 10", "e bought 100 at 9.5"]


def test_last_nights_quote_fills_nothing_in_the_morning() -> None:
    venue = Venue()
    venue.see(session_closed(), quote(at("19:59"), "10.00", "10.02"), heartbeat(at("04:00", 1)))
    assert venue.order("buy 100 limit 10.02 extended") == ["acknowledged a"]


def test_only_limit_orders_trade_in_extended_hours() -> None:
    venue = Venue()
    venue.see(session_closed(), quote(at("17:00"), "10.00", "10.02"))
    assert venue.order("buy 100 market extended") == ["acknowledged a"]


# ---------------------------------------------------------------- halts


@pytest.mark.parametrize("symbol", ["SPY", "*"])
def test_nothing_fills_in_a_halt(symbol: str) -> None:
    venue = Venue()
    venue.see(quote(T, "10.00", "10.02"))
    venue.order("buy 100 limit 9.95")
    venue.order("buy 100 stop 10.10")
    venue.see(halt(T + 1, symbol))
    assert venue.order("buy 100 market") == ["acknowledged c"]
    assert venue.order("buy 100 market ioc") == ["acknowledged d", "cancelled d"]
    assert venue.see(quote(T + 2, "9.90", "9.92"), trade(T + 2, "10.20")) == []
    assert venue.see(resume(T + 3, symbol)) == []
    assert venue.order("buy 100 market") == ["acknowledged e"]
    assert venue.see(quote(T + 4, "9.98", "10.00")) == ["c bought 100 at 10", "e bought 100 at 10"]


def test_a_halt_of_another_symbol_does_not_matter() -> None:
    venue = Venue()
    venue.see(quote(T, "10.00", "10.02"), halt(T, "QQQ"), resume(T, "QQQ"), halt(T, "QQQ"))
    assert venue.order("buy 100 market")[1:] == ["a bought 100 at 10.02"]


# ---------------------------------------------------------------- splits


SPLITS = """
    # num den  order                       reports
    2     1    buy 100 limit 9             replaced a 200 4.5 -
    3     2    buy 5 limit 9               replaced a 7 6 -
    3     1    buy 1 limit 10              replaced a 3 3.333333333333333333 -
    3     2    buy 0.5 limit 9             replaced a 0.75 6 -
    4     1    sell 10 stop 8              replaced a 40 - 2
    4     1    sell 10 stop_limit 8 7      replaced a 40 1.75 2
    1     10   buy 100 limit 9             cancelled a
    1     1    buy 100 limit 9             -
"""


def splits() -> list[tuple[int, int, str, str]]:
    lines = [line for line in SPLITS.splitlines() if line.strip() and "#" not in line]
    rows = []
    for line in lines:
        num, den = line.split()[:2]
        rows.append((int(num), int(den), line[15:43].strip(), line[43:].strip()))
    return rows


@pytest.mark.parametrize(("num", "den", "order", "reports"), splits())
def test_splits(num: int, den: int, order: str, reports: str) -> None:
    venue = Venue()
    venue.see(quote(T, "10.00", "10.02"))
    venue.order(order + " gtc")
    assert venue.see(session_closed()) == []
    assert venue.see(split(at("04:00", 1), num, den)) == ([] if reports == "-" else [reports])


def test_what_was_filled_stays_in_old_shares() -> None:
    venue = Venue(size="displayed")
    venue.see(quote(T, "10.00", "10.02", (0, 40)))
    venue.order("buy 100 limit 10.02 gtc")
    assert venue.see(split(T + 1, 2, 1)) == ["replaced a 160 5.01 -"]
    assert venue.see(quote(T + 2, "5.00", "5.01", (0, 500))) == ["a bought 120 at 5.01"]
    assert venue.reports[-1].cumulative == Decimal(160)


def test_prices_from_before_a_split_fill_nothing() -> None:
    venue = Venue()
    venue.see(quote(T, "10.00", "10.02"), split(T + 1, 2, 1))
    assert venue.order("buy 100 market") == ["acknowledged a"]
    assert venue.see(quote(T + 2, "5.00", "5.01")) == ["a bought 100 at 5.01"]


def test_what_is_on_its_way_arrives_before_the_split() -> None:
    venue = Venue(latency=1000)
    venue.see(quote(T, "10.00", "10.02"))
    venue.order("buy 100 limit 9")
    assert venue.see(split(T + 1, 2, 1)) == ["acknowledged a", "replaced a 200 4.5 -"]
