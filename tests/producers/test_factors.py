from __future__ import annotations

from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producers.marketdata.errors import BadRow, MissingFactors
from producers.marketdata.factors import Action, FactorFile, split_ratio
from support.lean import SAMPLE


def written(tmp_path: Path, text: str) -> FactorFile:
    path = tmp_path / "abc.csv"
    path.write_text(text)
    return FactorFile(path)


def sample(symbol: str) -> FactorFile:
    return FactorFile(SAMPLE / "equity" / "usa" / "factor_files" / f"{symbol}.csv")


def test_a_row_holds_up_to_and_including_its_date() -> None:
    aapl = sample("aapl")
    assert aapl.on(date(2014, 6, 6)).split == Decimal("0.03571430")
    assert aapl.on(date(2014, 6, 7)).split == Decimal("0.25")
    assert aapl.on(date(2050, 12, 31)).split == 1


def test_no_row_holds_after_the_last() -> None:
    with pytest.raises(MissingFactors, match="ends before 2051-01-01"):
        sample("aapl").on(date(2051, 1, 1))


@pytest.mark.parametrize(
    ("before", "after", "ratio"),
    [
        ("0.03571430", "0.25", (7, 1)),
        ("0.00892857", "0.01785710", (2, 1)),
        ("0.25", "1", (4, 1)),
        ("0.6666667", "1", (3, 2)),
        ("20", "1", (1, 20)),
        ("1", "1", (1, 1)),
        ("0.997307", "1", (1114, 1111)),
    ],
)
def test_the_ratio_of_rounded_factors(before: str, after: str, ratio: tuple[int, int]) -> None:
    assert split_ratio(Decimal(before), Decimal(after)) == ratio


@given(num=st.integers(1, 50), den=st.integers(1, 50), steps=st.integers(0, 3))
def test_a_small_ratio_survives_seven_places(num: int, den: int, steps: int) -> None:
    after = Decimal(1) / 2**steps
    before = (after * den / num).quantize(Decimal("1e-7"))
    n, d = split_ratio(before, after)
    assert n * den == d * num


def test_dividends_and_splits_of_the_sample() -> None:
    aapl = {action.after: action for action in sample("aapl").actions()}
    assert aapl[date(2014, 2, 5)] == Action(date(2014, 2, 5), 1, 1, Decimal("3.05"))
    assert aapl[date(2014, 6, 6)] == Action(date(2014, 6, 6), 7, 1, Decimal(0))
    ibm = {action.after: action for action in sample("ibm").actions()}
    assert ibm[date(2014, 2, 5)] == Action(date(2014, 2, 5), 1, 1, Decimal("0.95"))


def test_a_dividend_on_the_day_of_a_split_is_per_new_share(tmp_path: Path) -> None:
    factors = written(tmp_path, "20200101,0.99,0.5,100\n20500101,1,1,0\n")
    assert list(factors.actions()) == [Action(date(2020, 1, 1), 2, 1, Decimal("0.5"))]


def test_half_a_cent_is_rounded_to_even(tmp_path: Path) -> None:
    factors = written(tmp_path, "20200101,0.99795,1,100\n20210101,1,1,0\n")
    assert next(factors.actions()).dividend == Decimal("0.2")


def test_a_price_factor_that_falls_is_no_dividend(tmp_path: Path) -> None:
    assert list(written(tmp_path, "20200101,1,1,100\n20210101,0.9,1,0\n").actions()) == []


@pytest.mark.parametrize(
    "line",
    [
        "20200102,1,1",
        "20209999,1,1,1",
        "20200102,x,1,1",
        "20200102,0,1,1",
        "20200102,nan,1,1",
        "20200101,1,1,1",
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, line: str) -> None:
    with pytest.raises(BadRow, match=r"abc\.csv line 2: .*correct the line"):
        written(tmp_path, f"20200101,1,1,1\n{line}\n")
