"""Logs as users name them, and their heads."""

from __future__ import annotations

import json
from pathlib import Path

from eventlog import EventLog, heads
from eventlog.errors import LogError
from eventlog.heads import Sealed
from eventlog.urls import is_kafka
from tape.errors import WrongInput


def url_of(name: str) -> str:
    """The URL of a log: a path without a scheme is that of a file. Raises `WrongInput`."""
    if not is_kafka(name):
        return name if name.startswith("sqlite:") else f"sqlite:{name}"
    from eventlog.kafka.store import split_url

    try:
        split_url(name)
    except LogError as problem:
        raise WrongInput(str(problem)) from problem
    return name


def is_log(name: Path | str) -> bool:
    """Whether a name is that of a log: a URL, or a file that is one of SQLite's."""
    if str(name).startswith(("sqlite:", "kafka:")):
        return True
    try:
        with Path(name).open("rb") as file:
            return file.read(16) == b"SQLite format 3\0"
    except OSError:
        return False


def file_of(url: str) -> Path | None:
    """The file of a log; None for one on Kafka."""
    return None if is_kafka(url) else Path(url.removeprefix("sqlite:"))


def absolute(url: str) -> str:
    """The name of a log, good in any folder."""
    file = file_of(url)
    return url if file is None else f"sqlite:{file.resolve()}"


def head_beside(file: Path) -> Path:
    """Where the head of a log's file is written."""
    return file.with_name(f"{file.name}.head")


def write_heads(log: EventLog, head: Path, sealed: Sealed | None = None) -> None:
    """Write LOG.head: what a copy kept elsewhere tells a truncated tail by.

    `sealed` are the last seals of a log that has just been sealed to its end.
    """
    temporary = head.with_name(f"{head.name}.new")
    try:
        head.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps(heads(log, sealed), indent=1, sort_keys=True), encoding="utf-8")
        temporary.replace(head)
    except (LogError, OSError):
        temporary.unlink(missing_ok=True)  # a full disk, say: the run has said so, and an old head serves too
