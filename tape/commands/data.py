"""Options that say which market data are meant, for every command that reads some."""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tape.commands.options import day, wrong

if TYPE_CHECKING:
    from producers.marketdata.tables import TableFormat
    from tape.importing import DataWanted, SyntheticWanted

DATA, FILES, SYNTHETIC = "Market data", "CSV and Parquet files", "A synthetic market"
"""Sections of --help."""

UNITS_NS = {"s": 1_000_000_000, "m": 60_000_000_000, "h": 3_600_000_000_000}
PERIOD_MAX_NS = 24 * UNITS_NS["h"]


class Resolution(StrEnum):
    tick = "tick"
    second = "second"
    minute = "minute"
    daily = "daily"


class Hours(StrEnum):
    regular = "regular"
    extended = "extended"


class Kind(StrEnum):
    quotes = "quotes"
    trades = "trades"
    bars = "bars"


class Time(StrEnum):
    iso = "iso"
    s = "s"
    ms = "ms"
    us = "us"
    ns = "ns"
    date = "date"


class BarTime(StrEnum):
    start = "start"
    end = "end"


DataOption = Annotated[
    list[str] | None,
    typer.Option(
        "--data",
        metavar="PATH",
        rich_help_panel=DATA,
        help="A folder in LEAN's layout (it holds equity/usa), a log, or CSV and Parquet files or folders of "
        "them; these may be several.",
    ),
]
SymbolsOption = Annotated[
    str,
    typer.Option(
        "--symbols",
        metavar="A,B",
        rich_help_panel=DATA,
        help="Symbols, separated by commas: SPY,IBM.  [default: all there are in files or a log]",
    ),
]
FromOption = Annotated[
    str | None, typer.Option("--from", metavar="DATE", rich_help_panel=DATA, help="First day, as 2013-10-07.")
]
ToOption = Annotated[
    str | None, typer.Option("--to", metavar="DATE", rich_help_panel=DATA, help="Last day, inclusive.")
]
ResolutionOption = Annotated[
    Resolution | None,
    typer.Option(
        "--resolution", rich_help_panel=DATA, help="Which files of a LEAN folder to read.  [default: minute]"
    ),
]
AdjustedOption = Annotated[
    bool,
    typer.Option(
        "--adjusted",
        rich_help_panel=DATA,
        help="Adjust prices for splits and dividends by LEAN's factor files; else these are events.",
    ),
]
HoursOption = Annotated[
    Hours,
    typer.Option("--hours", rich_help_panel=DATA, help="The regular session, or all there is (04:00-20:00)."),
]
AllowMissingOption = Annotated[
    bool,
    typer.Option(
        "--allow-missing",
        rich_help_panel=DATA,
        help="Go on where a LEAN folder has no file of a symbol for a session.",
    ),
]
KindOption = Annotated[
    Kind | None, typer.Option("--kind", rich_help_panel=FILES, help="What is in the files' rows.")
]
ColumnsOption = Annotated[
    str,
    typer.Option(
        "--columns",
        metavar="FIELD=COLUMN,...",
        rich_help_panel=FILES,
        help="Where a column has another name than its field: ts=timestamp,symbol=ticker.",
    ),
]
SymbolOption = Annotated[
    str | None,
    typer.Option(
        "--symbol",
        metavar="A",
        rich_help_panel=FILES,
        help="The symbol of all rows, where no column says it.",
    ),
]
TimeOption = Annotated[
    Time | None,
    typer.Option(
        "--time",
        rich_help_panel=FILES,
        help="How times are written: ISO 8601, a count since 1970 (UTC), or the date of a session.  "
        "[default: iso]",
    ),
]
TzOption = Annotated[
    str | None,
    typer.Option(
        "--tz", metavar="ZONE", rich_help_panel=FILES, help="The zone of times without one: America/New_York."
    ),
]
PeriodOption = Annotated[
    str | None,
    typer.Option("--period", metavar="TIME", rich_help_panel=FILES, help="How long a bar is: 30s, 1m, 1h."),
]
BarTimeOption = Annotated[
    BarTime | None,
    typer.Option("--bar-time", rich_help_panel=FILES, help="Whether a bar's time is its start or its end."),
]
SyntheticOption = Annotated[
    bool,
    typer.Option(
        "--synthetic",
        rich_help_panel=SYNTHETIC,
        help="Make quotes and trades of --symbols, from --from to --to, instead of reading --data.",
    ),
]
SeedOption = Annotated[
    int | None,
    typer.Option("--seed", rich_help_panel=SYNTHETIC, help="The same seed, the same market.  [default: 1]"),
]
RateOption = Annotated[
    float | None,
    typer.Option(
        "--rate", metavar="N", rich_help_panel=SYNTHETIC, help="Quotes a second of market time.  [default: 1]"
    ),
]
VolatilityOption = Annotated[
    float | None,
    typer.Option(
        "--volatility", metavar="X", rich_help_panel=SYNTHETIC, help="Of a year's return.  [default: 0.2]"
    ),
]
SpreadOption = Annotated[
    float | None,
    typer.Option(
        "--spread", metavar="BPS", rich_help_panel=SYNTHETIC, help="Basis points of the price.  [default: 2]"
    ),
]

