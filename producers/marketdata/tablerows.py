"""From the columns of a file to events: every value is checked here, and an error says where it stands."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field, TypeAdapter, ValidationError

from producers.marketdata.drafts import BAR, QUOTE, TRADE, Draft, draft_order
from producers.marketdata.errors import BadRow
from producers.marketdata.leanfeeds import OUT_OF_HOURS
from producers.marketdata.tablefiles import Columns, Table
from producers.sessions import SECOND_NS, Calendar
from schemas import EVERY_SYMBOL, Bar, Quote, Trade, canonical

Kind = Literal["quotes", "trades", "bars"]

FIELDS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "quotes": (("ts", "symbol", "bid", "ask"), ("bid_size", "ask_size")),
    "trades": (("ts", "symbol", "price", "size"), ("id", "exchange", "condition")),
    "bars": (
        ("ts", "symbol", "open", "high", "low", "close"),
        (
            *("volume", "bid_open", "bid_high", "bid_low", "bid_close"),
            *("ask_open", "ask_high", "ask_low", "ask_close", "bid_size", "ask_size"),
        ),
    ),
}
"""What a file of each kind must have, and what it may have besides."""

FEED = "table"
_CORRECT = "correct the row, or replace the file"
_UNSORTED = "is before the time of the row before it: sort the file by time"
_STRAYS, _STRAY_SHARE = 3, 0.01
"""Rows that may go back in time where the gate sets them aside; of more, the file is not in order."""
_INPUT = re.compile("^(Decimal i|I)nput ")
_MEMORY_MAX = 200_000
_Price = Annotated[Decimal, Field(gt=0, lt=10**15, decimal_places=18)]
_AnyPrice = Annotated[Decimal, Field(gt=-(10**15), lt=10**15, decimal_places=18)]
_Amount = Annotated[Decimal, Field(ge=0, lt=10**15, decimal_places=18)]
_TEXTS = ("id", "exchange", "condition")
_PRICES = tuple(
    prefix + part for prefix in ("", "bid_", "ask_") for part in ("price", "open", "high", "low", "close")
)
_REQUIRED = ("price", "size")


class _Bad(Exception):
    """A value that is none: its index in the batch, why, and which field where that is not plain."""

    def __init__(self, index: int, reason: str, field: str = "") -> None:
        self.index, self.reason, self.field = index, reason, field


class Numbers:
    """Reads numbers, each once: prices and sizes come again and again. Empty is None."""

    def __init__(self, kind: Any) -> None:
        self._adapter: TypeAdapter[list[Decimal]] = TypeAdapter(list[kind])
        self._known: dict[Any, Decimal | None] = {None: None, "": None}

    def __call__(self, values: Sequence[Any]) -> list[Decimal | None]:
        """The numbers of a column. Raises `_Bad` for the first that is none."""
        known = self._known
        if len(known) > _MEMORY_MAX:
            known.clear()
            known.update({None: None, "": None})
        fresh = [value for value in set(values) if value not in known]
        try:
            known.update(zip(fresh, map(canonical, self._adapter.validate_python(fresh)), strict=True))
        except ValidationError as problem:
            reasons = {fresh[int(e["loc"][0])]: _INPUT.sub("", e["msg"]) for e in problem.errors()}
            index = next(i for i, value in enumerate(values) if value in reasons)
            raise _Bad(index, reasons[values[index]]) from None
        return [known[value] for value in values]


class Span(NamedTuple):
    """When what a row tells began and ended (UTC ns): the same instant for quotes and trades."""

    begin: int
    ts: int


@dataclass(frozen=True)
class Rows:
    """The rows of one file.

    `symbol` is that of all rows, where no column says it; `symbols` are those wanted, all if none.
    `period` is that of bars in nanoseconds, None where their times are dates of sessions; `starts`:
    their times are those of their starts. `regular` leaves out what is outside of regular hours;
    `first` and `last` are the days wanted, in New York. `gated` rows may have
    prices that are not positive, and times that go back, unless too many do.
    """

    table: Table
    kind: Kind
    columns: Mapping[str, str]
    read_time: Callable[[Any], int]
    symbol: str | None
    symbols: frozenset[str]
    period: int | None
    starts: bool
    regular: bool
    gated: bool
    first: date
    last: date
    calendar: Calendar

    def drafts(self, left_out: Counter[str], told: Callable[[Path, int], None]) -> Iterator[Draft]:
        """The events by (ts, rank, symbol); `left_out` counts rows that are not among them.

        `told` is called with the path and the bytes read so far. Raises `BadRow`, `DamagedFile`.
        """
        held: list[Draft] = []
        for draft in self._in_file_order(left_out, told):
            if held and draft[0] != held[0][0]:
                held.sort(key=draft_order)
                yield from held
                held.clear()
            held.append(draft)
        held.sort(key=draft_order)
        yield from held

    def _in_file_order(self, left_out: Counter[str], told: Callable[[Path, int], None]) -> Iterator[Draft]:
        readers = self._readers()
        last, barred = -(2**63), set[str]()
        rows, strays, first_stray = 0, 0, None
        for batch in self.table.rows(self.columns):
            values = {name: self._read(name, batch, read) for name, read in readers.items()}
            symbols = values["symbol"] if self.symbol is None else [self.symbol] * len(batch.places)
            make = _MAKERS[self.kind](values)
            for i, (stamp, symbol) in enumerate(zip(values["ts"], symbols, strict=True)):
                if stamp > last:
                    barred.clear()
                    last = stamp
                if stamp < last:
                    strays += 1
                    first_stray = first_stray or self._bad(batch, i, "ts", _UNSORTED)
                    if not self.gated:
                        raise first_stray
                elif symbol in barred:
                    raise self._bad(batch, i, "ts", f"comes twice for {symbol}: keep one of the two")
                elif self.kind == "bars":
                    barred.add(symbol)
                span = self._span(batch, i, stamp)
                if self.symbols and symbol not in self.symbols:
                    left_out["of other symbols"] += 1
                elif not self.first <= self.calendar.day(span.begin) <= self.last:
                    left_out["of other days"] += 1
                elif self.regular and not self._in_hours(span):
                    left_out[OUT_OF_HOURS] += 1
                else:
                    try:
                        yield from make(i, symbol, span)
                    except _Bad as bad:
                        raise self._bad(batch, bad.index, bad.field, bad.reason) from None
            rows += len(batch.places)
            told(self.table.path, batch.read)
        if first_stray is not None and strays > max(_STRAYS, rows * _STRAY_SHARE):
            raise first_stray

    def _readers(self) -> dict[str, Callable[[Sequence[Any]], Sequence[Any]]]:
        """What reads the column of each field; prices share one memory, sizes another."""
        price, amount = Numbers(_AnyPrice if self.gated else _Price), Numbers(_Amount)
        special: dict[str, Callable[[Sequence[Any]], Sequence[Any]]] = {
            "ts": self._times,
            "symbol": Symbols(),
            **dict.fromkeys(_TEXTS, _texts),
            **dict.fromkeys(_PRICES, price),
            **dict.fromkeys(("bid", "ask"), price if self.gated else amount),
        }
        return {name: special.get(name, amount) for name in self.columns}

    def _read(
        self, name: str, batch: Columns, read: Callable[[Sequence[Any]], Sequence[Any]]
    ) -> Sequence[Any]:
        try:
            values = read(batch.values[name])
        except _Bad as bad:
            raise self._bad(batch, bad.index, name, bad.reason) from None
        if name in _REQUIRED and None in values:
            raise self._bad(batch, values.index(None), name, "must not be empty")
        return values

    def _times(self, values: Sequence[Any]) -> Sequence[int]:
        read, times = self.read_time, list[int]()
        try:
            for value in values:
                times.append(read(value))  # how many there are says which is wrong
        except ValueError as problem:
            raise _Bad(len(times), str(problem)) from None
        return times

    def _span(self, batch: Columns, i: int, stamp: int) -> Span:
        if self.kind != "bars":
            return Span(stamp, stamp)
        if self.period is not None:
            begin = stamp if self.starts else stamp - self.period
            return Span(begin, begin + self.period)
        day = datetime.fromtimestamp(stamp // SECOND_NS, UTC).date()
        session = self.calendar.session(day)
        if session is None:
            raise self._bad(batch, i, "ts", "is a day on which the US market had no session")
        return Span(session.open, session.close)

    def _in_hours(self, span: Span) -> bool:
        begin, ts = span
        session = self.calendar.session(self.calendar.day(begin))
        if session is None:
            return False
        return session.open <= begin < session.close or begin == ts == session.close

    def _bad(self, batch: Columns, i: int, name: str, reason: str) -> BadRow:
        place = f"{self.table.path} {self.table.place} {batch.places[i]}"
        return BadRow(
            f"{place}: {self.columns[name]!r} is {batch.values[name][i]!r}; it {reason}; {_CORRECT}"
        )


class Symbols:
    """Reads symbols, in capitals."""

    def __init__(self) -> None:
        self._known: dict[Any, str] = {}

    def __call__(self, values: Sequence[Any]) -> Sequence[str]:
        """The symbols of a column. Raises `_Bad` for the first that is none."""
        for value in set(values) - self._known.keys():
            symbol = "" if value is None else str(value).strip().upper()
            if not symbol or symbol == EVERY_SYMBOL:
                raise _Bad(values.index(value), "should name a symbol")
            self._known[value] = symbol
        return [self._known[value] for value in values]


def _texts(values: Sequence[Any]) -> Sequence[str]:
    return ["" if value is None else str(value) for value in values]


Values = Mapping[str, Sequence[Any]]
Maker = Callable[[int, str, Span], Iterator[Draft]]
"""Makes the drafts of a row: its index in the batch, its symbol, its times."""


def _quotes(values: Values) -> Maker:
    bid, ask = values["bid"], values["ask"]
    bid_size, ask_size = (values.get(name) or [None] * len(bid) for name in ("bid_size", "ask_size"))

    def make(i: int, symbol: str, span: Span) -> Iterator[Draft]:
        yield (
            span.ts,
            QUOTE,
            symbol,
            Quote,
            {
                "symbol": symbol,
                "ts": span.ts,
                "bid": bid[i] or None,  # 0 is how many feeds write that there is none
                "bid_size": bid_size[i] if bid[i] else None,
                "ask": ask[i] or None,
                "ask_size": ask_size[i] if ask[i] else None,
                "feed": FEED,
            },
        )

    return make


def _trades(values: Values) -> Maker:
    names = [name for name in values if name not in ("ts", "symbol")]

    def make(i: int, symbol: str, span: Span) -> Iterator[Draft]:
        fields = {name: values[name][i] for name in names}
        yield span.ts, TRADE, symbol, Trade, {"symbol": symbol, "ts": span.ts, "feed": FEED, **fields}

    return make


def _bars(values: Values) -> Maker:
    names = [name for name in values if name not in ("ts", "symbol", "bid_size", "ask_size")]
    names += [] if "volume" in names else ["volume"]
    columns = {name: values.get(name) or [None] * len(values["ts"]) for name in names}
    sizes = [values.get(name) or [None] * len(values["ts"]) for name in ("bid_size", "ask_size")]
    sides = [prefix for prefix in ("", "bid_", "ask_") if f"{prefix}close" in values]

    def make(i: int, symbol: str, span: Span) -> Iterator[Draft]:
        fields = {name: column[i] for name, column in columns.items()}
        for prefix in sides:
            _check_bar(i, fields, prefix)
        head = {"symbol": symbol, "ts": span.ts, "feed": FEED}
        if len(sides) > 1:
            yield span.ts, QUOTE, symbol, Quote, head | _closing_quote(fields, sizes[0][i], sizes[1][i])
        yield span.ts, BAR, symbol, Bar, head | fields | {"period": span.ts - span.begin}

    return make


def _closing_quote(fields: Mapping[str, Any], bid_size: Any, ask_size: Any) -> dict[str, Any]:
    bid, ask = fields.get("bid_close"), fields.get("ask_close")
    return {
        "bid": bid,
        "bid_size": None if bid is None else bid_size,
        "ask": ask,
        "ask_size": None if ask is None else ask_size,
        "bar": True,
    }


def _check_bar(i: int, fields: Mapping[str, Any], prefix: str) -> None:
    """Raise `_Bad` for prices that cannot be those of one bar."""
    opened, high, low, close = prices = [fields[prefix + part] for part in ("open", "high", "low", "close")]
    if None in prices:
        if any(price is not None for price in prices):
            missing = prefix + ("open", "high", "low", "close")[prices.index(None)]
            raise _Bad(i, "is missing beside the other prices", missing)
    elif min(prices) > 0 and not (low <= opened <= high and low <= close <= high):
        outside = "open" if not low <= opened <= high else "close"
        raise _Bad(i, f"should lie between low ({low}) and high ({high})", prefix + outside)


_MAKERS: dict[str, Callable[[Values], Maker]] = {"quotes": _quotes, "trades": _trades, "bars": _bars}
