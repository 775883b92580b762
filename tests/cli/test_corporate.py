"""The split of Apple of June 2014 (7 for 1, over a week-end) through a whole backtest: reader, log, core."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from eventlog import open_log
from schemas import Fill, OrderChanged, PnL, PositionChanged, Split, decode
from support.cli import check_figures, here, log_in, run
from support.lean import lean_folder

AAPL = ("--symbols", "AAPL", "--from", "2014-06-05", "--to", "2014-06-09")
STRATEGY = """from tape import Decimal, Strategy

class Held(Strategy):
    def __init__(self):
        self.begun = False

    def on_bar(self, bar, ctx):
        if not self.begun:
            self.begun = True
            ctx.order("AAPL", "buy", 100)
            ctx.order("AAPL", {order}, tif="gtc")
"""
BUY = '"buy", 10, "limit", limit=Decimal("642.6")'
STOP = '"sell", 30, "stop", stop=Decimal("630.07")'


def held(folder: Path, order: str, *args: str) -> dict[str, Any]:
    """The summary of a run that buys 100 shares at once and has `order` rest; its log holds."""
    file = folder / "held.py"
    file.write_text(STRATEGY.format(order=order))
    summary = run(folder, *AAPL, "--strategy", f"{file}:Held", *args)
    check_figures(summary)
    verified = here("verify", log_in(folder))
    assert verified.code == 0, verified.out + verified.err
    return summary


def events(folder: Path, topic: str) -> list[Any]:
    """What stands in a topic, by offset within each partition."""
    with open_log(f"sqlite:{log_in(folder)}", read_only=True) as log:
        return [
            decode(topic, r.value)
            for partition in range(log.partitions(topic))
            for r in log.read(topic, partition, gte=0, limit=1 << 30)
        ]


def around(folder: Path, topic: str) -> tuple[list[Any], list[Any]]:
    """What stands in a topic before the split, and from it on."""
    (split,) = [e for e in events(folder, "market.status") if isinstance(e, Split)]
    found = events(folder, topic)
    return [e for e in found if e.ts < split.ts], [e for e in found if e.ts >= split.ts]


def test_equity_goes_on_to_the_cent_over_the_split(tmp_path: Path) -> None:
    summary = held(tmp_path, STOP)
    before, after = around(tmp_path, "pnl")
    last = [e for e in before if isinstance(e, PnL)][-1]
    first = next(e for e in after if isinstance(e, PnL))
    assert last.equity is not None
    assert first.equity is not None
    assert abs(last.equity - first.equity) < Decimal("1e-12")
    assert last.cash == first.cash
    kept = [[e for e in found if isinstance(e, PositionChanged)] for found in around(tmp_path, "positions")]
    assert [kept[0][-1].quantity, kept[1][0].quantity] == [Decimal(100), Decimal(700)]
    assert kept[0][-1].cost == kept[1][0].cost
    assert (summary["breaches"], summary["breaker"]) == (0, "ACTIVE")


@pytest.mark.parametrize(
    ("order", "quantity", "limit", "stop"), [(BUY, 70, "91.8", None), (STOP, 210, None, "90.01")]
)
def test_a_resting_order_scales(
    tmp_path: Path, order: str, quantity: int, limit: str | None, stop: str | None
) -> None:
    held(tmp_path, order)
    scaled = next(e for e in around(tmp_path, "orders")[1] if isinstance(e, OrderChanged))
    assert scaled.status == "working"
    assert scaled.quantity == Decimal(quantity)
    assert scaled.limit == (None if limit is None else Decimal(limit))
    assert scaled.stop == (None if stop is None else Decimal(stop))


def test_the_first_bar_after_the_split_fills_no_stop_and_the_scaled_limit_fills_later(tmp_path: Path) -> None:
    """At 04:00 of the ex-date its bid has a low of $1.00 and an open of before the split."""
    extended = held(tmp_path, STOP, "--hours", "extended")
    assert (extended["breaches"], extended["breaker"]) == (0, "ACTIVE")
    assert not [e for e in around(tmp_path, "fills")[1] if isinstance(e, Fill)]
    other = tmp_path / "limit"
    other.mkdir()
    summary = held(other, BUY)
    (fill,) = [e for e in around(other, "fills")[1] if isinstance(e, Fill)]
    assert [fill.quantity, fill.price] == [Decimal(70), Decimal("91.8")]
    assert summary["positions"][0]["quantity"] == "770"


def test_adjusted_prices_have_no_split(tmp_path: Path) -> None:
    held(tmp_path, '"buy", 10, "limit", limit=Decimal("1")', "--adjusted")
    found = {type(e).__name__ for e in events(tmp_path, "market.status")}
    assert found == {"SessionOpened", "SessionClosed"}


# ------------------------------------------------------------ made splits

BARS = ("34200000", "34260000", "34320000")
"""09:30, 09:31, 09:32 in the files' milliseconds."""


