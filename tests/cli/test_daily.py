"""Daily data over years: fills at the next bar's open, dividends, reverse splits; held against the files."""

from __future__ import annotations

import csv
import io
import zipfile
from bisect import bisect_right
from datetime import date, datetime
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from eventlog import open_log
from schemas import (
    CashDividend,
    Fill,
    OrderChanged,
    OrderRequested,
    decode,
)
from support.cli import check_figures, here, log_in, money, run
from support.lean import SAMPLE
from support.much import ALL

USA = SAMPLE / "equity" / "usa"
SYMBOLS = ("AAPL", "AIG", "BAC", "GOOG", "IBM", "SPY")
NEW_YORK = ZoneInfo("America/New_York")
DAILY = ("--resolution", "daily", "--allow-missing")


def bars(symbol: str) -> dict[date, tuple[Decimal, ...]]:
    """Open, high, low, close of each day, out of the file."""
    with zipfile.ZipFile(USA / "daily" / f"{symbol.lower()}.zip") as archive:
        text = archive.read(archive.namelist()[0]).decode()
    rows = csv.reader(io.StringIO(text))
    return {
        datetime.strptime(row[0], "%Y%m%d %H:%M").date(): tuple(Decimal(p) / 10_000 for p in row[1:5])
        for row in rows
    }


