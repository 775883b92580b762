"""Market data in the layout of QuantConnect's LEAN, read in the order of the log.

Times in the files are milliseconds after midnight in New York, prices are times 10,000.
"""

from __future__ import annotations

import heapq
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import date, timedelta
from functools import cached_property
from pathlib import Path
from typing import get_args

from producers.marketdata.drafts import ACTION, Draft, Scale, draft_order, session_drafts
from producers.marketdata.errors import BadRequest, MissingFactors
from producers.marketdata.factors import Action, FactorFile, Factors
from producers.marketdata.leanfeeds import RESOLUTIONS, feed
from producers.sessions import YEAR_MAX, YEAR_MIN, Hours, Session, sessions
from schemas import CashDividend, Event, Split, digest

_FORMAT = "lean 1"
_LONGEST_CLOSURE = timedelta(days=14)


class LeanReader:
    """The market events of `symbols` from `first` to `last` (inclusive), read from a LEAN folder.

    `folder` contains equity/usa; `resolution` is one of `RESOLUTIONS`. `hours`: "regular" keeps
    bars that start in [open, close) and ticks in [open, close], "extended" all that the files hold.
    `adjusted` multiplies prices by the factors of the factor
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
        self.sessions = sessions(first, last)
        self._feed = feed(Path(folder), resolution, self.sessions, hours, allow_missing)
        if not self.sessions:
            raise BadRequest(f"the US market has no session from {first} to {last}: choose other dates")
        for symbol in self.symbols:
            self._feed.require(symbol)
        self._factors = self._read_factors()
        self._actions = {} if adjusted else self._read_actions(first, last)

    @property
    def left_out(self) -> Mapping[str, int]:
        """Rows of the files that have become no event, when `check` or `events` has been through."""
        return self._feed.left_out

    def check(self, progress: Callable[[int, int], None] | None = None) -> int:
        """Read every row of every file once; how many events there are.

        `progress` is called with the symbols' days read so far, and all of them. Raises a
        `DataError` for the first row that is wrong.
        """
        self._feed.left_out.clear()
        total, done = len(self.symbols) * len(self.sessions), 0
        count = sum(1 for _ in self._unlisted_drafts())
        for symbol in self.symbols:
            for done, events in enumerate(self._feed.counts(symbol), start=done + 1):  # noqa: B020
                count += events
                if progress is not None:
                    progress(done, total)
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
        return digest(repr(options).encode(), *self._feed.contents(self.symbols))[:12]

    def events(self, source: str | None = None) -> Iterator[Event]:
        """All events by (ts, rank, symbol), `row` counting from 1; memory does not grow with the days."""
        source = source or self.source
        self._feed.left_out.clear()
        feeds = (self._feed.drafts(symbol, self._scales(symbol)) for symbol in self.symbols)
        drafts = heapq.merge(self._unlisted_drafts(), *feeds, key=draft_order)
        for row, (_, _, _, kind, fields) in enumerate(drafts, start=1):
            yield kind(source=source, row=row, **fields)

    def _unlisted_drafts(self) -> Iterator[Draft]:
        """What stands in no file of a day: its open and close, splits and dividends."""
        for session in self.sessions:
            for symbol, action in self._actions.get(session.date, ()):
                yield from _action_drafts(session, symbol, action)
            yield from session_drafts(session)

    def _scales(self, symbol: str) -> Callable[[date], Scale]:
        """How a symbol's numbers are scaled by date; one object while the factors stay the same."""
        if not self.adjusted:
            return lambda day: self._unscaled
        factors = self._factors[symbol]
        made: dict[Factors, Scale] = {}

        def scale(day: date) -> Scale:
            row = factors.on(day)
            if row not in made:
                made.clear()
                made[row] = Scale(row.price, row.split)
            return made[row]

        return scale

    @cached_property
    def _unscaled(self) -> Scale:
        return Scale()

    def _read_factors(self) -> dict[str, FactorFile]:
        """The factor files that there are. Raises `MissingFactors` if adjusting needs more."""
        paths = {symbol: self._feed.files.factor_path(symbol) for symbol in self.symbols}
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
    if resolution not in RESOLUTIONS:
        raise BadRequest(f"resolution {resolution!r} cannot be read: choose {' or '.join(RESOLUTIONS)}")
    if hours not in get_args(Hours):
        raise BadRequest(f"hours {hours!r} are unknown: choose {' or '.join(get_args(Hours))}")


def _action_drafts(session: Session, symbol: str, action: Action) -> Iterator[Draft]:
    """The split, then the dividend, before anything else of their ex-date; paid on that date."""
    ts, ex = session.extended_open, session.date.isoformat()
    fields = {"symbol": symbol, "ts": ts, "ex": ex}
    if action.num != action.den:
        yield ts, ACTION, symbol, Split, fields | {"num": action.num, "den": action.den}
    if action.dividend:
        yield ts, ACTION, symbol, CashDividend, fields | {"pay": ex, "amount": action.dividend}
