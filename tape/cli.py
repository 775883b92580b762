"""The command line: `tape backtest`, `tape verify`, `tape schemas`.

Text for people goes to standard output, progress and errors to standard error; `--json` prints one
object for programs. Exit codes: 0 done (verify: the log holds), 1 the run failed or the log differs,
2 wrong input (verify: it could not be derived again), 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

if TYPE_CHECKING:
    from tape.backtest import Stage, Wanted

app = typer.Typer(
    name="tape",
    help="Event-sourced trading: backtest, verify, and ask why.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
schemas_app = typer.Typer(help="The JSON Schemas of every event.", no_args_is_help=True)
app.add_typer(schemas_app, name="schemas")

FAILED, WRONG, STOPPED = 1, 2, 130


class Resolution(StrEnum):
    minute = "minute"
    second = "second"


class Hours(StrEnum):
    regular = "regular"
    extended = "extended"


class MarkRule(StrEnum):
    side = "side"
    mid = "mid"
    last = "last"


class SizeRule(StrEnum):
    full = "full"
    displayed = "displayed"


class AccountKind(StrEnum):
    margin = "margin"
    cash = "cash"


def main() -> None:
    """Entry point of the `tape` command."""
    app()


class Interrupt:
    """Ctrl-C asks once to stop after the current batch; a second one ends the process."""

    def __init__(self) -> None:
        self.asked = False

    def __call__(self) -> bool:
        return self.asked

    @contextmanager
    def listening(self) -> Iterator[Interrupt]:
        """Catch SIGINT and SIGTERM while the block runs."""

        def ask(number: int, frame: FrameType | None) -> None:
            self.asked = True
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            print("\nstopping after this batch (Ctrl-C again to end at once)", file=sys.stderr)

        before = {s: signal.signal(s, ask) for s in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _fail(problem: BaseException | str, code: int, as_json: bool) -> typer.Exit:
    """Say what went wrong: a sentence for people, an object for programs."""
    if as_json:
        kind = type(problem).__name__ if isinstance(problem, BaseException) else "Error"
        typer.echo(json.dumps({"error": str(problem), "kind": kind}))
    typer.echo(f"tape: {problem}", err=True)
    return typer.Exit(code)


def _decimal(name: str, text: str, at_least: str | None = None) -> Decimal:
    try:
        value = Decimal(text)
    except InvalidOperation:
        raise typer.BadParameter(f"{text!r} is not a number", param_hint=f"--{name}") from None
    if not value.is_finite() or (at_least is not None and value < Decimal(at_least)):
        raise typer.BadParameter(f"{text} is not at least {at_least}", param_hint=f"--{name}")
    return value


def _date(name: str, text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not a date like 2013-10-07", param_hint=f"--{name}") from None


def _params(pairs: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise typer.BadParameter(f"{pair!r} is not of the form name=value", param_hint="--param")
        found[key] = value
    return found


@app.command()
def backtest(
    data: Annotated[Path, typer.Option(help="Folder in LEAN's layout: it holds equity/usa.")],
    symbols: Annotated[str, typer.Option(help="Symbols, separated by commas: SPY,IBM.")],
    from_: Annotated[str, typer.Option("--from", help="First day, inclusive: 2013-10-07.")],
    to: Annotated[str, typer.Option("--to", help="Last day, inclusive.")],
    resolution: Annotated[Resolution, typer.Option(help="Which files to read.")] = Resolution.minute,
    strategy: Annotated[
        str, typer.Option(help="buy-and-hold, sma-cross, or your own: path/to/file.py:Class.")
    ] = "buy-and-hold",
    param: Annotated[
        list[str], typer.Option(help="A parameter of the strategy, name=value; may be repeated.")
    ] = [],  # noqa: B006  # typer copies it
    cash: Annotated[str, typer.Option(help="Starting cash in dollars.")] = "100000",
    fee: Annotated[str, typer.Option(help="none, bps:X, per-share:X:MIN, or alpaca.")] = "none",
    slippage: Annotated[str, typer.Option(help="Basis points lost by who takes.")] = "0",
    latency_ms: Annotated[
        int,
        typer.Option(
            min=0,
            help="From decision to exchange, in market time. 0: on the very quote that caused the signal.",
        ),
    ] = 0,
    buffer: Annotated[str, typer.Option(help="Share of equity that sizing leaves alone.")] = "0.0025",
    mark: Annotated[
        MarkRule,
        typer.Option(help="Value longs at the bid and shorts at the ask, at mid, or at the last trade."),
    ] = MarkRule.side,
    adjusted: Annotated[
        bool, typer.Option("--adjusted", help="Prices adjusted for splits and dividends by the factor files.")
    ] = False,
    hours: Annotated[Hours, typer.Option(help="Regular session, or 04:00-20:00 New York.")] = Hours.regular,
    size: Annotated[
        SizeRule, typer.Option(help="Fill in full, or no more than what is displayed.")
    ] = SizeRule.full,
    limits: Annotated[Path | None, typer.Option(help="TOML file with risk limits.")] = None,
    account: Annotated[AccountKind, typer.Option(help="Cash or margin account.")] = AccountKind.margin,
    multiplier: Annotated[str, typer.Option(help="Gross exposure allowed, in multiples of equity.")] = "2",
    shorting: Annotated[bool, typer.Option(help="Whether the account may sell short.")] = True,
    fractions: Annotated[
        bool, typer.Option("--fractions", help="Allow fractions of a share (millionths).")
    ] = False,
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Go on where a symbol has no file for a session.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the log. Default: a new one under runs/.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with a run that was stopped or killed.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Replay market data through a strategy, an account and a simulated exchange, into a durable log.

    Example: tape backtest --data data/sample --symbols SPY --from 2013-10-07 --to 2013-10-09
    --strategy sma-cross --param fast=10 --param slow=30 --fee per-share:0.005:1

    What is decided stands in the log with its causes; `tape verify LOG` derives all of it again.
    """
    from tape.backtest import Wanted, plan, run

    wanted = _wanted(Wanted, locals())
    errors, failures = _expected_errors()
    interrupt = Interrupt()
    try:
        with interrupt.listening(), _progress() as report:
            made = plan(wanted)
            summary = run(made, report, interrupt)
    except errors as problem:
        raise _fail(problem, WRONG, as_json) from None
    except failures as problem:
        raise _stopped(problem, as_json) from None
    _print_summary(summary, made.wanted.multiplier, as_json)


