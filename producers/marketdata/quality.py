"""The quality gate between a reader and the log: what cannot be right is set aside, with the reason.

Set aside (as a DeadLetter, in the place of the event) are prices that are not positive, quotes
crossed by more than a bound, times that go back, and prices that have moved by more than a bound
from both the last accepted and the last seen one: a single wrong tick is kept out, while a price
that stays where it went is believed at the second sight. Splits and dividends in between are
allowed for. Silence in session is only reported.

The gate is a fold: the same events give the same result, so that an import can be repeated.
"""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from producers.sessions import SECOND_NS
from schemas import (
    EVERY_SYMBOL,
    Bar,
    CashDividend,
    DeadLetter,
    Event,
    Quote,
    SessionClosed,
    SessionOpened,
    Split,
    Trade,
    encode,
    ratio,
)

MOVE, CROSSED, NOT_POSITIVE, BACK = "move", "crossed", "not positive", "time goes back"

_HALF = Decimal("0.5")
_BAR_PRICES = tuple(
    f"{side}{part}" for side in ("", "bid_", "ask_") for part in ("open", "high", "low", "close")
)
_OPEN_ENDED = Decimal("Infinity")


@dataclass(frozen=True)
class QualitySettings:
    """What the gate lets through.

    `move_max` is the share by which a price may differ from the last accepted or the last seen one;
    `crossed_max` the share of mid by which a bid may be above its ask. A quote whose spread is more
    than `spread_max` of mid says nothing about the price: it passes, and nothing is held against it.
    Silence in session for more than `gap_max` nanoseconds is reported.
    """

    move_max: Decimal = Decimal("0.30")
    crossed_max: Decimal = Decimal("0.01")
    spread_max: Decimal = Decimal("0.05")
    gap_max: int = 60 * SECOND_NS

    def __post_init__(self) -> None:
        if not (self.move_max > 0 and self.crossed_max >= 0 and self.spread_max > 0 and self.gap_max > 0):
            raise ValueError(f"{self} has a bound that is not positive")


def gap_max(resolution: int) -> int:
    """The silence to report in data of a resolution (ns): 60 s, or three times as long as it."""
    return max(60 * SECOND_NS, 3 * resolution)


@dataclass
class Gaps:
    """Silences of a symbol in session: how many, the longest (ns), and since when that was (UTC ns)."""

    count: int = 0
    longest: int = 0
    since: int = 0


