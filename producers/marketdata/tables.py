"""Quotes, trades and bars of CSV and Parquet files, with the columns that a user has.

A file is gone through a few thousand rows at a time, whatever its size. Its rows must be in the
order of their times; the opens and closes of the sessions they cover are added.
"""

from __future__ import annotations

import hashlib
import heapq
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Literal, get_args

from producers.marketdata.drafts import Draft, draft_order, with_sessions
from producers.marketdata.errors import BadRequest, UnknownSymbol
from producers.marketdata.tablefiles import Table, open_table
from producers.marketdata.tablerows import FIELDS, Kind, Rows
from producers.marketdata.tabletimes import TimeFormat, zone
from producers.sessions import Calendar, Hours
from schemas import Event, digest

_FORMAT = "table 1"

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class TableFormat:
    """What the rows of a file are, and where it keeps what.

    `columns` names the column of a field where the two differ, as in {"ts": "timestamp"}. `time` is
    how times are written, `tz` the zone of those without one. `symbol` is that of all rows, for a
    file without such a column. Bars have a `period` (ns), and `bar_time` says whether their times
    are those of their starts or ends; with `time` "date" each is the bar of its session.
    """

    kind: Kind
    columns: Mapping[str, str] = field(default_factory=dict)
    time: TimeFormat = "iso"
    tz: str | None = None
    symbol: str | None = None
    period: int | None = None
    bar_time: Literal["start", "end"] | None = None


def parse_columns(text: str) -> dict[str, str]:
    """The mapping that "ts=timestamp,symbol=ticker" says. Raises `BadRequest`."""
    columns: dict[str, str] = {}
    for part in filter(None, text.split(",")):
        name, equals, column = (piece.strip() for piece in part.partition("="))
        if not (name and equals and column) or name in columns:
            raise BadRequest(f"{part!r} in {text!r} is not FIELD=COLUMN, each field once: correct it")
        columns[name] = column
    return columns


class TableReader:
    """The market events of some files, each with its format.

    `symbols` are those that are read, all if there are none; `first` and `last` the days (inclusive,
    of New York), all where there is none. `hours`: "regular" keeps bars that start
    in [open, close) and quotes and trades in [open, close], "extended" all there is. `gated` events go
    through the quality gate: prices that are not positive, and some times that go back, are left to it.

    Raises a `DataError` for a request that makes no sense or a file that does not fit its format;
    what is wrong with rows is raised by `check`, or else by `events` when it gets there.
    """

    def __init__(
        self,
        files: Sequence[tuple[Path, TableFormat]],
        symbols: Collection[str] = (),
        hours: Hours = "regular",
        first: date | None = None,
        last: date | None = None,
        gated: bool = False,
    ) -> None:
        if not files:
            raise BadRequest("no files: name at least one")
        if first and last and first > last:
            raise BadRequest(f"the range begins on {first}, after its end on {last}: exchange the two")
        if hours not in get_args(Hours):
            raise BadRequest(f"hours {hours!r} are unknown: choose {' or '.join(get_args(Hours))}")
        self.symbols = sorted({symbol.upper() for symbol in symbols})
        self.hours, self.first, self.last, self.gated = hours, first, last, gated
        self.left_out: Counter[str] = Counter()
        """Rows of other symbols, days or hours, when `check` or `events` has been through."""
        self._files = sorted(files, key=lambda file: str(file[0]))
        self._calendar = Calendar()
        self._rows = [self._opened(path, form) for path, form in self._files]

    def check(self, progress: Progress | None = None) -> int:
        """Read every row once; how many events there are. Raises a `DataError` for the first that is wrong.

        `progress` is called with the bytes gone through so far, and all of them.
        """
        return sum(1 for _ in self._drafts(progress))

    @cached_property
    def source(self) -> str:
        """Twelve hexadecimal digits over the files and all that shapes their events."""
        parts = [repr((_FORMAT, self.symbols, self.hours, self.first, self.last)).encode()]
        for path, form in self._files:
            with path.open("rb") as file:
                contents = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=32))
            columns = sorted(form.columns.items())
            shape = (form.kind, columns, form.time, form.tz, form.symbol, form.period, form.bar_time)
            parts += [repr(shape).encode(), contents.digest()]
        return digest(*parts)[:12]

    def events(self, source: str | None = None) -> Iterator[Event]:
        """All events by (ts, rank, symbol), `row` counting from 1; memory does not grow with the files."""
        source = source or self.source
        for row, (_, _, _, kind, fields) in enumerate(self._drafts(), start=1):
            yield kind(source=source, row=row, **fields)

    def _drafts(self, progress: Progress | None = None) -> Iterator[Draft]:
        self.left_out.clear()
        gone, total = Counter[Path](), sum(path.stat().st_size for path, _ in self._files)

        def told(path: Path, read: int) -> None:
            gone[path] = read
            if progress is not None:
                progress(min(gone.total(), total), total)

        streams = (rows.drafts(self.left_out, told) for rows in self._rows)
        found = set[str]()
        for draft in with_sessions(heapq.merge(*streams, key=draft_order), self._calendar):
            found.add(draft[2])
            yield draft
        left_out = ", ".join(f"{n} {why}" for why, n in self.left_out.items()) or "there are none"
        if not found:
            raise BadRequest(f"no rows to read ({left_out}): choose other files, symbols, days or hours")
        if missing := [symbol for symbol in self.symbols if symbol not in found]:
            raise UnknownSymbol(
                f"no rows of {', '.join(missing)} (left out: {left_out}): choose other files, days or hours, "
                "or do without"
            )

    def _opened(self, path: Path, form: TableFormat) -> Rows:
        _check_format(form)
        table = open_table(path)
        wanted = _columns(table, form)
        read_time = table.time_reader(wanted["ts"], form.time, zone(form.tz))
        symbol = form.symbol.upper() if form.symbol else None
        return Rows(
            table=table,
            kind=form.kind,
            columns=wanted,
            read_time=read_time,
            symbol=symbol,
            symbols=frozenset(self.symbols),
            period=None if form.time == "date" else form.period,
            starts=form.bar_time == "start",
            regular=self.hours == "regular",
            gated=self.gated,
            first=self.first or date.min,
            last=self.last or date.max,
            calendar=self._calendar,
        )