def _wanted(make: type[Wanted], given: dict[str, Any]) -> Wanted:
    """The options as what the run takes. Raises `typer.BadParameter`."""
    from schemas import CoreSettings
    from tape.limits import BACKTEST, LimitsError, read_limits

    names = tuple(s.strip().upper() for s in given["symbols"].split(",") if s.strip())
    if not names or len(set(names)) != len(names):
        raise typer.BadParameter("name each symbol once, separated by commas", param_hint="--symbols")
    try:
        limits = read_limits(given["limits"], BACKTEST)
        settings = CoreSettings(
            log_prefix="",
            simulated=True,
            mark=given["mark"].value,
            buffer=_decimal("buffer", given["buffer"], "0"),
            fee=_fee(given["fee"]),
            slippage_bps=_decimal("slippage", given["slippage"], "0"),
            latency=given["latency_ms"] * 1_000_000,
            size=given["size"].value,
        )
    except LimitsError as problem:
        raise _fail(problem, WRONG, given["as_json"]) from None
    return make(
        data=given["data"],
        symbols=names,
        first=_date("from", given["from_"]),
        last=_date("to", given["to"]),
        resolution=given["resolution"].value,
        strategy=given["strategy"],
        params=_params(given["param"]),
        cash=_decimal("cash", given["cash"], "0.01"),
        settings=settings,
        limits=limits,
        kind=given["account"].value,
        multiplier=_decimal("multiplier", given["multiplier"], "0.01"),
        shorting=given["shorting"],
        fractions=given["fractions"],
        adjusted=given["adjusted"],
        hours=given["hours"].value,
        allow_missing=given["allow_missing"],
        out=given["out"],
        resume=given["resume"],
    )


