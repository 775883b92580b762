"""How an account's state looks to people."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from rich.table import Table

from tape.show import dollars, text_console

MONEY = (
    ("equity", "cash", "receivables"),
    ("realized", "unrealized", "fees", "income"),
    ("day", "baseline", "flows"),
)


def show_asof(found: dict[str, Any]) -> None:
    """An account as it was."""
    console = text_console()
    console.print(
        f"account {found['account']} at {found['time'] or 'its opening'}, after decision {found['seq']}\n"
    )
    for names in MONEY:
        console.print("   ".join(f"{name} {dollars(found['pnl'][name])}" for name in names))
    console.print()
    show_positions(found["positions"], found["unpriced"])
    _show_orders(found["orders"])
    show_breaker(found["breaker"])
    console.print("limits " + ", ".join(f"{name} {value}" for name, value in found["limits"].items()))
    for why in found["other_code"]:
        console.print(f"derived by the installed code, which is not what the log was made by: {why}")


def show_positions(positions: list[dict[str, Any]], unpriced: list[str]) -> None:
    """Positions with their books, where they are of several strategies."""
    console = text_console()
    if not positions:
        console.print("no positions\n")
        return
    table = _table("symbol", "quantity", "average", "mark", "tier", "age", "realized", "unrealized", "fees")
    for p in positions:
        age = "-" if p["age_s"] is None else f"{Decimal(p['age_s']):.3f} s"
        money = (dollars(p["realized"]), dollars(p["unrealized"]), dollars(p["fees"]))
        table.add_row(
            p["symbol"], p["quantity"], price(p["average"]), price(p["mark"]), p["tier"] or "-", age, *money
        )
        for name, b in p["books"].items():
            realized, fees = dollars(b["realized"]), dollars(b["fees"])
            table.add_row(f"  {name}", b["quantity"], price(b["average"]), "", "", "", realized, "", fees)
    console.print(table)
    if unpriced:
        console.print(f"without a price, so that equity is not known: {', '.join(unpriced)}")
    console.print()


def _show_orders(orders: list[dict[str, Any]]) -> None:
    console = text_console()
    if not orders:
        console.print("no working orders")
        return
    table = _table("order", "strategy", "what", "filled", "state", "pending")
    for o in orders:
        at = "".join(f" {name} {o[name]}" for name in ("limit", "stop") if o[name] is not None)
        what = f"{o['side']} {o['quantity']} {o['symbol']} {o['type']}{at} {o['tif']}"
        table.add_row(o["order"], o["strategy"], what, o["filled"], o["state"], o["pending"])
    console.print(table)
    console.print()


def show_breaker(breaker: dict[str, Any]) -> None:
    """The breaker's state, and what each reason rests on."""
    console = text_console()
    console.print(f"breaker {breaker['state']}")
    for kind in ("halts", "reduces"):
        for reason, detail in breaker[kind].items():
            console.print(f"  {kind} for {reason}: {detail}")


def price(text: str | None) -> str:
    """A price to four places; "-" where there is none."""
    return "-" if text is None else f"{Decimal(text):.4f}"


def _table(*names: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for n, name in enumerate(names):
        table.add_column(name, justify="left" if n == 0 or name in ("strategy", "what", "tier") else "right")
    return table


def show_status(found: dict[str, Any]) -> None:
    """How a log stands."""
    console = text_console()
    console.print(f"{found['log']}: {'not healthy' if found['problems'] else 'healthy'}")
    for problem in found["problems"]:
        console.print(f"  {problem}")
    for account in found["accounts"]:
        pnl = account["pnl"]
        console.print(
            f"\naccount {account['account']} at {account['time'] or 'its opening'}: "
            f"equity {dollars(pnl['equity'])}, day {dollars(pnl['day'])}"
        )
        show_positions(account["positions"], account["unpriced"])
        show_breaker(account["breaker"])
    console.print()
    for breach in found["breaches"]:
        event = breach["event"]
        what = event.get("limit") or event.get("reason")
        console.print(f"breach {breach['id']} at {breach['time']}: {event['type']} {what}")
    for run in found["runs"]:
        other = f"; {run['other_code']}" if run["other_code"] else ""
        names = ", ".join(run["strategies"]) or "no strategy"
        console.print(f"run: partition {run['partition']}, epoch {run['epoch']}, {names}{other}")
    for part in found["freshness"]:
        console.print(
            f"data: partition {part['partition']} up to {part['market_time']}, "
            f"{part['undecided']:,} inputs not decided"
        )
    console.print(f"not sealed: {found['unsealed']:,}   dead letters: {found['dead_letters']:,}")
