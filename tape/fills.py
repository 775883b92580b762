"""A broker's export of executions, through the same books that a run uses.

The file is read and checked whole before anything is booked: one bad cell, and nothing is.
"""

from __future__ import annotations

import csv
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from decimal import Decimal, Inexact
from pathlib import Path
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from processors.account.account import Account
from processors.account.books import NET
from schemas import ZERO, Limits, canonical, exact, plain, validate
from tape.errors import WrongInput
from tape.limits import DIGITS_MAX, fits
from tape.progress import Report, Stage

REQUIRED = ("time", "symbol", "side", "quantity", "price", "fee")
OPTIONAL = ("execution_id", "strategy")
NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)", re.ASCII)
DECIMALS_MAX = 200
A_TIME = "2013-10-07T09:31:00-04:00"
YEAR_MIN, YEAR_MAX = 1900, 2100
LOOK_EVERY = 5000
"""Lines between two reports of progress."""
TEXT_MAX = 40
"""Characters of a cell that are repeated in an error."""
BUY, SELL = "buy", "sell"
SIDES = {
    **dict.fromkeys((BUY, "b", "bot", "bought", "buy to open", "buy to close", "buy to cover"), BUY),
    **dict.fromkeys((SELL, "s", "sld", "sold", "sell short", "sell to open", "sell to close"), SELL),
}
"""How brokers write the two sides, in any case."""


class FillsError(WrongInput):
    """A file of executions that cannot be booked; the message names line, column and remedy."""


@dataclass(frozen=True, slots=True)
class Execution:
    """One row: quantity in shares, price and fee in dollars, time with its zone."""

    line: int
    time: datetime
    symbol: str
    side: str
    quantity: Decimal
    price: Decimal
    fee: Decimal
    execution_id: str
    strategy: str

    def content(self) -> dict[str, Any]:
        """What a repeat of the same execution must agree in, by column."""
        columns = (*REQUIRED, "strategy")
        return {name: getattr(self, name) for name in columns}


class Repeat(NamedTuple):
    """An execution id that came again with the same content: it counts once."""

    execution_id: str
    line: int
    first_line: int


class Fills(NamedTuple):
    """A file of executions: those that count, its repeats, and the columns that were not read."""

    file: Path
    rows: list[Execution]
    repeats: list[Repeat]
    ignored: list[str]


def read_fills(file: Path, zone: str | None, report: Report = lambda stage: None) -> Fills:
    """The executions of a file in its order. Raises `FillsError`.

    `zone` names the time zone of times that have none.
    """
    placed = _zone(zone)
    try:
        lines = _lines(file)
        with file.open(encoding="utf-8-sig", newline="") as text:
            reader = csv.reader(text, strict=True)
            header = _header(file, next(reader, []))
            read = _rows(reader, header, file, placed)
            rows, repeats = _once(_watched(read, lines, report), file)
    except OSError as problem:
        raise FillsError(f"{file} cannot be read: {problem.strerror}; name a CSV file") from problem
    except UnicodeDecodeError as problem:
        raise FillsError(f"{file} is not UTF-8 text: save it as CSV in UTF-8") from problem
    except csv.Error as problem:
        raise FillsError(f"{file} line {reader.line_num} is not CSV: {problem}; correct it") from problem
    return Fills(file, rows, repeats, [name for name in header if name not in REQUIRED + OPTIONAL])


def _lines(file: Path) -> int:
    with file.open("rb") as raw:
        return sum(piece.count(b"\n") for piece in iter(lambda: raw.read(1 << 20), b""))


def _watched(rows: Iterator[Execution], lines: int, report: Report) -> Iterator[Execution]:
    for row in rows:
        if row.line % LOOK_EVERY == 0:
            report(Stage("read", row.line, lines))
        yield row
    report(Stage("read", lines, lines))


def _zone(name: str | None) -> tzinfo | None:
    if name is None:
        return None
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise FillsError(f"--tz {name} is not a time zone; use a name like America/New_York") from None


def _header(file: Path, names: list[str]) -> list[str]:
    """The names of the columns, in small letters."""
    header = [name.strip().lower() for name in names]
    missing = [name for name in REQUIRED if name not in header]
    if not any(header):
        raise FillsError(f"{file} is empty; its first line should name the columns {', '.join(REQUIRED)}")
    if missing:
        raise FillsError(
            f"{file} line 1: no column {', '.join(missing)} (it has {_short(', '.join(header))}); rename "
            f"yours to {', '.join(REQUIRED)}, and if there are any {', '.join(OPTIONAL)}"
        )
    for name in REQUIRED + OPTIONAL:
        if header.count(name) > 1:
            raise FillsError(f"{file} line 1: column {name} stands there twice; rename one of the two")
    return header


