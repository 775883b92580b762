"""LEAN factor files: what a price of the past is multiplied by, and the splits and dividends behind it.

A row is `YYYYMMDD,price factor,split factor,last close`; it holds for dates up to and including
its own, and what changes between two rows happened at the session after the first one's date.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from datetime import date, datetime
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

from producers.marketdata.errors import BadRow, DamagedFile, MissingFactors
from schemas import EXACT, canonical

_FACTOR_ERROR = Fraction(1, 2 * 10**7)  # factors are written to seven places
_DENOMINATOR_MAX = 10_000
_CENT = Decimal("0.01")


class Factors(NamedTuple):
    """One row: prices up to `last` times `price` x `split` compare with today's."""

    last: date
    price: Decimal
    split: Decimal
    close: Decimal


class Action(NamedTuple):
    """What changed after the close of `after`: a split `num`:`den`, a dividend in dollars, or both.

    The dividend is per share as held after the split.
    """

    after: date
    num: int
    den: int
    dividend: Decimal


class FactorFile:
    """The factors of one symbol, by date.

    Raises `DamagedFile` if the file cannot be read, `BadRow` if a row is not four columns with a
    date later than the one before and positive factors.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows = list(_rows(path))
        self._dates = [row.last for row in self.rows]

    def on(self, day: date) -> Factors:
        """The row that holds on `day`. Raises `MissingFactors` if the file ends before."""
        i = bisect_left(self._dates, day)
        if i == len(self.rows):
            raise MissingFactors(
                f"{self.path} ends before {day}: bring the factor file up to date, or read unadjusted prices"
            )
        return self.rows[i]

    def actions(self) -> Iterator[Action]:
        """The splits and dividends, in order."""
        for row, following in zip(self.rows, self.rows[1:], strict=False):
            num, den = split_ratio(row.split, following.split)
            dividend = _dividend(row, following, Fraction(den, num))
            if num != den or dividend:
                yield Action(row.last, num, den, dividend)


def split_ratio(before: Decimal, after: Decimal) -> tuple[int, int]:
    """New shares for old ones: the simplest ratio that two rounded split factors can mean.

    0.03571430 and 0.25 are 6.9999972 apart, which is 7:1.
    """
    ratio = Fraction(after) / Fraction(before)
    error = ratio * (_FACTOR_ERROR / Fraction(before) + _FACTOR_ERROR / Fraction(after))
    for den in range(1, _DENOMINATOR_MAX):
        num = round(ratio * den)
        if num and abs(Fraction(num, den) - ratio) <= error:
            return num, den
    nearest = ratio.limit_denominator(_DENOMINATOR_MAX)
    return nearest.numerator, nearest.denominator


def _dividend(row: Factors, following: Factors, scale: Fraction) -> Decimal:
    """Dollars per share: last close x (1 - ratio of the price factors), half-even to cents, or 0."""
    paid = Fraction(row.close) * (1 - Fraction(row.price) / Fraction(following.price)) * scale
    return canonical(EXACT.multiply(Decimal(max(0, round(paid * 100))), _CENT))


def _rows(path: Path) -> Iterator[Factors]:
    try:
        text = path.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as problem:
        raise DamagedFile(f"{path} cannot be read: {problem}; restore the file") from problem
    last = date.min
    for number, line in enumerate(text.splitlines(), start=1):
        row = _row(line)
        if row is None or row.last <= last:
            raise BadRow(
                f"{path} line {number}: {line!r} is not a later date, two positive factors and a close "
                "(YYYYMMDD,price factor,split factor,close): correct the line"
            )
        last = row.last
        yield row


def _row(line: str) -> Factors | None:
    try:
        day, *numbers = line.split(",")
        price, split, close = map(Decimal, numbers)
        row = Factors(datetime.strptime(day, "%Y%m%d").date(), price, split, close)
        return row if price > 0 and split > 0 and close >= 0 and all(n.is_finite() for n in row[1:]) else None
    except (ValueError, InvalidOperation):
        return None
