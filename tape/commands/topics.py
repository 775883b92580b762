"""`tape topics`."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from tape.commands.options import STOPPED, wrong

if TYPE_CHECKING:
    from schemas import Record

app = typer.Typer(help="Look into a log: its topics, the last records, a single one.")

Log = Annotated[str, typer.Argument(metavar="LOG", help="sqlite:PATH, a path, or kafka://HOST:PORT/NAME.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object; times are UTC nanoseconds.")]


@app.command("list")
def list_topics(
    log: Log,
    count: Annotated[
        bool,
        typer.Option("--count", help="Read everything: exact counts, and how many records cannot be read."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Every topic: its partitions, how many records, the times of the first and the last.

    Times are those of the events; where these have none, those of writing, marked w. On Kafka, offsets
    of a topic written in transactions have holes: <= says how many records there are at most.
    """
    from tape.progress import progress
    from tape.topics import listing, opened, show_list

    with opened(log) as reader, progress() as report:
        found = listing(reader, count, report)
    if as_json:
        print(json.dumps(found, indent=2))
    else:
        show_list(found)


@app.command()
def describe(
    log: Log,
    topic: Annotated[str, typer.Argument(help="As `tape topics list` names it.")],
    as_json: Json = False,
) -> None:
    """One topic, read whole: who writes it, its partitions, their seals, its events."""
    from tape.progress import progress
    from tape.topics import description, opened, show_description

    with opened(log) as reader, progress() as report:
        found = description(reader, topic, report)
    if as_json:
        print(json.dumps(found, indent=2))
    else:
        show_description(found)


@app.command()
def tail(
    log: Log,
    topic: Annotated[
        str | None,
        typer.Argument(metavar="[TOPIC[/PARTITION]]", help="Without one: all facts and decisions."),
    ] = None,
    count: Annotated[int, typer.Option("--lines", "-n", min=0, metavar="N", help="How many.")] = 10,
    follow: Annotated[
        bool,
        typer.Option("--follow", "-f", help="Go on with what is appended, until Ctrl-C (exit code 130)."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object a line.")] = False,
) -> None:
    """The last records by event time, over all partitions; a line each."""
    from eventlog import inspect
    from tape.topics import TAILED, line, opened, record_json

    def show(records: list[Record]) -> None:
        for record in records:
            print(record_json(record) if as_json else line(record))
        sys.stdout.flush()

    with opened(log) as reader:
        names = TAILED if topic is None else (topic,)
        streams = [stream for name in names for stream in inspect.streams_named(reader, name)]
        try:
            records, ends = inspect.last(reader, streams, count)
            show(records)
            if follow:
                for came in inspect.follow(reader, ends):
                    show(came)
        except KeyboardInterrupt:  # the usual end of following: nothing is said, and no object is printed
            raise typer.Exit(STOPPED) from None


@app.command()
def show(
    log: Log,
    name: Annotated[
        str,
        typer.Argument(
            metavar="TOPIC/PARTITION/OFFSET|ACCOUNT:SEQ", help="A place, as fills/0/12, or a decision's id."
        ),
    ],
    raw: Annotated[
        bool, typer.Option("--raw", help="Print the stored bytes of its value, nothing else.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """One record whole. One that cannot be read is shown in hexadecimal, with the reason."""
    from eventlog.inspect import record_named
    from tape.topics import opened, record_json, show_record

    if raw and as_json:
        raise wrong("raw", "the bytes are either raw or in an object; leave --json or --raw out")
    with opened(log) as reader:
        record = record_named(reader, name)
    if raw:
        sys.stdout.buffer.write(record.value)
    elif as_json:
        print(record_json(record, indent=2))
    else:
        show_record(record)
