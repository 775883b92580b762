"""The command line: `tape backtest`, `tape verify`, `tape schemas`.

Text for people goes to standard output, progress and errors to standard error; `--json` prints one
object for programs, also where something is wrong. Exit codes: 0 done (verify: the log holds), 1 the
run failed or the log differs, 2 wrong input (verify: it could not be derived again), 130 stopped.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterator
from datetime import date
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tape.help import BacktestCommand

if TYPE_CHECKING:
    from tape.backtest import Wanted

app = typer.Typer(
    name="tape",
    help="Event-sourced trading: backtest, verify, and ask why.",
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode=None,
)
schemas_app = typer.Typer(help="The JSON Schemas of every event.")
app.add_typer(schemas_app, name="schemas")

FAILED, WRONG, STOPPED = 1, 2, 130
DAY_MS = 86_400_000

DATA, STRATEGY, ACCOUNT, EXCHANGE, LOG = "Market data", "Strategy", "Account", "Exchange", "Log and output"
"""The sections of `tape backtest --help`."""


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
    """Entry point of the `tape` command: what goes wrong is said in a sentence, a defect with its trace."""
    try:
        code = app(sys.argv[1:] or ["--help"], standalone_mode=False) or 0
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # who read our output has had enough of it
        code = FAILED
    except (Exception, KeyboardInterrupt) as problem:
        code = _exit_code(problem)
        if code is None:
            raise
        _tell(problem, code)
    sys.exit(code)


def _exit_code(problem: BaseException) -> int | None:
    """The exit code of what is expected to go wrong; None for a defect of Tape."""
    if isinstance(problem, KeyboardInterrupt | typer.Abort):
        return STOPPED
    if isinstance(problem, typer.TyperException):
        return WRONG
    from eventlog.errors import LogError, LogExists, LogMismatch, LogNotFound
    from processors.hosts.recovery import ConfigurationChanged
    from processors.strategies.processor import StrategyError
    from processors.strategies.state import StateError
    from producers.marketdata.errors import DataError
    from tape.backtest import BacktestError, Stopped
    from tape.limits import LimitsError
    from tape.strategies import LoadError
    from tape.verifying import VerifyError

    if isinstance(problem, Stopped):
        return STOPPED
    wrong = (BacktestError, LimitsError, LoadError, DataError, VerifyError)
    if isinstance(problem, (*wrong, LogExists, LogMismatch, LogNotFound, ConfigurationChanged)):
        return WRONG
    failures = (LogError, StrategyError, StateError, StrategyExit, OSError)
    return FAILED if isinstance(problem, failures) else None


def _tell(problem: BaseException, code: int) -> None:
    """Say what went wrong: a sentence on standard error, and with `--json` an object."""
    kind, text = type(problem).__name__, str(problem)
    if isinstance(problem, typer.TyperException):
        kind, text = "Usage", problem.format_message().replace("Value error, ", "")
        if context := getattr(problem, "ctx", None):
            text = f"{text.rstrip('.?')}; see {context.command_path} --help".replace(". Did", "; did")
    elif isinstance(problem, OSError) and problem.filename is not None:
        text = f"{problem.filename}: {problem.strerror}"
    elif isinstance(problem, KeyboardInterrupt | typer.Abort):
        text = "stopped"
    if "--json" in sys.argv:
        print(json.dumps({"error": text, "kind": kind, "exit": code}))
    print(f"tape: {text}", file=sys.stderr)


class StrategyExit(Exception):
    """A strategy has called exit()."""


@contextlib.contextmanager
def _users_code() -> Iterator[None]:
    """Where strategies run: what they print goes to standard error, and they cannot end the process."""
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    except SystemExit as problem:
        raise StrategyExit(
            f"a strategy called exit({problem.code}); let it raise an exception instead"
        ) from problem


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        print(f"tape {version('tape')}")
        raise typer.Exit


@app.callback()
def tape(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Event-sourced trading: backtest, verify, and ask why."""


def _wrong(name: str, problem: str) -> typer.BadParameter:
    return typer.BadParameter(problem, param_hint=f"--{name}")


def _decimal(name: str, text: str, least: str, below: str | None = None) -> Decimal:
    from tape.limits import DIGITS_MAX, fits

    try:
        value = Decimal(text)
    except InvalidOperation:
        raise _wrong(name, f"'{text}' is not a number") from None
    if not value.is_finite() or value < Decimal(least) or (below is not None and value >= Decimal(below)):
        bound = f"at least {least}" + (f" and below {below}" if below is not None else "")
        raise _wrong(name, f"{text} is not {bound}")
    if not fits(value):
        raise _wrong(
            name, f"{text} has more than {DIGITS_MAX[0]} digits before or {DIGITS_MAX[1]} after the point"
        )
    return value


