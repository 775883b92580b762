"""Price rules of one quote and one bar."""

from __future__ import annotations

from decimal import Decimal

import pytest

from processors.exchange.matching import (
    Slippage,
    bar_open,
    displayed,
    limit_on_bar,
    stop_on_bar,
    touch,
)
from schemas import exact
from support.market import bar, number, quote

TOUCH = """
    # bid    ask    buys at  sells at
    10.00    10.02  10.02    10.00
    10.00    10.00  10.00    10.00
    10.03    10.02  -        -
    -        10.02  10.02    -
    10.00    -      -        10.00
    -        -      -        -
    0        10.02  -        -
    -        0      -        -
    -1       1      -        -
"""

LIMITS = """
    # what                     side  limit  asks|bids                trades                fills at
    not_reached                buy   9.90   10.00,10.10,9.95,10.00   -                     -
    touched                    buy   9.95   10.00,10.10,9.95,10.00   -                     -
    through                    buy   9.96   10.00,10.10,9.95,10.00   -                     9.96
    gap_fills_at_the_open      buy   9.96   9.90,10.10,9.85,10.00    -                     9.90
    open_at_the_limit          buy   9.96   9.96,10.10,9.85,10.00    -                     9.96
    touched_at_the_open        buy   9.96   9.96,10.10,9.96,10.00    -                     -
    asks_before_trades         buy   9.96   10.00,10.10,9.97,10.00   9.95,9.96,9.90,9.95   -
    trades_without_asks        buy   9.96   -                        9.98,9.99,9.90,9.95   9.96
    gap_of_trades              buy   9.96   -                        9.92,9.99,9.90,9.95   9.92
    nothing_known              buy   9.96   -                        -                     -
    not_reached                sell  10.20  10.00,10.10,9.95,10.00   -                     -
    touched                    sell  10.10  10.00,10.10,9.95,10.00   -                     -
    through                    sell  10.09  10.00,10.10,9.95,10.00   -                     10.09
    gap_fills_at_the_open      sell  10.09  10.15,10.20,9.95,10.00   -                     10.15
    trades_without_bids        sell  10.09  -                        10.00,10.10,9.9,10    10.09
"""

STOPS = """
    # what                     side  stop   trades                   bids|asks             goes off at
    not_reached                buy   10.20  10.00,10.10,9.95,10.00   -                     -
    touched                    buy   10.10  10.00,10.10,9.95,10.00   -                     10.10
    through                    buy   10.05  10.00,10.10,9.95,10.00   -                     10.05
    gap_is_worse               buy   10.05  10.08,10.10,9.95,10.00   -                     10.08
    trades_before_asks         buy   10.05  10.00,10.04,9.95,10.00   10.1,10.2,10,10.1     -
    asks_without_trades        buy   10.05  -                        10.1,10.2,10,10.1     10.1
    not_reached                sell  9.90   10.00,10.10,9.95,10.00   -                     -
    touched                    sell  9.95   10.00,10.10,9.95,10.00   -                     9.95
    gap_is_worse               sell  9.95   9.80,10.10,9.70,10.00    -                     9.80
    bids_without_trades        sell  9.95   -                        9.9,10.2,9.8,10.1     9.9
    nothing_known              sell  9.95   -                        -                     -
"""


def rows(table: str) -> list[list[str]]:
    return [line.split() for line in table.splitlines() if line.strip() and "#" not in line]


def four(text: str) -> str:
    return text.replace(",", " ")


@pytest.mark.parametrize("row", rows(TOUCH), ids=" ".join)
def test_touch(row: list[str]) -> None:
    bid, ask, buys, sells = row
    seen = quote(1, bid, ask)
    assert (touch(seen, "buy"), touch(seen, "sell")) == (number(buys), number(sells))


@pytest.mark.parametrize("row", rows(LIMITS), ids=" ".join)
def test_limit_on_a_bar(row: list[str]) -> None:
    _, side, limit, sides, trades, fills = row
    seen = bar(1, four(trades), bids=four(sides), asks="-")
    if side == "buy":
        seen = bar(1, four(trades), asks=four(sides))
    assert limit_on_bar(seen, side, Decimal(limit)) == number(fills)


@pytest.mark.parametrize("row", rows(STOPS), ids=" ".join)
def test_stop_on_a_bar(row: list[str]) -> None:
    _, side, stop, trades, sides, goes_off = row
    seen = bar(1, four(trades), bids=four(sides), asks=four(sides))
    assert stop_on_bar(seen, side, Decimal(stop)) == number(goes_off)


def test_a_stop_that_looks_at_quotes_prefers_them_on_bars() -> None:
    seen = bar(1, "10 10.04 9.95 10", asks="10.1 10.2 10 10.1")
    assert stop_on_bar(seen, "buy", Decimal("10.05"), by_quote=True) == Decimal("10.1")


def test_a_taker_meets_the_open_of_its_side() -> None:
    seen = bar(1, "10 10 10 10", bids="9.9 10 9.8 9.9", asks="10.1 10.2 10 10.1")
    assert (bar_open(seen, "buy"), bar_open(seen, "sell")) == (Decimal("10.1"), Decimal("9.9"))
    assert bar_open(bar(1, "10 10 10 10"), "sell") == Decimal(10)


def test_an_unknown_size_counts_as_none() -> None:
    assert displayed(quote(1, 10, 11, (300, None)), "sell") == 300
    assert displayed(quote(1, 10, 11, (300, None)), "buy") == 0


@pytest.mark.parametrize(
    ("bps", "side", "price", "limit", "taken"),
    [
        ("0", "buy", "10.02", "-", "10.02"),
        ("5", "buy", "10.02", "-", "10.02501"),
        ("5", "sell", "10.02", "-", "10.01499"),
        ("5", "buy", "10.02", "10.021", "10.021"),
        ("5", "sell", "10.02", "10.016", "10.016"),
        ("2.5", "buy", "100", "101", "100.025"),
    ],
)
def test_slippage_never_goes_beyond_the_limit(
    bps: str, side: str, price: str, limit: str, taken: str
) -> None:
    with exact():
        assert Slippage(Decimal(bps)).taken(side, Decimal(price), number(limit)) == Decimal(taken)
