"""`tape fills` as a user meets it: figures by hand, the ways an export is written, and wrong."""

from __future__ import annotations

import resource
from pathlib import Path
from typing import Any

import pytest

from support.cli import Ran, here, tape

HEAD = "time,symbol,side,quantity,price,fee,execution_id\n"
AT = "2013-10-07T13:31:00Z"
NEW_YORK = ("--tz", "America/New_York")


def export(folder: Path, text: str, encoding: str = "utf-8") -> Path:
    file = folder / "fills.csv"
    file.write_bytes(text.encode(encoding))
    return file


def booked(folder: Path, text: str, *args: str) -> dict[str, Any]:
    """The JSON of an export that must be booked."""
    ran = here("fills", export(folder, text), "--cash", "10000", "--json", *args)
    assert ran.code == 0, ran.err
    return ran.json


def refused(folder: Path, text: str | bytes, *args: str) -> str:
    """What is said of an export that must not be booked, without the file's name."""
    file = folder / "fills.csv"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    ran = here("fills", file, "--cash", "10000", "--json", *args)
    assert (ran.code, ran.json["exit"]) == (2, 2)
    return ran.said.replace(str(file), "FILE")


# ------------------------------------------------------------ figures


def test_trading_technologies_example(tmp_path: Path) -> None:
    """+12@100 +17@99 −9@101 −4@105 +3@103, as Trading Technologies publishes it."""
    rows = ["buy,12,100", "buy,17,99", "sell,9,101", "sell,4,105", "buy,3,103"]
    found = booked(tmp_path, HEAD + "".join(f"{AT},X,{row},0,\n" for row in rows), "--marks", "X=103")
    (position,) = found["positions"]
    assert (position["quantity"], position["average"][:17]) == ("19", "99.98003629764065")
    assert position["realized"].startswith("36.62068965517241")
    assert (found["cash"], found["equity"], found["fees"]) == ("8137", "10094", "0")


def test_barter_example(tmp_path: Path) -> None:
    """Long 1@100 fee 10, sell 2@150 fee 20: gross 50, and a short 1@150 with half of the second fee."""
    rows = f"{AT},X,buy,1,100,10,\n{AT},X,sell,2,150,20,\n"
    found = booked(tmp_path, HEAD + rows, "--marks", "X=150")
    (position,) = found["positions"]
    assert (position["quantity"], position["average"]) == ("-1", "150")
    assert (found["realized"], found["fees"], found["unrealized"]) == ("50", "30", "0")
    assert (found["cash"], found["equity"]) == ("10170", "10020")


def test_what_people_see(tmp_path: Path) -> None:
    rows = f"{AT},SPY,BOT,100,167.425,1,a\n{AT},SPY,buy,100,167.425,1.00,a\n{AT},IBM,sell short,10,182,1,b\n"
    file = export(tmp_path, "account," + HEAD + "".join(f"me,{row}\n" for row in rows.splitlines()))
    ran = tape("fills", file, "--cash", "100000", "--marks", "spy=168")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out == (
        "equity        unknown\n"
        "cash        85,075.50\n"
        "realized         0.00\n"
        "unrealized    unknown\n"
        "fees             2.00\n"
        "\n"
        "symbol  quantity   average      mark  realized  unrealized  fees\n"
        "IBM          -10  182.0000         -      0.00     unknown  1.00\n"
        "SPY          100  167.4250  168.0000      0.00       57.50  1.00\n"
        "\n"
        "without a mark, so that equity is unknown: IBM (--marks)\n"
        "executions 2\n"
        "counted once, though they came again: a (line 3)\n"
        "columns that were not read: account\n"
    )


@pytest.mark.parametrize(
    ("rows", "quantity", "cash"),
    [
        (f"{AT},X,B,0.5,10,0,\n{AT},X,S,.25,10.0,0,\n", "0.25", "9997.5"),
        (f"{AT},X,sld,5,10,0,\n{AT},x,Buy to Cover,8,9,-0.10,\n", "3", "9978.1"),
        (f'"{AT}","X","buy","1","10","0",""\n', "1", "9990"),
        (f"{AT},X,buy,1,10,0,a\n\n\n{AT},X,buy,1,10,0,A\n", "2", "9980"),
        ("2013-10-07T09:31:00-04:00,X,buy,1,10,0,\n2013-10-07 13:31:00.5+0000,X,buy,1,10,0,\n", "2", "9980"),
        ("2013-10-07,X,buy,1,10,0,\n", "1", "9990"),
        (f"{AT},X,buy,1,10,0,e\n2013-10-08T13:31:00Z,X,buy,1,10,0,f\n{AT},X,buy,1,10,0,e\n", "2", "9980"),
        ("", None, "10000"),
    ],
)
def test_ways_an_export_is_written(tmp_path: Path, rows: str, quantity: str | None, cash: str) -> None:
    found = booked(tmp_path, HEAD + rows, *NEW_YORK)
    assert [p["quantity"] for p in found["positions"]] == ([quantity] if quantity else [])
    assert found["cash"] == cash
    windows = ("﻿" + HEAD + rows).replace("\n", "\r\n")
    assert booked(tmp_path, windows, *NEW_YORK) == found


