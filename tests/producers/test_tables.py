from __future__ import annotations

import tracemalloc
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from producers.marketdata.errors import BadRequest, BadRow, DamagedFile, DataError
from producers.marketdata.lean import LeanReader
from producers.marketdata.tables import TableFormat, TableReader, parse_columns
from producers.marketdata.tabletimes import iso
from producers.sessions import midnight
from schemas import Bar, Quote, SessionClosed, SessionOpened, Trade
from support.lean import SAMPLE

MONDAY = date(2013, 10, 7)
SECOND = 10**9
MINUTE = 60 * SECOND
TEN = midnight(MONDAY) + 36_000 * SECOND  # 10:00 in New York, 14:00 in UTC
QUOTES, TRADES = TableFormat("quotes"), TableFormat("trades")
MINUTES = TableFormat("bars", period=MINUTE, bar_time="start")
DAYS = TableFormat("bars", time="date", symbol="abc")


def csv(folder: Path, text: str, name: str = "a.csv") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def parquet_file(folder: Path, columns: dict[str, Any], name: str = "a.parquet") -> Path:
    path = folder / name
    parquet.write_table(pa.table(columns), path)
    return path


def read(*files: tuple[Path, TableFormat], **options: Any) -> list[Any]:
    """The market events, after it has been seen that sessions, rows and counts are right."""
    reader = TableReader(files, **options)
    events: list[Any] = list(reader.events())
    assert len(events) == reader.check()
    assert [e.row for e in events] == list(range(1, len(events) + 1))
    assert [e.ts for e in events] == sorted(e.ts for e in events)
    assert {e.source for e in events} == {reader.source}
    return [e for e in events if not isinstance(e, SessionOpened | SessionClosed)]


def shown(quote: Quote) -> tuple[str | None, ...]:
    parts = (quote.bid, quote.bid_size, quote.ask, quote.ask_size)
    return quote.symbol, *(None if part is None else str(part) for part in parts)


def test_quotes_with_columns_of_other_names(tmp_path: Path) -> None:
    text = """timestamp,ticker,bid_price,bs,ask_price,as,venue
2013-10-07T10:00:00.000000001-04:00,ibm,181.50,200,181.7,100,N
2013-10-07T14:00:01Z,IBM,,,181.7,1e2,N
2013-10-07 14:00:02+00:00,IBM,181.5,100,0,0,N
"""
    columns = parse_columns("ts=timestamp,symbol=ticker,bid=bid_price,bid_size=bs,ask=ask_price,ask_size=as")
    quotes = read((csv(tmp_path, text), TableFormat("quotes", columns)))
    assert [shown(quote) for quote in quotes] == [
        ("IBM", "181.5", "200", "181.7", "100"),
        ("IBM", None, None, "181.7", "100"),
        ("IBM", "181.5", "100", None, None),
    ]
    assert [quote.ts - TEN for quote in quotes] == [1, SECOND, 2 * SECOND]


def test_sizes_may_be_unknown(tmp_path: Path) -> None:
    (quote,) = read((csv(tmp_path, "ts,symbol,bid,ask\n2013-10-07T14:00Z,A,1,2\n"), QUOTES))
    assert shown(quote) == ("A", "1", None, "2", None)


def test_trades(tmp_path: Path) -> None:
    text = "ts,symbol,price,size,condition,exchange\n1381154400.5,A,10.25,100,@,Q\n1381154400.5,A,10.5,7,,\n"
    form = TableFormat("trades", time="s")
    one, two = read((csv(tmp_path, text), form))
    assert (one.ts, one.price, one.size, one.condition, one.exchange) == (
        TEN + SECOND // 2,
        Decimal("10.25"),
        100,
        "@",
        "Q",
    )
    assert (two.price, two.condition, two.id) == (Decimal("10.5"), "", "")


@pytest.mark.parametrize(("unit", "digits"), [("s", 0), ("ms", 3), ("us", 6), ("ns", 9)])
def test_counted_times(tmp_path: Path, unit: Any, digits: int) -> None:
    text = f"ts,symbol,price,size\n{TEN // 10 ** (9 - digits)},A,1,1\n"
    (trade,) = read((csv(tmp_path, text), TableFormat("trades", time=unit)))
    assert trade.ts == TEN