def _rows(
    reader: Iterator[list[str]], header: list[str], file: Path, zone: tzinfo | None
) -> Iterator[Execution]:
    line: int = reader.line_num  # type: ignore[attr-defined]  # csv's reader has it
    for cells in reader:
        first, line = line + 1, reader.line_num  # type: ignore[attr-defined]  # csv's reader has it
        if not cells:
            continue
        if len(cells) != len(header):
            raise FillsError(
                f"{file} line {first}: {len(cells)} cells where the header has {len(header)} columns; "
                "correct the row, and put text with a comma into quotes"
            )
        named = {name: cell.strip() for name, cell in zip(header, cells, strict=True)}
        yield _execution(_Row(file, first, named), zone)


@dataclass(frozen=True)
class _Row:
    file: Path
    line: int
    cells: Mapping[str, str]

    def bad(self, column: str, why: str) -> FillsError:
        return FillsError(f"{self.file} line {self.line}, column {column}: {why}")

    def number(self, column: str) -> Decimal:
        text = self.cells[column]
        if not text:
            raise self.bad(column, "it is empty" + ("; write 0 if there was none" if column == "fee" else ""))
        value = _number(text)
        if value is None:
            raise self.bad(column, f"{_short(text)!r} is not a plain number like 1234.56")
        if not fits(value):
            before, after = DIGITS_MAX
            raise self.bad(
                column, f"{_short(text)} has more than {before} digits before or {after} after the point"
            )
        return value

    def positive(self, column: str) -> Decimal:
        value = self.number(column)
        if value <= 0:
            remedy = "the side says buy or sell" if column == "quantity" else "a price is above zero"
            raise self.bad(column, f"{plain(value)} is not positive; {remedy}")
        return value


def _execution(row: _Row, zone: tzinfo | None) -> Execution:
    cells = row.cells
    if not cells["symbol"]:
        raise row.bad("symbol", "it is empty")
    side = SIDES.get(cells["side"].lower())
    if side is None:
        raise row.bad("side", f"{_short(cells['side'])!r} is neither buy nor sell")
    return Execution(
        line=row.line,
        time=_time(row, zone),
        symbol=sys.intern(cells["symbol"].upper()),
        side=side,
        quantity=row.positive("quantity"),
        price=row.positive("price"),
        fee=row.number("fee"),
        execution_id=cells.get("execution_id", ""),
        strategy=sys.intern(cells.get("strategy", "") or "external"),
    )


def _number(text: str) -> Decimal | None:
    """A number in plain notation; None for anything else."""
    return canonical(Decimal(text)) if len(text) < DECIMALS_MAX and NUMBER.fullmatch(text) else None


def _short(text: str) -> str:
    return text if len(text) <= TEXT_MAX else f"{text[:TEXT_MAX]}..."


def _time(row: _Row, zone: tzinfo | None) -> datetime:
    text = row.cells["time"]
    try:
        time = datetime.fromisoformat(text)
        if not YEAR_MIN <= time.year <= YEAR_MAX:
            raise ValueError
    except ValueError:
        raise row.bad("time", f"{_short(text)!r} is not an ISO 8601 time like {A_TIME}") from None
    if time.tzinfo is not None:
        return time.astimezone(UTC)
    if zone is None:
        raise row.bad("time", f"{text} has no zone; add one, or say which with --tz America/New_York")
    placed = time.replace(tzinfo=zone)
    utc = placed.astimezone(UTC)
    if utc.astimezone(zone).replace(tzinfo=None) != time or utc != placed.replace(fold=1).astimezone(UTC):
        raise row.bad("time", f"{text} does not exist once in {zone} (the clock changes); add an offset")
    return utc


