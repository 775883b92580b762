"""A session's volume: each share once, whatever bars tell of it, and however often."""

from __future__ import annotations

from decimal import Decimal
from itertools import accumulate
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.account.market import Market
from processors.account.processor import Accounts
from processors.market.processor import MarketProcessor
from processors.market.settings import SECOND, MarketSettings
from schemas import Bar, CoreSettings, Record, Trade, TradeCancel, TradeCorrection, evolve, exact
from support.market import HOUR, at, bar, heartbeat, session_closed, session_opened, split, trade

PERIODS = (1, 5, 60, 300, 3600)
"""Seconds; all of them end at the close."""
STEP = st.tuples(
    st.integers(0, 40),  # time from the trade before, in parts of the session
    st.integers(0, 50 * 60),  # seconds that it is late
    st.integers(1, 500),  # shares
    st.sampled_from(["new", "new", "new", "correct", "cancel"]),
    st.booleans(),  # whether it has an id
)


SETTINGS = CoreSettings(log_prefix="logid0", simulated=False)


def market_of(accounts: Accounts) -> Market:
    return accounts.desk.market


def tell(accounts: Accounts, events: list[Any]) -> Accounts:
    """An account that has come back from its snapshot knows as much."""
    with exact():
        for event in events:
            accounts.apply(Record(event.topic, 0, 0, b"", b"", event=event))
    again = Accounts(SETTINGS)
    again.restore(accounts.snapshot())
    assert again.snapshot() == accounts.snapshot()
    return again


def fresh(events: list[Any]) -> Accounts:
    return tell(Accounts(SETTINGS), events)


def story(steps: list[Any]) -> tuple[list[Any], int]:
    """A session of trades, some of them late, corrected or withdrawn; and the shares that were traded."""
    total = sum(gap for gap, *_ in steps) or 1
    sizes: dict[str, int] = {}
    unnamed = 0
    events: list[Any] = [session_opened()]
    length = int(6.4 * HOUR)
    for n, (past, (_, late, size, what, has_id)) in enumerate(
        zip(accumulate(gap for gap, *_ in steps), steps, strict=True)
    ):
        now = at("09:30") + length * past // total
        known = sorted(sizes)[-1:]
        if what == "new" or not known:
            ts = max(now - late * SECOND, at("09:30"))
            events.append(heartbeat(now))
            events.append(evolve(trade(ts, 100, size), id=f"{n:03}" if has_id else ""))
            unnamed += 0 if has_id else size
            sizes |= {f"{n:03}": size} if has_id else {}
        else:
            event = _change(what, known[0], now, size)
            when = next(e.ts for e in events if type(e) is Trade and e.id == known[0])
            if when < now - HOUR:
                continue  # nobody revises a bar that old
            events.append(event)
            sizes[known[0]] = size
            if what == "cancel":
                del sizes[known[0]]
    return events, unnamed + sum(sizes.values())


def _change(what: str, id: str, now: int, size: int) -> Any:
    common = {"symbol": "SPY", "ts": now, "id": id, "source": "test", "row": 0}
    if what == "cancel":
        return TradeCancel(**common)
    return TradeCorrection(**common, price=Decimal(100), size=Decimal(size))


@given(
    st.lists(STEP, min_size=1, max_size=40),
    st.lists(st.sampled_from(PERIODS), min_size=1, max_size=3, unique=True),
    st.integers(0, 3),
    st.integers(0, 200),
)
def test_the_volume_of_a_session_is_that_of_its_trades(steps, periods, allowance, held_back) -> None:
    """Also where the last bars come after the close, and where trades are on the log beside their bars."""
    facts, traded = story(steps)
    made = MarketProcessor(
        MarketSettings(periods=tuple(p * SECOND for p in periods), bar_allowance=allowance * SECOND)
    )
    told: list[Any] = []
    with exact():
        for offset, fact in enumerate([*facts, session_closed(), heartbeat(at("16:10"))]):
            told += [fact] if type(fact) in {Trade, TradeCorrection, TradeCancel} else []
            told += made.apply(Record(fact.topic, 0, offset, b"", b"", event=fact))
    events = [event for event in told if type(event) in {Bar, Trade}]
    cut = max(1, len(events) - held_back)
    accounts = fresh([session_opened(), *events[:cut]])
    accounts = tell(accounts, [session_closed(), *events[cut:]])
    assert market_of(accounts).symbols["SPY"].volumes == (Decimal(traded),)


def minute(clock: str, volume: int | None, day: int = 0, **more: Any) -> Bar:
    made: Bar = evolve(bar(at(clock, day), volume=volume), **more)
    return made


CASES = {
    "an old import is nothing of the first session": (
        [minute("10:00", 9, -1, backfilled=True), session_opened(), minute("10:00", 5), session_closed()],
        [5],
    ),
    "a backfill is nothing of the session after": (
        [
            *[session_opened(), minute("10:00", 5), session_closed()],
            *[minute("11:00", 7, -1, backfilled=True), session_opened(1), minute("10:00", 4, 1)],
            *[minute("09:00", 7, backfilled=True), session_closed(1)],
        ],
        [5, 4],
    ),
    "a gap of this session, filled within the hour": (
        [
            *[session_opened(), minute("10:00", 5), minute("10:20", 3), minute("10:10", 2, backfilled=True)],
            *[minute("10:10", 2, backfilled=True), session_closed()],
        ],
        [10],
    ),
    "a revision after the close": (
        [
            *[session_opened(), minute("15:59", 5), minute("16:00", 3), session_closed()],
            *[minute("16:00", 4, backfilled=True), minute("15:59", None, backfilled=True)],
        ],
        [4],
    ),
    "sessions have periods of their own": (
        [
            *[session_opened(), minute("10:00", 5), session_closed(), session_opened(1)],
            *[minute("16:00", 6, 1, period=24 * HOUR), session_closed(1)],
        ],
        [5, 6],
    ),
    "what comes of the session before the last changes nothing": (
        [
            *[session_opened(), minute("10:00", 5), session_closed(), session_opened(1)],
            *[minute("10:00", 6, 1), session_closed(1), minute("11:00", 7), trade(at("11:00"), 100, 8)],
        ],
        [5, 6],
    ),
    "trades alone": (
        [
            *[session_opened(), trade(at("10:00"), 100, 5), session_closed(), trade(at("15:00"), 100, 1)],
            *[evolve(trade(at("10:00", -1), 100, 50), backfilled=True)],
        ],
        [6],
    ),
    "an old import takes nothing from trades": (
        [
            *[session_opened(), trade(at("10:00"), 100, 5), minute("10:00", 7, -1, backfilled=True)],
            *[trade(at("10:01"), 100, 6), session_closed()],
        ],
        [11],
    ),
    "a split restates it": (
        [
            *[session_opened(), minute("16:00", 5), session_closed(), split(at("04:00", 1), 2, 1)],
            *[minute("16:00", 16, backfilled=True)],
        ],
        [16],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_volumes(case) -> None:
    events, volumes = CASES[case]
    assert list(market_of(fresh(events)).symbols["SPY"].volumes) == volumes
