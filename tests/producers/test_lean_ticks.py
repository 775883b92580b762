from __future__ import annotations

from collections import Counter
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from producers.marketdata.errors import BadRow, MissingFolder
from producers.marketdata.lean import LeanReader
from producers.sessions import midnight
from schemas import Event, Quote, SessionClosed, SessionOpened, Trade
from support.lean import SAMPLE, lean_folder

MONDAY = date(2013, 10, 7)
SECOND = 10**9
MS = 10**6
MIDNIGHT = midnight(MONDAY)
OPEN_MS, CLOSE_MS = 34_200_000, 57_600_000

Best = tuple[Decimal | None, ...]


def read(folder: Path, symbols: tuple[str, ...], **options: Any) -> list[Event]:
    reader = LeanReader(folder, symbols, MONDAY, MONDAY, **{"resolution": "tick", **options})
    events = list(reader.events())
    assert len(events) == reader.check()
    return events


def made(tmp_path: Path, quotes: str = "", trades: str = "", **options: Any) -> list[Any]:
    """The Quotes and Trades of ABC, written as rows of 10:00:00 and so many milliseconds."""
    texts = {"quote": quotes, "trade": trades}
    files = {f"tick/abc/20131007_{kind}": text for kind, text in texts.items() if text}
    opened, *events, closed = read(lean_folder(tmp_path, files), ("ABC",), **options)
    assert isinstance(opened, SessionOpened)
    assert isinstance(closed, SessionClosed)
    return events


def sides(quote: Quote) -> list[str | None]:
    return [None if n is None else str(n) for n in (quote.bid, quote.bid_size, quote.ask, quote.ask_size)]


def test_each_row_moves_one_side(tmp_path: Path) -> None:
    rows = """36000001,1000000,200,0,0,P,1,0
36000002,0,0,1000100,300,Q,1,0
36000003,999900,100,0,0,Q,1,0
36000004,999800,700,1000000,800,Q,1,0
"""
    quotes = made(tmp_path, rows)
    assert [sides(quote) for quote in quotes] == [
        ["100", "200", None, None],
        ["100", "200", "100.01", "300"],
        ["99.99", "100", "100.01", "300"],
        ["99.98", "700", "100", "800"],
    ]
    assert [quote.ts - MIDNIGHT for quote in quotes] == [(36_000_000 + i) * MS for i in (1, 2, 3, 4)]
    assert not any(quote.bar for quote in quotes)


def test_rows_of_one_millisecond_make_one_quote_of_the_last_of_each_side(tmp_path: Path) -> None:
    rows = """36000001,1000000,200,0,0,P,1,0
36000001,0,0,1000100,300,Q,1,0
36000001,0,0,1000200,400,K,1,0
36000001,999900,100,0,0,Q,1,0
36000009,0,0,1000000,100,Q,1,0
"""
    one, two = made(tmp_path, rows)
    assert sides(one) == ["99.99", "100", "100.02", "400"]
    assert sides(two) == ["99.99", "100", "100", "100"]


def test_suspicious_rows_are_left_out(tmp_path: Path) -> None:
    quotes = """36000001,1000000,200,0,0,P,1,0
36000001,1,1,0,0,P,1,1
36000002,0,0,1,1,P,1,1
36000003,0,0,1000100,300,Q,1,0
"""
    trades = "36000001,1000000,5,P,20,0\n36000002,0,0,P,20,1\n"
    one, trade, two = made(tmp_path, quotes, trades)
    assert sides(one) == ["100", "200", None, None]
    assert sides(two) == ["100", "200", "100.01", "300"]
    assert isinstance(trade, Trade)


def test_trades_carry_price_size_venue_and_condition_in_their_order(tmp_path: Path) -> None:
    quotes = "36000001,1000000,200,1000100,300,P,1,0\n"
    trades = "36000001,1000100,283,P,20002020,0\n36000001,1000000,100,Q,,0\n"
    quote, one, two = made(tmp_path, quotes, trades)
    assert isinstance(quote, Quote)  # a quote goes before the trades of its millisecond
    assert (one.price, one.size, one.exchange, one.condition) == (
        Decimal("100.01"),
        283,
        "P",
        "20002020",
    )
    assert (two.price, two.exchange, two.condition) == (100, "Q", "")
    assert [one.row, two.row] == [3, 4]
    assert one.feed == "lean"


def test_regular_hours_include_the_close_and_know_the_morning(tmp_path: Path) -> None:
    quotes = f"""{OPEN_MS - 1},1000000,200,1000300,300,P,1,0
{OPEN_MS},0,0,1000200,300,Q,1,0
{CLOSE_MS},0,0,1000100,300,Q,1,0
{CLOSE_MS + 1},0,0,1000000,300,Q,1,0
"""
    trades = "".join(f"{ms},1000000,1,P,1,0\n" for ms in (OPEN_MS - 1, OPEN_MS, CLOSE_MS, CLOSE_MS + 1))
    regular = made(tmp_path, quotes, trades)
    assert [type(e) for e in regular] == [Quote, Trade, Quote, Trade]
    assert sides(regular[0]) == ["100", "200", "100.02", "300"]
    reader = LeanReader(tmp_path, ["ABC"], MONDAY, MONDAY, resolution="tick", hours="extended")
    assert reader.check() == 2 + 8