def _date(name: str, text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise _wrong(name, f"'{text}' is not a date like 2013-10-07") from None


def _params(pairs: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise _wrong("param", f"'{pair}' is not of the form name=value")
        if key in found:
            raise _wrong("param", f"'{key}' is given twice")
        found[key] = value
    return found


def _fee(text: str) -> str:
    from processors.fees import fee_model

    try:
        fee_model(text)
    except ValueError as problem:
        raise _wrong("fee", str(problem)) from None
    for number in text.split(":")[1:]:
        _decimal("fee", number, "0")
    return text


@app.command(cls=BacktestCommand, short_help="Replay market data through a strategy, into a log.")
def backtest(
    data: Annotated[
        Path,
        typer.Option(
            metavar="DIR", rich_help_panel=DATA, help="Folder in LEAN's layout: it holds equity/usa."
        ),
    ],
    symbols: Annotated[
        str, typer.Option(metavar="A,B", rich_help_panel=DATA, help="Symbols, separated by commas: SPY,IBM.")
    ],
    from_: Annotated[
        str, typer.Option("--from", metavar="DATE", rich_help_panel=DATA, help="First day, as 2013-10-07.")
    ],
    to: Annotated[str, typer.Option(metavar="DATE", rich_help_panel=DATA, help="Last day, inclusive.")],
    resolution: Annotated[
        Resolution, typer.Option(rich_help_panel=DATA, help="Which files to read.")
    ] = Resolution.minute,
    adjusted: Annotated[
        bool,
        typer.Option(
            "--adjusted",
            rich_help_panel=DATA,
            help="Adjust prices for splits and dividends by the factor files; else these are events.",
        ),
    ] = False,
    hours: Annotated[
        Hours, typer.Option(rich_help_panel=DATA, help="The regular session, or 04:00-20:00 New York.")
    ] = Hours.regular,
    allow_missing: Annotated[
        bool,
        typer.Option(
            "--allow-missing", rich_help_panel=DATA, help="Go on where a symbol has no file for a session."
        ),
    ] = False,
    strategy: Annotated[
        str,
        typer.Option(metavar="NAME", rich_help_panel=STRATEGY, help="One of those below, or FILE.py:Class."),
    ] = "buy-and-hold",
    param: Annotated[
        list[str],
        typer.Option(
            metavar="KEY=VALUE",
            rich_help_panel=STRATEGY,
            help="A parameter of the strategy; may be repeated.",
        ),
    ] = [],  # noqa: B006  # typer copies it
    buffer: Annotated[
        str,
        typer.Option(metavar="X", rich_help_panel=STRATEGY, help="Share of equity that sizing leaves alone."),
    ] = "0.0025",
    cash: Annotated[
        str, typer.Option(metavar="DOLLARS", rich_help_panel=ACCOUNT, help="Starting cash.")
    ] = "100000",
    account: Annotated[
        AccountKind,
        typer.Option(rich_help_panel=ACCOUNT, help="A cash account neither borrows nor sells short."),
    ] = AccountKind.margin,
    multiplier: Annotated[
        str | None,
        typer.Option(
            metavar="X",
            rich_help_panel=ACCOUNT,
            help="Gross exposure allowed, in multiples of equity.  [default: 2; of a cash account 1]",
        ),
    ] = None,
    shorting: Annotated[
        bool | None,
        typer.Option(
            "--shorting/--no-shorting",
            rich_help_panel=ACCOUNT,
            help="Whether it may sell short.  [default: a margin account may]",
        ),
    ] = None,
    fractions: Annotated[
        bool,
        typer.Option("--fractions", rich_help_panel=ACCOUNT, help="Allow fractions of a share (millionths)."),
    ] = False,
    mark: Annotated[
        MarkRule,
        typer.Option(
            rich_help_panel=ACCOUNT,
            help="Value longs at the bid and shorts at the ask, or all at mid, or at the last trade.",
        ),
    ] = MarkRule.side,
    limits: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            rich_help_panel=ACCOUNT,
            help='Risk limits in TOML, as day_loss = 0.03; "none" lifts a default one. In force without a '
            "file: the multiplier; halt for the day at a loss of 5 %, only reduce from 4 % on.",
        ),
    ] = None,
    fee: Annotated[
        str,
        typer.Option(
            metavar="MODEL",
            rich_help_panel=EXCHANGE,
            help="none, bps:X of the notional, per-share:X:MIN dollars, or alpaca (regulatory fees).",
        ),
    ] = "none",
    slippage: Annotated[
        str, typer.Option(metavar="BPS", rich_help_panel=EXCHANGE, help="Basis points lost by who takes.")
    ] = "0",
    latency_ms: Annotated[
        int,
        typer.Option(
            min=0,
            max=DAY_MS,
            metavar="MS",
            rich_help_panel=EXCHANGE,
            help="From decision to exchange, in market time. 0: fills on the quote that caused the signal.",
        ),
    ] = 0,
    size: Annotated[
        SizeRule,
        typer.Option(rich_help_panel=EXCHANGE, help="Fill in full, or no more than what is displayed."),
    ] = SizeRule.full,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", rich_help_panel=LOG, help="Folder for the log.  [default: a new one under runs/]"
        ),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option("--resume", rich_help_panel=LOG, help="Go on with a run that was stopped or killed."),
    ] = False,
    take_over: Annotated[
        bool,
        typer.Option(
            "--take-over",
            rich_help_panel=LOG,
            help="Go on even where another process, or machine, holds the log; it then fails.",
        ),
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", rich_help_panel=LOG, help="Print one JSON object; money as text, exact.")
    ] = False,
) -> None:
    """Replay market data through a strategy, an account and a simulated exchange, into a durable log.

    \b
    tape backtest --data data/sample --symbols SPY --from 2013-10-07 --to 2013-10-09 \\
        --strategy sma-cross --param fast=10 --param slow=30 --fee per-share:0.005:1

    Each decision stands in the log with its cause; `tape verify LOG` derives all of them again.
    """
    from tape.backtest import plan, run
    from tape.progress import Interrupt, progress

    wanted = _wanted(locals())
    interrupt = Interrupt()
    with _users_code(), interrupt.listening(), progress() as report:
        summary = run(plan(wanted, report, interrupt), report, interrupt)
    if as_json:
        print(json.dumps(summary, indent=2))
    else:
        from tape.show import show_backtest

        show_backtest(summary)


