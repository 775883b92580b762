"""How results look to people."""

from __future__ import annotations

import shutil
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from schemas.decimals import WIDE

CENT = Decimal("0.01")
REPEATS = 10
"""Executions that came again, of which an export's summary names no more."""
FIGURES = ("end_equity", "cash", "realized", "unrealized", "fees", "income")
VERDICTS = {
    0: "[green]the log holds[/]",
    1: "[red]the log differs[/]",
    2: "[yellow]not re-derived[/]",
}


def dollars(text: str | None) -> str:
    """Money to the cent with thousands separators; "unknown" where it is not known."""
    return "unknown" if text is None else f"{Decimal(text).quantize(CENT, context=WIDE):,}"


def text_console() -> Console:
    """Text as it is: no markup in it, no emoji, no numbers in colour; long lines are not broken."""
    return Console(markup=False, emoji=False, highlight=False, soft_wrap=True)


def near(url: str) -> str:
    """A log's name as seen from the current folder, where it is below it."""
    path = Path(url.removeprefix("sqlite:"))
    here = Path.cwd()
    return f"sqlite:{path.relative_to(here)}" if path.is_relative_to(here) else url


def show_backtest(s: dict[str, Any]) -> None:
    """A backtest's summary."""
    console = text_console()
    figures = {name: dollars(s[name]) for name in FIGURES}
    width = max(len(figure) for figure in figures.values())
    for name, figure in figures.items():
        gain = f"  ({Decimal(s['return']) * 100:+.3f} %)" if name == "end_equity" and s["return"] else ""
        console.print(f"{name.replace('_', ' '):12}{figure:>{width}}{gain}")
    console.print()
    _show_positions(console, s["positions"])
    if s["unpriced"]:
        console.print(f"without a price, so that equity is not known: {', '.join(s['unpriced'])}")
    console.print(
        f"orders {s['orders']} ({s['denied']} denied), fills {s['fills']}, breaches {s['breaches']}"
    )
    reasons = f" ({', '.join(s['reasons'])})" if s["reasons"] else ""
    console.print(f"breaker {s['breaker']}{reasons}")
    console.print("limits " + ", ".join(f"{name} {value}" for name, value in s["limits"].items()))
    console.print(f"{s['events']:,} events in {s['seconds']} s")
    console.print(f"log          {near(s['log'])}")
    console.print(f"fingerprint  {s['fingerprint']}")
    console.print(f"\nderive every number again:  tape verify {near(s['log'])}")


def _show_positions(console: Console, positions: list[dict[str, Any]]) -> None:
    if not positions:
        console.print("no positions\n")
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("symbol")
    for name in ("quantity", "average", "mark", "realized", "unrealized", "fees"):
        table.add_column(name, justify="right")
    for p in positions:
        table.add_row(
            p["symbol"],
            p["quantity"],
            "-" if p["average"] is None else f"{Decimal(p['average']):.4f}",
            _mark(p),
            dollars(p["realized"]),
            dollars(p["unrealized"]),
            dollars(p["fees"]),
        )
    console.print(table)
    console.print()


def _mark(position: dict[str, Any]) -> str:
    tier = f" ({position['tier']})" if "tier" in position else ""
    return "-" if position["mark"] is None else f"{Decimal(position['mark']):.4f}{tier}"


def show_verify(r: dict[str, Any]) -> None:
    """What `tape verify` found."""
    console = text_console()
    for fault in r["faults"]:
        at = "" if fault["offset"] is None else f", offset {fault['offset']}"
        place = f"{fault['topic']}/{fault['partition']} [{fault['first']}, {fault['next']}){at}"
        console.print(f"differs: {place}: {fault['reason']}")
    if r["difference"] is not None:
        console.print(f"differs: {r['difference']['reason']}")
    for why in r["not_derived"]:
        console.print(f"not re-derived: {why}")
    unsealed = f", {r['unsealed']:,} not sealed yet" if r["unsealed"] else ""
    console.print(f"records  {r['records']:,}: {r['sealed']:,} sealed, {r['seals']:,} seals{unsealed}")
    console.print(
        f"derived  {r['inputs']:,} inputs again: {r['decisions']:,} decisions, "
        f"{r['snapshots']:,} snapshot{'s'[: r['snapshots'] != 1]}, equal"
    )
    console.print(f"tail     {r['tail']}")
    console.print(VERDICTS[r["exit"]], markup=True)


def show_fills(s: dict[str, Any]) -> None:
    """What came of a broker's executions."""
    console = text_console()
    figures = {name: dollars(s[name]) for name in ("equity", "cash", "realized", "unrealized", "fees")}
    width = max(len(figure) for figure in figures.values())
    for name, figure in figures.items():
        console.print(f"{name:12}{figure:>{width}}")
    console.print()
    _show_positions(console, s["positions"])
    if s["unpriced"]:
        console.print(f"without a mark, so that equity is unknown: {', '.join(s['unpriced'])} (--marks)")
    console.print(f"executions {s['executions']:,}")
    if s["repeated"]:
        some = ", ".join(f"{r['execution_id']} (line {r['line']})" for r in s["repeated"][:REPEATS])
        more = f" and {len(s['repeated']) - REPEATS:,} more" if len(s["repeated"]) > REPEATS else ""
        console.print(f"counted once, though they came again: {some}{more}")
    if s["ignored_columns"]:
        console.print(f"columns that were not read: {', '.join(s['ignored_columns'])}")


def own_name() -> str:
    """How this command can be called from here: by name where it is on the path, else by its file."""
    file = Path(sys.executable).with_name("tape")
    found = shutil.which("tape")
    if found is not None and Path(found).resolve() == file.resolve():
        return "tape"
    return str(file.relative_to(Path.cwd()) if file.is_relative_to(Path.cwd()) else file)
