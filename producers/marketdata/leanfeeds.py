"""What LEAN's files say of a symbol, one class for each way in which they are laid out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import date
from pathlib import Path
from typing import Protocol, TypeVar

from producers.marketdata.drafts import MS, Draft, Scale, bar_drafts, daily_draft, tick_drafts
from producers.marketdata.errors import BadRow, MissingDay
from producers.marketdata.folder import KINDS, DailyFiles, DayFiles, Files, Kind
from producers.marketdata.leandaily import DailyRow, daily_rows
from producers.marketdata.leanfiles import DAY_MS, QuoteRow, TradeRow, quote_rows, read_file, trade_rows
from producers.marketdata.leanticks import BestQuote, TickTrade, best_quotes, tick_trades
from producers.sessions import SECOND_NS, Hours, Session, midnight
from schemas import digest

RESOLUTIONS = {
    "tick": 0,
    "second": SECOND_NS,
    "minute": 60 * SECOND_NS,
    "daily": 24 * 60 * 60 * SECOND_NS,
}
"""What a LEAN folder can be read at, and how far apart its events are expected (ns)."""

OUT_OF_HOURS = "outside regular hours"
"""Why rows are left out."""


_Row = TypeVar("_Row", TradeRow, QuoteRow, TickTrade, BestQuote)


class Feed(Protocol):
    """The events of one resolution over some sessions."""

    left_out: Counter[str]
    """Rows of the files that have become no event, by why."""

    @property
    def files(self) -> Files:
        """Where they are."""

    def require(self, symbol: str) -> None:
        """Raise `UnknownSymbol`, `MissingDay` for files that are not there."""

    def contents(self, symbols: Sequence[str]) -> Iterator[bytes]:
        """What the events are made of, digested piece by piece."""

    def counts(self, symbol: str) -> Iterator[int]:
        """How many events each session has, every row read and checked."""

    def drafts(self, symbol: str, scale: Callable[[date], Scale]) -> Iterator[Draft]:
        """The events of all sessions, in order, as `scale` says on each day."""


def feed(folder: Path, resolution: str, sessions: list[Session], hours: Hours, allow_missing: bool) -> Feed:
    """The feed of a resolution. Raises `MissingFolder`."""
    if resolution == "daily":
        return DailyFeed(DailyFiles(folder, resolution), sessions, allow_missing)
    files = DayFiles(folder, resolution)
    if resolution == "tick":
        return TickFeed(files, sessions, hours, allow_missing)
    return BarFeed(files, sessions, hours, allow_missing, RESOLUTIONS[resolution])


class DayFeed(ABC):
    """A trade and a quote file for each symbol and day."""

    def __init__(self, files: DayFiles, sessions: list[Session], hours: Hours, allow_missing: bool) -> None:
        self.files = files
        self._sessions = sessions
        self._hours = hours
        self._allow_missing = allow_missing
        self.left_out = Counter[str]()

    def require(self, symbol: str) -> None:
        """Raise `UnknownSymbol`, `MissingDay` for files that are not there."""
        days = [session.date for session in self._sessions]
        self.files.require(symbol, days, allow_missing=self._allow_missing)

    def contents(self, symbols: Sequence[str]) -> Iterator[bytes]:
        """A digest of each file with its name."""
        for session in self._sessions:
            for symbol in symbols:
                for kind in KINDS:
                    if path := self._path(symbol, session, kind):
                        name = f"{symbol} {session.date} {kind}"
                        yield digest(name.encode(), read_file(path)).encode()

    def counts(self, symbol: str) -> Iterator[int]:
        """How many events each session has, every row read and checked."""
        return (self._count(symbol, session) for session in self._sessions)

    def drafts(self, symbol: str, scale: Callable[[date], Scale]) -> Iterator[Draft]:
        """The events of all sessions, in order."""
        for session in self._sessions:
            yield from self._drafts(symbol, session, scale(session.date))

    @abstractmethod
    def _count(self, symbol: str, session: Session) -> int: ...

    @abstractmethod
    def _drafts(self, symbol: str, session: Session, scale: Scale) -> Iterator[Draft]: ...

    def _path(self, symbol: str, session: Session, kind: Kind) -> Path | None:
        """Where a file is, if it is there."""
        there = self.files.has(symbol, session.date, kind)
        return self.files.path(symbol, session.date, kind) if there else None

    def _between(self, rows: Iterable[_Row], begin: int, end: int) -> Iterator[_Row]:
        """The rows with begin <= ms < end."""
        for row in rows:
            if begin <= row.ms < end:
                yield row
            else:
                self.left_out[OUT_OF_HOURS] += 1

    def _bounds(self, session: Session) -> tuple[int, int]:
        """The milliseconds of the day that are read, from the first up to the close itself."""
        if self._hours == "extended":
            return 0, DAY_MS
        base = midnight(session.date)
        return (session.open - base) // MS, (session.close - base) // MS


class BarFeed(DayFeed):
    """Bars of a minute or a second; regular ones start in [open, close)."""

    def __init__(
        self, files: DayFiles, sessions: list[Session], hours: Hours, allow_missing: bool, period: int
    ) -> None:
        super().__init__(files, sessions, hours, allow_missing)
        self._period = period

    def _count(self, symbol: str, session: Session) -> int:
        trades = {row.ms for row in self._trades(symbol, session)}
        quotes = {row.ms for row in self._quotes(symbol, session)}
        return len(quotes) + len(trades | quotes)

    def _drafts(self, symbol: str, session: Session, scale: Scale) -> Iterator[Draft]:
        trades, quotes = self._trades(symbol, session), self._quotes(symbol, session)
        return bar_drafts(symbol, trades, quotes, scale, midnight(session.date), self._period)

    def _trades(self, symbol: str, session: Session) -> Iterator[TradeRow]:
        if path := self._path(symbol, session, "trade"):
            begin, end = self._bounds(session)
            yield from self._between(trade_rows(path), begin, end)

    def _quotes(self, symbol: str, session: Session) -> Iterator[QuoteRow]:
        if path := self._path(symbol, session, "quote"):
            begin, end = self._bounds(session)
            yield from self._between(quote_rows(path), begin, end)


class TickFeed(DayFeed):
    """Trades and changes of the national best; regular ones have open <= ts <= close.

    The best of the morning stands for a side that has not changed since the open.
    """

    def _count(self, symbol: str, session: Session) -> int:
        return sum(1 for _ in self._trades(symbol, session)) + sum(1 for _ in self._quotes(symbol, session))

    def _drafts(self, symbol: str, session: Session, scale: Scale) -> Iterator[Draft]:
        trades, quotes = self._trades(symbol, session), self._quotes(symbol, session)
        return tick_drafts(symbol, trades, quotes, scale, midnight(session.date))

    def _trades(self, symbol: str, session: Session) -> Iterator[TickTrade]:
        if path := self._path(symbol, session, "trade"):
            begin, end = self._bounds(session)
            yield from self._between(tick_trades(path, self.left_out), begin, end + 1)

    def _quotes(self, symbol: str, session: Session) -> Iterator[BestQuote]:
        if path := self._path(symbol, session, "quote"):
            begin, end = self._bounds(session)
            yield from self._between(best_quotes(path, self.left_out), begin, end + 1)


class DailyFeed:
    """One file a symbol, with a row for each session; only Bars, since there are no quotes."""

    def __init__(self, files: DailyFiles, sessions: list[Session], allow_missing: bool) -> None:
        self.files = files
        self.left_out = Counter[str]()
        self._sessions = sessions
        self._allow_missing = allow_missing

    def require(self, symbol: str) -> None:
        """Raise `UnknownSymbol`. Which days are there is known when the file is read."""
        self.files.path(symbol)

    def contents(self, symbols: Sequence[str]) -> Iterator[bytes]:
        """A digest of each symbol's rows: a file to which later days are added stays the same data."""
        for symbol in symbols:
            lines = (row.line.encode() for _, row in self._rows(symbol) if row)
            yield digest(symbol.encode(), *lines).encode()

    def counts(self, symbol: str) -> Iterator[int]:
        """Whether each session has a bar. Raises `MissingDay`, `BadRow`, `DamagedFile`."""
        return (1 if row else 0 for _, row in self._rows(symbol))

    def drafts(self, symbol: str, scale: Callable[[date], Scale]) -> Iterator[Draft]:
        """The bars of all sessions. Raises like `counts`."""
        for session, row in self._rows(symbol):
            if row:
                yield daily_draft(symbol, row, session, scale(session.date))

    def _rows(self, symbol: str) -> Iterator[tuple[Session, DailyRow | None]]:
        """Every session with its row; None where there is none and that is allowed."""
        path, first, last = self.files.path(symbol), self._sessions[0].date, self._sessions[-1].date
        rows, found = daily_rows(path), False
        row = next(rows, None)
        for session in self._sessions:
            while row and row.day < session.date:
                if row.day > first:
                    raise _no_session(path, row)
                row = next(rows, None)
            if row and row.day == session.date:
                found = True
                yield session, row
                row = next(rows, None)
            else:
                self._require(symbol, path, session)
                yield session, None
        deque(rows, maxlen=0)  # what lies outside the range is checked too
        if not found:
            raise MissingDay(
                f"no daily data of {symbol} from {first} to {last} ({path} has no such row): "
                f"choose dates within what is there, {_span(path)}"
            )

    def _require(self, symbol: str, path: Path, session: Session) -> None:
        if not self._allow_missing:
            raise MissingDay(
                f"no daily data of {symbol} on {session.date} ({path} has no such row): shorten the range "
                f"(there is {_span(path)}) or go on without it (--allow-missing)"
            )


def _no_session(path: Path, row: DailyRow) -> BadRow:
    return BadRow(
        f"{path} line {row.number}: {row.line!r} is of {row.day}, on which the US market had no session; "
        "correct the date, or delete the row"
    )


def _span(path: Path) -> str:
    days = [row.day for row in daily_rows(path)]
    return f"{days[0]} to {days[-1]}"
