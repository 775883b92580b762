"""How causes and consequences look to people: a tree, a line a record."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from tape.tracing import Tree

PARTS_MAX = 20
"""Changes of a book that are shown as text; --json has all."""
PLAIN = ("cause", "trace", "account", "seq", "prev", "ts", "source", "row", "checks", "evidence", "features")


def show_tree(tree: Tree, branch: str) -> None:
    """The tree, and below it the arithmetic of its root where it has one."""
    _show(tree, branch, "", "")
    if sums := tree.get("sums"):
        _show_sums(sums)


def _show(node: Tree, branch: str, first: str, rest: str) -> None:
    from tape.topics import printable

    print(f"{first}{printable(_line(node))}")
    below = [] if node.get("again") else node.get(branch, [])
    for line in _details(node) if not node.get("again") else ():
        print(f"{rest}{'│  ' if below else '   '}{printable(line)}")
    for n, child in enumerate(below):
        last = n + 1 == len(below)
        _show(child, branch, f"{rest}{'└─ ' if last else '├─ '}", f"{rest}{'   ' if last else '│  '}")


def _line(node: Tree) -> str:
    if node["missing"]:
        return f"{node['id']}  missing: {node['missing']}"
    age = "" if node["age_s"] is None else f", {Decimal(node['age_s']):f} s apart"
    again = " (see above)" if node.get("again") else ""
    return f"{said(node['type'], node['values'])}  [{node['id']}, {node['time'] or 'no time'}{age}]{again}"


def _details(node: Tree) -> list[str]:
    values = node.get("values", {})
    lines = [
        f"{'passed' if c['ok'] else 'FAILED'} {c['name']}: {c['value'] or 'not known'}"
        f" against {c['limit'] or 'none'}"
        for c in values.get("checks", ())
    ]
    lines += [
        f"{e['quantity']} {e['symbol']} at {e['price']} ({e['tier']}, {e['source']})"
        for e in values.get("evidence", ())
    ]
    return lines + [f"{name} = {value}" for name, value in values.get("features", {}).items()]


def said(kind: str, v: dict[str, Any]) -> str:
    """A record in a line."""
    if kind == "Fill":
        return f"fill: {v['side']} {v['quantity']} {v['symbol']} at {v['price']}, fee {v['fee']}"
    if kind == "Quote":
        return f"quote {v['symbol']}: bid {v['bid']} x {v['bid_size']}, ask {v['ask']} x {v['ask_size']}"
    if kind in ("OrderRequested", "OrderAccepted", "OrderDenied"):
        word = {"OrderRequested": "order", "OrderAccepted": "risk: accepted", "OrderDenied": "risk: DENIED"}
        prices = "".join(f" {n} {v[n]}" for n in ("limit", "stop") if v.get(n) is not None)
        kind_of = f" {v['order_type']}" if "order_type" in v else ""
        return f"{word[kind]}: {v['side']} {v['quantity']} {v['symbol']}{kind_of}{prices} ({v['order']})"
    if kind == "Signal":
        wants = next((f"{n} {v[n]}" for n in ("weight", "shares", "quantity") if v[n] is not None), "")
        return f"signal of {v['strategy']}: {v['intent']} {v['symbol']} {v['side'] or ''} {wants}".replace(
            "  ", " "
        )
    if kind == "PositionChanged":
        return (
            f"position {v['symbol']} of {v['strategy']}: {v['quantity']} shares, cost {v['cost']}, "
            f"realized {v['realized']}"
        )
    if kind == "PnL":
        names = ("day", "equity", "realized", "unrealized")
        return "profit: " + ", ".join(f"{name} {v[name]}" for name in names)
    shown = " ".join(
        f"{k}={x if isinstance(x, str) else ' '.join(map(str, x)) if isinstance(x, list) else x}"
        for k, x in v.items()
        if x is not None and k not in PLAIN
    )
    return f"{kind} {shown}"


def _show_sums(sums: dict[str, Any]) -> None:
    print("\nmade of:")
    parts = sums["parts"]
    if len(parts) > PARTS_MAX:
        print(f"  {len(parts) - PARTS_MAX} earlier changes (--json has them)")
    for part in parts[-PARTS_MAX:]:
        what = part.get("fill") or part.get("symbol") or f"caused by {part['cause']}"
        figures = ", ".join(f"{n} {part[n]}" for n in ("quantity", "cost", "realized", "fees") if n in part)
        print(f"  {part['id']}  {what}: {figures}")
    totals = ", ".join(f"{name} {value}" for name, value in sums["totals"].items())
    print(f"sum: {totals}  ({'adds up' if sums['adds_up'] else 'DOES NOT ADD UP'})")