def _wanted(given: dict[str, Any]) -> Wanted:
    """The options as what the run takes. Raises `typer.BadParameter`, `LimitsError`."""
    from schemas import CoreSettings
    from tape.backtest import Wanted
    from tape.limits import BACKTEST, read_limits

    names = tuple(s.strip().upper() for s in given["symbols"].split(",") if s.strip())
    if not names or len(set(names)) != len(names):
        raise _wrong("symbols", f"'{given['symbols']}' should name each symbol once, as in SPY,IBM")
    is_margin = given["account"] is AccountKind.margin
    if given["shorting"] and not is_margin:
        raise _wrong("shorting", "a cash account cannot sell short; use --account margin")
    multiplier = given["multiplier"] or ("2" if is_margin else "1")
    settings = CoreSettings(
        log_prefix="",
        simulated=True,
        mark=given["mark"].value,
        buffer=_decimal("buffer", given["buffer"], "0", below="1"),
        fee=_fee(given["fee"]),
        slippage_bps=_decimal("slippage", given["slippage"], "0", below="10000"),
        latency=given["latency_ms"] * 1_000_000,
        size=given["size"].value,
    )
    return Wanted(
        data=given["data"],
        symbols=names,
        first=_date("from", given["from_"]),
        last=_date("to", given["to"]),
        resolution=given["resolution"].value,
        strategy=given["strategy"],
        params=_params(given["param"]),
        cash=_decimal("cash", given["cash"], "0.01"),
        settings=settings,
        limits=read_limits(given["limits"], BACKTEST),
        kind=given["account"].value,
        multiplier=_decimal("multiplier", multiplier, "0.01"),
        shorting=is_margin if given["shorting"] is None else given["shorting"],
        fractions=given["fractions"],
        adjusted=given["adjusted"],
        hours=given["hours"].value,
        allow_missing=given["allow_missing"],
        out=given["out"],
        resume=given["resume"],
        take_over=given["take_over"],
    )


@app.command(short_help="Check a log, and derive its decisions again.")
def verify(
    log: Annotated[
        str, typer.Argument(help="The log: sqlite:PATH, as `tape backtest` prints it, or a path.")
    ],
    head: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A log.sqlite.head kept elsewhere: it shows a truncated tail."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Check the seals of a log, and derive every decision again from its facts.

    \b
    Exit codes:
      0  the log holds
      1  it differs: the first place is named, for a decision with both versions
      2  it could not be derived again (other code than it was made by), or it is no log
    """
    from tape.progress import progress
    from tape.verifying import verify_log

    with _users_code(), progress() as report:
        result = verify_log(log, head, report)
    if as_json:
        print(json.dumps(result, indent=2))
    else:
        from tape.show import show_verify

        show_verify(result)
    raise typer.Exit(result["exit"])


@schemas_app.command("export")
def export_schemas(
    folder: Annotated[
        Path | None, typer.Argument(help="Default: where Tape keeps those it comes with.")
    ] = None,
) -> None:
    """Write the JSON Schema of every event's current version, as NAME.vN.json."""
    from schemas.export import VERSIONS_FOLDER, IncompatibleError, export

    folder = folder or VERSIONS_FOLDER
    try:
        written = export(folder)
    except IncompatibleError as problem:
        print(problem, file=sys.stderr)
        raise typer.Exit(FAILED) from None
    print(f"{len(written)} schemas in {folder}")


@schemas_app.command("check")
def check_schemas(
    folder: Annotated[Path | None, typer.Argument(help="Default: those that Tape comes with.")] = None,
) -> None:
    """Refuse what records or readers of the schemas in FOLDER would not survive.

    \b
    Exit codes:
      0  compatible
      1  not: each problem is named with its remedy
    """
    from schemas.export import VERSIONS_FOLDER, check

    folder = folder or VERSIONS_FOLDER
    if not folder.is_dir():
        raise typer.BadParameter(f"{folder} is not a folder of schemas", param_hint="FOLDER")
    problems = check(folder)
    for problem in problems:
        print(problem, file=sys.stderr)
    if problems:
        raise typer.Exit(FAILED)
    print(f"every schema is compatible with those in {folder}")
