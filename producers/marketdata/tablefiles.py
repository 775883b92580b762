"""CSV and Parquet files as columns, a few thousand rows at a time, each with its place in the file."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, Protocol
from zoneinfo import ZoneInfo

from producers.marketdata.errors import BadRequest, BadRow, DamagedFile
from producers.marketdata.tabletimes import TimeFormat, local, midnight_utc, time_reader

ROWS = 4096
"""Rows in memory at a time."""

CSV = ".csv"
PARQUET = (".parquet", ".pq")
_RESTORE = "replace it with an intact copy"


class Columns(NamedTuple):
    """Some rows: where each stands in the file, and by field what stands in its column.

    `read` is how many bytes of the file have been gone through, roughly.
    """

    places: Sequence[int]
    values: Mapping[str, Sequence[Any]]
    read: int


class Table(Protocol):
    """A file of columns."""

    path: Path
    place: str
    """What a row is counted by: "line" (the header is the first) or "row"."""
    names: Sequence[str]
    """Its columns."""

    def time_reader(self, name: str, time: TimeFormat, tz: ZoneInfo | None) -> Callable[[Any], int]:
        """What reads a value of the column of times. Raises `BadRequest` if the column is of another kind."""
        ...

    def rows(self, wanted: Mapping[str, str]) -> Iterator[Columns]:
        """All rows: of each field the column that is `wanted` for it. Raises `DamagedFile`, `BadRow`."""
        ...


def open_table(path: Path) -> Table:
    """A file by its ending. Raises `DamagedFile` if it cannot be read, `BadRequest` for another ending."""
    ending = path.suffix.lower()
    if ending == CSV:
        return CsvTable(path)
    if ending in PARQUET:
        return ParquetTable(path)
    raise BadRequest(f"{path} is neither CSV nor Parquet by its name: let it end in .csv or .parquet")


class CsvTable:
    """A CSV file with a header, in UTF-8."""

    place = "line"

    def __init__(self, path: Path) -> None:
        self.path = path
        _, header, _ = next(self._lines(), (0, [], 0))
        if not header:
            raise DamagedFile(f"{path} is empty: {_RESTORE}")
        self.names: Sequence[str] = [name.strip() for name in header]

    def time_reader(self, name: str, time: TimeFormat, tz: ZoneInfo | None) -> Callable[[Any], int]:
        """Text is read as `time` says."""
        return time_reader(time, tz)

    def rows(self, wanted: Mapping[str, str]) -> Iterator[Columns]:
        """All rows, every value text."""
        at = {field: self.names.index(name) for field, name in wanted.items()}
        width, lines = len(self.names), islice(self._lines(), 1, None)
        while chunk := list(islice(lines, ROWS)):
            for line, row, _ in chunk:
                if len(row) != width:
                    raise BadRow(
                        f"{self.path} line {line}: {','.join(row)!r} has {len(row)} columns, not {width}; "
                        "correct the row, or replace the file"
                    )
            columns = list(zip(*(row for _, row, _ in chunk), strict=True))
            values = {field: columns[i] for field, i in at.items()}
            yield Columns([line for line, _, _ in chunk], values, chunk[-1][2])

    def _lines(self) -> Iterator[tuple[int, list[str], int]]:
        """The rows, the header first, between the line each ends on and the bytes read; no blank lines."""
        try:
            with self.path.open("rb") as file:
                reader = csv.reader(io.TextIOWrapper(file, newline="", encoding="utf-8-sig"), strict=True)
                yield from ((reader.line_num, row, file.tell()) for row in reader if row)
        except (OSError, UnicodeDecodeError, csv.Error) as problem:
            raise DamagedFile(f"{self.path} cannot be read: {problem}; {_RESTORE}") from problem


class ParquetTable:
    """A Parquet file."""

    place = "row"

    def __init__(self, path: Path) -> None:
        self.path = path
        with self._open() as file:
            self._schema = file.schema_arrow
        self.names: Sequence[str] = self._schema.names

    def time_reader(self, name: str, time: TimeFormat, tz: ZoneInfo | None) -> Callable[[Any], int]:
        """The column's type says how it is read, unless it is text or numbers."""
        from pyarrow import types

        kind = self._schema.field(name).type
        if types.is_timestamp(kind) and time != "date":
            return _whole if kind.tz else lambda value: local(_whole(value), tz)
        if types.is_timestamp(kind) and not kind.tz:
            return lambda value: midnight_utc(_whole(value))
        if types.is_timestamp(kind) or (types.is_date(kind) and time != "date"):
            raise BadRequest(
                f"{self.path}: column {name!r} holds {kind}, which does not go with time {time!r}"
            )
        return time_reader(time, tz)

    def rows(self, wanted: Mapping[str, str]) -> Iterator[Columns]:
        """All rows, as Python values; times as whole nanoseconds."""
        import pyarrow

        done, names, size = 0, sorted(set(wanted.values())), self.path.stat().st_size
        try:
            with self._open() as file:
                for batch in file.iter_batches(batch_size=ROWS, columns=names):
                    values = {field: _plain(batch.column(name)) for field, name in wanted.items()}
                    places = range(done + 1, done + batch.num_rows + 1)
                    done += batch.num_rows
                    yield Columns(places, values, size * done // file.metadata.num_rows)
        except (OSError, pyarrow.ArrowException) as problem:
            raise DamagedFile(f"{self.path} cannot be read: {problem}; {_RESTORE}") from problem

    def _open(self) -> Any:
        import pyarrow
        from pyarrow import parquet

        try:
            return parquet.ParquetFile(self.path)
        except (OSError, pyarrow.ArrowException) as problem:
            raise DamagedFile(f"{self.path} cannot be read: {problem}; {_RESTORE}") from problem


def _plain(column: Any) -> list[Any]:
    """A column as Python values: times as whole nanoseconds, NaN (pandas' missing number) as None."""
    import pyarrow

    kind = column.type
    if pyarrow.types.is_timestamp(kind):
        return list(column.cast(pyarrow.timestamp("ns", kind.tz)).cast(pyarrow.int64()).to_pylist())
    if pyarrow.types.is_nested(kind):
        raise BadRequest(f"a column of {kind} is neither a number nor a text: map another")
    values: list[Any] = column.to_pylist()
    if pyarrow.types.is_floating(kind):
        return [None if value != value else value for value in values]  # noqa: PLR0124
    return values


def _whole(value: Any) -> int:
    if value is None:
        raise ValueError("is missing")
    return int(value)