def test_marks_of_what_is_not_held(tmp_path: Path) -> None:
    rows = f"{AT},X,buy,1,10,0,\n{AT},X,sell,1,11,0,\n"
    found = booked(tmp_path, HEAD + rows, "--marks", "X=5,Y=7")
    assert (found["equity"], found["unrealized"], found["unpriced"]) == ("10001", "0", [])


# ------------------------------------------------------------ mistakes

ROWS = [
    ("2013-10-07T09:31:00,X,buy,1,10,0,", "line 2, column time: 2013-10-07T09:31:00 has no zone; add one"),
    ("7 Oct 2013,X,buy,1,10,0,", "line 2, column time: '7 Oct 2013' is not an ISO 8601 time"),
    ("0001-01-01T00:00:00Z,X,buy,1,10,0,", "line 2, column time: '0001-01-01T00:00:00Z' is not"),
    (f"{AT},,buy,1,10,0,", "line 2, column symbol: it is empty"),
    (f"{AT},X,,1,10,0,", "line 2, column side: '' is neither buy nor sell"),
    (f"{AT},X,short,1,10,0,", "line 2, column side: 'short' is neither buy nor sell"),
    (f"{AT},X,buy,-1,10,0,", "column quantity: -1 is not positive; the side says buy or sell"),
    (f"{AT},X,buy,0,10,0,", "column quantity: 0 is not positive"),
    (f'{AT},X,buy,"1,000",10,0,', "column quantity: '1,000' is not a plain number like 1234.56"),
    (f"{AT},X,buy,1e3,10,0,", "column quantity: '1e3' is not a plain number"),
    (f"{AT},X,buy,1,0,0,", "column price: 0 is not positive; a price is above zero"),
    (f"{AT},X,buy,1,-3,0,", "column price: -3 is not positive"),
    (f"{AT},X,buy,1,1e400,0,", "column price: '1e400' is not a plain number"),
    (f"{AT},X,buy,1,{'9' * 400},0,", "is not a plain number"),
    (
        f"{AT},X,buy,1,{'9' * 16},0,",
        "column price: 9999999999999999 has more than 15 digits before or 18 after",
    ),
    (f"{AT},X,buy,1,0.{'0' * 18}1,0,", "has more than 15 digits before or 18 after the point"),
    (f"{AT},X,buy,1,$10,0,", "column price: '$10' is not a plain number"),
    (f"{AT},X,buy,1,NaN,0,", "column price: 'NaN' is not"),
    (f"{AT},X,buy,1,١٢,0,", "column price: '١٢' is not"),
    (f"{AT},X,buy,1,,0,", "column price: it is empty"),
    (f"{AT},X,buy,1,10,,", "column fee: it is empty; write 0 if there was none"),
    (f"{AT},X,buy,1,10", "line 2: 5 cells where the header has 7 columns; correct the row"),
    (f"{AT},X,buy,1,000,10,0,", "line 2: 8 cells where the header has 7 columns"),
    (f'{AT},X,buy,1,10,0,"a', "line 2 is not CSV: unexpected end of data"),
    (f"\n{AT},X,buy,1,10,0,a\n{AT},X,buy,2,10,0,a", "line 4, column quantity: execution a was 1 in line 3"),
    (f'{AT},X,buy,1,10,0,"a\nb"\n{AT},X,buy,1,10,x,', "line 4, column fee: 'x' is not"),
    (
        f"{AT},X,buy,1,10,0,\n2013-10-07T09:30:00-04:00,X,buy,1,10,0,",
        "line 3, column time: 2013-10-07T13:30:00+00:00 is before 2013-10-07T13:31:00+00:00 of line 2; sort",
    ),
    (
        f"{AT},X,buy,{'9' * 15}.{'9' * 18},0.{'9' * 18},0,",
        "FILE line 2: the sums up to here have more than the 38 digits",
    ),
]


