"""Exact decimal arithmetic and the one way a decimal is written.

Money, prices and quantities are `Decimal` throughout. Under `EXACT` an operation whose
result does not fit raises `decimal.Inexact` instead of rounding; the few divisions that
must round go through `quotient`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from decimal import (
    ROUND_HALF_EVEN,
    Clamped,
    Context,
    Decimal,
    DivisionByZero,
    FloatOperation,
    Inexact,
    InvalidOperation,
    Overflow,
    Subnormal,
    getcontext,
    setcontext,
)

EXACT = Context(
    prec=38,
    rounding=ROUND_HALF_EVEN,
    Emin=-999999,
    Emax=999999,
    traps=[Inexact, InvalidOperation, DivisionByZero, Overflow, FloatOperation],
)
WIDE = Context(
    prec=76,
    rounding=ROUND_HALF_EVEN,
    Emin=-999999,
    Emax=999999,
    traps=[InvalidOperation, DivisionByZero, Overflow],
)
DIGITS_MAX = 200
"""Digits of a number that is written, before and after the point."""
_LOSSLESS = Context(
    prec=DIGITS_MAX,
    Emin=-DIGITS_MAX,
    Emax=DIGITS_MAX - 1,
    traps=[Inexact, InvalidOperation, Overflow, Subnormal, Clamped],
)

ZERO = Decimal(0)
ONE = Decimal(1)
_PLACES_18 = Decimal("1e-18")


@contextmanager
def exact() -> Iterator[None]:
    """Run a block under `EXACT`; the caller's context is put back afterwards."""
    before = getcontext()
    setcontext(EXACT)
    try:
        yield
    finally:
        setcontext(before)


def canonical(value: Decimal) -> Decimal:
    """The same number without exponent, trailing zeros or a negative zero.

    Raises `ValueError` for NaN and infinities, which are not numbers one can book, and for numbers
    that take more than 200 digits to write without their exponent.
    """
    if not value:
        return ZERO if value.is_finite() else _refuse(value)
    text = str(value)
    if "E" not in text and len(text) < DIGITS_MAX and ("." not in text or text[-1] != "0"):
        return value if value.is_finite() else _refuse(value)
    if not value.is_finite():
        return _refuse(value)
    try:
        short = _LOSSLESS.normalize(value)
        return _LOSSLESS.quantize(short, ONE) if short == short.to_integral_value() else short
    except ArithmeticError:
        raise ValueError(f"{value:.3E} takes too many digits to write") from None


def _refuse(value: Decimal) -> Decimal:
    raise ValueError(f"{value} is not a finite number")


def plain(value: Decimal) -> str:
    """Plain notation: digits, at most one point, no exponent."""
    return format(canonical(value), "f")


def quotient(numerator: Decimal, denominator: Decimal) -> Decimal:
    """numerator / denominator at 76 digits, rounded once, half-even, to 18 places."""
    return WIDE.quantize(WIDE.divide(numerator, denominator), _PLACES_18)


def ratio(value: Decimal, numerator: Decimal, denominator: Decimal) -> Decimal:
    """value x numerator / denominator at 76 digits, rounded once, half-even, to 18 places."""
    return WIDE.quantize(WIDE.divide(WIDE.multiply(value, numerator), denominator), _PLACES_18)


def truncate(value: Decimal) -> Decimal:
    """Toward zero, to a whole number."""
    return Decimal(int(value))
