"""Backtests on the sample, against figures worked out by hand from the rows of its files."""

from __future__ import annotations

import zipfile
from decimal import Decimal
from pathlib import Path

import pytest

from support.cli import BACKTEST, MONDAY, THREE_DAYS, check_figures, here, money, run
from support.lean import SAMPLE

CASH = "100000"


@pytest.mark.parametrize(
    ("options", "shares", "bought", "fee", "mark", "cash"),
    [
        # 99,750 dollars buy at the first ask, 167.45; the last quote is 167.44 / 167.45
        ("SPY", "595", "167.45", "0", "167.44", CASH),
        ("SPY --mark mid", "595", "167.45", "0", "167.445", CASH),
        ("SPY --mark last", "595", "167.45", "0", "167.42", CASH),
        ("SPY --cash 100 --fractions", "0.5957", "167.45", "0", "167.44", "100"),
        ("SPY --param weight=0.5", "297", "167.45", "0", "167.44", CASH),
        ("SPY --param weight=-0.5", "-297", "167.44", "0", "167.45", CASH),
        # fees: 0.1 % of 99,632.75; the least, for half a cent a share is 2.98; none on a purchase
        ("SPY --fee bps:10", "595", "167.45", "99.63", "167.44", CASH),
        ("SPY --fee per-share:0.005:20", "595", "167.45", "20", "167.44", CASH),
        ("SPY --fee alpaca", "595", "167.45", "0", "167.44", CASH),
        # 0.1 % above the ask; the ask a minute later
        ("SPY --slippage 10", "595", "167.61745", "0", "167.44", CASH),
        ("SPY --latency-ms 60000", "595", "167.38", "0", "167.44", CASH),
        # before the open it is sized at 167.27, and bought at the open's 167.41; the last bid of the evening
        ("SPY --hours extended", "596", "167.41", "0", "167.27", CASH),
        ("IBM", "547", "182.15", "0", "182", CASH),
    ],
)
def test_one_purchase_on_one_day(
    tmp_path: Path, options: str, shares: str, bought: str, fee: str, mark: str, cash: str
) -> None:
    summary = here(*BACKTEST, "--out", tmp_path / "out", *MONDAY, "--symbols", *options.split()).json
    check_figures(summary)
    (position,) = summary["positions"]
    assert (position["quantity"], position["mark"]) == (shares, mark)
    assert money(summary, "cash") == Decimal(cash) - Decimal(shares) * Decimal(bought) - Decimal(fee)
    expected = Decimal(shares) * (Decimal(mark) - Decimal(bought))
    assert (money(summary, "unrealized"), money(summary, "fees")) == (expected, Decimal(fee))
    assert (summary["orders"], summary["fills"], summary["breaches"]) == (1, 1, 0)


def test_the_published_vector(tmp_path: Path) -> None:
    options = ["--adjusted", "--mark", "last", "--fee", "per-share:0.005:1", "--buffer", "0.0025"]
    summary = run(tmp_path / "out", "--symbols", "SPY", *THREE_DAYS, *options)
    check_figures(summary)
    assert summary["positions"][0]["quantity"] == "688"
    assert summary["fees"] == "3.44"
    assert round(money(summary, "end_equity"), 2) == Decimal("98878.22")
    assert (summary["orders"], summary["fills"]) == (1, 1)
    assert (summary["realized"], summary["income"], summary["breaches"]) == ("0", "0", 0)
    assert summary["breaker"] == "ACTIVE"


def test_what_the_summary_names(tmp_path: Path) -> None:
    summary = run(tmp_path / "out", "--symbols", "SPY", *MONDAY)
    figures = {"end_equity", "cash", "realized", "unrealized", "fees", "income", "receivables"}
    texts = figures | {"breaker", "log", "fingerprint"}
    assert {name for name in texts if not isinstance(summary.get(name), str)} == set()
    counts = {"orders", "fills", "breaches", "events", "denied"}
    assert {name for name in counts if type(summary.get(name)) is not int} == set()
    assert isinstance(summary["seconds"], float)
    assert summary["log"] == f"sqlite:{tmp_path.resolve()}/out/log.sqlite"
    assert summary["limits"]["gross_exposure"].startswith("2 ")
    assert (summary["limits"]["day_loss"], summary["limits"]["rearm_next_session"]) == ("0.05", "true")


def test_two_symbols_share_the_equity(tmp_path: Path) -> None:
    """IBM is first by name: 49,875 / 182.15. At the bid, 273 of it leave 49,854.57 / 167.45."""
    summary = run(tmp_path / "out", *MONDAY, "--symbols", "spy,ibm")
    check_figures(summary)
    assert [(p["symbol"], p["quantity"]) for p in summary["positions"]] == [("IBM", "273"), ("SPY", "297")]
    assert money(summary, "unrealized") == 273 * Decimal("-0.15") + 297 * Decimal("-0.01")


