"""How an import looks to people."""

from __future__ import annotations

from typing import Any

from rich.console import Console

from tape.show import near, text_console

NAMES_MAX = 10
"""Symbols of which a line names no more."""


def show_import(r: dict[str, Any]) -> None:
    """What an import has written, and what not."""
    console = text_console()
    written: dict[str, int] = r["written"]
    if not written:
        console.print(f"nothing new: all {r['skipped']:,} events had been written before")
    else:
        width = max(map(len, written))
        for topic, count in written.items():
            console.print(f"{topic:{width}}  {count:>13,}")
        rate = f", {r['events_per_s']:,} a second" if r["events_per_s"] else ""
        console.print(f"{sum(written.values()):,} events in {r['import_s']} s{rate}")
        if r["skipped"]:
            console.print(f"written before: {r['skipped']:,} events")
    if r["left_out"]:
        left_out = ", ".join(f"{count:,} {why}" for why, count in r["left_out"].items())
        console.print(f"rows left out: {left_out}")
    if r["quality"] is None:
        console.print("quality not looked at (--no-gate)")
    else:
        _show_quality(console, r["quality"])
    console.print(f"log   {near(r['log'])}")
    console.print(f"head  {near(r['head']).removeprefix('sqlite:')}")


def _show_quality(console: Console, q: dict[str, Any]) -> None:
    console.print(f"quality: {q['accepted']:,} events passed, {q['quarantined']:,} set aside in dead-letters")
    for reason, symbols in q["reasons"].items():
        console.print(f"  {reason}: {_named(symbols)}")
        for one in q["first"].get(reason, ()):
            console.print(f"    {one['place']}: {one['symbol']} at {one['time']}: {one['details']}")
    bound = q["settings"]["gap_max_s"]
    if q["gaps"]:
        counts = {symbol: gaps["count"] for symbol, gaps in q["gaps"].items()}
        console.print(f"  silent in session for more than {bound:g} s: {_named(counts)}")
        symbol, longest = max(q["gaps"].items(), key=lambda item: item[1]["longest_s"])
        console.print(f"    the longest: {symbol}, {longest['longest_s']:,.0f} s since {longest['since']}")
    if q["silent_sessions"]:
        console.print(f"  sessions without a word: {_named(q['silent_sessions'])}")


def _named(counts: dict[str, int]) -> str:
    """The symbols with most of it, most first."""
    most = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    more = f" and {len(most) - NAMES_MAX:,} symbols more" if len(most) > NAMES_MAX else ""
    return ", ".join(f"{symbol} {count:,}" for symbol, count in most[:NAMES_MAX]) + more
