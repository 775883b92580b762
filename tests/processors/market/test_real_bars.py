"""Bars made of the ticks of a real day, held against the vendor's bars of that day."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest

from processors.market.processor import MarketProcessor
from processors.market.settings import MINUTE, SECOND, MarketSettings
from producers.marketdata.lean import LeanReader
from schemas import Bar, Record, Trade, exact
from support.lean import SAMPLE

DAY = date(2013, 10, 7)
SYMBOLS = ("IBM", "BAC")
QUOTED = [f"{side}_{price}" for side in ("bid", "ask") for price in ("open", "high", "low", "close")]
Key = tuple[str, int]


def vendor(resolution: str) -> dict[Key, Bar]:
    events = LeanReader(SAMPLE, SYMBOLS, DAY, DAY, resolution).events()
    return {(e.symbol, e.ts): e for e in events if isinstance(e, Bar)}


@pytest.fixture(scope="module")
def ticks() -> list[Any]:
    return list(LeanReader(SAMPLE, SYMBOLS, DAY, DAY, "tick").events())


@pytest.fixture(scope="module")
def made(ticks: list[Any]) -> list[Bar]:
    processor, out = MarketProcessor(MarketSettings()), []
    with exact():
        for offset, event in enumerate(ticks):
            out += processor.apply(Record(event.topic, 0, offset, b"", b"", event=event))
    return [event for event in out if isinstance(event, Bar)]


def test_every_bar_holds_the_trades_of_its_time(ticks: list[Any], made: list[Bar]) -> None:
    last = max(event.ts for event in ticks)
    for period in (SECOND, MINUTE):
        trades: dict[Key, list[Trade]] = {}
        for trade in (e for e in ticks if type(e) is Trade):
            trades.setdefault((trade.symbol, (trade.ts // period + 1) * period), []).append(trade)
        ours = {(b.symbol, b.ts): b for b in made if b.period == period}
        assert ours.keys() == {key for key in trades if key[1] <= last}
        for key, bar in ours.items():
            some = [trade.price for trade in trades[key]]
            assert (bar.open, bar.high, bar.low, bar.close) == (some[0], max(some), min(some), some[-1])
            assert bar.volume == sum(trade.size for trade in trades[key])


@pytest.mark.parametrize(
    ("resolution", "period", "count", "quotes", "volumes"),
    [("second", SECOND, 16_000, 0.997, 0.9), ("minute", MINUTE, 780, 0.98, 0.99)],
)
def test_bids_asks_and_volumes_are_the_vendors(
    made: list[Bar], resolution: str, period: int, count: int, quotes: float, volumes: float
) -> None:
    """The vendor leaves some prints out of its bars, by their conditions: ours hold them all."""
    theirs = {key: bar for key, bar in vendor(resolution).items() if bar.open is not None}
    ours = {(b.symbol, b.ts): b for b in made if b.period == period}
    assert len(theirs) >= count
    assert theirs.keys() <= ours.keys()
    quoted = [key for key, bar in theirs.items() if bar.bid_open is not None and bar.ask_open is not None]
    for name in QUOTED:
        same = sum(getattr(theirs[key], name) == getattr(ours[key], name) for key in quoted)
        assert same >= quotes * len(quoted) > 700
    same = sum(bar.volume == ours[key].volume for key, bar in theirs.items())
    assert same >= volumes * len(theirs)
