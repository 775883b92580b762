"""What `tape project` and `tape postgres` do: a log's decisions into Postgres, ours or any other."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eventlog import LogReader, open_log
from schemas import DECISIONS
from tape.errors import Stopped
from tape.logs import absolute, url_of
from tape.progress import Report, Stage

if TYPE_CHECKING:
    from projections.postgres.projector import Done, Projector
    from projections.postgres.server import Running

DSN = "TAPE_POSTGRES_DSN"
"""The environment variable that names a server."""


def project(
    place: str,
    dsn: str | None,
    *,
    follow: bool,
    rebuild: bool,
    report: Report,
    stop: Callable[[], bool],
) -> dict[str, Any]:
    """Bring the read model on from a log, to its end or until `stop`; what was brought in.

    Raises `ProjectionError`, `LogError`; `Stopped` where `stop` came before the end.
    """
    from projections.postgres.projector import connect, projecting, shown_dsn

    with open_log(absolute(url_of(place)), read_only=True) as log:
        server = dsn or os.environ.get(DSN) or _embedded().dsn
        with connect(server) as connection, projecting(connection, log, rebuild=rebuild) as projector:
            started = time.monotonic()
            _bring_on(projector, log, follow, report, stop)
            return _summary(log, projector.done, time.monotonic() - started, shown_dsn(server))


def _bring_on(
    projector: Projector, log: LogReader, follow: bool, report: Report, stop: Callable[[], bool]
) -> None:
    total = sum(log.bounds(topic, p)[1] for topic in DECISIONS for p in range(log.partitions(topic)))
    started = time.monotonic()

    def progress(done: Done) -> None:
        rate = done.rows / max(time.monotonic() - started, 1e-9)
        brought = sum(position.decisions for position in done.positions.values())
        report(Stage("project", brought, max(total, brought), note=f"{rate:,.0f} rows/s"))

    if follow:
        projector.follow(progress, stop)
    elif not projector.catch_up(progress, stop):
        raise Stopped("stopped; what was brought in stands, and the same command goes on from there")


def _summary(log: LogReader, done: Done, seconds: float, server: str) -> dict[str, Any]:
    positions = done.positions.values()
    return {
        "log": log.url,
        "log_id": log.id,
        "server": server,
        "schema": "trading",
        "batches": done.batches,
        "decisions": done.decisions,
        "rows": done.rows,
        "unreadable": done.unreadable,
        "repeats": done.repeats,
        "batches_in_all": sum(position.batches for position in positions),
        "decisions_in_all": sum(position.decisions for position in positions),
        "seconds": round(seconds, 3),
        "rows_per_second": round(done.rows / seconds) if seconds else 0,
    }


# ------------------------------------------------------------ the embedded server


def say(text: str) -> None:
    """What takes a while, or changes something."""
    print(f"tape: {text}", file=sys.stderr)


def data_folder(given: Path | None = None) -> Path:
    """Where the embedded server keeps its data."""
    from projections.postgres.server import default_folder

    return (given or default_folder()).absolute()


def _embedded() -> Running:
    from projections.postgres.server import start

    return start(data_folder(), say)


def start_server(folder: Path | None) -> dict[str, Any]:
    """Start the embedded server, or find it running."""
    from projections.postgres.server import start

    where = data_folder(folder)
    return _about(where, start(where, say))


def stop_server(folder: Path | None) -> dict[str, Any]:
    """Stop the embedded server; nothing is lost."""
    from projections.postgres.server import stop

    where = data_folder(folder)
    return {**_about(where, None), "stopped": stop(where) is not None}


def server_status(folder: Path | None) -> dict[str, Any]:
    """Whether the embedded server runs, and where to connect."""
    from projections.postgres.server import status

    where = data_folder(folder)
    return _about(where, status(where))


def _about(folder: Path, running: Running | None) -> dict[str, Any]:
    return {
        "running": running is not None,
        "folder": str(folder),
        "pid": running.pid if running else None,
        "dsn": running.dsn if running else None,
        "reader_dsn": running.reader_dsn if running else None,
    }
