"""`tape project`."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from tape.commands.options import STOPPED


def project(
    log: Annotated[
        str, typer.Argument(metavar="LOG", help="sqlite:PATH, a path, or kafka://HOST:PORT/NAME.")
    ],
    dsn: Annotated[
        str | None,
        typer.Option(
            metavar="DSN",
            help="A Postgres server, postgresql://USER@HOST:PORT/DATABASE. Without it, and without "
            "TAPE_POSTGRES_DSN in the environment: the one that comes with Tape, which is started.",
        ),
    ] = None,
    follow: Annotated[
        bool,
        typer.Option("--follow", "-f", help="Go on with what is appended, until Ctrl-C (exit code 130)."),
    ] = False,
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="Drop this log's rows first, and project it from its beginning.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Bring a log's decisions into Postgres, schema `trading`: accounts, orders, fills, positions, P&L.

    Rows come in by whole batches, with the position in the log beside them: stopped or killed, the same
    command goes on where it was. Several logs may share a database; every row names its log.

    \b
    Exit codes:
      0    all that the log has is there
      1    it failed: a hole in the log, a server that went away
      2    wrong input: no server, a wrong password, tables of another version, another log's rows
      130  stopped by Ctrl-C
    """
    from tape.progress import Interrupt, progress
    from tape.projecting import project
    from tape.show_project import show_project

    stop = Interrupt()
    with stop.listening(), progress() as report:
        done = project(log, dsn, follow=follow, rebuild=rebuild, report=report, stop=stop)
    if as_json:
        print(json.dumps(done, indent=2))
    else:
        show_project(done)
    if follow:
        raise typer.Exit(STOPPED)
