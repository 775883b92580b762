"""`tape dead-letters`."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Literal

import typer

from tape.commands.options import FAILED, wrong

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
Why = Annotated[str, typer.Option("--why", metavar="TEXT", help="Why; it stands in the log.")]
Who = Annotated[
    str | None, typer.Option("--who", metavar="NAME", help="Who asks.  [default: the user, at this machine]")
]
Wait = Annotated[
    float,
    typer.Option(
        "--wait", min=0, max=3600, metavar="SECONDS", help="How long to wait for the core's answer."
    ),
]
WAIT_S = 10.0
Action = Literal["retry", "drop"]


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


@app.command()
def retry(
    log: Log, place: Place, why: Why, who: Who = None, wait: Wait = WAIT_S, as_json: Json = False
) -> None:
    """Have the core read a record again, with the code that runs now; what it says acts now, once.

    If it still cannot be read, or no longer fits to what has come since, the core refuses and says why;
    it stays open. A quote, trade or bar counts as backfilled. A halted account is to be re-armed then.

    \b
    Exit codes:
      0  it was read, and has acted
      1  a core refused, or has not answered: `tape dead-letters show` says what became of it
      2  wrong input: no such dead letter, or it is resolved, or was set aside; nothing was written
    """
    _resolve(log, place, "retry", why, who, wait, as_json)


@app.command()
def drop(
    log: Log, place: Place, why: Why, who: Who = None, wait: Wait = WAIT_S, as_json: Json = False
) -> None:
    """Leave a record out: it blocks nothing any more, and never acts. Its bytes stay in the log.

    A halted account is to be re-armed then.

    \b
    Exit codes:
      0  it blocks nothing any more
      1  a core refused, or has not answered: `tape dead-letters show` says what became of it
      2  wrong input: no such dead letter, or it is resolved, or was set aside; nothing was written
    """
    _resolve(log, place, "drop", why, who, wait, as_json)


def _resolve(
    log: str, place: str, action: Action, why: str, who: str | None, wait: float, as_json: bool
) -> None:
    from tape.dead_letters import dead_record, resolutions
    from tape.operating import answer_json, answer_text, tell, whoami
    from tape.progress import progress
    from tape.topics import opened

    if not why.strip():
        raise wrong("why", "say why; it stands in the log")
    with opened(log) as reader, progress() as report:
        url, dead = reader.url, dead_record(reader, place, report)
    answers = tell(url, resolutions(dead, action, who or whoami(), why.strip()), wait)
    if as_json:
        shown = {"place": dead.place, "action": action, "answers": [answer_json(one) for one in answers]}
        print(json.dumps(shown, indent=2))
    else:
        print("\n".join(line for answer in answers for line in answer_text(answer)))
    if any(answer.outcome != "applied" for answer in answers):
        raise typer.Exit(FAILED)