def day(ts: int) -> date:
    return datetime.fromtimestamp(ts // 10**9, NEW_YORK).date()


def events(folder: Path, topic: str, kind: type) -> list[Any]:
    """The events of a kind, in order of `seq` where they have one."""
    with open_log(f"sqlite:{log_in(folder)}", read_only=True) as log:
        found = [
            decode(topic, r.value)
            for partition in range(log.partitions(topic))
            for r in log.read(topic, partition, gte=0, limit=1 << 30)
        ]
    return [e for e in found if type(e) is kind]


def verified(folder: Path) -> None:
    ran = here("verify", log_in(folder))
    assert ran.code == 0, ran.out + ran.err


# ------------------------------------------------------------ fills


CROSSES = """
from tape import Strategy

class Crosses(Strategy):
    '''Long above its mean of ten closes, short below, every symbol with a tenth.'''

    def __init__(self):
        self.closes = {}

    def on_bar(self, bar, ctx):
        closes = self.closes.setdefault(bar.symbol, [])
        closes.append(bar.close)
        del closes[:-10]
        mean = sum(closes) / len(closes)
        if len(closes) == 10 and bar.close != mean:
            ctx.target(bar.symbol, weight=0.1 if bar.close > mean else -0.1)
"""


def test_every_fill_is_the_open_of_the_bar_after_its_decision(tmp_path: Path) -> None:
    """Six symbols over many years: nothing is bought or sold at a price that the decision had seen."""
    file = tmp_path / "crosses.py"
    file.write_text(CROSSES)
    since = 1998 if ALL else 2013
    days = ("--from", f"{since}-01-02", "--to", "2021-03-31", "--symbols", ",".join(SYMBOLS))
    summary = run(tmp_path, *days, *DAILY, "--strategy", f"{file}:Crosses", "--multiplier", "4")
    check_figures(summary)
    verified(tmp_path)
    requested = {e.order: e for e in events(tmp_path, "orders", OrderRequested)}
    fills = [e for e in events(tmp_path, "fills", Fill) if e.order in requested]
    assert len(fills) > (5000 if ALL else 1500)
    assert {f.symbol for f in fills} == set(SYMBOLS)
    files = {symbol: bars(symbol) for symbol in SYMBOLS}
    days_of = {symbol: sorted(found) for symbol, found in files.items()}
    for fill in fills:
        known = days_of[fill.symbol]
        next_bar = known[bisect_right(known, day(requested[fill.order].ts))]
        assert day(fill.ts) == next_bar
        assert fill.price == files[fill.symbol][next_bar][0]


RESTS = """
from tape import Decimal, Strategy

class Rests(Strategy):
    '''Each day a limit 1 % below the close and, while it holds something, a stop 2 % below.'''

    def on_bar(self, bar, ctx):
        cent = Decimal("0.01")
        held = ctx.position(bar.symbol)
        if held:
            ctx.order(bar.symbol, "sell", held, "stop", stop=(bar.close * Decimal("0.98")).quantize(cent))
        else:
            ctx.order(bar.symbol, "buy", 10, "limit", limit=(bar.close * Decimal("0.99")).quantize(cent))
"""


def test_limits_and_stops_of_a_day_fill_within_the_next_bar_or_end(tmp_path: Path) -> None:
    """Through the limit, or at the open beyond it; a stop at the worse of stop and open; else it expires."""
    file = tmp_path / "rests.py"
    file.write_text(RESTS)
    days = ("--from", "2005-01-03", "--to", "2012-12-31", "--symbols", "IBM")
    summary = run(tmp_path, *days, *DAILY, "--strategy", f"{file}:Rests")
    check_figures(summary)
    verified(tmp_path)
    filled = {e.order: e for e in events(tmp_path, "fills", Fill)}
    requested = events(tmp_path, "orders", OrderRequested)
    file_bars = bars("IBM")
    known = sorted(file_bars)
    kinds = {"limit": 0, "stop": 0}
    for order in requested[:-1]:
        next_bar = known[bisect_right(known, day(order.ts))]
        opened, _, low, _ = file_bars[next_bar]
        if order.order_type == "limit":
            expected = min(opened, order.limit) if opened < order.limit or low < order.limit else None
        else:
            expected = min(opened, order.stop) if low <= order.stop else None
        fill = filled.get(order.order)
        assert (None if fill is None else (day(fill.ts), fill.price)) == (
            None if expected is None else (next_bar, expected)
        ), order
        kinds[order.order_type] += fill is not None
    assert min(kinds.values()) > 100
    ended = {e.order for e in events(tmp_path, "orders", OrderChanged) if e.status == "expired"}
    assert ended == {o.order for o in requested[:-1]} - filled.keys()


# ------------------------------------------------------------ dividends


def dividends(symbol: str) -> dict[date, Decimal]:
    """Dollars a share by ex-date: the last close x (1 - factor before / factor after), to the cent."""
    with (USA / "factor_files" / f"{symbol.lower()}.csv").open() as file:
        rows = [(datetime.strptime(r[0], "%Y%m%d").date(), *map(Fraction, r[1:])) for r in csv.reader(file)]
    known = sorted(bars(symbol))
    found = {}
    for (last, price, split, close), (_, after, split_after, _) in pairwise(rows):
        if split == split_after and price != after:
            cents = round(close * (1 - price / after) * 100)
            found[known[bisect_right(known, last)]] = Decimal(cents) / 100
    return found


@pytest.mark.parametrize("weight", ["0.5", "-0.5"])
def test_dividends_of_years_are_what_the_files_say(tmp_path: Path, weight: str) -> None:
    """SPY from 2005 to 2015, bought (or sold short) once: a long earns each dividend, a short owes it."""
    days = ("--from", "2005-01-03", "--to", "2015-12-31", "--symbols", "SPY")
    limits = tmp_path / "limits.toml"
    limits.write_text('day_loss = "none"\nday_loss_reduce = "none"\n')
    args = ("--strategy", "buy-and-hold", "--param", f"weight={weight}", "--limits", limits)
    summary = run(tmp_path / "out", *days, *DAILY, *args)
    check_figures(summary)
    verified(tmp_path / "out")
    (fill,) = events(tmp_path / "out", "fills", Fill)
    shares = fill.quantity if fill.side == "buy" else -fill.quantity
    due = {ex: paid for ex, paid in dividends("SPY").items() if day(fill.ts) < ex <= date(2015, 12, 31)}
    assert len(due) == 44
    assert money(summary, "income") == shares * sum(due.values())
    cash = 100_000 - shares * fill.price + shares * sum(due.values())
    assert (money(summary, "cash"), money(summary, "receivables")) == (cash, 0)
    assert money(summary, "end_equity") == cash + shares * bars("SPY")[date(2015, 12, 31)][3]
    told = {day(e.ts): e.amount for e in events(tmp_path / "out", "market.status", CashDividend)}
    assert due.items() <= told.items()


ONCE = """
from datetime import UTC, datetime
from tape import Strategy

class Once(Strategy):
    '''Buys at the close of one day, sells at that of another: at the opens after.'''

    def __init__(self, buy: str, sell: str):
        self.days = {buy: 100, sell: 0}

    def on_bar(self, bar, ctx):
        wanted = self.days.get(datetime.fromtimestamp(bar.ts // 10**9, UTC).date().isoformat())
        if wanted is not None:
            ctx.target(bar.symbol, shares=wanted)
"""


@pytest.mark.parametrize(
    ("bought", "sold", "income"),
    [
        ("2013-09-18", "2013-09-19", 84),  # held before the ex-date of 2013-09-20, sold at its open
        ("2013-09-19", "2013-09-23", 0),  # bought at the open of the ex-date
    ],
)
def test_a_dividend_is_of_those_who_held_before_its_date(
    tmp_path: Path, bought: str, sold: str, income: int
) -> None:
    assert dividends("SPY")[date(2013, 9, 20)] == Decimal("0.84")
    file = tmp_path / "once.py"
    file.write_text(ONCE)
    days = ("--from", "2013-09-16", "--to", "2013-09-30", "--symbols", "SPY")
    params = ("--param", f"buy={bought}", "--param", f"sell={sold}")
    summary = run(tmp_path, *days, *DAILY, "--strategy", f"{file}:Once", *params)
    check_figures(summary)
    assert summary["fills"] == 2
    assert money(summary, "income") == income