def _fee(text: str) -> str:
    from processors.fees import fee_model

    try:
        fee_model(text)
    except ValueError as problem:
        raise typer.BadParameter(str(problem), param_hint="--fee") from None
    return text


def _expected_errors() -> tuple[tuple[type[Exception], ...], tuple[type[Exception], ...]]:
    """What is wrong input, and what stops a run: both are said in a sentence, without a traceback."""
    from eventlog.errors import LogError

    from processors.strategies.processor import StrategyError
    from producers.marketdata.errors import DataError
    from tape.backtest import BacktestError, Stopped
    from tape.strategies import LoadError

    return (DataError, LoadError, BacktestError, ValueError, TypeError), (
        LogError,
        StrategyError,
        Stopped,
        OSError,
    )


def _stopped(problem: Exception, as_json: bool) -> typer.Exit:
    from tape.backtest import Stopped

    if isinstance(problem, Stopped):
        return _fail(f"{problem}; go on with --resume", STOPPED, as_json)
    return _fail(problem, FAILED, as_json)


@contextmanager
def _progress() -> Iterator[Callable[[Stage], None]]:
    """Bars on standard error where that is a terminal; else nothing."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description:8}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(
        *columns, TextColumn("{task.fields[now]}"), console=console, disable=not console.is_terminal
    ) as bars:
        tasks: dict[str, Any] = {}

        def report(stage: Stage) -> None:
            if stage.name not in tasks:
                tasks[stage.name] = bars.add_task(stage.name, total=stage.total, now="")
            now = _new_york(stage.now) if stage.now else ""
            bars.update(tasks[stage.name], completed=stage.done, total=stage.total, now=now)

        yield report


def _new_york(ts: int) -> str:
    from datetime import datetime
    from zoneinfo import ZoneInfo

    return datetime.fromtimestamp(ts // 1_000_000_000, ZoneInfo("America/New_York")).isoformat(" ", "minutes")


def _print_summary(summary: dict[str, Any], multiplier: Decimal, as_json: bool) -> None:
    from tape.limits import in_force

    summary["limits"] = in_force(summary["limits"], multiplier)
    if as_json:
        typer.echo(json.dumps(summary, indent=2))
        return
    from tape.show import show_backtest

    show_backtest(Console(), summary)


@app.command()
def verify(
    log: Annotated[
        str, typer.Argument(help="The log: sqlite:PATH, as `tape backtest` prints it, or a path.")
    ],
    head: Annotated[
        Path | None, typer.Option(help="A LOG.head file kept elsewhere: it shows a truncated tail.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Check the seals of a log, and derive every decision again from its facts.

    Exit 0: it holds. 1: it does not; the first place that differs is named, with both versions.
    2: it could not be derived again (other code, or not a log).
    """
    from eventlog.errors import LogError

    from tape.verifying import verify_log

    try:
        with _progress() as report:
            result = verify_log(log, head, report)
    except (LogError, OSError, ValueError) as problem:
        raise _fail(problem, WRONG, as_json) from None
    if as_json:
        typer.echo(json.dumps(result, indent=2))
    else:
        from tape.show import show_verify

        show_verify(Console(), result)
    raise typer.Exit(result["exit"])


@schemas_app.command("export")
def export_schemas(
    folder: Annotated[Path, typer.Argument(help="Where NAME.vN.json files go.")],
) -> None:
    """Write the JSON Schema of every event's current version."""
    from schemas.export import export

    written = export(folder)
    typer.echo(
        f"{len(written)} schemas in {folder}" if written is not None else f"schemas written to {folder}"
    )


@schemas_app.command("check")
def check_schemas(
    folder: Annotated[
        Path | None, typer.Argument(help="Schemas written before. Default: those of Tape.")
    ] = None,
) -> None:
    """Refuse what old records or old readers would not survive. Exit 1 where there is any."""
    from schemas.export import VERSIONS_FOLDER, check

    problems = check(folder or VERSIONS_FOLDER)
    for problem in problems:
        typer.echo(problem, err=True)
    if problems:
        raise typer.Exit(FAILED)
    typer.echo("every schema is compatible with what was written before")
