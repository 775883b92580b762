"""How a play looks to people."""

from __future__ import annotations

from typing import Any

from tape.show import near, text_console


def show_play(r: dict[str, Any]) -> None:
    """What was played, when, and whether in time."""
    console = text_console()
    written: dict[str, int] = r["written"]
    if not written:
        console.print(f"nothing new: all {r['skipped']:,} events had been written before")
    else:
        width = max(map(len, written))
        for topic, count in written.items():
            console.print(f"{topic:{width}}  {count:>13,}")
        is_rate = r["speed"] == "max" or r["asked_per_s"] is not None
        rate = f", {r['rate_per_s']:,.0f} a second" if is_rate else ""
        console.print(f"{sum(written.values()):,} events in {r['seconds']} s{rate}")
        if r["first"] is not None:
            console.print(f"from {r['first']}")
            console.print(f"to   {r['last']}")
    if written and r["skipped"]:
        console.print(f"written before: {r['skipped']:,} events")
    if not r["kept_up"]:
        console.print(
            f"it did not keep up: {r['rate_per_s']:,.0f} events a second of {r['asked_per_s']:,.0f}, "
            f"at most {r['late_max_s']:,.1f} s behind its schedule"
        )
    if r["parked"]:
        console.print(
            f"{r['parked']:,} events were ahead of the clock and set aside in dead-letters: "
            "look whether it was set back"
        )
    if not r["finished"]:
        console.print("stopped before its end; go on with --resume")
    console.print(f"log  {near(r['log'])} ({r['time']} time), source {r['source']}")
