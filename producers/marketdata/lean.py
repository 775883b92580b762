"""Market data in the layout of QuantConnect's LEAN, read in the order of the log.

Times in the files are milliseconds after midnight in New York, prices are times 10,000.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Collection, Iterator
from datetime import date, timedelta
from functools import cached_property
from pathlib import Path
from typing import Literal, get_args

from producers.marketdata.drafts import (
    ACTION,
    MS,
    SESSION_CLOSED,
    SESSION_OPENED,
    Draft,
    Scale,
    bar_drafts,
    draft_order,
)
from producers.marketdata.errors import BadRequest, MissingFactors
from producers.marketdata.factors import Action, FactorFile
from producers.marketdata.folder import KINDS, DayFiles
from producers.marketdata.leanfiles import DAY_MS, QuoteRow, TradeRow, quote_rows, read_file, trade_rows
from producers.sessions import SECOND_NS, YEAR_MAX, YEAR_MIN, Session, midnight, sessions
from schemas import EVERY_SYMBOL, CashDividend, Event, SessionClosed, SessionOpened, Split, digest

Hours = Literal["regular", "extended"]

PERIODS = {"minute": 60 * SECOND_NS, "second": SECOND_NS}
"""The length of a bar by resolution, in nanoseconds."""

_FORMAT = "lean 1"
_LONGEST_CLOSURE = timedelta(days=14)


class LeanReader:
    """The market events of `symbols` from `first` to `last` (inclusive), read from a LEAN folder.

    `folder` contains equity/usa. `hours`: "regular" keeps bars that start between open and close,
    "extended" all that the files hold. `adjusted` multiplies prices by the factors of the factor
    file; otherwise its splits and dividends are events. `allow_missing` goes on without files
    that are not there, as long as there is some data of each symbol.

    Raises a `DataError` for a request that cannot be met or a missing file; what is wrong inside
    the files is raised by `check`, or else by `events` when it gets there.
    """

    def __init__(
        self,
        folder: Path | str,
        symbols: Collection[str],
        first: date,
        last: date,
        resolution: str = "minute",
        adjusted: bool = False,
        hours: Hours = "regular",
        allow_missing: bool = False,
    ) -> None:
        _check_request(symbols, first, last, resolution, hours)
        self.symbols = sorted({symbol.upper() for symbol in symbols})
        self.resolution, self.adjusted, self.hours = resolution, adjusted, hours
        self._files = DayFiles(Path(folder), resolution)
        self.sessions = sessions(first, last)
        if not self.sessions:
            raise BadRequest(f"the US market has no session from {first} to {last}: choose other dates")
        for symbol in self.symbols:
            self._files.require(symbol, [s.date for s in self.sessions], allow_missing=allow_missing)
        self._factors = self._read_factors()
        self._actions = {} if adjusted else self._read_actions(first, last)

    def check(self, progress: Callable[[int, int], None] | None = None) -> int:
        """Read every row of every file once; how many events there are.

        `progress` is called with the symbols' days read so far, and all of them. Raises a
        `DataError` for the first row that is wrong.
        """
        days = [(symbol, session) for session in self.sessions for symbol in self.symbols]
        count = sum(len(list(self._unlisted_drafts(session))) for session in self.sessions)
        for done, (symbol, session) in enumerate(days, start=1):
            trades = {row.ms for row in self._trades(symbol, session)}
            quotes = {row.ms for row in self._quotes(symbol, session)}
            count += len(quotes) + len(trades | quotes)
            if progress is not None:
                progress(done, len(days))
        return count

    @cached_property
    def source(self) -> str:
        """Twelve hexadecimal digits over the files that are read and all that shapes their events."""
        days = [session.date for session in self.sessions]
        shape = (
            [self._factors[symbol].on(day) for symbol in self.symbols for day in days]
            if self.adjusted
            else [(session.date, self._actions.get(session.date)) for session in self.sessions]
        )
        options = (_FORMAT, self.resolution, self.adjusted, self.hours, self.symbols, self.sessions, shape)
        contents = [
            digest(f"{symbol} {day} {kind}".encode(), read_file(self._files.path(symbol, day, kind))).encode()
            for day in days
            for symbol in self.symbols
            for kind in KINDS
            if self._files.has(symbol, day, kind)
        ]
        return digest(repr(options).encode(), *contents)[:12]

    def events(self) -> Iterator[Event]:
        """All events by (ts, rank, symbol), `row` counting from 1; a day at a time is in memory."""
        source, row = self.source, 0
        for session in self.sessions:
            for _, _, _, kind, fields in sorted(self._drafts(session), key=draft_order):
                row += 1
                yield kind(source=source, row=row, **fields)

    def _drafts(self, session: Session) -> Iterator[Draft]:
        yield from self._unlisted_drafts(session)
        for symbol in self.symbols:
            yield from bar_drafts(
                symbol,
                self._trades(symbol, session),
                self._quotes(symbol, session),
                self._scale(symbol, session.date),
                midnight(session.date),
                PERIODS[self.resolution],
            )

    def _unlisted_drafts(self, session: Session) -> Iterator[Draft]:
        """What stands in no file of the day: its open and close, splits and dividends."""
        yield from _session_drafts(session)
        for symbol, action in self._actions.get(session.date, ()):
            yield from _action_drafts(session, symbol, action)

    def _trades(self, symbol: str, session: Session) -> Iterator[TradeRow]:
        if self._files.has(symbol, session.date, "trade"):
            begin, end = self._hours(session)
            for row in trade_rows(self._files.path(symbol, session.date, "trade")):
                if begin <= row.ms < end:
                    yield row

    def _quotes(self, symbol: str, session: Session) -> Iterator[QuoteRow]:
        if self._files.has(symbol, session.date, "quote"):
            begin, end = self._hours(session)
            for row in quote_rows(self._files.path(symbol, session.date, "quote")):
                if begin <= row.ms < end:
                    yield row

    def _hours(self, session: Session) -> tuple[int, int]:
        """The first millisecond of the day that is read, and the first that is not any more."""
        if self.hours == "extended":
            return 0, DAY_MS
        base = midnight(session.date)
        return (session.open - base) // MS, (session.close - base) // MS

    def _scale(self, symbol: str, day: date) -> Scale:
        if not self.adjusted:
            return self._unscaled
        factors = self._factors[symbol].on(day)
        return Scale(factors.price, factors.split)

    @cached_property
    def _unscaled(self) -> Scale:
        return Scale()

    def _read_factors(self) -> dict[str, FactorFile]:
        """The factor files that there are. Raises `MissingFactors` if adjusting needs more."""
        paths = {symbol: self._files.factor_path(symbol) for symbol in self.symbols}
        factors = {symbol: FactorFile(path) for symbol, path in paths.items() if path.exists()}
        if self.adjusted:
            for symbol, path in paths.items():
                if symbol not in factors:
                    raise MissingFactors(
                        f"prices of {symbol} cannot be adjusted, {path} does not exist: "
                        "put the factor file there, or read unadjusted prices"
                    )
                factors[symbol].on(self.sessions[-1].date)
        return factors

    def _read_actions(self, first: date, last: date) -> dict[date, list[tuple[str, Action]]]:
        """Splits and dividends by ex-date: the session after the date of the factor file's row."""
        days = [session.date for session in sessions(first - _LONGEST_CLOSURE, last)]
        by_day: dict[date, list[tuple[str, Action]]] = {}
        for symbol, factors in self._factors.items():
            for action in factors.actions():
                i = bisect_right(days, action.after)
                if 0 < i < len(days) and days[i] >= first:
                    by_day.setdefault(days[i], []).append((symbol, action))
        return by_day


