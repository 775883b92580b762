"""`tape play`."""

from __future__ import annotations

import json
import math
import re
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from tape.commands.data import (
    SYNTHETIC,
    UNITS_NS,
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
from tape.commands.options import STOPPED, wrong

if TYPE_CHECKING:
    from tape.playing import PlayWanted

PACE, LOG = "Pace", "Log and output"
"""Sections of `tape play --help`."""

SYMBOLS_MAX = 10_000
SPEED_MAX = 1e6


class LogTime(StrEnum):
    wall = "wall"
    data = "data"


def play(
    log: Annotated[
        str,
        typer.Argument(
            metavar="LOG", help="sqlite:PATH, a path, or kafka://HOST:PORT/NAME; made if there is none."
        ),
    ],
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
    duration: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            rich_help_panel=SYNTHETIC,
            help="Without --from and --to: how long the market lasts, as 30s, 5m or 2h.  [default: 390m]",
        ),
    ] = None,
    speed: Annotated[
        str,
        typer.Option(
            metavar="N|max",
            rich_help_panel=PACE,
            help="How many times as fast as the data were; max: as fast as the log takes them.",
        ),
    ] = "1",
    keep_times: Annotated[
        bool,
        typer.Option(
            "--keep-times",
            rich_help_panel=PACE,
            help="At speed 1, too, leave times as they are; else the first event is now.",
        ),
    ] = False,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            rich_help_panel=PACE,
            help="Go on with the last play of these data that was stopped or killed; what was due meanwhile "
            "comes at once.",
        ),
    ] = False,
    log_time: Annotated[
        LogTime | None,
        typer.Option(
            "--log-time",
            rich_help_panel=LOG,
            help="What time a log that is made has: that of the clock, or that of the data.  [default: wall "
            "at speed 1, else data]",
        ),
    ] = None,
    account_partitions: Annotated[
        int | None,
        typer.Option(
            min=1, max=60, metavar="N", rich_help_panel=LOG, help="Of a log that is made.  [default: 4]"
        ),
    ] = None,
    market_partitions: Annotated[
        int | None,
        typer.Option(
            min=1, max=60, metavar="N", rich_help_panel=LOG, help="Of a log that is made.  [default: 4]"
        ),
    ] = None,
    take_over: Annotated[
        bool,
        typer.Option(
            "--take-over",
            rich_help_panel=LOG,
            help="Go on even where another process, or machine, feeds the log; it then fails.",
        ),
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", rich_help_panel=LOG, help="Print one JSON object.")
    ] = False,
) -> None:
    """Play recorded or made market data into a log, with their own spacing in time.

    \b
    tape play live.sqlite --data data/sample --symbols SPY,IBM --from 2013-10-07 --to 2013-10-07
    tape play live.sqlite --synthetic --symbols 100 --rate 10000 --duration 10m
    tape play fast.sqlite --data data/sample --symbols SPY --from 2013-10-07 --to 2013-10-09 --speed max

    At speed 1 times are shifted, so that the first event is now. Faster, or with --keep-times, they are the
    data's own, and the log must be on data time. Sessions and heartbeats come along. The data are checked
    before anything is written; what cannot be right is set aside in dead-letters, as `tape import` does.
    Ctrl-C stops after a batch (exit code 130); --resume goes on from there, also after a kill.
    """
    from tape.logs import url_of
    from tape.playing import NewLog, play
    from tape.progress import Interrupt, progress
    from tape.show_play import show_play

    symbols = _symbols(symbols) if synthetic else symbols
    wanted = _wanted(locals(), duration, speed, keep_times)
    interrupt = Interrupt()
    with interrupt.listening(), progress() as report:
        told = play(
            wanted,
            url_of(log),
            new=NewLog(None if log_time is None else log_time.value, account_partitions, market_partitions),
            resume=resume,
            take_over=take_over,
            report=report,
            stop=interrupt,
        )
    if as_json:
        print(json.dumps(told, indent=2))
    else:
        show_play(told)
    if not told["finished"]:
        raise typer.Exit(STOPPED)


def _wanted(given: dict[str, object], duration: str | None, speed: str, keep_times: bool) -> PlayWanted:
    from producers.player import Pace
    from tape.playing import PlayWanted

    data = data_wanted(given)
    wanted = PlayWanted(data, Pace(_speed(speed), keep_times), _duration(duration))
    if duration is not None and not wanted.is_made:
        raise wrong("duration", "only goes with --synthetic, without --from and --to")
    for name in ("volatility", "spread"):
        if wanted.is_made and given[name] is not None:
            raise wrong(name, "only goes with --synthetic --from --to")
    return wanted


def _symbols(text: str) -> str:
    """S000, S001 and so on, where their number is given. Raises `typer.BadParameter`."""
    if not text.strip().isdecimal():
        return text
    count = int(text)
    if not 1 <= count <= SYMBOLS_MAX:
        raise wrong("symbols", f"{count} symbols cannot be made: name them, or choose 1 to {SYMBOLS_MAX}")
    return ",".join(f"S{number:03}" for number in range(count))


def _speed(text: str) -> float:
    if text.strip().lower() == "max":
        return math.inf
    try:
        speed = float(text)
    except ValueError:
        speed = 0.0
    if not 1 <= speed <= SPEED_MAX:
        raise wrong("speed", f"'{text}' is not a number from 1 to {SPEED_MAX:,.0f}, or max")
    return speed


def _duration(text: str | None) -> int | None:
    """Nanoseconds of "30s", "5m" or "2h". Raises `typer.BadParameter`."""
    if text is None:
        return None
    found = re.fullmatch(r"(\d{1,6})([smh])", text.strip().lower(), re.ASCII)
    if found is None or not int(found[1]):
        raise wrong("duration", f"'{text}' is not of the form 30s, 5m or 2h")
    return int(found[1]) * UNITS_NS[found[2]]
