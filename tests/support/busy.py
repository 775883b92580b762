"""A backtest that trades all the time, on made second data: what crash tests kill."""

from __future__ import annotations

import random
from pathlib import Path

from support.lean import lean_folder
from support.much import ALL

SECONDS = 4500 if ALL else 2500
SYMBOLS = ("AAA", "BBB")

BUSY = """
from tape import Strategy

class Busy(Strategy):
    '''Trades on every seventh quote of a symbol, by numbers that it draws itself and remembers.'''

    def __init__(self):
        self.count, self.number, self.fills = 0, 1, {}

    def on_quote(self, quote, ctx):
        self.count += 1
        if self.count % 7 == 0:
            self.number = self.number * 1103515245 + 12345 & 0x7FFFFFFF
            ctx.target(quote.symbol, weight=(self.number >> 16) % 9 / 20, why={"drawn": self.number})

    def on_fill(self, fill, ctx):
        self.fills[fill.symbol] = self.fills.get(fill.symbol, 0) + 1
"""


def busy_backtest(folder: Path) -> list[str | Path]:
    """A backtest of 10,000 events (or 18,000), but for where its log stands: two symbols, quote and bar each
    second."""
    (folder / "busy.py").write_text(BUSY)
    lean_folder(folder, {f"second/{s.lower()}/20131007_quote": quotes(s) for s in SYMBOLS})
    days = ("--from", "2013-10-07", "--to", "2013-10-07", "--resolution", "second")
    strategy = ("--strategy", folder / "busy.py:Busy", "--fee", "per-share:0.005:1")
    return ["backtest", "--data", folder, "--symbols", ",".join(SYMBOLS), *days, *strategy, "--json"]


def quotes(symbol: str) -> str:
    """A random walk of quotes from 09:30 on."""
    draw, price, lines = random.Random(symbol), 500_000, []
    for second in range(SECONDS):
        price += draw.randrange(-300, 301, 100)
        bid, ask = (
            f"{price},{price},{price},{price}",
            f"{price + 100},{price + 100},{price + 100},{price + 100}",
        )
        lines.append(f"{34_200_000 + second * 1000},{bid},{draw.randrange(1, 9)}00,{ask},300")
    return "\n".join(lines)
