"""The command line: `tape backtest`, `tape verify`, `tape schemas`.

Text for people goes to standard output, progress and errors to standard error; `--json` prints one
object for programs, also where something is wrong. Exit codes: 0 done (verify: the log holds), 1 the
run failed or the log differs, 2 wrong input (verify: it could not be derived again), 130 stopped.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Annotated

import typer

from tape.commands import config, dead_letters, kafka, operator, postgres, schemas, topics
from tape.commands.asof import asof
from tape.commands.backtest import backtest
from tape.commands.demo import demo
from tape.commands.fills import fills
from tape.commands.importing import import_
from tape.commands.options import FAILED, STOPPED, WRONG
from tape.commands.play import play
from tape.commands.project import project
from tape.commands.run import run
from tape.commands.status import status
from tape.commands.trace import trace
from tape.commands.up import up
from tape.commands.verify import verify
from tape.errors import Stopped, StrategyExit, WrongInput
from tape.help import BacktestCommand, Sectioned

app = typer.Typer(
    name="tape",
    help="Event-sourced trading: backtest, verify, and ask why.",
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode=None,
)
app.command(cls=BacktestCommand, short_help="Replay market data through a strategy, into a log.")(backtest)
app.command(short_help="Two backtests on the data that come with Tape, and where to look.")(demo)
app.command(short_help="Check a log, and derive its decisions again.")(verify)
app.command(short_help="An account as it was, at a time or after a decision.")(asof)
app.command(short_help="From any number to its causes, down to the quotes.")(trace)
app.command(short_help="How a log stands: accounts, positions, breaker, freshness.")(status)
app.command("import", cls=Sectioned, short_help="Bring market data into a log, through a quality gate.")(
    import_
)
app.command(cls=Sectioned, short_help="Play market data into a log, with their own spacing in time.")(play)
app.command(short_help="Book a broker's executions, and value what they leave.")(fills)
app.command(short_help="Bring a log's decisions into Postgres, to be asked in SQL.")(project)
app.command(short_help="Run every role of a configuration on this machine.")(up)
app.command(short_help="Run one role of the live plane in this process.")(run)
app.command(short_help="Stop an account: no strategy's order passes any more.")(operator.halt)
app.command(short_help="Take back a reason for which an account was halted.")(operator.rearm)
app.command(short_help="Close an account's positions at the market.")(operator.flatten)
app.command(short_help="Place an order by hand.")(operator.order)
app.command(short_help="Ask for an order to be cancelled.")(operator.cancel)
app.command(short_help="Change the terms of a working order.")(operator.replace)
app.command(short_help="Show or set an account's limits.")(operator.limits)
app.command(short_help="Book cash that has come in.")(operator.deposit)
app.command(short_help="Book cash that has gone out.")(operator.withdraw)
app.command("open", short_help="Open an account.")(operator.open_)
app.add_typer(config.app, name="config")
app.add_typer(postgres.app, name="postgres")
app.add_typer(schemas.app, name="schemas")
app.add_typer(topics.app, name="topics")
app.add_typer(dead_letters.app, name="dead-letters")
app.add_typer(kafka.app, name="kafka")


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
    from eventlog.errors import LogError, LogExists, LogMismatch, LogNotFound, NotInLog
    from eventlog.kafka.jars import NoKafka
    from processors.hosts.recovery import ConfigurationChanged
    from processors.strategies.processor import StrategyError
    from processors.strategies.state import StateError
    from producers.brokers.contract import BrokerError
    from producers.marketdata.errors import DataError
    from projections.errors import ProjectionError, Refused

    if isinstance(problem, Stopped):
        return STOPPED
    if isinstance(
        problem,
        WrongInput
        | DataError
        | LogExists
        | LogMismatch
        | LogNotFound
        | NotInLog
        | ConfigurationChanged
        | Refused,
    ):
        return WRONG
    failed = isinstance(
        problem,
        LogError
        | NoKafka
        | BrokerError
        | ProjectionError
        | StrategyError
        | StateError
        | StrategyExit
        | OSError,
    )
    return FAILED if failed else None


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
