"""Progress while a command runs, and Ctrl-C."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from types import FrameType
from typing import Any
from zoneinfo import ZoneInfo


@dataclass(frozen=True)
class Stage:
    """How far a command is: which part, how much of how much, and the market time (UTC ns) or a note."""

    name: str
    done: int
    total: int
    now: int = 0
    note: str = ""


Report = Callable[[Stage], None]


class Interrupt:
    """Ctrl-C asks once to stop after the current batch; a second one ends the process."""

    def __init__(self) -> None:
        self.asked = False

    def __call__(self) -> bool:
        return self.asked

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Catch SIGINT and SIGTERM while the block runs."""

        def ask(number: int, frame: FrameType | None) -> None:
            self.asked = True
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            print("\nstopping after this batch (Ctrl-C again to end at once)", file=sys.stderr)

        before = {s: signal.signal(s, ask) for s in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


@contextmanager
def progress() -> Iterator[Report]:
    """A bar for each stage on standard error where that is a terminal; else nothing."""
    if not sys.stderr.isatty():
        yield lambda stage: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description:8}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, TextColumn("{task.fields[now]}"), console=Console(stderr=True)) as bars:
        tasks: dict[str, Any] = {}

        def report(stage: Stage) -> None:
            if stage.name not in tasks:
                tasks[stage.name] = bars.add_task(stage.name, total=stage.total, now="")
            now = _new_york(stage.now) if stage.now else stage.note
            bars.update(tasks[stage.name], completed=stage.done, total=stage.total, now=now)

        yield report


def _new_york(ts: int) -> str:
    return datetime.fromtimestamp(ts // 1_000_000_000, ZoneInfo("America/New_York")).isoformat(" ", "minutes")
