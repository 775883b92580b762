"""Exact arithmetic, the few divisions that round, and the one way a number is written."""

import re
from collections.abc import Callable
from decimal import Decimal, FloatOperation, Inexact, InvalidOperation, Overflow, getcontext, localcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import EXACT, canonical, exact, plain, quotient, ratio, truncate
from schemas.export import PLAIN_DECIMAL
from support.events import decimals

D = Decimal
NOT_NUMBERS = ("NaN", "-NaN", "sNaN", "NaN123", "Infinity", "-Infinity")


@pytest.mark.parametrize(
    ("given_as", "written"),
    [
        ("10.50", "10.5"),
        ("10.00", "10"),
        ("100", "100"),
        ("1E+3", "1000"),
        ("1.50E+3", "1500"),
        ("-0", "0"),
        ("-0.00", "0"),
        ("0E+9", "0"),
        ("0E-30", "0"),
        ("1E-18", "0.000000000000000001"),
        ("-1.10E-18", "-0.0000000000000000011"),
        ("0.0000001", "0.0000001"),
        ("1E+37", "1" + 37 * "0"),
        ("12345678901234567890.123456789012345678", "12345678901234567890.123456789012345678"),
        ("1E+199", "1" + 199 * "0"),
        ("1E-200", "0." + 199 * "0" + "1"),
    ],
)
def test_plain_notation(given_as: str, written: str) -> None:
    assert plain(D(given_as)) == written
    assert str(canonical(D(given_as))) == written or "E-" in str(canonical(D(given_as)))


@given(decimals())
def test_canonical_changes_how_a_number_is_written_but_not_the_number(number: Decimal) -> None:
    assert canonical(number) == number
    assert str(canonical(canonical(number))) == str(canonical(number))
    assert re.fullmatch(PLAIN_DECIMAL, plain(number))
    assert D(plain(number)) == number


@given(decimals(), st.integers(40, 60))
def test_equal_numbers_are_written_alike(number: Decimal, places: int) -> None:
    with localcontext() as context:
        context.prec = 200
        longer = number + D(f"0E-{places}")
    assert plain(longer) == plain(number)


@given(decimals())
def test_the_callers_context_has_no_say(number: Decimal) -> None:
    with localcontext() as context:
        context.prec = 3
        coarse = plain(number)
    with exact():
        assert plain(number) == coarse


@pytest.mark.parametrize("text", NOT_NUMBERS)
@pytest.mark.parametrize("write", [canonical, plain])
def test_what_is_no_number_is_refused(write: Callable[[Decimal], object], text: str) -> None:
    with pytest.raises(ValueError, match="finite"):
        write(D(text))


@pytest.mark.parametrize("text", ["1E+201", "-1E+999999", "1E-999999", "1.5E-400"])
def test_what_takes_too_many_digits_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="too many digits"):
        canonical(D(text))


@pytest.mark.parametrize(
    ("operation", "error"),
    [
        (lambda: D(1) / D(3), Inexact),
        (lambda: D(10) ** 38 + D("0.1"), Inexact),
        (lambda: (D(1) / D(8)).quantize(D("0.01")), Inexact),
        (lambda: D(1) + 0.5, TypeError),
        (lambda: D(1) < 0.5, FloatOperation),
        (lambda: D(0.5), FloatOperation),
        (lambda: D(1) / D(0), ZeroDivisionError),
        (lambda: D("Infinity") - D("Infinity"), InvalidOperation),
        (lambda: D("1E+999999") * 10, Overflow),
    ],
)
def test_under_exact_an_operation_is_exact_or_raises(
    operation: Callable[[], object], error: type[Exception]
) -> None:
    with exact(), pytest.raises(error):
        operation()


@given(decimals(), decimals())
def test_under_exact_a_sum_is_the_sum_or_raises(a: Decimal, b: Decimal) -> None:
    with localcontext() as context:
        context.prec = 200
        true = (a + b).normalize()
    fits = len(true.as_tuple().digits) <= EXACT.prec
    with exact():
        if fits:
            assert a + b == true
        else:
            with pytest.raises(Inexact):
                a + b


def test_exact_puts_the_callers_context_back() -> None:
    before = getcontext()
    with exact():
        assert getcontext().prec == EXACT.prec
        with pytest.raises(Inexact):
            D(1) / D(3)
    assert getcontext() is before


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (quotient(D(1), D(3)), "0.333333333333333333"),
        (quotient(D(2), D(3)), "0.666666666666666667"),
        (quotient(D(-2), D(3)), "-0.666666666666666667"),
        (quotient(D(5), D(10**19)), "0"),  # a half, to the even neighbour
        (quotient(D(15), D(10**19)), "0.000000000000000002"),
        (quotient(D(25), D(10**19)), "0.000000000000000002"),
        (quotient(D("99609.82622896"), D(688)), "144.78172417"),
        (quotient(D(10) ** 30, D(7)), "142857142857142857142857142857.142857142857142857"),
        (ratio(D(100), D(1), D(3)), "33.333333333333333333"),
        (ratio(D("0.1"), D(3), D(3)), "0.1"),
        (ratio(D("1E+20"), D("1E-18"), D(3)), "33.333333333333333333"),
        (ratio(D(1), D(10) ** 37, D(10) ** 37), "1"),
        (truncate(D("2.9")), "2"),
        (truncate(D("-2.9")), "-2"),
        (truncate(D("1E+30")), "1" + 30 * "0"),
    ],
)
def test_what_rounds(made: Decimal, expected: str) -> None:
    assert plain(made) == expected


@given(st.integers(-(10**18), 10**18), st.integers(1, 10**9))
def test_quotient_is_off_by_half_a_unit_of_the_18th_place_at_most(a: int, b: int) -> None:
    with localcontext() as context:
        context.prec = 120
        assert abs(quotient(D(a), D(b)) * b - a) <= b * D("5E-19")


@given(st.integers(-(10**18), 10**18), st.integers(1, 10**9))
def test_quotient_is_the_same_under_any_context(a: int, b: int) -> None:
    with exact():
        strict = quotient(D(a), D(b))
    with localcontext() as context:
        context.prec = 5
        assert quotient(D(a), D(b)) == strict
