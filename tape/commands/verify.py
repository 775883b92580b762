"""`tape verify`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from tape.commands.options import users_code


def verify(
    log: Annotated[
        str, typer.Argument(help="The log: sqlite:PATH, as `tape backtest` prints it, or a path.")
    ],
    head: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A log.sqlite.head kept elsewhere: it shows a truncated tail."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Check the seals of a log, and derive every decision again from its facts.

    \b
    Exit codes:
      0  the log holds
      1  it differs: the first place is named, for a decision with both versions
      2  it could not be derived again (other code than it was made by), or it is no log
    """
    from tape.progress import progress
    from tape.verifying import verify_log

    with users_code(), progress() as report:
        result = verify_log(log, head, report)
    if as_json:
        print(json.dumps(result, indent=2))
    else:
        from tape.show import show_verify

        show_verify(result)
    raise typer.Exit(result["exit"])
