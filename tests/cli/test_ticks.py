"""Backtests on ticks, held against a loop over the quotes: market orders, latency, resting limits, sizes."""

from __future__ import annotations

from bisect import bisect_right
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from eventlog import open_log
from producers.marketdata.lean import LeanReader
from schemas import Fill, OrderChanged, OrderRequested, Quote, decode
from support.cli import MONDAY, check_figures, here, log_in, run
from support.lean import SAMPLE

EVERY = 500
MS = 10**6
TICKS = ("--symbols", "IBM", *MONDAY, "--resolution", "tick")


@pytest.fixture(scope="module")
def quotes() -> list[Quote]:
    """The day's quotes of IBM that have both sides."""
    day = date(2013, 10, 7)
    reader = LeanReader(SAMPLE, ["IBM"], day, day, resolution="tick")
    return [e for e in reader.events() if isinstance(e, Quote) and e.bid is not None and e.ask is not None]


def traded(folder: Path, strategy: str, *args: str) -> tuple[dict[str, Any], list[Any], list[Any]]:
    """A run of a strategy of ours: its summary, its orders, its fills."""
    file = folder / "ours.py"
    file.write_text(strategy)
    summary = run(folder, *TICKS, "--strategy", f"{file}:Ours", *args)
    check_figures(summary)
    verified = here("verify", log_in(folder))
    assert verified.code == 0, verified.out
    with open_log(f"sqlite:{log_in(folder)}", read_only=True) as log:
        orders, fills = (
            [
                decode(topic, r.value)
                for partition in range(log.partitions(topic))
                for r in log.read(topic, partition, gte=0, limit=1 << 30)
            ]
            for topic in ("orders", "fills")
        )
    return summary, orders, [e for e in fills if isinstance(e, Fill)]


FLIPS = f"""
from tape import Strategy

class Ours(Strategy):
    '''In and out by turns, on every {EVERY}th quote with both sides.'''

    def __init__(self):
        self.count, self.wanted = 0, 0

    def on_quote(self, quote, ctx):
        if quote.bid is not None and quote.ask is not None:
            self.count += 1
            if self.count % {EVERY} == 0:
                self.wanted = 100 - self.wanted
                ctx.target(quote.symbol, shares=self.wanted)
"""


@pytest.mark.parametrize("latency_ms", [0, 5, 250])
def test_market_orders_meet_the_quote_of_their_arrival(
    quotes: list[Quote], tmp_path: Path, latency_ms: int
) -> None:
    """At latency 0 the very quote that caused the signal; else the last one up to the arrival."""
    summary, _, fills = traded(tmp_path, FLIPS, "--latency-ms", str(latency_ms))
    times = [quote.ts for quote in quotes]
    expected = []
    for n, at in enumerate(range(EVERY - 1, len(quotes), EVERY)):
        arrival = quotes[at].ts + latency_ms * MS
        met = quotes[at] if not latency_ms else quotes[bisect_right(times, arrival) - 1]
        expected.append(("buy", met.ask) if n % 2 == 0 else ("sell", met.bid))
    assert len(expected) > 50
    assert [(f.side, f.price) for f in fills] == expected
    gain = sum((100 if side == "sell" else -100) * price for side, price in expected)
    held = 100 * (len(expected) % 2)
    assert Decimal(summary["cash"]) == 100_000 + gain
    assert Decimal(summary["positions"][0]["quantity"]) == held


RESTS = f"""
from tape import Decimal, Strategy

class Ours(Strategy):
    '''Every {EVERY} quotes a limit five cents below the bid, for what is left of the day.'''

    def __init__(self):
        self.count = 0

    def on_quote(self, quote, ctx):
        if quote.bid is not None and quote.ask is not None:
            self.count += 1
            if self.count % {EVERY} == 0:
                ctx.order(quote.symbol, "buy", 1, "limit", limit=quote.bid - Decimal("0.05"))
"""


def test_a_resting_limit_fills_at_its_price_when_the_other_side_reaches_it(
    quotes: list[Quote], tmp_path: Path
) -> None:
    _, orders, fills = traded(tmp_path, RESTS)
    filled = {f.order: f for f in fills}
    placed = [e for e in orders if isinstance(e, OrderRequested)]
    assert len(placed) == len(quotes) // EVERY
    reached = 0
    for order, at in zip(placed, range(EVERY - 1, len(quotes), EVERY), strict=True):
        assert order.limit == quotes[at].bid - Decimal("0.05")
        met = next((q for q in quotes[at + 1 :] if q.ask <= order.limit), None)
        fill = filled.get(order.order)
        assert (met is None) == (fill is None)
        if fill is not None:
            assert (fill.price, fill.ts) == (order.limit, met.ts)
            reached += 1
    assert 0 < reached < len(placed)
    expired = {e.order for e in orders if isinstance(e, OrderChanged) and e.status == "expired"}
    assert expired == {o.order for o in placed} - filled.keys()


TAKES = """
from tape import Strategy

class Ours(Strategy):
    '''One order for more than is shown, {tif}, on the 1000th quote with both sides.'''

    def __init__(self):
        self.count = 0

    def on_quote(self, quote, ctx):
        if quote.bid is not None and quote.ask is not None:
            self.count += 1
            if self.count == 1000:
                ctx.order(quote.symbol, "buy", quote.ask_size + 50, "limit", limit=quote.ask, tif="{tif}")
"""


@pytest.mark.parametrize("tif", ["ioc", "fok", "day"])
def test_no_more_is_taken_than_is_shown(quotes: list[Quote], tmp_path: Path, tif: str) -> None:
    """IOC takes what is shown and is done, FOK takes nothing, a day order takes more when more is shown."""
    _, orders, fills = traded(tmp_path, TAKES.format(tif=tif), "--size", "displayed")
    shown = quotes[999]
    (placed,) = [e for e in orders if isinstance(e, OrderRequested)]
    last = [e for e in orders if isinstance(e, OrderChanged) and e.order == placed.order][-1]
    if tif == "fok":
        assert (fills, last.status) == ([], "cancelled")
        return
    assert (fills[0].quantity, fills[0].price) == (shown.ask_size, shown.ask)
    if tif == "ioc":
        assert (len(fills), last.status) == (1, "cancelled")
    else:
        assert (sum(f.quantity for f in fills), last.status) == (shown.ask_size + 50, "filled")
        assert all(f.ts > shown.ts for f in fills[1:])
        assert {f.price for f in fills[1:]} <= {shown.ask}
