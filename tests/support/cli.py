"""The `tape` command as a user runs it: in a process of its own."""

from __future__ import annotations

import contextlib
import io
import json
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from support.lean import SAMPLE
from tape.cli import main

TAPE = Path(sys.executable).with_name("tape")
BACKTEST = ("backtest", "--data", str(SAMPLE), "--json")
MONDAY = ("--from", "2013-10-07", "--to", "2013-10-07")
THREE_DAYS = ("--from", "2013-10-07", "--to", "2013-10-09")


@dataclass(frozen=True)
class Ran:
    """What a command said and how it ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """The one JSON object on standard output."""
        found: dict[str, Any] = json.loads(self.out)
        return found

    @property
    def said(self) -> str:
        """The sentence on standard error: one line, without a trace, as `tape: ...`."""
        assert "Traceback" not in self.err
        (line,) = self.err.splitlines()
        assert line.startswith("tape: ")
        return line.removeprefix("tape: ")


def check_figures(summary: dict[str, Any]) -> None:
    """What holds between the figures of every run, exactly."""
    equity = money(summary, "end_equity")
    gained = money(summary, "realized") - money(summary, "fees") + money(summary, "income")
    assert equity == money(summary, "start_cash") + gained + money(summary, "unrealized")
    held = sum(money(p, "quantity") * money(p, "mark") for p in summary["positions"] if p["quantity"] != "0")
    assert equity == money(summary, "cash") + money(summary, "receivables") + held


def start(*args: str | Path, **options: Any) -> subprocess.Popen[str]:
    """Start `tape` and do not wait."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([TAPE, *map(str, args)], **{**pipes, **options})


def end(process: subprocess.Popen[str]) -> Ran:
    """Wait for a command."""
    out, err = process.communicate(timeout=120)
    return Ran(process.returncode, out, err)


def tape(*args: str | Path, **options: Any) -> Ran:
    """Run `tape` to its end."""
    return end(start(*args, **options))


@contextmanager
def _as_process(args: tuple[str | Path, ...]) -> Iterator[tuple[io.StringIO, io.StringIO]]:
    """Arguments and output streams as a process of its own would have them."""
    before, out, err = sys.argv, io.StringIO(), io.StringIO()
    sys.argv = [str(TAPE), *map(str, args)]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            yield out, err
    finally:
        sys.argv = before


def here(*args: str | Path) -> Ran:
    """Run the command in this process: for tables of cases, without a second of start-up each."""
    with _as_process(args) as (out, err), pytest.raises(SystemExit) as ended:
        main()
    return Ran(int(ended.value.code or 0), out.getvalue(), err.getvalue())


def backtest_on(data: str | Path) -> tuple[str, ...]:
    """`BACKTEST` on other data than the sample."""
    return "backtest", "--data", str(data), "--json"


def run(out: Path, *args: str | Path, data: str | Path = SAMPLE, **options: Any) -> dict[str, Any]:
    """A backtest that must succeed: its summary."""
    ran = tape(*backtest_on(data), "--out", out, *args, **options)
    assert ran.code == 0, ran.err
    return ran.json


def money(summary: dict[str, Any], name: str) -> Decimal:
    """A figure of a summary; money is text there."""
    assert isinstance(summary[name], str), f"{name} is {summary[name]!r}"
    return Decimal(summary[name])


def log_in(folder: Path) -> Path:
    """The log of a run with `--out folder`."""
    return folder / "log.sqlite"


def wait_until(process: subprocess.Popen[str], reached: Callable[[], bool]) -> bool:
    """Wait until `reached`; False if the process ends before."""
    while process.poll() is None:
        if reached():
            return True
        time.sleep(0.01)
    return False


def query(log: Path, sql: str) -> list[tuple[Any, ...]]:
    """Rows of a log that another process may be writing; none while it has not been made."""
    if not log.exists():
        return []
    reader = sqlite3.connect(f"file:{log}?mode=ro", uri=True, timeout=10)
    try:
        return reader.execute(sql).fetchall()
    except sqlite3.OperationalError:
        return []  # between its making and its first reader
    finally:
        reader.close()


def records(log: Path, topics: str = "%") -> int:
    """How many records stand in the topics LIKE that."""
    rows = query(log, f"SELECT coalesce(sum(next), 0) FROM streams WHERE topic LIKE '{topics}'")
    return int(rows[0][0]) if rows else 0
