from __future__ import annotations

import re
import zipfile
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from producers.marketdata.errors import (
    BadRequest,
    BadRow,
    DamagedFile,
    DataError,
    MissingDay,
    MissingFactors,
    MissingFolder,
    UnknownSymbol,
)
from producers.marketdata.lean import LeanReader
from support.lean import SAMPLE, lean_folder

MONDAY, TUESDAY, WEDNESDAY = date(2013, 10, 7), date(2013, 10, 8), date(2013, 10, 9)
TRADE = "34200000,1000000,1000000,1000000,1000000,1\n"
QUOTE = "34200000,999900,999900,999900,999900,3,1000100,1000100,1000100,1000100,4\n"
DAY_TRADE, DAY_QUOTE = "minute/abc/20131007_trade", "minute/abc/20131007_quote"


def refuse(
    kind: type[DataError],
    message: str,
    folder: Path,
    first: date = MONDAY,
    last: date = MONDAY,
    **options: Any,
) -> None:
    """`check` is enough to find what is wrong, and the message says all of `message`, in this order."""
    symbols = options.pop("symbols", ["ABC"])
    with pytest.raises(kind, match=".*".join(re.escape(part) for part in message.split("…"))):
        LeanReader(folder, symbols, first, last, **options).check()


@pytest.mark.parametrize(
    ("message", "request_"),
    [
        ("begins on 2013-10-09, after its end on 2013-10-07: exchange the two", {"first": WEDNESDAY}),
        (
            "no session from 2013-10-05 to 2013-10-06: choose other dates",
            {"first": date(2013, 10, 5), "last": date(2013, 10, 6)},
        ),
        ("choose dates in the years 1900 to 2100", {"first": date(1, 1, 1)}),
        ("no symbols: name at least one", {"symbols": []}),
        (
            "resolution 'hour' cannot be read: choose tick or second or minute or daily",
            {"resolution": "hour"},
        ),
        ("hours 'night' are unknown: choose regular or extended", {"hours": "night"}),
    ],
)
def test_a_request_without_sense(message: str, request_: dict[str, Any]) -> None:
    refuse(BadRequest, message, SAMPLE, **{"symbols": ["SPY"], **request_})


def test_no_folder(tmp_path: Path) -> None:
    refuse(
        MissingFolder,
        "nowhere is not a folder: name the folder that contains equity/usa",
        tmp_path / "nowhere",
    )
    refuse(MissingFolder, "has no folder equity/usa in it: name the folder", tmp_path)


def test_no_such_resolution(tmp_path: Path) -> None:
    folder = lean_folder(tmp_path, {DAY_TRADE: TRADE})
    refuse(MissingFolder, "has no second data (there is: minute): choose", folder, resolution="second")


@pytest.mark.parametrize("symbol", ["MSFT", "../minute/spy", ""])
def test_an_unknown_symbol_names_those_there_are(symbol: str) -> None:
    message = f"has no data of {symbol.upper()} (there is: AAPL, AIG, BAC, IBM, SPY): choose among these"
    refuse(UnknownSymbol, message, SAMPLE, symbols=["SPY", symbol])


def test_a_missing_day() -> None:
    message = (
        "no minute data of SPY on 2013-10-10 (expected …20131010_trade.zip and …20131010_quote.zip): "
        "shorten the range (there is 2013-10-07 to 2013-10-09) or go on without it (--allow-missing)"
    )
    refuse(MissingDay, message, SAMPLE, last=date(2013, 10, 10), symbols=["SPY"])


@pytest.mark.parametrize(("gone", "left"), [("quote", "trade"), ("trade", "quote")])
def test_a_day_without_what_other_days_have(tmp_path: Path, gone: str, left: str) -> None:
    text = {"trade": TRADE, "quote": QUOTE}
    files = {f"minute/abc/{day}_{kind}": text[kind] for day in (20131007, 20131008) for kind in text}
    del files[f"minute/abc/20131008_{gone}"]
    folder = lean_folder(tmp_path, files)
    refuse(MissingDay, f"on 2013-10-08 (expected …20131008_{gone}.zip): shorten", folder, last=TUESDAY)
    LeanReader(folder, ["ABC"], MONDAY, TUESDAY, allow_missing=True).check()


@pytest.mark.parametrize("allow_missing", [True, False])
def test_a_symbol_without_any_data_in_the_range(allow_missing: bool) -> None:
    refuse(
        MissingDay,
        "no minute data of AAPL from 2013-10-07 to 2013-10-08 (expected …20131007_trade.zip): "
        "choose dates within what is there, 2014-06-05 to 2014-06-09",
        SAMPLE,
        last=TUESDAY,
        symbols=["AAPL"],
        allow_missing=allow_missing,
    )


def test_no_factor_file(tmp_path: Path) -> None:
    folder = lean_folder(tmp_path, {DAY_TRADE: TRADE})
    message = "prices of ABC cannot be adjusted, …abc.csv does not exist: put the factor file there, or read"
    refuse(MissingFactors, message, folder, adjusted=True)


def test_a_factor_file_that_ends_too_early(tmp_path: Path) -> None:
    folder = lean_folder(tmp_path, {DAY_TRADE: TRADE}, {"abc": "20131004,1,1,1\n"})
    refuse(
        MissingFactors,
        "abc.csv ends before 2013-10-07: bring the factor file up to date",
        folder,
        adjusted=True,
    )