@dataclass
class Report:
    """What has come of the events so far. Counts are by reason and symbol."""

    accepted: int = 0
    quarantined: Counter[tuple[str, str]] = field(default_factory=Counter)
    gaps: dict[str, Gaps] = field(default_factory=dict)
    silent_sessions: Counter[str] = field(default_factory=Counter)

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON has it; times in ISO 8601, UTC."""
        reasons: dict[str, dict[str, int]] = {}
        for (reason, symbol), count in sorted(self.quarantined.items()):
            reasons.setdefault(reason, {})[symbol] = count
        return {
            "accepted": self.accepted,
            "quarantined": self.quarantined.total(),
            "reasons": reasons,
            "gaps": {
                symbol: {
                    "count": gaps.count,
                    "longest_s": gaps.longest / SECOND_NS,
                    "since": datetime.fromtimestamp(gaps.since // SECOND_NS, UTC).isoformat(),
                }
                for symbol, gaps in sorted(self.gaps.items())
            },
            "silent_sessions": dict(sorted(self.silent_sessions.items())),
        }


class _Symbol:
    """What is known of a symbol. `low` and `high` bound what is no move from the last accepted price."""

    __slots__ = ("accepted", "heard", "high", "low", "seen", "times")

    def __init__(self) -> None:
        self.accepted: Decimal | None = None
        self.seen: Decimal | None = None
        self.low, self.high = -_OPEN_ENDED, _OPEN_ENDED
        self.times: dict[str, int] = {}
        self.heard = 0


class Gate:
    """Filters market events; `report` says what has come of them, by the end all of it.

    Each symbol and topic has its own time, which may not go back; in what is `ordered`, all have one.
    A session without a word of one of the `symbols` is counted, of others only after their first.
    """

    def __init__(
        self,
        settings: QualitySettings | None = None,
        *,
        ordered: bool = False,
        symbols: Iterable[str] = (),
    ) -> None:
        self.report = Report()
        self._settings = settings or QualitySettings()
        self._down, self._up = 1 - self._settings.move_max, 1 + self._settings.move_max
        self._symbols = {symbol: _Symbol() for symbol in symbols}
        self._opened: int | None = None
        self._ordered = ordered
        self._now = 0

    def filter(self, events: Iterable[Event]) -> Iterator[Event]:
        """The events, a DeadLetter in the place of each that is set aside."""
        for event in events:
            fault = self._fault(event)
            if fault is None:
                self.report.accepted += 1
                if self._ordered:
                    self._now = max(self._now, event.ts)  # type: ignore[attr-defined]  # every market event has one
                yield event
            else:
                yield self._set_aside(event, *fault)

    def _fault(self, event: Any) -> tuple[str, str] | None:
        """Which rule an event breaks and how, or None; takes note of it either way."""
        kind = type(event)
        if kind is Quote or kind is Trade or kind is Bar:
            return self._priced(event, kind)
        if kind is Split or kind is CashDividend:
            self._act(event)
        elif kind is SessionOpened:
            self._opened = event.ts
        elif kind is SessionClosed:
            self._close(event.ts)
        return None

    def _priced(self, event: Any, kind: type[Event]) -> tuple[str, str] | None:
        if kind is Quote:
            prices, price, fault = self._of_quote(event.bid, event.ask)
        elif kind is Bar:
            prices, price, fault = self._of_bar(event)
        else:
            prices, price, fault = (event.price,), event.price, _not_positive((event.price,))
        if event.backfilled:  # of another time: what is known now says nothing about it
            return fault
        state = self._symbols.get(event.symbol)
        if state is None:
            state = self._symbols[event.symbol] = _Symbol()
        before = max(state.times.get(event.topic, 0), self._now)
        if event.ts < before:
            return BACK, f"{iso_ns(event.ts)} after {iso_ns(before)}"
        fault = fault or self._move(state, prices)
        if price is not None and price > 0:
            state.seen = price
            if fault is None and price != state.accepted:
                state.accepted, state.low, state.high = price, price * self._down, price * self._up
        if fault is None:
            state.times[event.topic] = event.ts
            self._hear(event.symbol, state, event.ts)
        return fault

    def _of_quote(
        self, bid: Decimal | None, ask: Decimal | None
    ) -> tuple[tuple[Decimal, ...], Decimal | None, tuple[str, str] | None]:
        """What a quote says of the price: its mid, or nothing where it is one-sided or wide."""
        if bid is None or ask is None:
            given = bid if ask is None else ask
            return (), None, None if given is None else _not_positive((given,))
        if bid <= 0 or ask <= 0:
            return (), None, _not_positive((bid, ask))
        mid = (bid + ask) * _HALF
        if bid - ask > self._settings.crossed_max * mid:
            return (), None, (CROSSED, f"bid {bid} over ask {ask}")
        if ask - bid > self._settings.spread_max * mid:
            return (), None, None
        return (mid,), mid, None

    def _of_bar(self, bar: Bar) -> tuple[tuple[Decimal, ...], Decimal | None, tuple[str, str] | None]:
        """All prices of a bar are held against the last; its close, else its mid, is what it says."""
        prices = tuple(p for name in _BAR_PRICES if (p := getattr(bar, name)) is not None)
        if fault := _not_positive(prices):
            return prices, None, fault
        _, mid, fault = self._of_quote(bar.bid_close, bar.ask_close)
        return prices, bar.close if bar.close is not None else mid, fault

    def _move(self, state: _Symbol, prices: tuple[Decimal, ...]) -> tuple[str, str] | None:
        """The first of the prices that is far from both the last accepted and the last seen one."""
        accepted, seen = state.accepted, state.seen
        if accepted is None:
            return None
        for price in prices:
            if state.low <= price <= state.high:
                continue
            if seen is None or not seen * self._down <= price <= seen * self._up:
                return MOVE, f"{price}, last accepted {accepted}, last seen {seen}"
        return None

    def _act(self, action: Any) -> None:
        """What a split or a dividend makes of the last prices."""
        state = self._symbols.get(action.symbol)
        if state is None or state.accepted is None or state.seen is None:
            return
        if isinstance(action, Split):
            num, den = Decimal(action.num), Decimal(action.den)
            state.accepted, state.seen = ratio(state.accepted, den, num), ratio(state.seen, den, num)
        else:
            state.accepted, state.seen = state.accepted - action.amount, state.seen - action.amount
        if min(state.accepted, state.seen) <= 0:
            state.accepted = state.seen = None
            return
        state.low, state.high = state.accepted * self._down, state.accepted * self._up

    def _hear(self, symbol: str, state: _Symbol, ts: int) -> None:
        if self._opened is not None:
            self._silence(symbol, max(state.heard, self._opened), ts)
        state.heard = max(state.heard, ts)

    def _close(self, ts: int) -> None:
        """Silence up to the close of a session, of all symbols known so far."""
        if self._opened is None:
            return
        for symbol, state in self._symbols.items():
            if state.heard < self._opened:
                self.report.silent_sessions[symbol] += 1
            else:
                self._silence(symbol, state.heard, ts)
        self._opened = None

    def _silence(self, symbol: str, since: int, until: int) -> None:
        if until - since > self._settings.gap_max:
            gaps = self.report.gaps.setdefault(symbol, Gaps())
            gaps.count += 1
            if until - since > gaps.longest:
                gaps.longest, gaps.since = until - since, since

    def _set_aside(self, event: Any, reason: str, details: str) -> DeadLetter:
        letter = set_aside(event, f"{reason}: {details}")
        self.report.quarantined[reason, letter.key] += 1
        return letter


def set_aside(event: Any, reason: str) -> DeadLetter:
    """What goes to the dead letters in the place of a market event."""
    return DeadLetter(
        place=dead_letter_place(event.source, event.row),
        key=event.symbol or EVERY_SYMBOL,
        bytes=base64.b64encode(encode(event)).decode(),
        reason=reason,
    )


def dead_letter_place(source: str, row: int) -> str:
    """Where an event that never reached the log came from."""
    return f"import/{source}/{row}"


def imported_row(letter: DeadLetter) -> tuple[str, int] | None:
    """The source and row of an event that the gate set aside; None for a letter of another kind."""
    head, _, rest = letter.place.partition("/")
    source, _, row = rest.rpartition("/")
    return (source, int(row)) if head == "import" and row.isdecimal() else None


def iso_ns(ts: int) -> str:
    """A time in ISO 8601, UTC, to the nanosecond."""
    return f"{datetime.fromtimestamp(ts // SECOND_NS, UTC):%Y-%m-%dT%H:%M:%S}.{ts % SECOND_NS:09}Z"


def _not_positive(prices: Iterable[Decimal]) -> tuple[str, str] | None:
    for price in prices:
        if price <= 0:
            return NOT_POSITIVE, str(price)
    return None
