"""`tape asof`."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from tape.commands.options import users_code, wrong


def asof(
    log: Annotated[
        str, typer.Argument(metavar="LOG", help="sqlite:PATH, a path, or kafka://HOST:PORT/NAME.")
    ],
    account: Annotated[str, typer.Option(metavar="A", help="Whose state.")],
    time: Annotated[
        str | None,
        typer.Option(
            metavar="T", help="2013-10-07T11:03-04:00; a date alone means its end in New York (or --tz)."
        ),
    ] = None,
    seq: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="After what led to the account's decision N.")
    ] = None,
    tz: Annotated[
        str | None, typer.Option(metavar="ZONE", help="The zone of a time without one: America/New_York.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object; money as exact text.")
    ] = False,
) -> None:
    """An account as it was: positions, profit and loss, working orders, breaker, limits.

    \b
    Exit codes:
      0  done
      1  the log cannot be followed
      2  no such account, or a moment that the log does not hold
    """
    if (time is None) == (seq is None):
        raise wrong("time", "say when: either --time T or --seq N")
    from tape.asking import as_of, moment
    from tape.topics import opened

    at, whole_day = (None, False) if time is None else moment(time, tz)
    with opened(log) as reader, users_code():
        found = as_of(reader, account, seq=seq, time=at, whole_day=whole_day)
    if as_json:
        print(json.dumps(found, indent=2))
    else:
        from tape.show_asking import show_asof

        show_asof(found)
