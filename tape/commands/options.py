"""What options have in common: how their text is read, and what is said where it cannot be."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from datetime import date
from decimal import Decimal, InvalidOperation

import typer

from tape.errors import StrategyExit

FAILED, WRONG, STOPPED = 1, 2, 130
"""Exit codes of every command."""


@contextlib.contextmanager
def users_code() -> Iterator[None]:
    """Where strategies run: what they print goes to standard error, and they cannot end the process."""
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    except SystemExit as problem:
        raise StrategyExit(
            f"a strategy called exit({problem.code}); let it raise an exception instead"
        ) from problem


def wrong(name: str, problem: str) -> typer.BadParameter:
    """What is wrong with option --NAME, to be raised."""
    return typer.BadParameter(problem, param_hint=f"--{name}")


def decimal(name: str, text: str, least: str, below: str | None = None) -> Decimal:
    """The number of option --NAME, at least `least` and below `below`. Raises `typer.BadParameter`."""
    from tape.limits import DIGITS_MAX, fits

    try:
        value = Decimal(text)
    except InvalidOperation:
        raise wrong(name, f"'{text}' is not a number") from None
    if not value.is_finite() or value < Decimal(least) or (below is not None and value >= Decimal(below)):
        bound = f"at least {least}" + (f" and below {below}" if below is not None else "")
        raise wrong(name, f"{text} is not {bound}")
    if not fits(value):
        raise wrong(
            name, f"{text} has more than {DIGITS_MAX[0]} digits before or {DIGITS_MAX[1]} after the point"
        )
    return value


def day(name: str, text: str) -> date:
    """The date of option --NAME. Raises `typer.BadParameter`."""
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise wrong(name, f"'{text}' is not a date like 2013-10-07") from None
