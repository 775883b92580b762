"""`tape dead-letters`."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer

from tape.commands.options import wrong

app = typer.Typer(
    help="What could not be read, or was set aside: look at it, read it again, or leave it out.\n\n"
    "A record that cannot be read keeps its place in the log, and blocks what it may have been about until "
    "it is resolved: read again (retry) or left out (drop). There is no other command for that."
)

Log = Annotated[str, typer.Argument(metavar="LOG", help="sqlite:PATH, a path, or kafka://HOST:PORT/NAME.")]
Place = Annotated[
    str, typer.Argument(metavar="PLACE", help="As `tape dead-letters list` says: TOPIC/PARTITION/OFFSET.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@app.command("list")
def list_letters(log: Log, as_json: Json = False) -> None:
    """Every record that could not be read, and every event set aside, the newest last.

    \b
    open       it blocks what it may have been about: retry or drop it
    retried    it was read again, and has acted then
    dropped    it was left out
    set aside  an import or a feed has kept it out of the log; nothing waits for it
    outside    only a strategy or rule outside the core could not read it; nothing waits for it
    """
    from tape.dead_letters import dead_records, list_json, show_list
    from tape.progress import progress
    from tape.topics import opened

    with opened(log) as reader, progress() as report:
        found = dead_records(reader, report)
    if as_json:
        print(json.dumps(list_json(found, reader.url), indent=2))
    else:
        show_list(found, reader.url)


@app.command()
def show(
    log: Log,
    place: Place,
    raw: Annotated[bool, typer.Option("--raw", help="Print the record's bytes, nothing else.")] = False,
    as_json: Json = False,
) -> None:
    """One of them whole: its bytes, why it could not be read, and every decision about it."""
    from tape.dead_letters import bytes_of, dead_record, show_whole, whole_json
    from tape.progress import progress
    from tape.topics import opened

    if raw and as_json:
        raise wrong("raw", "the bytes are either raw or in an object; leave --json or --raw out")
    with opened(log) as reader, progress() as report:
        dead = dead_record(reader, place, report)
        data = bytes_of(reader, dead)
    if raw:
        sys.stdout.buffer.write(data)
    elif as_json:
        print(json.dumps(whole_json(dead, data), indent=2))
    else:
        show_whole(dead, data)