def test_adjusted_ticks(tmp_path: Path) -> None:
    files = {
        "tick/abc/20131007_quote": "36000001,1000000,200,1000100,301,P,1,0\n",
        "tick/abc/20131007_trade": "36000001,1000000,50,P,1,0\n",
    }
    folder = lean_folder(tmp_path, files, {"abc": "20131007,0.5,0.25,100\n20501231,1,1,0\n"})
    _, quote, trade, _ = read(folder, ("ABC",), adjusted=True)
    assert isinstance(quote, Quote)
    assert isinstance(trade, Trade)
    assert sides(quote) == ["12.5", "800", "12.50125", "1204"]
    assert (trade.price, trade.size) == (Decimal("12.5"), 200)


BAD_QUOTES = [
    ("36000001,1,1,0,0,P,1", "has 7 columns, not 8"),
    ("36000001,1,1,0,x,P,1,0", "has a column that is not a whole number"),
    ("36000001,-1,1,0,0,P,1,0", "has a price that is not positive (-1)"),
    ("36000001,1,1,0,5,P,1,0", "has a price that is not positive (0)"),
    ("36000001,1,-1,0,0,P,1,0", "has a negative size (-1)"),
    ("36000001,0,0,0,0,P,1,0", "has neither a bid nor an ask"),
    ("36000001,1,1,0,0,P,1,yes", "has a last column that is neither 0 nor 1 (suspicious)"),
    ("35999999,1,1,0,0,P,1,0", "is at 35999999 ms, before the row before it (36000000 ms)"),
    ("86400000,1,1,0,0,P,1,0", "is at 86400000 ms, outside the day"),
    ("noon,1,1,0,0,P,1,0", "has a column that is not a whole number"),
]
BAD_TRADES = [
    ("36000001,1,1,P,1", "has 5 columns, not 6"),
    ("36000001,1.5,1,P,1,0", "has a column that is not a whole number"),
    ("36000001,0,1,P,1,0", "has a price that is not positive (0)"),
    ("36000001,1,-5,P,1,0", "has a negative size (-5)"),
]


@pytest.mark.parametrize(
    ("kind", "good", "row", "fault"),
    [("quote", "36000000,1,1,0,0,P,1,0", *bad) for bad in BAD_QUOTES]
    + [("trade", "36000000,1,1,P,1,0", *bad) for bad in BAD_TRADES],
)
def test_a_bad_row_is_named(tmp_path: Path, kind: str, good: str, row: str, fault: str) -> None:
    folder = lean_folder(tmp_path, {f"tick/abc/20131007_{kind}": f"{good}\n{row}\n"})
    with pytest.raises(BadRow) as caught:
        LeanReader(folder, ["ABC"], MONDAY, MONDAY, resolution="tick").check()
    assert str(caught.value).endswith(
        f"20131007_{kind}.zip line 2: {row!r} {fault}; correct the row, or replace the file"
    )


def test_ibm_of_the_sample() -> None:
    events = read(SAMPLE, ("IBM",))
    assert Counter(type(e) for e in events) == {
        SessionOpened: 1,
        Quote: 45_075,
        Trade: 24_106,
        SessionClosed: 1,
    }
    quotes = [e for e in events if isinstance(e, Quote)]
    assert sum(q.bid is not None and q.ask is not None and q.bid > q.ask for q in quotes) == 20
    assert [e.row for e in events] == list(range(1, len(events) + 1))  # type: ignore[attr-defined]
    assert quotes[0].ts - MIDNIGHT == 34_200_072 * MS
    assert sides(quotes[0]) == ["181.69", "200", "181.9", "100"]


def bests(symbol: str, resolution: str) -> dict[str, Best]:
    """Bid, its size, ask, its size at the end of each second, by the second's New York time."""
    last: dict[str, Best] = {}
    reader = LeanReader(SAMPLE, [symbol], MONDAY, MONDAY, resolution=resolution, hours="extended")
    for e in reader.events():
        if isinstance(e, Quote):
            second = (e.ts - MIDNIGHT - e.bar) // SECOND  # a bar's ts is its end
            clock = f"{second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}"
            last[clock] = (e.bid, e.bid_size, e.ask, e.ask_size)
    return last


def test_ticks_agree_with_the_second_files() -> None:
    seconds, differing, only_ticks = 0, {}, {}
    for symbol in ("IBM", "BAC"):
        ticks, bars = bests(symbol, "tick"), bests(symbol, "second")
        assert bars.keys() <= ticks.keys()
        seconds += len(bars)
        only_ticks |= {f"{symbol} {clock}": ticks[clock] for clock in ticks.keys() - bars.keys()}
        differing |= {
            f"{symbol} {clock}": (ticks[clock], bars[clock]) for clock in bars if ticks[clock] != bars[clock]
        }
    assert seconds == 30_493
    assert differing == {  # of that second, the second file has the ask before last
        "IBM 10:46:32": (
            (Decimal("183.03"), 100, Decimal("183.02"), 100),
            (Decimal("183.03"), 100, Decimal("183.03"), 100),
        )
    }
    assert len(differing) <= seconds / 10_000
    assert only_ticks == {  # the second files lack the last second of the day, when no one traded any more
        "IBM 16:05:04": (Decimal("181.99"), 100, Decimal("182.33"), 100),
        "BAC 16:05:02": (Decimal("13.81"), 6900, Decimal("13.82"), 10900),
    }


def test_the_folder_says_what_it_has(tmp_path: Path) -> None:
    lean_folder(tmp_path, {"minute/abc/20131007_trade": "34200000,1,1,1,1,1\n"})
    with pytest.raises(MissingFolder, match=r"has no tick data \(there is: minute\): choose another"):
        LeanReader(tmp_path, ["ABC"], MONDAY, MONDAY, resolution="tick")
