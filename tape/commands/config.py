"""`tape config`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="The configuration of live roles: whether it can be used, and what it says.")

File = Annotated[Path, typer.Argument(metavar="FILE", help="A TOML file, as deploy/tape.toml.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@app.command()
def check(file: File, as_json: Json = False) -> None:
    """Say whether a configuration can be used: its keys, its limits, its strategies. Nothing is written.

    \b
    Exit codes:
      0  it can
      2  it cannot; the key and the remedy are named
    """
    from tape.commands.options import users_code
    from tape.config import load
    from tape.configuring import check
    from tape.roles import named

    config = load(file)
    with users_code():
        check(config)
    roles = [role.label for role in named(config)]
    if as_json:
        print(json.dumps({"file": str(file), "ok": True, "roles": roles}, indent=2))
    else:
        print(f"{file} can be used; its roles: {', '.join(roles)}")


@app.command()
def apply(
    file: File,
    log: Annotated[
        str | None,
        typer.Option("--log", metavar="URL", help="sqlite:PATH or kafka://HOST:PORT/NAME, over TAPE_LOG."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Make the log of a configuration where there is none, and ask for its accounts; a repeat does nothing.

    \b
    Exit codes:
      0  they are there
      1  the log failed
      2  the configuration cannot be used, or the log is of another time or other partitions
    """
    from tape.commands.options import users_code
    from tape.config import ConfigError, load
    from tape.configuring import check, open_accounts, open_or_make
    from tape.logs import url_of

    config = load(file, log=log)
    if config.log is None:
        raise ConfigError(f"{file} names no log: add log =, or give --log")
    with users_code():
        check(config)
    with open_or_make(config, url_of(config.log)) as made:
        opened = open_accounts(config, made)
        found = {"log": made.url, "log_id": made.id, "opened": opened}
    if as_json:
        print(json.dumps(found, indent=2))
    else:
        print(f"{found['log']}: {'asked for ' + ', '.join(opened) if opened else 'no account to open'}")


@app.command()
def show(file: File, as_json: Json = False) -> None:
    """Show what a configuration says, with the environment over it and every default; no password."""
    from tape.config import load, shown

    table = shown(load(file))
    if as_json:
        print(json.dumps(table, indent=2))
        return
    for key, value in _lines(table):
        print(f"{key} = {value}")


def _lines(value: object, place: str = "") -> list[tuple[str, str]]:
    """Each value of nested tables by its place, as in core.fee or accounts.1.id."""
    if isinstance(value, dict) and value:
        parts = [(str(key), inner) for key, inner in value.items()]
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        parts = [(str(n), inner) for n, inner in enumerate(value, 1)]
    else:
        return [(place, json.dumps(value, ensure_ascii=False))]
    return [line for key, inner in parts for line in _lines(inner, f"{place}.{key}" if place else key)]
