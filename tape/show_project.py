"""How `tape project` and `tape postgres` look to people."""

from __future__ import annotations

from typing import Any

from tape.show import near, text_console


def show_project(s: dict[str, Any]) -> None:
    """What was brought in."""
    console = text_console()
    console.print(f"log      {near(s['log'])}")
    console.print(f"server   {s['server']}, schema {s['schema']}")
    if s["batches"]:
        console.print(
            f"brought  {s['batches']:,} batches, {s['decisions']:,} decisions: {s['rows']:,} rows "
            f"in {s['seconds']:.1f} s ({s['rows_per_second']:,} rows/s)"
        )
    else:
        console.print(f"brought  nothing: all {s['decisions_in_all']:,} decisions are there")
    if s["repeats"]:
        console.print(f"dropped  {s['repeats']:,} repeats")
    if s["unreadable"]:
        console.print(f"could not be read: {s['unreadable']:,} decisions; see {s['schema']}.unreadable")


def show_server(s: dict[str, Any]) -> None:
    """Whether the embedded server runs, and where."""
    console = text_console()
    if s.get("stopped"):
        console.print(f"stopped  {s['folder']}")
    elif not s["running"]:
        console.print(f"not running  {s['folder']}")
    else:
        console.print(f"running  process {s['pid']}, data in {s['folder']}")
        console.print(f"dsn      {s['dsn']}")
        console.print(f"reading  {s['reader_dsn']}")
