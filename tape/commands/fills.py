"""`tape fills`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from tape.commands.options import decimal


def fills(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="CSV with the columns time, symbol, side, quantity, price, fee; if known execution_id and "
            "strategy.",
        ),
    ],
    cash: Annotated[str, typer.Option(metavar="DOLLARS", help="Cash before the first execution.")],
    marks: Annotated[
        str,
        typer.Option(metavar="SYM=PRICE,...", help="What a share of what is held is worth now, in dollars."),
    ] = "",
    tz: Annotated[
        str | None,
        typer.Option(metavar="ZONE", help="The zone of times that have none, as America/New_York."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object; money as text, exact.")
    ] = False,
) -> None:
    """What a broker's export says: cash, equity, profit and positions after all of its executions.

    \b
    tape fills export.csv --cash 100000 --marks SPY=167.44,IBM=182 --tz America/New_York

    An execution_id that comes again with the same content counts once. A row that cannot be booked is
    named with line and column, and nothing is booked.

    \b
    Exit codes:
      0  done
      2  wrong input
    """
    from tape.fills import book_fills, read_fills, read_marks
    from tape.progress import progress

    starting, prices = decimal("cash", cash, "0"), read_marks(marks)
    with progress() as report:
        found = read_fills(file, tz, report)
    summary = book_fills(found, starting, prices)
    if as_json:
        print(json.dumps(summary, indent=2))
    else:
        from tape.show import show_fills

        show_fills(summary)