def made(folder: Path, before: int, after: int, factors: str) -> Path:
    """Two days of three minutes of XYZ, quoted a cent wide at a price (in cents) before and after."""
    files = {}
    for day, cents in (("20131007", before), ("20131008", after)):
        bid, ask = cents * 100, (cents + 1) * 100
        files[f"minute/xyz/{day}_quote"] = "\n".join(
            f"{ms},{bid},{bid},{bid},{bid},100,{ask},{ask},{ask},{ask},100" for ms in BARS
        )
    return lean_folder(folder, files, {"xyz": factors})


TURNED = """from tape import Decimal, Strategy

class Turned(Strategy):
    def __init__(self):
        self.begun = False

    def on_bar(self, bar, ctx):
        if not self.begun:
            self.begun = True
            ctx.order("XYZ", "buy", {quantity})

    def on_quote(self, quote, ctx):
        if not self.begun:
            self.begun = True
            ctx.order("XYZ", "buy", {quantity})
            ctx.order("XYZ", "buy", 10, "limit", limit=Decimal("{limit}"), tif="gtc")
"""
TWO_DAYS = ("--symbols", "XYZ", "--from", "2013-10-07", "--to", "2013-10-08")


def turned(folder: Path, data: Path, quantity: int, limit: str, *args: str) -> dict[str, Any]:
    file = folder / "turned.py"
    file.write_text(TURNED.format(quantity=quantity, limit=limit))
    summary = run(folder, *TWO_DAYS, "--strategy", f"{file}:Turned", *args, data=data)
    check_figures(summary)
    verified = here("verify", log_in(folder))
    assert verified.code == 0, verified.out + verified.err
    return summary


@pytest.mark.parametrize("after", [100, 9])
def test_a_reverse_split_cancels_what_rests_and_pays_the_fraction(tmp_path: Path, after: int) -> None:
    """1 for 10: 105 shares at 10.00 become 10, and half a share is paid at 100.00.

    At 9.00 the day after, an order to buy at 9.50 that still rested at the exchange would be filled.
    """
    data = made(tmp_path / "data", 1000, after * 100, "20131007,1,10,10\n20501231,1,1,0\n")
    summary = turned(tmp_path, data, 105, "9.5")
    (position,) = summary["positions"]
    assert position["quantity"] == "10"
    cash = 100_000 - 105 * Decimal("10.01") + Decimal("0.5") * 100
    assert Decimal(summary["cash"]) == cash
    assert Decimal(summary["end_equity"]) == cash + 10 * after
    changes = [e for e in events(tmp_path, "orders") if isinstance(e, OrderChanged)]
    assert [e.status for e in changes if e.limit == Decimal("9.5")][-1:] == ["cancelled"]
    ended = [e for e in around(tmp_path, "orders")[1] if isinstance(e, OrderChanged)]
    assert {e.status for e in ended} == {"cancelled"}
    fills = [e for e in events(tmp_path, "fills") if isinstance(e, Fill)]
    assert sum(e.quantity for e in fills if e.side == "buy") == 105


def test_a_fraction_is_kept_where_the_account_allows_it(tmp_path: Path) -> None:
    data = made(tmp_path / "data", 1000, 10000, "20131007,1,10,10\n20501231,1,1,0\n")
    summary = turned(tmp_path, data, 105, "9.5", "--fractions")
    assert summary["positions"][0]["quantity"] == "10.5"
    assert Decimal(summary["cash"]) == 100_000 - 105 * Decimal("10.01")


@pytest.mark.parametrize(("limit", "scaled"), [("9.00", "6"), ("9.10", "6.066666666666666667")])
def test_a_split_of_three_for_two_scales_a_price_once(tmp_path: Path, limit: str, scaled: str) -> None:
    """75 shares at 15.00 become 112 and half a share in cash; 10 at the limit become 15."""
    data = made(tmp_path / "data", 1500, 1000, "20131007,1,0.6666667,15\n20501231,1,1,0\n")
    summary = turned(tmp_path, data, 75, limit)
    assert summary["positions"][0]["quantity"] == "112"
    (order,) = [e for e in around(tmp_path, "orders")[1] if isinstance(e, OrderChanged) and e.limit]
    assert [order.status, order.quantity, order.limit] == ["working", Decimal(15), Decimal(scaled)]
    before, after = around(tmp_path, "pnl")
    assert abs(before[-1].equity - after[0].equity) < Decimal("1e-12")