def _check_request(symbols: Collection[str], first: date, last: date, resolution: str, hours: str) -> None:
    if not symbols:
        raise BadRequest("no symbols: name at least one")
    if first > last:
        raise BadRequest(f"the range begins on {first}, after its end on {last}: exchange the two")
    if not YEAR_MIN <= first.year <= last.year <= YEAR_MAX:
        raise BadRequest(
            f"no calendar from {first} to {last}: choose dates in the years {YEAR_MIN} to {YEAR_MAX}"
        )
    if resolution not in PERIODS:
        raise BadRequest(f"resolution {resolution!r} cannot be read: choose {' or '.join(PERIODS)}")
    if hours not in get_args(Hours):
        raise BadRequest(f"hours {hours!r} are unknown: choose {' or '.join(get_args(Hours))}")


def _session_drafts(session: Session) -> Iterator[Draft]:
    opened = {
        "session": session.date.isoformat(),
        "ts": session.open,
        "close": session.close,
        "extended_open": session.extended_open,
        "extended_close": session.extended_close,
    }
    yield session.open, SESSION_OPENED, EVERY_SYMBOL, SessionOpened, opened
    closed = {"session": session.date.isoformat(), "ts": session.close}
    yield session.close, SESSION_CLOSED, EVERY_SYMBOL, SessionClosed, closed


def _action_drafts(session: Session, symbol: str, action: Action) -> Iterator[Draft]:
    """The split, then the dividend, before anything else of their ex-date; paid on that date."""
    ts, ex = session.extended_open, session.date.isoformat()
    fields = {"symbol": symbol, "ts": ts, "ex": ex}
    if action.num != action.den:
        yield ts, ACTION, symbol, Split, fields | {"num": action.num, "den": action.den}
    if action.dividend:
        yield ts, ACTION, symbol, CashDividend, fields | {"pay": ex, "amount": action.dividend}