@pytest.mark.parametrize(
    ("options", "shares", "equity"),
    [
        # 99,750 / 646.26 = 154 shares; the split makes them 7 x 154, at a bid of 93.69
        ("", "1078", 100000 - 154 * Decimal("646.26") + 7 * 154 * Decimal("93.69")),
        # in prices of 2021 nothing splits; 1 share of then is 4 x 7 of today's
        ("--adjusted", "4795", None),
    ],
)
def test_a_split(tmp_path: Path, options: str, shares: str, equity: Decimal | None) -> None:
    days = ("--from", "2014-06-05", "--to", "2014-06-09")
    summary = run(tmp_path / "out", "--symbols", "AAPL", *days, *options.split())
    check_figures(summary)
    assert summary["positions"][0]["quantity"] == shares
    assert equity is None or money(summary, "end_equity") == equity


MINE = """
from tape import Bar, Context, Decimal, Strategy
from helper import ENOUGH

class RoundTrip(Strategy):
    def __init__(self, shares: int, bars: int = 2) -> None:
        self.shares, self.bars, self.seen = shares, bars, 0

    def on_bar(self, bar: Bar, ctx: Context) -> None:
        print("seen", bar.close)
        self.seen += 1
        if self.seen == 1:
            ctx.target(bar.symbol, shares=self.shares)
        if self.seen == ENOUGH + self.bars:
            ctx.target(bar.symbol, shares=0)
"""


def test_a_strategy_of_the_users_own(tmp_path: Path) -> None:
    """Bought at the ask of 09:31, 167.45, and sold at the bid of 09:33; what it prints is no JSON."""
    (tmp_path / "mine.py").write_text(MINE)
    (tmp_path / "helper.py").write_text("ENOUGH = 1\n")
    options = ("--strategy", "mine.py:RoundTrip", "--param", "shares=100", "--param", "bars=2")
    fee = ("--fee", "per-share:0.01:0")
    summary = run(tmp_path / "out", "--symbols", "SPY", *MONDAY, *options, *fee, cwd=tmp_path)
    check_figures(summary)
    assert summary["positions"][0]["quantity"] == "0"
    assert (summary["orders"], summary["fills"], summary["fees"]) == (2, 2, "2")
    sold = Decimal(_rows("spy", "20131007", "quote")[2][4]) / 10000
    assert money(summary, "realized") == 100 * (sold - Decimal("167.45"))


def _rows(symbol: str, day: str, kind: str) -> list[list[int]]:
    """The rows of a file from 09:30 to 16:00."""
    with zipfile.ZipFile(SAMPLE / f"equity/usa/minute/{symbol}/{day}_{kind}.zip") as archive:
        lines = archive.read(archive.namelist()[0]).decode().split()
    rows = [[int(text or 0) for text in line.split(",")] for line in lines]
    return [row for row in rows if 34_200_000 <= row[0] < 57_600_000]


def test_sma_cross_against_a_loop_of_its_own(tmp_path: Path) -> None:
    """Over three days: all in when the fast average crosses above the slow one, out when below."""
    options = ("--strategy", "sma-cross", "--param", "fast=5", "--param", "slow=20")
    summary = run(tmp_path / "out", "--symbols", "SPY", *THREE_DAYS, *options)
    check_figures(summary)
    cash, trades = _sma_cross(5, 20)
    assert trades > 50
    assert summary["positions"][0]["quantity"] == "0"
    assert (summary["orders"], summary["fills"]) == (trades, trades)
    assert money(summary, "end_equity") == cash


def _sma_cross(fast: int, slow: int) -> tuple[Decimal, int]:
    cash, shares, trades = Decimal(100_000), Decimal(0), 0
    closes: list[int] = []
    above: bool | None = None
    for day in ("20131007", "20131008", "20131009"):
        quotes = {row[0]: row for row in _rows("spy", day, "quote")}
        for row in _rows("spy", day, "trade"):
            closes.append(row[4])
            gap = sum(closes[-fast:]) * slow - sum(closes[-slow:]) * fast
            if len(closes) < slow or not gap:
                continue
            before, above = above, gap > 0
            bid, ask = (Decimal(quotes[row[0]][column]) / 10000 for column in (4, 9))
            if before is not None and above != before and above != bool(shares):
                trade = cash * Decimal("0.9975") // ask if above else -shares
                cash, shares, trades = cash - trade * (ask if above else bid), shares + trade, trades + 1
    assert not shares
    return cash, trades