def test_times_without_a_zone_are_in_the_one_named(tmp_path: Path) -> None:
    text = "ts,symbol,price,size\n2013-10-07 10:00:00.25,A,1,1\n2013-10-07T14:00:01Z,A,1,1\n"
    form = TableFormat("trades", tz="America/New_York")
    assert [e.ts - TEN for e in read((csv(tmp_path, text), form))] == [SECOND // 4, SECOND]


@pytest.mark.parametrize(("bar_time", "clock"), [("start", "09:59"), ("end", "10:00")])
def test_bars_named_by_their_start_or_end(tmp_path: Path, bar_time: Any, clock: str) -> None:
    text = f"ts,symbol,open,high,low,close,volume\n2013-10-07T{clock}-04:00,A,10,11,9,10.5,700\n"
    form = TableFormat("bars", period=MINUTE, bar_time=bar_time)
    (bar,) = read((csv(tmp_path, text), form))
    assert (bar.ts, bar.period) == (TEN, MINUTE)
    assert [bar.open, bar.high, bar.low, bar.close, bar.volume] == [10, 11, 9, Decimal("10.5"), 700]
    assert bar.bid_open is None


def test_bars_of_dates_end_with_their_sessions(tmp_path: Path) -> None:
    text = "Date,open,high,low,close,Volume\n2013-11-27,1,1,1,1,5\n2013-11-29,1,1,1,1,\n"
    columns = {"ts": "Date", "volume": "Volume"}
    path = csv(tmp_path, text)
    events = list(TableReader([(path, TableFormat("bars", columns, time="date", symbol="abc"))]).events())
    assert [type(e) for e in events] == [SessionOpened, Bar, SessionClosed] * 2
    opened, bar, closed = events[3:]
    assert isinstance(opened, SessionOpened)
    assert isinstance(bar, Bar)
    assert isinstance(closed, SessionClosed)
    assert (bar.symbol, bar.ts, bar.period, bar.volume) == ("ABC", closed.ts, closed.ts - opened.ts, None)
    assert bar.period == 3.5 * 3600 * SECOND


def test_bars_with_quotes_come_after_their_closing_quote(tmp_path: Path) -> None:
    sides = [f"{side}_{part}" for side in ("bid", "ask") for part in ("open", "high", "low", "close")]
    text = f"""ts,symbol,open,high,low,close,volume,{",".join(sides)},bid_size
2013-10-07T14:00Z,B,,,,,,1,2,1,2,3,4,3,4,500
2013-10-07T14:00Z,A,3,3,3,3,100,,,,,3,4,3,4,
"""
    events = read((csv(tmp_path, text), MINUTES))
    assert [(type(e), e.symbol) for e in events] == [(Quote, "A"), (Quote, "B"), (Bar, "A"), (Bar, "B")]
    quotes, bars = events[:2], events[2:]
    assert [shown(quote) for quote in quotes] == [("A", None, None, "4", None), ("B", "2", "500", "4", None)]
    assert all(quote.bar for quote in quotes)
    assert [(bar.close, bar.bid_high) for bar in bars] == [(3, None), (None, 2)]


@pytest.mark.parametrize(
    "times",
    [
        pa.array([TEN, TEN + SECOND], pa.timestamp("ns", "UTC")),
        pa.array([TEN // 1000, TEN // 1000 + 10**6], pa.timestamp("us", "America/New_York")),
        pa.array([TEN // 10**6 - 4 * 3600_000, TEN // 10**6 - 4 * 3600_000 + 1000], pa.timestamp("ms")),
        pa.array(["2013-10-07T10:00:00", "2013-10-07T10:00:01"]),
    ],
    ids=["ns with a zone", "us with a zone", "without a zone", "text"],
)
def test_parquet(tmp_path: Path, times: Any) -> None:
    columns = {
        "ts": times,
        "symbol": pa.array(["A", "A"]).dictionary_encode(),
        "bid": [181.01, float("nan")],
        "ask": pa.array([Decimal("181.0200"), None], pa.decimal128(10, 4)),
        "ask_size": [None, 3],
    }
    form = TableFormat("quotes", tz="America/New_York")
    quotes = read((parquet_file(tmp_path, columns), form))
    assert [shown(quote) for quote in quotes] == [
        ("A", "181.01", None, "181.02", None),
        ("A", None, None, None, None),
    ]
    assert [quote.ts - TEN for quote in quotes] == [0, SECOND]


@pytest.mark.parametrize(
    "days",
    [
        pa.array([MONDAY], pa.date32()),
        pa.array([datetime(2013, 10, 7)], pa.timestamp("ns")),
        pa.array(["2013-10-07"]),
        pa.array(["2013-10-07 00:00:00-04:00"]),
    ],
    ids=["dates", "midnights", "text", "text with midnight"],
)
def test_parquet_with_dates(tmp_path: Path, days: Any) -> None:
    prices = {name: [1.0] for name in ("open", "high", "low", "close")}
    path = parquet_file(tmp_path, {"ts": days, **prices})
    (bar,) = read((path, DAYS))
    assert bar.ts == midnight(MONDAY) + 16 * 3600 * SECOND


def test_the_sample_written_as_csv_is_read_as_it_was(tmp_path: Path) -> None:
    lean = LeanReader(SAMPLE, ["SPY", "IBM"], MONDAY, MONDAY).events()
    bars = [e for e in lean if isinstance(e, Bar)]
    names = [
        *("ts", "symbol", "open", "high", "low", "close", "volume"),
        *(f"{side}_{part}" for side in ("bid", "ask") for part in ("open", "high", "low", "close")),
    ]
    lines = [",".join(str(getattr(bar, name)) for name in names).replace("None", "") for bar in bars]
    path = csv(tmp_path, "\n".join([",".join(names), *lines]))
    form = TableFormat("bars", time="ns", period=MINUTE, bar_time="end")
    again = [e for e in read((path, form)) if isinstance(e, Bar)]
    assert [[getattr(bar, name) for name in names] for bar in again] == [
        [getattr(bar, name) for name in names] for bar in bars
    ]


def test_several_files_are_merged_into_the_order_of_the_log(tmp_path: Path) -> None:
    quotes = csv(tmp_path, "ts,symbol,bid,ask\n2013-10-07T14:00Z,B,1,2\n2013-10-07T14:00Z,A,1,2\n")
    trades = csv(
        tmp_path, "ts,symbol,price,size\n2013-10-07T14:00Z,A,1,2\n2013-10-07T14:00:01Z,A,1,2\n", "t.csv"
    )
    events = read((trades, TRADES), (quotes, QUOTES))
    assert [(type(e), e.symbol) for e in events] == [(Quote, "A"), (Quote, "B"), (Trade, "A"), (Trade, "A")]
    assert read((quotes, QUOTES), (trades, TRADES)) == events


def test_sessions_are_added_for_the_days_covered(tmp_path: Path) -> None:
    text = "ts,symbol,price,size\n2013-10-04T14:00Z,A,1,1\n2013-10-08T20:00Z,A,1,1\n"
    events: list[Any] = list(TableReader([(csv(tmp_path, text), TRADES)]).events())
    sessions = [(type(e), e.session) for e in events if not isinstance(e, Trade)]
    days = ("2013-10-04", "2013-10-07", "2013-10-08")
    assert sessions == [(kind, day) for day in days for kind in (SessionOpened, SessionClosed)]
    assert [type(e) for e in events[-2:]] == [Trade, SessionClosed]  # a trade at the close is in the session


def test_what_lies_outside_is_left_out_and_counted(tmp_path: Path) -> None:
    clocks = ("09:29:59", "09:30:00", "16:00:00", "16:00:01")
    rows = [f"2013-10-07T{clock}-04:00,{symbol},1,1\n" for clock in clocks for symbol in ("A", "B")]
    path = csv(tmp_path, "ts,symbol,price,size\n" + "".join(rows))
    assert len(read((path, TRADES))) == 4
    assert len(read((path, TRADES), hours="extended")) == 8
    reader = TableReader([(path, TRADES)], symbols=["a"])
    assert reader.check() == 2 + 2
    assert reader.left_out == {"outside regular hours": 2, "of other symbols": 4}


def test_a_range_of_days(tmp_path: Path) -> None:
    rows = "".join(f"2013-10-0{day}T14:00Z,A,1,1\n" for day in (4, 7, 8, 9))
    path = csv(tmp_path, f"ts,symbol,price,size\n{rows}")
    reader = TableReader([(path, TRADES)], first=date(2013, 10, 7), last=date(2013, 10, 8))
    assert reader.check() == 2 + 4
    assert reader.left_out == {"of other days": 2}
    assert len(read((path, TRADES), first=date(2013, 10, 8))) == 2
    with pytest.raises(BadRequest, match="exchange the two"):
        TableReader([(path, TRADES)], first=date(2013, 10, 8), last=date(2013, 10, 7))


def test_nothing_left_is_an_error(tmp_path: Path) -> None:
    path = csv(tmp_path, "ts,symbol,price,size\n2013-10-06T14:00Z,A,1,1\n")
    with pytest.raises(BadRequest, match=r"no rows to read \(1 outside regular hours\): choose other files"):
        TableReader([(path, TRADES)]).check()
    with pytest.raises(BadRequest, match=r"no rows to read \(there are none\)"):
        TableReader([(csv(tmp_path, "ts,symbol,price,size\n"), TRADES)]).check()


HEADS = {
    "quotes": "ts,symbol,bid,ask",
    "trades": "ts,symbol,price,size",
    "bars": "ts,symbol,open,high,low,close",
}
AT = "2013-10-07T14:00Z"
BAD_ROWS = [
    (QUOTES, f"{AT},A,x,2", "'bid' is 'x'; it should be a valid decimal"),
    (QUOTES, f"{AT},A,-1,2", "'bid' is '-1'; it should be greater than or equal to 0"),
    (QUOTES, f"{AT},A,nan,2", "'bid' is 'nan'; it should be a finite number"),
    (QUOTES, f"{AT},A,1,1e15", "'ask' is '1e15'; it should be less than 1000000000000000"),
    (
        QUOTES,
        f"{AT},A,1,1e-19",
        "'ask' is '1e-19'; it should have no more than 18 decimal places",
    ),
    (QUOTES, f"{AT},A,1", f"'{AT},A,1' has 3 columns, not 4"),
    (QUOTES, f"{AT},,1,2", "'symbol' is ''; it should name a symbol"),
    (QUOTES, f"{AT},*,1,2", "'symbol' is '*'; it should name a symbol"),
    (
        QUOTES,
        "2013-10-07T13:59Z,A,1,2",
        "'ts' is '2013-10-07T13:59Z'; it is before the time of the row before",
    ),
    (QUOTES, "2013-10-07T14:00,A,1,2", "it has no zone: name the one it is in with --tz, for example"),
    (QUOTES, "7.10.2013 14:00,A,1,2", "'ts' is '7.10.2013 14:00'; it is not a time in ISO 8601"),
    (QUOTES, "2013-13-07T14:00Z,A,1,2", "it is no time: month must be in 1..12"),
    (QUOTES, "1213-10-07T14:00Z,A,1,2", "it is not in the years 1900 to 2099"),
    (TRADES, f"{AT},A,0,2", "'price' is '0'; it should be greater than 0"),
    (TRADES, f"{AT},A,,2", "'price' is ''; it must not be empty"),
    (TRADES, f"{AT},A,1,-2", "'size' is '-2'; it should be greater than or equal to 0"),
    (MINUTES, f"{AT},A,1,1,1,1", f"'ts' is '{AT}'; it comes twice for A: keep one of the two"),
    (MINUTES, f"{AT},B,1,2,1,3", "'close' is '3'; it should lie between low (1) and high (2)"),
    (MINUTES, f"{AT},B,3,1,2,1", "'open' is '3'; it should lie between low (2) and high (1)"),
    (MINUTES, f"{AT},B,1,,1,1", "'high' is ''; it is missing beside the other prices"),
]


@pytest.mark.parametrize(("form", "row", "told"), BAD_ROWS)
def test_a_bad_row_is_named(tmp_path: Path, form: TableFormat, row: str, told: str) -> None:
    good = f"{AT},A,{'1,1,1,1' if form.kind == 'bars' else '1,1'}"
    path = csv(tmp_path, f"{HEADS[form.kind]}\n{good}\n\n{row}\n")
    with pytest.raises(BadRow) as caught:
        TableReader([(path, form)], hours="extended").check()
    assert str(caught.value).startswith(f"{path} line 4: ")
    assert told in str(caught.value)
    assert str(caught.value).endswith("; correct the row, or replace the file")


@pytest.mark.parametrize(
    ("form", "value", "told"),
    [
        (
            TableFormat("trades", time="s"),
            "1381154400000",
            "it is no time that data may have: is its unit another",
        ),
        (
            TableFormat("trades", time="ns"),
            "1381154400000",
            "it is no time that data may have: is its unit another",
        ),
        (
            TableFormat("trades", time="s"),
            "noon",
            "it is not a number of seconds, or parts of them, since 1970",
        ),
        (TableFormat("trades", time="ns"), "1381154400000000000.5", "it has parts of a nanosecond"),
        (TableFormat("trades", tz="America/New_York"), "2013-11-03T01:30", "it comes twice or not at all in"),
        (TableFormat("trades", tz="America/New_York"), "2013-03-10T02:30", "it comes twice or not at all in"),
    ],
)
def test_a_bad_time(tmp_path: Path, form: TableFormat, value: str, told: str) -> None:
    with pytest.raises(BadRow) as caught:
        TableReader([(csv(tmp_path, f"ts,symbol,price,size\n{value},A,1,1\n"), form)]).check()
    assert told in str(caught.value)


@pytest.mark.parametrize("value", ["2013-10-07 09:30", "1213-10-07", "7.10.2013"])
def test_a_bad_date(tmp_path: Path, value: str) -> None:
    path = csv(tmp_path, f"ts,open,high,low,close\n{value},1,1,1,1\n")
    with pytest.raises(BadRow, match=r"where a date is expected|is not in the years|is not a date"):
        TableReader([(path, DAYS)]).check()


def test_dates_with_a_zone_in_parquet_are_refused(tmp_path: Path) -> None:
    days = pa.array([TEN], pa.timestamp("ns", "UTC"))
    path = parquet_file(tmp_path, {"ts": days, **{name: [1.0] for name in ("open", "high", "low", "close")}})
    with pytest.raises(BadRequest, match=r"which does not go with time 'date'"):
        TableReader([(path, DAYS)])


def test_a_date_without_a_session(tmp_path: Path) -> None:
    path = csv(tmp_path, "ts,open,high,low,close\n2013-10-05,1,1,1,1\n")
    with pytest.raises(BadRow, match="'2013-10-05'; it is a day on which the US market had no session"):
        TableReader([(path, DAYS)]).check()


def test_bad_rows_of_parquet(tmp_path: Path) -> None:
    times = pa.array([TEN, TEN], pa.timestamp("ns", "UTC"))
    path = parquet_file(tmp_path, {"ts": times, "symbol": ["A", "A"], "price": [1.5, -0.5], "size": [1, 1]})
    with pytest.raises(BadRow, match=r"a.parquet row 2: 'price' is -0.5; it should be greater than 0"):
        TableReader([(path, TRADES)]).check()
    path = parquet_file(tmp_path, {"ts": times, "symbol": ["A", "A"], "price": [1, 1], "size": [1, None]})
    with pytest.raises(BadRow, match=r"row 2: 'size' is None; it must not be empty"):
        TableReader([(path, TRADES)]).check()


@pytest.mark.parametrize(
    ("text", "form", "told"),
    [
        (
            "ts,symbol,bid\n",
            QUOTES,
            "no column 'ask' (it has ts, symbol, bid): map one with --columns ask=COLUMN",
        ),
        ("ts,bid,ask\n", QUOTES, "has no column 'symbol'"),
        (
            "ts,symbol,bid,ask\n",
            TableFormat("quotes", {"ask": "offer"}),
            "must have one column 'offer' (it has",
        ),
        ("ts,symbol,bid,ask,ask\n", QUOTES, "must have one column 'ask' (it has"),
        (
            "ts,symbol,bid,ask\n",
            TableFormat("quotes", {"price": "bid"}),
            "quotes have no field 'price': map ts,",
        ),
        ("a\n", TableFormat("bars"), "bars need a period, and whether their times are starts or ends"),
        (
            "a\n",
            TableFormat("quotes", time="date"),
            "quotes have times, not dates: choose iso, s, ms, us, ns",
        ),
        ("a\n", TableFormat("orders"), "'orders' cannot be read: choose quotes or trades or bars"),  # type: ignore[arg-type]
        ("a\n", TableFormat("quotes", time="days"), "times cannot be read as 'days'"),  # type: ignore[arg-type]
        ("ts,symbol,bid,ask\n", TableFormat("quotes", tz="Moon"), "no time zone is named 'Moon'"),
        (
            "ts,symbol,open,high,low,close,bid_close\n",
            MINUTES,
            "has some of bid_open, bid_high, bid_low, bid_close (it has",
        ),
    ],
)
def test_a_file_that_does_not_fit_its_format(tmp_path: Path, text: str, form: TableFormat, told: str) -> None:
    with pytest.raises(BadRequest) as caught:
        TableReader([(csv(tmp_path, text), form)])
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "kind", "told"),
    [
        ("a.csv", b"", DamagedFile, "is empty"),
        ("a.csv", b"ts,symbol,bid,ask\n\xff\xfe\n", DamagedFile, "cannot be read"),
        ("a.csv", b'ts,symbol,bid,ask\n"2013\n', DamagedFile, "cannot be read"),
        ("a.parquet", b"ts,symbol,bid,ask\n", DamagedFile, "cannot be read"),
        ("a.txt", b"ts\n", BadRequest, "is neither CSV nor Parquet by its name"),
    ],
)
def test_a_file_that_is_none(
    tmp_path: Path, name: str, content: bytes, kind: type[DataError], told: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(kind, match=told):
        TableReader([(path, QUOTES)]).check()


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    for name in ("a.csv", "a.parquet"):
        with pytest.raises(DamagedFile, match="cannot be read"):
            TableReader([(tmp_path / name, QUOTES)])


@pytest.mark.parametrize("text", ["ts", "=a", "ts=", "ts=a,ts=b"])
def test_a_mapping_that_is_none(text: str) -> None:
    with pytest.raises(BadRequest, match="is not FIELD=COLUMN, each field once"):
        parse_columns(text)


def test_the_source_is_of_contents_and_format(tmp_path: Path) -> None:
    text = "ts,symbol,price,size\n2013-10-07T14:00Z,A,1,1\n"
    (tmp_path / "other").mkdir()
    here, there = csv(tmp_path, text), csv(tmp_path / "other", text)
    changed = csv(tmp_path, text.replace("1,1", "1,2"), "b.csv")
    sources = [
        TableReader([(here, TRADES)]).source,
        TableReader([(there, TRADES)]).source,
        TableReader([(changed, TRADES)]).source,
        TableReader([(here, TableFormat("trades", tz="UTC"))]).source,
        TableReader([(here, TRADES)], symbols=["A"]).source,
        TableReader([(here, TRADES)], hours="extended").source,
    ]
    assert sources[0] == sources[1]
    assert len(set(sources)) == len(sources) - 1


@given(st.integers(-2 * 10**18, 4 * 10**18))
def test_a_time_survives_being_written(ts: int) -> None:
    seconds, ns = divmod(ts, SECOND)
    clock = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
    assert iso(f"{clock:%Y-%m-%dT%H:%M:%S}.{ns:09}Z", None) == ts


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_memory_does_not_grow_with_the_file(tmp_path: Path, kind: str) -> None:
    peaks = []
    for rows in (10_000, 40_000):
        columns = {
            "ts": [TEN + i for i in range(rows)],
            "symbol": [f"S{i % 7}" for i in range(rows)],
            "price": [100 + i % 50 for i in range(rows)],
            "size": [1 + i % 90 for i in range(rows)],
        }
        if kind == "csv":
            lines = (",".join(map(str, row)) for row in zip(*columns.values(), strict=True))
            path = csv(tmp_path, "\n".join([",".join(columns), *lines]))
        else:
            path = parquet_file(tmp_path, columns)
        reader = TableReader([(path, TableFormat("trades", time="ns"))])
        next(iter(reader.events()))  # what is loaded once
        tracemalloc.start()
        assert sum(1 for _ in reader.events()) == rows + 2
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.3 * peaks[0]


def test_progress_ends_at_the_whole(tmp_path: Path) -> None:
    path = csv(tmp_path, "ts,symbol,price,size\n2013-10-07T14:00Z,A,1,1\n")
    told: list[tuple[int, int]] = []
    TableReader([(path, TRADES)]).check(lambda done, total: told.append((done, total)))
    assert told == [(path.stat().st_size,) * 2]
