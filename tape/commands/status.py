"""`tape status`."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from tape.commands.options import users_code


def status(
    log: Annotated[
        str | None,
        typer.Argument(metavar="[LOG]", help="The log; without one, the newest under runs/."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """How a log stands: accounts, positions, breaker, last breaches, runs, freshness, what is not sealed.

    \b
    Exit codes:
      0  healthy
      1  not: an account is halted, holds what is stale or has unread records, or inputs wait for over 5 s
      2  it cannot be told
    """
    from tape.standing import newest_log, standing
    from tape.topics import opened

    with opened(log or newest_log()) as reader, users_code():
        found = standing(reader)
    if as_json:
        print(json.dumps(found, indent=2))
    else:
        from tape.show_asking import show_status

        show_status(found)
    raise typer.Exit(found["exit"])
