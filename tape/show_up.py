"""How `tape up` looks: a table on a terminal, else lines, or a JSON object a line."""

from __future__ import annotations

import json
import sys
import time as clock
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, Protocol

from tape.supervisor import Told
from tape.up import Row, Standing

STATUS_S = 10.0
"""Between two lines on how the roles stand."""


class Screen(Protocol):
    """Where a run is shown."""

    def begun(self, standing: Standing, roles: Sequence[Row]) -> None:
        """What runs over what."""

    def told(self, told: Told) -> None:
        """Something has happened to a role."""

    def changed(self, opened: Sequence[str], refused: str) -> None:
        """The configuration was read again: accounts that are new in it, or why it was refused."""

    def ready(self) -> None:
        """All roles are ready."""

    def rows(self, rows: Sequence[Row]) -> None:
        """How they stand; about once a second."""

    def ended(self, left: Sequence[str]) -> None:
        """All have ended; what was left running, in sentences."""


@contextmanager
def screen(as_json: bool) -> Iterator[Screen]:
    """The one that fits: JSON where it is asked for, a table on a terminal, else lines."""
    if as_json:
        yield Objects()
    elif sys.stdout.isatty():
        with _table() as table:
            yield table
    else:
        yield Lines()


def sentence(told: Told) -> str:
    """What has happened, for people."""
    if told.what == "died":
        return f"{told.name} has ended ({told.error}); it starts again in {told.again_s:g} s"
    if told.what == "killed":
        return f"{told.name} was killed: {told.error}"
    what = {"started": "starts", "ready": "is ready", "stopped": "has ended"}[told.what]
    return f"{told.name} {what} (pid {told.pid})"


def said_of_change(opened: Sequence[str], refused: str) -> str:
    """What came of a configuration that was read again, for people."""
    if refused:
        return f"configuration refused, the old one goes on: {refused}"
    accounts = f"; accounts asked for: {', '.join(opened)}" if opened else ""
    return f"the configuration is read again{accounts}"


class Objects:
    """A JSON object a line; each says what it is in `event`, and when."""

    def __init__(self) -> None:
        self._said = 0.0

    def begun(self, standing: Standing, roles: Sequence[Row]) -> None:
        """What runs over what."""
        self._say(
            "begun",
            log=standing.url,
            log_id=standing.log_id,
            opened=standing.opened,
            postgres=standing.shown_postgres,
        )
        self._say("roles", roles=[row.role for row in roles])

    def told(self, told: Told) -> None:
        """Something has happened to a role."""
        found = {key: value for key, value in asdict(told).items() if value not in (None, "")}
        self._say(found.pop("what"), **({"role": found.pop("name")} | found))

    def changed(self, opened: Sequence[str], refused: str) -> None:
        """The configuration was read again."""
        if refused:
            self._say("refused", error=refused)
        else:
            self._say("changed", opened=list(opened))

    def ready(self) -> None:
        """All roles are ready."""
        self._say("all-ready")

    def rows(self, rows: Sequence[Row]) -> None:
        """How they stand, every few seconds."""
        if clock.monotonic() - self._said >= STATUS_S:
            self._said = clock.monotonic()
            self._say("status", roles=[asdict(row) for row in rows])

    def ended(self, left: Sequence[str]) -> None:
        """All have ended."""
        self._say("ended", left_running=list(left))

    def _say(self, event: str, **what: Any) -> None:
        print(json.dumps({"event": event, "time": _now()} | what), flush=True)


class Lines:
    """A line for each thing that happens, and now and then how the roles stand."""

    def __init__(self) -> None:
        self._said = clock.monotonic()

    def begun(self, standing: Standing, roles: Sequence[Row]) -> None:
        """What runs over what."""
        self._say(f"log {standing.url}, id {standing.log_id[:12]}")
        if standing.opened:
            self._say(f"accounts asked for: {', '.join(standing.opened)}")
        if standing.postgres is not None:
            self._say(f"rows go to Postgres at {standing.shown_postgres}")

    def told(self, told: Told) -> None:
        """Something has happened to a role."""
        self._say(sentence(told))

    def changed(self, opened: Sequence[str], refused: str) -> None:
        """The configuration was read again."""
        self._say(said_of_change(opened, refused))

    def ready(self) -> None:
        """All roles are ready."""
        self._say("all roles are ready")

    def rows(self, rows: Sequence[Row]) -> None:
        """How they stand, every few seconds."""
        if clock.monotonic() - self._said >= STATUS_S:
            self._said = clock.monotonic()
            self._say("  ".join(f"{row.role} {row.state}{_figures(row)}" for row in rows))

    def ended(self, left: Sequence[str]) -> None:
        """All have ended."""
        for text in ("all roles have ended", *left):
            self._say(text)

    def _say(self, text: str) -> None:
        print(f"{_now()}  {text}", flush=True)


def _figures(row: Row) -> str:
    parts = [f"{row.rate:,.0f}/s"] if row.rate is not None else []
    parts += [f"{row.behind:,} behind"] if row.behind else []
    return f" ({', '.join(parts)})" if parts else ""


class Table:
    """A table that is drawn anew each second; what happens scrolls by above it."""

    def __init__(self, live: Any) -> None:
        self._live = live

    def begun(self, standing: Standing, roles: Sequence[Row]) -> None:
        """What runs over what."""
        self._live.console.print(f"log {standing.url}", highlight=False)
        if standing.postgres is not None:
            self._live.console.print(f"rows go to Postgres at {standing.shown_postgres}", highlight=False)
        self._live.console.print("Ctrl-C ends all of them, in order\n", highlight=False)
        self.rows(roles)

    def told(self, told: Told) -> None:
        """Something has happened to a role: only what is no part of a quiet start or end."""
        if told.what in ("died", "killed"):
            self._live.console.print(f"{_now()}  {sentence(told)}", highlight=False, markup=False)

    def changed(self, opened: Sequence[str], refused: str) -> None:
        """The configuration was read again."""
        text = said_of_change(opened, refused)
        self._live.console.print(f"{_now()}  {text}", highlight=False, markup=False)

    def ready(self) -> None:
        """All roles are ready: the table shows it."""

    def rows(self, rows: Sequence[Row]) -> None:
        """How they stand."""
        self._live.update(drawn(rows), refresh=True)

    def ended(self, left: Sequence[str]) -> None:
        """All have ended."""
        for text in ("all roles have ended", *left):
            self._live.console.print(text, highlight=False, markup=False)


@contextmanager
def _table() -> Iterator[Table]:
    from rich.live import Live

    with Live(auto_refresh=False) as live:
        yield Table(live)


def drawn(rows: Sequence[Row]) -> Any:
    """The table of the roles."""
    from rich.table import Table as Drawn
    from rich.text import Text

    table = Drawn(box=None, pad_edge=False)
    for name in ("role", "pid", "state", "starts", "inputs", "a second", "behind", "last error"):
        table.add_column(name, justify="left" if name in ("role", "state", "last error") else "right")
    for row in rows:
        table.add_row(
            row.role,
            "" if row.pid is None else str(row.pid),
            row.state,
            str(row.starts),
            "" if row.processed is None else f"{row.processed:,}",
            "" if row.rate is None else f"{row.rate:,.0f}",
            "" if row.behind is None else f"{row.behind:,}",
            Text(row.error),
        )
    return table


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
