"""`tape backtest`."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tape.commands.data import (
    AdjustedOption,
    AllowMissingOption,
    BarTimeOption,
    ColumnsOption,
    DataOption,
    FromOption,
    Hours,
    HoursOption,
    KindOption,
    PeriodOption,
    RateOption,
    ResolutionOption,
    SeedOption,
    SpreadOption,
    SymbolOption,
    SymbolsOption,
    SyntheticOption,
    TimeOption,
    ToOption,
    TzOption,
    VolatilityOption,
    data_wanted,
)
from tape.commands.options import decimal, users_code, wrong

if TYPE_CHECKING:
    from tape.backtest import Wanted

DAY_MS = 86_400_000

STRATEGY, ACCOUNT, EXCHANGE, LOG = "Strategy", "Account", "Exchange", "Log and output"
"""Sections of `tape backtest --help`, besides those of the data."""


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


def _log(name: str | None, out: Path | None) -> str | None:
    from tape.logs import file_of, url_of

    if name is None:
        return None
    url = url_of(name)
    if out is not None and file_of(url) is not None:
        raise wrong("log", "a file has its folder in its name already: give --log or --out")
    return url


def _params(pairs: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise wrong("param", f"'{pair}' is not of the form name=value")
        if key in found:
            raise wrong("param", f"'{key}' is given twice")
        found[key] = value
    return found


def _fee(text: str) -> str:
    from processors.fees import fee_model

    try:
        fee_model(text)
    except ValueError as problem:
        raise wrong("fee", str(problem)) from None
    for number in text.split(":")[1:]:
        decimal("fee", number, "0")
    return text


def backtest(
    data: DataOption = None,
    symbols: SymbolsOption = "",
    from_: FromOption = None,
    to: ToOption = None,
    resolution: ResolutionOption = None,
    adjusted: AdjustedOption = False,
    hours: HoursOption = Hours.regular,
    allow_missing: AllowMissingOption = False,
    kind: KindOption = None,
    columns: ColumnsOption = "",
    symbol: SymbolOption = None,
    time: TimeOption = None,
    tz: TzOption = None,
    period: PeriodOption = None,
    bar_time: BarTimeOption = None,
    synthetic: SyntheticOption = False,
    seed: SeedOption = None,
    rate: RateOption = None,
    volatility: VolatilityOption = None,
    spread: SpreadOption = None,
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
    log: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            rich_help_panel=LOG,
            help="sqlite:PATH or kafka://HOST:PORT/NAME.  [default: log.sqlite in --out]",
        ),
    ] = None,
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
    with users_code(), interrupt.listening(), progress() as report:
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
    from tape.wiring import SNAPSHOT_EVERY

    data = data_wanted(given)
    if not data.symbols:
        raise wrong("symbols", "a strategy trades symbols: name them, as in SPY,IBM")
    is_margin = given["account"] is AccountKind.margin
    if given["shorting"] and not is_margin:
        raise wrong("shorting", "a cash account cannot sell short; use --account margin")
    multiplier = given["multiplier"] or ("2" if is_margin else "1")
    settings = CoreSettings(
        log_prefix="",
        simulated=True,
        mark=given["mark"].value,
        buffer=decimal("buffer", given["buffer"], "0", below="1"),
        fee=_fee(given["fee"]),
        slippage_bps=decimal("slippage", given["slippage"], "0", below="10000"),
        latency=given["latency_ms"] * 1_000_000,
        size=given["size"].value,
        snapshot_every=SNAPSHOT_EVERY,
    )
    return Wanted(
        data=data,
        strategy=given["strategy"],
        params=_params(given["param"]),
        cash=decimal("cash", given["cash"], "0.01"),
        settings=settings,
        limits=read_limits(given["limits"], BACKTEST),
        kind=given["account"].value,
        multiplier=decimal("multiplier", multiplier, "0.01"),
        shorting=is_margin if given["shorting"] is None else given["shorting"],
        fractions=given["fractions"],
        log=_log(given["log"], given["out"]),
        out=given["out"],
        resume=given["resume"],
        take_over=given["take_over"],
    )
