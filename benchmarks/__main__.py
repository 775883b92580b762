"""`make bench`: every figure, one run."""

from __future__ import annotations

import argparse
import platform

from rich.console import Console
from rich.table import Table

from benchmarks import asof, core, importing, kafka, projection, store


def main() -> None:
    """Run the benchmarks and print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="leave out the five million quotes")
    quick = parser.parse_args().quick
    console = Console()
    console.print(
        f"Python {platform.python_version()}, {platform.machine()}; rates are of this run, on this machine"
    )
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("what")
    table.add_column("figure", justify="right")
    table.add_column("unit")
    parts = (store.run, importing.run, kafka.run, projection.run, core.run)
    for part in (*parts, *(() if quick else (core.memory, asof.run))):
        with console.status(f"{part.__module__}.{part.__name__}"):
            rows = part()
        for name, value, unit in rows:
            table.add_row(name, f"{value:.2f}" if unit == "ratio" else f"{value:,.0f}", unit)
    console.print(table)


if __name__ == "__main__":
    main()