def test_a_bad_factor_file(tmp_path: Path) -> None:
    folder = lean_folder(tmp_path, {DAY_TRADE: TRADE}, {"abc": "20131004;1;1;1\n"})
    refuse(BadRow, "abc.csv line 1: '20131004;1;1;1' is not a later date", folder)


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"34200000,1,1,1,1,1\n",
        lambda data: b"",
        lambda data: data[: len(data) // 2],
        lambda data: data[:50] + bytes([data[50] ^ 1]) + data[51:],  # within the compressed rows
        lambda data: data[:55] + bytes([data[55] ^ 1]) + data[56:],
    ],
    ids=["no zip", "empty", "truncated", "wrong checksum", "undecodable"],
)
def test_a_damaged_zip(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    folder = lean_folder(tmp_path, {DAY_TRADE: TRADE})
    path = folder / "equity" / "usa" / f"{DAY_TRADE}.zip"
    path.write_bytes(damage(path.read_bytes()))
    refuse(DamagedFile, "20131007_trade.zip cannot be read: …; replace it with an intact copy", folder)


@pytest.mark.parametrize("members", [[], ["a.csv", "b.csv"]])
def test_a_zip_without_its_one_file(tmp_path: Path, members: list[str]) -> None:
    folder = lean_folder(tmp_path, {DAY_TRADE: TRADE})
    with zipfile.ZipFile(folder / "equity" / "usa" / f"{DAY_TRADE}.zip", "w") as archive:
        for member in members:
            archive.writestr(member, TRADE)
    refuse(DamagedFile, f"holds {len(members)} files where one is expected", folder)


def test_a_file_without_rows(tmp_path: Path) -> None:
    refuse(DamagedFile, "20131007_trade.zip holds no rows", lean_folder(tmp_path, {DAY_TRADE: ""}))


BAD_TRADES = [
    ("34260000,1,1,1,1", "has 5 columns, not 6"),
    ("34260000,1,1,1,1,1,1", "has 7 columns, not 6"),
    ("34260000,1,x,1,1,1", "has a column that is not a whole number"),
    ("34260000,1,1.5,1,1,1", "has a column that is not a whole number"),
    (",1,1,1,1,1", "has a column that is not a whole number"),
    ("", "has 1 columns, not 6"),
    ("34260000,0,1,0,1,1", "has a price that is not positive (0)"),
    ("34260000,0,0,0,0,1", "has a price that is not positive (0)"),
    ("34260000,,,,,1", "has a price that is not positive (0)"),
    ("34260000,1,1,-5,1,1", "has a price that is not positive (-5)"),
    ("34260000,5,4,6,5,1", "has its high (4) below its low (6)"),
    ("34260000,9,8,6,7,1", "has its open (9) or close (7) outside its low and high (6, 8)"),
    ("34260000,7,8,6,5,1", "has its open (7) or close (5) outside its low and high (6, 8)"),
    ("34260000,7,8,6,7,-1", "has a negative size (-1)"),
    ("34200000,1,1,1,1,1", "begins at 34200000 ms, not after the row before it (34200000 ms)"),
    ("34140000,1,1,1,1,1", "begins at 34140000 ms, not after the row before it"),
    ("86400000,1,1,1,1,1", "begins at 86400000 ms, outside the day"),
    ("-60000,1,1,1,1,1", "begins at -60000 ms, outside the day"),
]


@pytest.mark.parametrize(("row", "fault"), BAD_TRADES)
def test_a_bad_trade_row(tmp_path: Path, row: str, fault: str) -> None:
    folder = lean_folder(tmp_path, {DAY_TRADE: f"{TRADE}{row}\n34320000,1,1,1,1,1\n"})
    refuse(BadRow, f"20131007_trade.zip line 2: '{row}' {fault}…; correct the row", folder)


BAD_QUOTES = [
    ("34260000,1,1,1,1,1,1,1,1,1", "has 10 columns, not 11"),
    ("34260000,1,1,1,1,1,1,1,1,1,x", "has a column that is not a whole number"),
    ("34260000,,1,1,1,1,2,2,2,2,1", "has a price that is not positive (0)"),
    ("34260000,1,1,1,1,1,2,2,-2,2,1", "has a price that is not positive (-2)"),
    ("34260000,1,1,1,1,1,2,2,2,0,1", "has a price that is not positive (0)"),
    ("34260000,1,1,1,1,1,2,2,3,2,1", "has its high (2) below its low (3)"),
    ("34260000,1,1,1,2,1,2,2,2,2,1", "has its open (1) or close (2) outside"),
    ("34260000,1,1,1,1,-1,2,2,2,2,1", "has a negative size (-1)"),
    ("34200000,1,1,1,1,1,2,2,2,2,1", "begins at 34200000 ms, not after the row before it"),
]


@pytest.mark.parametrize(("row", "fault"), BAD_QUOTES)
def test_a_bad_quote_row(tmp_path: Path, row: str, fault: str) -> None:
    folder = lean_folder(tmp_path, {DAY_QUOTE: f"{QUOTE}{row}\n"})
    refuse(BadRow, f"20131007_quote.zip line 2: '{row}' {fault}…; correct the row", folder)


def test_what_lies_outside_regular_hours_is_checked_too(tmp_path: Path) -> None:
    folder = lean_folder(tmp_path, {DAY_TRADE: f"14400000,0,1,1,1,1\n{TRADE}"})
    refuse(BadRow, "line 1", folder)


def test_events_raise_the_same_without_check(tmp_path: Path) -> None:
    folder = lean_folder(tmp_path, {DAY_TRADE: TRADE + TRADE})
    with pytest.raises(BadRow, match="line 2"):
        list(LeanReader(folder, ["ABC"], MONDAY, MONDAY).events())
