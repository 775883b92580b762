"""How results look to people."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from rich.console import Console
from rich.table import Table

CENT = Decimal("0.01")


def dollars(text: str | None) -> str:
    """Money to the cent with thousands separators; "unknown" where it is not known."""
    return "unknown" if text is None else f"{Decimal(text).quantize(CENT):,}"


def show_backtest(console: Console, s: dict[str, Any]) -> None:
    """A backtest's summary."""
    gain = "" if s["return"] is None else f"  ({Decimal(s['return']) * 100:+.3f} %)"
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(justify="right")
    for label, key in (
        ("end equity", "end_equity"),
        ("cash", "cash"),
        ("realized", "realized"),
        ("unrealized", "unrealized"),
        ("fees", "fees"),
        ("income", "income"),
    ):
        table.add_row(label, dollars(s[key]) + (gain if key == "end_equity" else ""))
    console.print(table)
    console.print()
    _show_positions(console, s["positions"])
    reasons = f" ({', '.join(s['reasons'])})" if s["reasons"] else ""
    console.print(
        f"orders {s['orders']} ({s['denied']} denied), fills {s['fills']}, breaches {s['breaches']}"
    )
    console.print(f"breaker {s['breaker']}{reasons}")
    console.print("limits " + ", ".join(f"{k} {v}" for k, v in s["limits"].items()), soft_wrap=True)
    rate = s["events"] / s["seconds"] if s["seconds"] else 0
    console.print(f"{s['events']:,} events in {s['seconds']} s ({rate:,.0f}/s)")
    console.print(f"log          {s['log']}", soft_wrap=True)
    console.print(f"fingerprint  {s['fingerprint']}", soft_wrap=True)
    console.print(f"\nderive every number again:  tape verify {s['log']}", soft_wrap=True)


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
            "-" if p["mark"] is None else f"{Decimal(p['mark']):.4f} ({p['tier']})",
            dollars(p["realized"]),
            dollars(p["unrealized"]),
            dollars(p["fees"]),
        )
    console.print(table)
    console.print()


def show_verify(console: Console, r: dict[str, Any]) -> None:
    """What `tape verify` found."""
    for fault in r["faults"]:
        where = f"{fault['topic']}/{fault['partition']}"
        at = f", offset {fault['offset']}" if fault["offset"] is not None else ""
        console.print(
            f"[red]differs[/] {where} [{fault['first']}, {fault['next']}){at}: {fault['reason']}",
            soft_wrap=True,
        )
    if r["difference"] is not None:
        console.print("[red]differs[/] ", end="")
        console.print(r["difference"]["reason"], soft_wrap=True, markup=False)
    for why in r["not_derived"]:
        console.print("not re-derived: ", end="")
        console.print(why, soft_wrap=True, markup=False)
    sealed = f"{r['records']:,} records, {r['sealed']:,} sealed, {r['unsealed']:,} not sealed yet"
    derived = f"{r['decisions']:,} decisions and {r['snapshots']} snapshots"
    console.print(f"{sealed}; {r['inputs']:,} inputs derived again: {derived} equal", soft_wrap=True)
    console.print(f"tail: {r['tail']}")
    console.print(
        {0: "[green]the log holds[/]", 1: "[red]the log differs[/]", 2: "seals hold; not re-derived"}[
            r["exit"]
        ]
    )
