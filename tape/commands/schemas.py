"""`tape schemas`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from tape.commands.options import FAILED

app = typer.Typer(help="The JSON Schemas of every event.")


@app.command("export")
def export_schemas(
    folder: Annotated[
        Path | None, typer.Argument(help="Default: where Tape keeps those it comes with.")
    ] = None,
) -> None:
    """Write the JSON Schema of every event's current version, as NAME.vN.json."""
    from schemas.export import VERSIONS_FOLDER, IncompatibleError, export

    folder = folder or VERSIONS_FOLDER
    try:
        written = export(folder)
    except IncompatibleError as problem:
        print(problem, file=sys.stderr)
        raise typer.Exit(FAILED) from None
    print(f"{len(written)} schemas in {folder}")


@app.command("check")
def check_schemas(
    folder: Annotated[Path | None, typer.Argument(help="Default: those that Tape comes with.")] = None,
) -> None:
    """Refuse what records or readers of the schemas in FOLDER would not survive.

    \b
    Exit codes:
      0  compatible
      1  not: each problem is named with its remedy
    """
    from schemas.export import VERSIONS_FOLDER, check

    folder = folder or VERSIONS_FOLDER
    if not folder.is_dir():
        raise typer.BadParameter(f"{folder} is not a folder of schemas", param_hint="FOLDER")
    problems = check(folder)
    for problem in problems:
        print(problem, file=sys.stderr)
    if problems:
        raise typer.Exit(FAILED)
    print(f"every schema is compatible with those in {folder}")
