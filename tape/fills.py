"""A broker's export of executions, through the same books that a run uses.

The file is read and checked whole before anything is booked: one bad cell, and nothing is.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from decimal import Decimal, Inexact
from pathlib import Path
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from processors.account.account import Account
from processors.account.books import NET, Entry
from schemas import ZERO, Limits, canonical, exact, plain, validate
from tape.errors import WrongInput

REQUIRED = ("time", "symbol", "side", "quantity", "price", "fee")
OPTIONAL = ("execution_id", "strategy")
NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)")
DIGITS_MAX = 30
SIDES = {"buy": 1, "sell": -1}


class FillsError(WrongInput):
    """A file of executions that cannot be booked; the message names line, column and remedy."""


@dataclass(frozen=True)
class Execution:
    """One row: signed quantity in shares, price and fee in dollars, time with its zone."""

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


def read_fills(file: Path, zone: str | None) -> tuple[list[Execution], list[Repeat]]:
    """The executions of a file in its order, and its repeats. Raises `FillsError`.

    `zone` names the time zone of times that have none.
    """
    try:
        with file.open(encoding="utf-8-sig", newline="") as text:
            rows = list(_rows(csv.DictReader(text, strict=True), file, _zone(zone)))
    except OSError as problem:
        raise FillsError(f"{file} cannot be read: {problem.strerror}") from problem
    except UnicodeDecodeError as problem:
        raise FillsError(f"{file} is not UTF-8 text: byte {problem.start}") from problem
    except csv.Error as problem:
        raise FillsError(f"{file} is not CSV: {problem}") from problem
    return _without_repeats(rows, file)


def _zone(name: str | None) -> tzinfo | None:
    if name is None:
        return None
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise FillsError(f"--tz {name} is not a time zone; use a name like America/New_York") from None


def _rows(reader: csv.DictReader[str], file: Path, zone: tzinfo | None) -> Iterator[Execution]:
    header = [name.strip().lower() for name in reader.fieldnames or ()]
    missing = [name for name in REQUIRED if name not in header]
    if missing:
        raise FillsError(
            f"{file} line 1: no column {missing[0]}; the columns are {', '.join(REQUIRED + OPTIONAL)}"
        )
    double = sorted({name for name in header if header.count(name) > 1 and name in REQUIRED + OPTIONAL})
    if double:
        raise FillsError(f"{file} line 1: column {double[0]} stands there twice")
    reader.fieldnames = header
    last: Execution | None = None
    for row in reader:
        if None in row or None in row.values():
            raise FillsError(f"{file} line {reader.line_num}: not as many cells as the header has columns")
        made = _execution(_Row(file, reader.line_num, {k: (v or "").strip() for k, v in row.items()}), zone)
        if last is not None and made.time < last.time:
            raise FillsError(
                f"{file} line {made.line}, column time: {made.time.isoformat()} is before "
                f"{last.time.isoformat()} of line {last.line}; sort the file by time"
            )
        last = made
        yield made


@dataclass(frozen=True)
class _Row:
    file: Path
    line: int
    cells: Mapping[str, str]

    def bad(self, column: str, why: str) -> FillsError:
        return FillsError(f"{self.file} line {self.line}, column {column}: {why}")

    def number(self, column: str) -> Decimal:
        text = self.cells[column]
        if not NUMBER.fullmatch(text):
            raise self.bad(column, f"{text!r} is not a plain number like 1234.56")
        if len(text) > DIGITS_MAX:
            raise self.bad(column, f"{text} has more digits than can be booked exactly")
        return canonical(Decimal(text))

    def positive(self, column: str) -> Decimal:
        value = self.number(column)
        if value <= 0:
            raise self.bad(column, f"{plain(value)} is not positive; the side says buy or sell")
        return value


def _execution(row: _Row, zone: tzinfo | None) -> Execution:
    cells = row.cells
    if not cells["symbol"]:
        raise row.bad("symbol", "it is empty")
    side = cells["side"].lower()
    if side not in SIDES:
        raise row.bad("side", f"{cells['side']!r} is neither buy nor sell")
    return Execution(
        line=row.line,
        time=_time(row, zone),
        symbol=cells["symbol"].upper(),
        side=side,
        quantity=row.positive("quantity"),
        price=row.positive("price"),
        fee=row.number("fee"),
        execution_id=cells.get("execution_id", ""),
        strategy=cells.get("strategy", "") or "external",
    )


def _time(row: _Row, zone: tzinfo | None) -> datetime:
    text = row.cells["time"]
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise row.bad("time", f"{text!r} is not an ISO 8601 time like 2013-10-07T09:31:00-04:00") from None
    if time.tzinfo is not None:
        return time
    if zone is None:
        raise row.bad("time", f"{text} has no zone; add one, or say which with --tz America/New_York")
    placed = time.replace(tzinfo=zone)
    again = placed.astimezone(UTC).astimezone(zone).replace(tzinfo=None)
    if again != time or placed.utcoffset() != placed.replace(fold=1).utcoffset():
        raise row.bad("time", f"{text} does not exist once in {zone} (the clock changes); add an offset")
    return placed


def _without_repeats(rows: list[Execution], file: Path) -> tuple[list[Execution], list[Repeat]]:
    first: dict[str, Execution] = {}
    kept: list[Execution] = []
    repeats: list[Repeat] = []
    for row in rows:
        known = first.get(row.execution_id) if row.execution_id else None
        if known is None:
            first[row.execution_id] = row
            kept.append(row)
            continue
        for column, value in row.content().items():
            before = known.content()[column]
            if value != before:
                raise FillsError(
                    f"{file} line {row.line}, column {column}: execution {row.execution_id} was {before} "
                    f"in line {known.line} and is {value} here"
                )
        repeats.append(Repeat(row.execution_id, row.line, known.line))
    return kept, repeats


def read_marks(text: str) -> dict[str, Decimal]:
    """Prices from SYM=PRICE,SYM=PRICE. Raises `FillsError`."""
    marks: dict[str, Decimal] = {}
    for part in filter(None, (p.strip() for p in text.split(","))):
        symbol, equals, price = (s.strip() for s in part.partition("="))
        if not equals or not symbol or not NUMBER.fullmatch(price) or Decimal(price) <= 0:
            raise FillsError(f"--marks {part!r} is not of the form SYM=PRICE with a positive price")
        if symbol.upper() in marks:
            raise FillsError(f"--marks names {symbol.upper()} twice")
        marks[symbol.upper()] = canonical(Decimal(price))
    return marks


def book_fills(rows: list[Execution], cash: Decimal, marks: Mapping[str, Decimal]) -> Account:
    """An account that starts with `cash` dollars and books the executions, valued at `marks`."""
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
    with exact():
        for row in rows:
            try:
                _book(account, row, marks.get(row.symbol))
            except Inexact:
                raise FillsError(
                    f"line {row.line}: the numbers have more digits than can be booked exactly"
                ) from None
    return account


def _book(account: Account, row: Execution, mark: Decimal | None) -> None:
    signed = row.quantity * SIDES[row.side]
    holding = account.holding(row.symbol)
    entry = Entry(
        "trade", 0, row.strategy, execution=row.execution_id, quantity=signed, price=row.price, fee=row.fee
    )
    holding.ledger.add(entry)
    holding.mark = mark if holding.quantity else None
    account.cash -= signed * row.price + row.fee
    account.settle(holding)


def summarize_fills(account: Account, marks: Mapping[str, Decimal], repeats: list[Repeat]) -> dict[str, Any]:
    """The account in figures; money as text, null where it is not known."""
    with exact():
        return {
            "cash": plain(account.cash),
            "equity": _money(account.equity),
            "realized": plain(account.realized),
            "fees": plain(account.fees),
            "unrealized": _money(account.unrealized),
            "unpriced": list(account.unpriced),
            "positions": [_position(account, symbol, marks) for symbol in sorted(account.holdings)],
            "repeated": [r._asdict() for r in repeats],
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