def _check_format(form: TableFormat) -> None:
    if form.kind not in FIELDS:
        raise BadRequest(f"{form.kind!r} cannot be read: choose {' or '.join(FIELDS)}")
    if form.time not in get_args(TimeFormat):
        raise BadRequest(f"times cannot be read as {form.time!r}: choose {', '.join(get_args(TimeFormat))}")
    if form.kind != "bars" and form.time == "date":
        raise BadRequest(f"{form.kind} have times, not dates: choose {', '.join(get_args(TimeFormat)[:-1])}")
    if form.kind == "bars" and form.time != "date" and not ((form.period or 0) > 0 and form.bar_time):
        raise BadRequest(
            "bars need a period, and whether their times are starts or ends: "
            "say so, for example --period 1m --bar-time start"
        )


def _columns(table: Table, form: TableFormat) -> dict[str, str]:
    """The column of each field that the file has. Raises `BadRequest` for one that must be there."""
    required, optional = FIELDS[form.kind]
    has = f"(it has {', '.join(table.names)})"
    for name in form.columns:
        if name not in (*required, *optional):
            raise BadRequest(f"{form.kind} have no field {name!r}: map {', '.join((*required, *optional))}")
    wanted: dict[str, str] = {}
    for name in (*required, *optional):
        column = form.columns.get(name, name)
        if (name == "symbol" and form.symbol) or (column not in table.names and name not in form.columns):
            if name in required and not (name == "symbol" and form.symbol):
                raise BadRequest(
                    f"{table.path} has no column {column!r} {has}: map one with --columns {name}=COLUMN"
                )
        elif table.names.count(column) != 1:
            raise BadRequest(f"{table.path} must have one column {column!r} {has}: map another")
        else:
            wanted[name] = column
    for side in ("bid", "ask"):
        parts = [f"{side}_{part}" for part in ("open", "high", "low", "close")]
        if form.kind == "bars" and 0 < sum(part in wanted for part in parts) < len(parts):
            raise BadRequest(f"{table.path} has some of {', '.join(parts)} {has}: map all of them, or none")
    return wanted
