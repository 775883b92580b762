"""`tape postgres`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from tape.commands.options import FAILED

app = typer.Typer(help="The Postgres that comes with Tape: start it, stop it, ask where it is.")

Folder = Annotated[
    Path | None,
    typer.Option(
        "--folder", metavar="FOLDER", help="Where its data lie; by default tape/postgres in XDG_DATA_HOME."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@app.command()
def start(folder: Folder = None, as_json: Json = False) -> None:
    """Start the server, and print where to connect. It runs until it is stopped.

    It listens on no network: one connects through a file, as the user who started it.
    """
    from tape.projecting import start_server

    _show(start_server(folder), as_json)


@app.command()
def stop(folder: Folder = None, as_json: Json = False) -> None:
    """Stop the server; what is in it stays."""
    from tape.projecting import stop_server

    _show(stop_server(folder), as_json)


@app.command()
def status(folder: Folder = None, as_json: Json = False) -> None:
    """Say whether the server runs, and where to connect. Exit code 1: it does not."""
    from tape.projecting import server_status

    found = server_status(folder)
    _show(found, as_json)
    if not found["running"]:
        raise typer.Exit(FAILED)


def _show(found: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(found, indent=2))
    else:
        from tape.show_project import show_server

        show_server(found)
