"""`tape kafka`."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tape.commands.options import FAILED, wrong

if TYPE_CHECKING:
    from eventlog.kafka.broker import Broker

app = typer.Typer(help="A Kafka broker on this machine, for developers: one node, reached from here only.")

USUAL_PORT = 9092

Folder = Annotated[
    Path | None,
    typer.Option(
        "--dir",
        metavar="DIR",
        help="The folder of its data.  [default: tape/kafka in $XDG_DATA_HOME or ~/.local/share]",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@app.command()
def start(
    folder: Folder = None,
    port: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=65535,
            metavar="PORT",
            help="Where it listens.  [default: as last time; at first 9092, or a free one]",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Start a broker, or say where the one that runs is.

    It runs as a container where a Docker engine answers; else as a process, which takes a JDK 17 and,
    for the first time, Maven: that downloads 54 MB.
    """
    from eventlog.kafka import broker
    from tape.progress import Stage, progress

    place = data_folder(folder)
    running = broker.status(place)
    if running is None and port is not None and not broker.is_free(port):
        raise wrong("port", f"{port} is in use; name another")
    if running is not None and port not in (None, running.port):
        raise wrong("port", f"the broker of {place} runs at {running.address}; stop it first")
    port = port or first_port(place)
    with progress() as report:

        def say(text: str) -> None:
            report(Stage(text, 0, 1))
            if not sys.stderr.isatty():
                print(text, file=sys.stderr)

        found = running or broker.start(place, port=port, say=say)
    _show(found, as_json, "runs" if running is None else "runs already")


@app.command()
def status(folder: Folder = None, as_json: Json = False) -> None:
    """Say where the broker is.

    \b
    Exit codes:
      0  it runs
      1  it does not
    """
    from eventlog.kafka import broker

    place = data_folder(folder)
    found = broker.status(place)
    if found is not None:
        _show(found, as_json, "runs")
        return
    again = "tape kafka start" if folder is None else f"tape kafka start --dir {folder}"
    _print(
        {"running": False, "dir": str(place)}, as_json, f"no broker runs over {place}; start one:  {again}"
    )
    raise typer.Exit(FAILED)


@app.command()
def stop(folder: Folder = None, as_json: Json = False) -> None:
    """Stop the broker; its data stays."""
    from eventlog.kafka import broker

    place = data_folder(folder)
    stopped = broker.stop(place)
    text = f"stopped; its data stays in {place}" if stopped else f"no broker was running over {place}"
    _print({"stopped": stopped, "running": False, "dir": str(place)}, as_json, text)


def data_folder(folder: Path | None) -> Path:
    """The folder of the data, absolute. Raises `typer.BadParameter` for what is no folder."""
    if folder is None:
        home = Path(os.environ.get("XDG_DATA_HOME") or "")
        folder = (home if home.is_absolute() else Path.home() / ".local/share") / "tape/kafka"
    if folder.exists() and not folder.is_dir():
        raise wrong("dir", f"{folder} is not a folder")
    return folder.absolute()


def first_port(place: Path) -> int | None:
    """Where a broker is to listen that never ran; None: as last time, or anywhere."""
    from eventlog.kafka import broker

    return USUAL_PORT if not (place / broker.STATE).exists() and broker.is_free(USUAL_PORT) else None


def _show(broker: Broker, as_json: bool, verb: str) -> None:
    is_container = broker.how == "container"
    log = f"docker logs {broker.handle[:12]}" if is_container else str(Path(broker.folder) / "kafka.log")
    found = {
        "running": True,
        "address": broker.address,
        "version": broker.version,
        "how": broker.how,
        "handle": broker.handle,
        "dir": broker.folder,
        "log": log,
    }
    url = f"kafka://{broker.address}/first"
    text = f"""Apache Kafka {broker.version} {verb} at {broker.address}
how   {broker.how} {broker.handle[:12]}
data  {broker.folder}
log   {log}

try   tape backtest --data data/sample --symbols SPY --from 2013-10-07 --to 2013-10-09 --log {url}
then  tape topics list {url}"""
    _print(found, as_json, text)


def _print(found: dict[str, Any], as_json: bool, text: str) -> None:
    print(json.dumps(found, indent=2) if as_json else text)
