"""`tape trace`."""

from __future__ import annotations

import json
from typing import Annotated

import typer


def trace(
    log: Annotated[
        str, typer.Argument(metavar="LOG", help="sqlite:PATH, a path, or kafka://HOST:PORT/NAME.")
    ],
    name: Annotated[
        str,
        typer.Argument(
            metavar="ID",
            help="ACCOUNT:SEQ, a client order id, an execution id, a command's, or TOPIC/PARTITION/OFFSET.",
        ),
    ],
    down: Annotated[bool, typer.Option("--down", help="Consequences instead of causes.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """From a profit, a position, a fill, an order or a breach to its causes, down to the quotes.

    A cause that is missing or cannot be read is said to be so.

    \b
    Exit codes:
      0  done
      1  the log cannot be read
      2  no such record
    """
    from tape.show_tracing import show_tree
    from tape.topics import opened
    from tape.tracing import Index, causes, consequences
    from tape.tracing_sums import with_sums

    with opened(log) as reader:
        index = Index(reader)
        found = consequences(index, name) if down else with_sums(index, causes(index, name))
    if as_json:
        print(json.dumps(found, indent=2))
    else:
        show_tree(found, "consequences" if down else "causes")
