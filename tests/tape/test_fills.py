"""A broker's export through the books: figures, repeats, and every way a file can be wrong."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tape.fills import FillsError, book_fills, read_fills, read_marks

HEAD = "time,symbol,side,quantity,price,fee,execution_id,strategy"


@pytest.fixture
def export(tmp_path: Path):
    """Write rows as a file; a row is text without zone and with hours and minutes only."""

    def write(*rows: str, head: str = HEAD) -> Path:
        file = tmp_path / "fills.csv"
        file.write_text("\n".join((head, *rows)) + "\n", encoding="utf-8")
        return file

    return write


def run(file: Path, cash: str = "10000", marks: str = "", zone: str | None = None) -> dict[str, Any]:
    return book_fills(read_fills(file, zone), Decimal(cash), read_marks(marks))


def test_trading_technologies_example(export) -> None:
    """Average and realised profit of the example that Trading Technologies publishes."""
    found = run(
        export(
            "2013-10-07T13:31:00Z,X,buy,12,100,0,,",
            "2013-10-07T13:32:00Z,X,BUY,17,99,0,,",
            "2013-10-07T13:33:00Z,X,sell,9,101,0,,",
            "2013-10-07T13:34:00Z,X,Sell,4,105,0,,",
            "2013-10-07T13:35:00Z,X,buy,3,103,0,,",
        ),
        marks="X=99",
    )
    assert float(found["positions"][0]["average"]) == pytest.approx(99.98003629764065, abs=1e-12)
    assert float(found["realized"]) == pytest.approx(36.62068965517241, abs=1e-12)
    assert found["cash"] == "8137"
    assert found["equity"] == "10018"


def test_without_a_mark_equity_is_unknown(export) -> None:
    found = run(export("2013-10-07T13:31:00Z,X,buy,1,10,0.5,,"))
    assert found["equity"] is None
    assert found["unrealized"] is None
    assert found["unpriced"] == ["X"]
    assert found["cash"] == "9989.5"


def test_a_flat_symbol_needs_no_mark(export) -> None:
    found = run(export("2013-10-07T13:31:00Z,X,sell,2,10,1,,", "2013-10-07T13:32:00Z,X,buy,2,8,1,,"))
    assert (found["equity"], found["realized"], found["fees"]) == ("10002", "4", "2")
    assert found["unpriced"] == []


def test_a_repeat_counts_once_and_is_named(export) -> None:
    row = "2013-10-07T13:31:00Z,X,buy,1,10,0,e1,a"
    found = run(export(row, row.replace("10,0", "10.00,0.0")), marks="X=10")
    assert found["positions"][0]["quantity"] == "1"
    assert found["repeated"] == [{"execution_id": "e1", "line": 3, "first_line": 2}]


def test_books_of_strategies_add_up_to_the_net(export) -> None:
    found = run(
        export("2013-10-07T13:31:00Z,X,buy,5,10,0,1,a", "2013-10-07T13:32:00Z,X,sell,3,12,0,2,b"),
        marks="X=12",
    )
    position = found["positions"][0]
    assert position["quantity"] == "2"
    assert {n: s["quantity"] for n, s in position["strategies"].items()} == {"a": "5", "b": "-3"}


def test_naive_times_need_a_zone(export) -> None:
    file = export("2013-10-07 09:31:00,X,buy,1,10,0,,")
    assert run(file, marks="X=10", zone="America/New_York")["equity"] == "10000"


WRONG = [
    # row or rows, zone, what the message must say
    (("2013-10-07T09:31:00,X,buy,1,10,0,,",), None, ("line 2", "column time", "--tz")),
    (("yesterday,X,buy,1,10,0,,",), None, ("line 2", "column time", "ISO 8601")),
    (("2013-11-03T01:30:00,X,buy,1,10,0,,",), "America/New_York", ("column time", "offset")),
    (("2013-10-07T13:31:00Z,,buy,1,10,0,,",), None, ("line 2", "column symbol")),
    (("2013-10-07T13:31:00Z,X,hold,1,10,0,,",), None, ("column side", "hold")),
    (("2013-10-07T13:31:00Z,X,buy,one,10,0,,",), None, ("column quantity", "one")),
    (("2013-10-07T13:31:00Z,X,buy,-1,10,0,,",), None, ("column quantity", "not positive")),
    (("2013-10-07T13:31:00Z,X,buy,1,NaN,0,,",), None, ("column price", "NaN")),
    (("2013-10-07T13:31:00Z,X,buy,1,1_0,0,,",), None, ("column price", "1_0")),
    (("2013-10-07T13:31:00Z,X,buy,1,10,,,",), None, ("column fee", "write 0 if there was none")),
    (("2013-10-07T13:31:00Z,X,buy,1,10",), None, ("line 2", "cells")),
    (
        ("2013-10-07T13:32:00Z,X,buy,1,10,0,,", "2013-10-07T13:31:00Z,X,buy,1,10,0,,"),
        None,
        ("line 3", "column time", "line 2", "sort"),
    ),
    (
        ("2013-10-07T13:31:00Z,X,buy,1,10,0,e,", "2013-10-07T13:31:00Z,X,buy,1,11,0,e,"),
        None,
        ("line 3", "column price", "execution e", "line 2"),
    ),
]


@pytest.mark.parametrize(("rows", "zone", "says"), WRONG)
def test_wrong_rows_are_named(export, rows, zone, says) -> None:
    with pytest.raises(FillsError) as problem:
        run(export(*rows), zone=zone)
    assert all(part in str(problem.value) for part in says), str(problem.value)


@pytest.mark.parametrize(
    ("head", "says"),
    [("time,symbol,side,quantity,price", "no column fee"), (HEAD + ",price", "price stands there twice")],
)
def test_wrong_header_is_named(export, head, says) -> None:
    with pytest.raises(FillsError, match=says):
        read_fills(export(head=head), None)


@pytest.mark.parametrize("text", ["X", "X=", "X=-1", "=1", "X=1,X=2", "X=abc"])
def test_wrong_marks_are_refused(text) -> None:
    with pytest.raises(FillsError, match="--marks"):
        read_marks(text)


def test_unknown_zone_and_missing_file(export, tmp_path: Path) -> None:
    with pytest.raises(FillsError, match="--tz Mars/Phobos"):
        read_fills(export(), "Mars/Phobos")
    with pytest.raises(FillsError, match="cannot be read"):
        read_fills(tmp_path / "none.csv", None)


FILL = st.tuples(
    st.sampled_from(["A", "B"]),
    st.sampled_from(["buy", "sell"]),
    st.integers(1, 500),
    st.decimals("0.01", "999", places=2),
    st.decimals("0", "9", places=2),
    st.sampled_from(["s", "t", ""]),
)


@given(st.lists(FILL, max_size=25), st.decimals("0.01", "999", places=2))
def test_equity_is_what_was_put_in_and_made(tmp_path_factory, fills, mark) -> None:
    """cash + positions = starting + realised - fees + unrealised, to the last digit."""
    file = tmp_path_factory.mktemp("fills") / "f.csv"
    rows = [f"2013-10-07T13:31:00Z,{s},{side},{q},{p},{f},,{who}" for s, side, q, p, f, who in fills]
    file.write_text("\n".join((HEAD, *rows)) + "\n", encoding="utf-8")
    found = run(file, cash="1000000", marks=f"A={mark},B={mark}")
    held = sum((Decimal(p["quantity"]) for p in found["positions"]), Decimal(0))
    equity = Decimal(found["equity"])
    assert equity == Decimal(found["cash"]) + held * mark
    profit = Decimal(found["realized"]) - Decimal(found["fees"]) + Decimal(found["unrealized"])
    assert equity == Decimal(1000000) + profit
