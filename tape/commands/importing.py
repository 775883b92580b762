"""`tape import`."""

from __future__ import annotations

import json
from collections.abc import Mapping
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
from tape.commands.options import decimal, wrong

if TYPE_CHECKING:
    from producers.marketdata.quality import QualitySettings
    from tape.importing import DataWanted

QUALITY, LOG = "Quality", "Log and output"
"""Sections of `tape import --help`."""

BOUNDS = {"max_move": "move_max", "max_cross": "crossed_max", "max_spread": "spread_max"}
LEAST = {"max_move": "0.000001", "max_cross": "0", "max_spread": "0.000001"}


def import_(
    *,
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
    max_move: Annotated[
        str | None,
        typer.Option(
            metavar="X",
            rich_help_panel=QUALITY,
            help="Set aside a price that differs by more than this share from both the last accepted and the "
            "last seen one, splits and dividends allowed for.  [default: 0.3]",
        ),
    ] = None,
    max_cross: Annotated[
        str | None,
        typer.Option(
            metavar="X",
            rich_help_panel=QUALITY,
            help="Set aside a quote whose bid is above its ask by more than this share of mid.  "
            "[default: 0.01]",
        ),
    ] = None,
    max_spread: Annotated[
        str | None,
        typer.Option(
            metavar="X",
            rich_help_panel=QUALITY,
            help="Hold no price against the mid of a quote that is wider than this share.  [default: 0.05]",
        ),
    ] = None,
    max_silence: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            rich_help_panel=QUALITY,
            help="Report longer silences in session.  [default: 60, or three times a bar's period]",
        ),
    ] = None,
    no_gate: Annotated[
        bool, typer.Option("--no-gate", rich_help_panel=QUALITY, help="Let everything through.")
    ] = False,
    log: Annotated[
        str,
        typer.Option(
            metavar="URL",
            rich_help_panel=LOG,
            help="sqlite:PATH, a path, or kafka://HOST:PORT/NAME; made if there is none.",
        ),
    ],
    head: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            rich_help_panel=LOG,
            help="Where the log's head goes.  [default: LOG.head beside its file; of Kafka, runs/NAME.head]",
        ),
    ] = None,
    take_over: Annotated[
        bool,
        typer.Option(
            "--take-over",
            rich_help_panel=LOG,
            help="Go on even where another process, or machine, imports into the log; it then fails.",
        ),
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", rich_help_panel=LOG, help="Print one JSON object.")
    ] = False,
) -> None:
    """Bring market data into a log: each event once, through a gate that sets aside what cannot be right.

    \b
    tape import --data data/sample --symbols SPY,IBM --from 2013-10-07 --to 2013-10-09 --log market.sqlite
    tape import --data trades.csv --kind trades --columns ts=time,price=px --tz UTC --log m.sqlite
    tape import --synthetic --symbols A,B --from 2024-01-02 --to 2024-01-05 --rate 10 --log made.sqlite

    All of the data are checked before anything is written. Stopped or killed, repeat the command to go on.
    """
    from tape.importing import import_data, open_reader
    from tape.progress import Interrupt, progress

    given = locals()
    wanted, url = data_wanted(given), _log(log)
    quality = _quality(given, wanted)
    interrupt = Interrupt()
    with interrupt.listening(), progress() as report:
        told = import_data(
            open_reader(wanted, gated=quality is not None),
            url,
            quality=quality,
            report=report,
            stop=interrupt,
            take_over=take_over,
            head=head,
        )
    if as_json:
        print(json.dumps(told, indent=2))
    else:
        from tape.show_import import show_import

        show_import(told)


def _log(name: str) -> str:
    from eventlog.errors import LogError
    from tape.logs import file_of, url_of

    url = url_of(name)
    file = file_of(url)
    if file is not None and file.is_dir():
        raise wrong("log", f"{file} is a folder: name a file in it")
    if file is None:
        from eventlog.kafka.store import split_url

        try:
            split_url(url)
        except LogError as problem:
            raise wrong("log", str(problem)) from problem
    return url


def _quality(given: Mapping[str, Any], wanted: DataWanted) -> QualitySettings | None:
    from tape.importing import quality_for

    named = [name for name in (*BOUNDS, "max_silence") if given[name] is not None]
    if given["no_gate"]:
        if named:
            raise wrong("no-gate", f"there is nothing to set with --{named[0].replace('_', '-')} then")
        return None
    settings: dict[str, Any] = {
        to: decimal(name.replace("_", "-"), given[name], LEAST[name])
        for name, to in BOUNDS.items()
        if given[name] is not None
    }
    if given["max_silence"] is not None:
        if not 0 < given["max_silence"] < 1e9:
            raise wrong("max-silence", f"{given['max_silence']} is not a number of seconds above 0")
        settings["gap_max"] = int(given["max_silence"] * 1e9)
    return quality_for(wanted, **settings)