def _once(rows: Iterable[Execution], file: Path) -> tuple[list[Execution], list[Repeat]]:
    """The rows without repeats, which need not be in order. Raises `FillsError`."""
    first: dict[str, Execution] = {}
    kept: list[Execution] = []
    repeats: list[Repeat] = []
    for row in rows:
        known = first.get(row.execution_id) if row.execution_id else None
        if known is not None:
            _require_same(row, known, file)
            repeats.append(Repeat(row.execution_id, row.line, known.line))
            continue
        if kept and row.time < kept[-1].time:
            raise FillsError(
                f"{file} line {row.line}, column time: {row.time.isoformat()} is before "
                f"{kept[-1].time.isoformat()} of line {kept[-1].line}; sort the file by time"
            )
        if row.execution_id:
            first[row.execution_id] = row
        kept.append(row)
    return kept, repeats


def _require_same(row: Execution, known: Execution, file: Path) -> None:
    for column, value in row.content().items():
        before = known.content()[column]
        if value != before:
            raise FillsError(
                f"{file} line {row.line}, column {column}: execution {_short(row.execution_id)} was {before} "
                f"in line {known.line} and is {value} here; correct one, or give it an id of its own"
            )


def read_marks(text: str) -> dict[str, Decimal]:
    """Prices from SYM=PRICE,SYM=PRICE. Raises `FillsError`."""
    marks: dict[str, Decimal] = {}
    for part in filter(None, (p.strip() for p in text.split(","))):
        symbol, _, cell = (s.strip() for s in part.partition("="))
        price = _number(cell)
        if not symbol or price is None or price <= 0 or not fits(price):
            raise FillsError(
                f"--marks {_short(part)!r} is not of the form SYM=PRICE with a positive price; correct it"
            )
        if symbol.upper() in marks:
            raise FillsError(f"--marks names {symbol.upper()} twice; name it once")
        marks[symbol.upper()] = price
    return marks


def book_fills(fills: Fills, cash: Decimal, marks: Mapping[str, Decimal]) -> dict[str, Any]:
    """What an account that began with `cash` dollars has after the executions, valued at `marks`.

    Money as text, null where it is not known. Raises `FillsError`.
    """
    account = Account(
        id="fills",
        kind="margin",
        multiplier=Decimal(1),
        shorting=True,
        fractions=True,
        limits=validate(Limits, {}),
        starting=cash,
        cash=cash,
        baseline=None,
        peak=None,
    )
    line = 0
    try:
        with exact():
            for row in fills.rows:
                line = row.line
                _book(account, row, marks.get(row.symbol))
            return _summarize(account, marks, fills)
    except Inexact:
        raise FillsError(
            f"{fills.file} line {line}: the sums up to here have more than the 38 digits that can be booked; "
            "round quantities, prices or marks"
        ) from None


def _book(account: Account, row: Execution, mark: Decimal | None) -> None:
    signed = row.quantity if row.side == BUY else -row.quantity
    holding = account.holding(row.symbol)
    for name in (NET, row.strategy):
        holding.ledger.book(name).trade(signed, row.price, row.fee)
    holding.mark = mark if holding.quantity else None
    account.cash -= signed * row.price + row.fee
    account.settle(holding)


def _summarize(account: Account, marks: Mapping[str, Decimal], fills: Fills) -> dict[str, Any]:
    return {
        "executions": len(fills.rows),
        "cash": plain(account.cash),
        "equity": _money(account.equity),
        "realized": plain(account.realized),
        "fees": plain(account.fees),
        "unrealized": _money(account.unrealized),
        "unpriced": list(account.unpriced),
        "positions": [_position(account, symbol, marks) for symbol in sorted(account.holdings)],
        "repeated": [r._asdict() for r in fills.repeats],
        "ignored_columns": fills.ignored,
    }


def _position(account: Account, symbol: str, marks: Mapping[str, Decimal]) -> dict[str, Any]:
    holding = account.holdings[symbol]
    book = holding.ledger.books[NET]
    unrealized = None if book.quantity and holding.mark is None else holding.value - book.cost
    return {
        "symbol": symbol,
        "quantity": plain(book.quantity),
        "average": _money(book.average),
        "realized": plain(book.realized),
        "unrealized": _money(unrealized if book.quantity else ZERO),
        "mark": _money(marks.get(symbol)),
        "fees": plain(book.fees),
        "strategies": {
            name: {
                "quantity": plain(part.quantity),
                "average": _money(part.average),
                "realized": plain(part.realized),
                "fees": plain(part.fees),
            }
            for name, part in sorted(holding.ledger.books.items())
            if name != NET
        },
    }


def _money(value: Decimal | None) -> str | None:
    return None if value is None else plain(value)
