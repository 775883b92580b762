"""How the demo looks to people."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

from rich.console import Console
from rich.table import Table

from tape.demo import Demo, Point, Shown
from tape.show import dollars, near, own_name, text_console

BARS = "▁▂▃▄▅▆▇█"
WIDTH = 64
FILLS = 6
NEW_YORK = ZoneInfo("America/New_York")


def show_demo(demo: Demo) -> None:
    """Two runs, the trip of the second, where their rows stand, and what to try next."""
    console = text_console()
    console.print(
        "Three days of minute quotes of AIG, BAC, IBM and SPY (October 2013), sma-cross, 100,000 dollars.\n"
    )
    _show_run(console, demo.first)
    console.print()
    _show_trip(console, demo.tight)
    console.print(f"\nAll {demo.projected:,} decisions of both runs are in Postgres now: {demo.server}\n")
    console.print("Try next:")
    for command, what in next_commands(demo):
        console.print(f"  {command}\n      {what}")


def sparkline(points: Sequence[Point], width: int = WIDTH) -> str:
    """Equity as a row of bars, each the last value of its share of the points; nights take no room."""
    values = [point.equity for point in points]
    width = min(width, len(values))
    if not values:
        return ""
    low = min(values)
    step = (max(values) - low) / (len(BARS) - 1)
    ends = [values[(i + 1) * len(values) // width - 1] for i in range(width)]
    return "".join(BARS[int((value - low) / step) if step else 0] for value in ends)


def _show_run(console: Console, shown: Shown) -> None:
    s = shown.summary
    equity = [point.equity for point in shown.equity]
    console.print(f"equity  {sparkline(shown.equity)}")
    console.print(
        f"        {dollars(s['start_cash'])} -> {dollars(s['end_equity'])}"
        f"  (lowest {min(equity):,.2f}, highest {max(equity):,.2f})\n"
    )
    _show_symbols(console, shown)
    console.print(f"\nthe last {FILLS} of {len(shown.fills)} fills")
    for fill in shown.fills[-FILLS:]:
        console.print(
            f"  {_time(fill.ts)}  {fill.side:4} {fill.quantity:>5} {fill.symbol:4} at {fill.price:>9}"
            f"  fee {fill.fee:>5}  {fill.account}:{fill.seq}"
        )


def _show_symbols(console: Console, shown: Shown) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("symbol")
    for name in ("fills", "realized", "unrealized", "fees", "net"):
        table.add_column(name, justify="right")
    for position in shown.summary["positions"]:
        made = [Decimal(position[name] or 0) for name in ("realized", "unrealized", "fees")]
        fills = sum(fill.symbol == position["symbol"] for fill in shown.fills)
        net = made[0] + made[1] - made[2]
        table.add_row(position["symbol"], str(fills), *(f"{value:,.2f}" for value in (*made, net)))
    console.print(table)


def _show_trip(console: Console, shown: Shown) -> None:
    breach, halt = shown.breach, shown.halt
    if breach is None or halt is None:
        console.print("The same with a tight limit on the day's loss: it was not reached.")
        return
    console.print("The same with a limit of 0.3 % on the day's loss. The breaker trips:")
    console.print(
        f"  {_time(breach.ts)}  {breach.limit}: {breach.value:,.2f}, the limit is {breach.threshold:,.2f}"
        f"  ({halt.account}:{halt.seq})"
    )
    for price in breach.evidence:
        console.print(
            f"    {price.quantity:>6} {price.symbol:4} at {price.price:>9}"
            f"  ({price.tier} of {_time(price.ts)}, {price.source})"
        )
    console.print(
        f"  {shown.refused} orders refused until it was armed again at the next session; "
        f"end equity {dollars(shown.summary['end_equity'])}"
    )


def next_commands(demo: Demo) -> list[tuple[str, str]]:
    """Five commands that work on the demo's logs, and what each tells."""
    tape = own_name()
    one, two = near(demo.first.summary["log"]), near(demo.tight.summary["log"])
    fill, halt = demo.first.fills[-1], demo.tight.halt
    moment = f"--seq {halt.seq}" if halt is not None else "--seq 1"
    return [
        (f"{tape} verify {one}", "derive every number again from the facts"),
        (f"{tape} trace {one} {fill.account}:{fill.seq}", "why the last fill came about, down to the quote"),
        (f"{tape} asof {two} --account {fill.account} {moment}", "the account as it was at the trip"),
        (f"{tape} topics list {one}", "what stands in the log"),
        (f"{tape} status {one}", "positions, P&L, breaker and data at the end"),
    ]


def _time(ts: int) -> str:
    return datetime.fromtimestamp(ts // 10**9, NEW_YORK).isoformat(" ", "seconds")