@pytest.mark.parametrize(("rows", "said"), ROWS)
def test_rows_that_cannot_be_booked(tmp_path: Path, rows: str, said: str) -> None:
    assert said in refused(tmp_path, HEAD + rows)


@pytest.mark.parametrize("time", ["2013-11-03T01:30:00", "2013-03-10 02:30"])
def test_times_that_clocks_show_twice_or_never(tmp_path: Path, time: str) -> None:
    said = refused(tmp_path, f"{HEAD}{time},X,buy,1,10,0,", *NEW_YORK)
    assert f"line 2, column time: {time} does not exist once in America/New_York" in said


FILES = [
    (b"", "FILE is empty; its first line should name the columns time, symbol, side, quantity, price, fee"),
    (b"\n\n", "FILE is empty"),
    (b"time,symbol,side,price\n", "FILE line 1: no column quantity, fee (it has time, symbol, side, price)"),
    (b"time;symbol;side;quantity;price;fee\n", "no column time, symbol, side, quantity, price, fee"),
    (HEAD.replace("\n", ",Fee\n").encode(), "FILE line 1: column fee stands there twice"),
    (HEAD.encode() + b"caf\xe9", "FILE is not UTF-8 text: save it as CSV in UTF-8"),
    (HEAD.encode("utf-16"), "FILE is not UTF-8 text"),
    (bytes(range(256)) * 10, "FILE"),
    (b"\x00" * 1000, "FILE"),
    (b"x" * 200_000, "FILE"),
]


@pytest.mark.parametrize(("content", "said"), FILES, ids=range(len(FILES)))
def test_files_that_are_no_exports(tmp_path: Path, content: bytes, said: str) -> None:
    assert said in refused(tmp_path, content)


def test_sums_of_marks_that_are_too_long(tmp_path: Path) -> None:
    rows = f"{HEAD}{AT},X,buy,{'9' * 15}.{'9' * 4},1,0.{'0' * 17}1,\n"
    assert "have more than the 38 digits" in refused(tmp_path, rows, "--marks", f"X={'9' * 15}.1234")


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ("--marks X=0", "--marks 'X=0' is not of the form SYM=PRICE with a positive price"),
        ("--marks X=1e3", "--marks 'X=1e3' is not"),
        ("--marks X=1,x=2", "--marks names X twice"),
        (f"--marks X=1{'0' * 40}", "is not of the form"),
        ("--tz Mars/Phobos", "--tz Mars/Phobos is not a time zone; use a name like America/New_York"),
        ("--tz ../../etc/passwd", "is not a time zone"),
        ("--cash -1", "Invalid value for --cash: -1 is not at least 0"),
        ("--cash NaN", "Invalid value for --cash"),
    ],
)
def test_options(tmp_path: Path, args: str, said: str) -> None:
    assert said in refused(tmp_path, HEAD, *args.split())


def test_no_file(tmp_path: Path) -> None:
    def said(path: Path) -> Ran:
        return here("fills", path, "--cash", "1")

    assert said(tmp_path).said == f"{tmp_path} cannot be read: Is a directory; name a CSV file"
    assert said(tmp_path / "none.csv").said.endswith("No such file or directory; name a CSV file")
    assert here("fills", "--cash", "1").said.startswith("Missing argument 'FILE'")


def test_sums_beyond_cents_are_shown(tmp_path: Path) -> None:
    file = export(tmp_path, f"{HEAD}{AT},X,sell,{'9' * 15},{'9' * 15},0,\n")
    assert (
        "\ncash        999,999,999,999,998,000,000,000,000,001.00\n" in tape("fills", file, "--cash", "0").out
    )


def test_a_hundred_thousand_rows(tmp_path: Path) -> None:
    """In 300 MB of memory, each id once."""
    rows = (
        f"{AT},X,{'buy' if n % 2 else 'sell'},{n % 7 + 1},100.{n % 100:02},0.01,e{n}\n" for n in range(10**5)
    )
    file = export(tmp_path, HEAD + "".join(rows))

    def little_memory() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (300 << 20, 300 << 20))

    ran = tape("fills", file, "--cash", "0", "--json", preexec_fn=little_memory)
    assert ran.code == 0, ran.err
    assert (ran.json["executions"], ran.json["fees"], ran.json["repeated"]) == (10**5, "1000", [])