LEAN_ONLY = ("resolution", "adjusted", "allow_missing")
FILES_ONLY = ("kind", "columns", "symbol", "time", "tz", "period", "bar_time")
SYNTHETIC_ONLY = ("seed", "rate", "volatility", "spread")


def data_wanted(given: Mapping[str, Any]) -> DataWanted:
    """The data that a command's options ask for, each option under its name, `--from` as `from_`.

    Raises `typer.BadParameter` for what is not of its form, or does not go with the rest.
    """
    from tape.importing import DataWanted

    _require_fit(given)
    symbols = tuple(s.strip().upper() for s in given["symbols"].split(",") if s.strip())
    if len(set(symbols)) != len(symbols):
        raise wrong("symbols", f"'{given['symbols']}' should name each symbol once, as in SPY,IBM")
    if "*" in symbols or (given["symbol"] or "").strip() == "*":
        raise wrong("symbols", "'*' is no symbol; leave --symbols out to read all there are")
    return DataWanted(
        data=tuple(given["data"] or ()),
        symbols=symbols,
        first=None if given["from_"] is None else day("from", given["from_"]),
        last=None if given["to"] is None else day("to", given["to"]),
        resolution=(given["resolution"] or Resolution.minute).value,
        adjusted=given["adjusted"],
        hours=given["hours"].value,
        allow_missing=given["allow_missing"],
        table=_table(given) if given["kind"] else None,
        synthetic=_synthetic(given) if given["synthetic"] else None,
    )


def _require_fit(given: Mapping[str, Any]) -> None:
    """Raise for an option that would have no effect: the user expects one of it."""
    from tape.logs import is_log

    if bool(given["data"]) == given["synthetic"]:
        problem = "give one of the two, --data or --synthetic"
        raise wrong(
            "data", f"{'there are made data too' if given['synthetic'] else 'no data are named'}: {problem}"
        )
    is_lean = not (given["kind"] or given["synthetic"] or any(map(is_log, given["data"] or ())))
    unfit = {
        "only goes with files: name them with --data, and say what is in them with --kind": (
            () if given["kind"] and not given["synthetic"] else FILES_ONLY
        ),
        "only goes with a LEAN folder": () if is_lean else LEAN_ONLY,
        "only goes with --synthetic": () if given["synthetic"] else SYNTHETIC_ONLY,
    }
    for problem, names in unfit.items():
        for name in names:
            if given[name] not in (None, False, ""):
                raise wrong(name.replace("_", "-"), problem)


def _table(given: Mapping[str, Any]) -> TableFormat:
    from producers.marketdata.tables import TableFormat, parse_columns

    columns = parse_columns(given["columns"])
    if given["symbol"] and "symbol" in columns:
        raise wrong("symbol", "a column says it already, by --columns: give one of the two")
    if given["time"] is Time.date and (given["period"] or given["bar_time"]):
        raise wrong("time", "the bar of a date is that of its session: leave out --period and --bar-time")
    return TableFormat(
        kind=given["kind"].value,
        columns=columns,
        time=(given["time"] or Time.iso).value,  # type: ignore[arg-type]  # one of them
        tz=given["tz"],
        symbol=(given["symbol"] or "").strip() or None,
        period=None if given["period"] is None else period_ns(given["period"]),
        bar_time=None if given["bar_time"] is None else given["bar_time"].value,
    )


def period_ns(text: str) -> int:
    """Nanoseconds of "30s", "1m" or "1h". Raises `typer.BadParameter`."""
    found = re.fullmatch(r"(\d{1,5})([smh])", text.strip().lower(), re.ASCII)
    period = int(found[1]) * UNITS_NS[found[2]] if found else 0
    if not 0 < period <= PERIOD_MAX_NS:
        raise wrong(
            "period", f"'{text}' is not of the form 30s, 1m or 1h; for days of a session, --time date"
        )
    return period


def _synthetic(given: Mapping[str, Any]) -> SyntheticWanted:
    from tape.importing import SyntheticWanted

    names = {"seed": "seed", "rate": "rate_per_s", "volatility": "volatility", "spread": "spread_bps"}
    return SyntheticWanted(**{to: given[name] for name, to in names.items() if given[name] is not None})
