"""A limits file: TOML whose keys are the fields of `schemas.Limits`."""

from __future__ import annotations

import tomllib
from decimal import Decimal
from pathlib import Path
from typing import Any, get_args

from pydantic import ValidationError

from schemas import Limits, plain, validate
from tape.errors import WrongInput

NONE = "none"
"""What a limits file says to be rid of a limit that is there by default."""

BACKTEST: dict[str, Any] = {"rearm_next_session": True}
"""No limit but gross <= multiplier x equity and the day-loss breaker, re-armed next session."""

DIGITS_MAX = 15, 18
"""Digits before and after the point of a number that a user gives."""


class LimitsError(WrongInput):
    """A limits file that cannot be used; the message names file, key and remedy."""


def read_limits(file: Path | None, defaults: dict[str, Any]) -> Limits:
    """The limits of `file` over `defaults`. Raises `LimitsError`."""
    return limits_of({} if file is None else _read(file), defaults, f"limits file {file}")


def limits_of(table: dict[str, Any], defaults: dict[str, Any], where: str) -> Limits:
    """The limits of a TOML table over `defaults`. Raises `LimitsError`, which says `where` it stands."""
    given = dict(table)
    fields = Limits.model.model_fields
    for name, value in given.items():
        if name not in fields:
            known = ", ".join(sorted(fields))
            raise LimitsError(f"{where}: there is no limit '{name}'; the limits are: {known}")
        if value == NONE and type(None) in get_args(fields[name].annotation):
            given[name] = None
        elif isinstance(value, bool) != (fields[name].annotation is bool):
            wanted = "true or false" if fields[name].annotation is bool else "not true or false"
            raise LimitsError(f"{where}: {name} is {_said(value)}; it must be {wanted}")
        elif isinstance(value, Decimal) and value.is_finite() and not fits(value):
            raise LimitsError(f"{where}: {name} is {value}; it has too many digits")
    if isinstance(given.get("restricted"), list):
        given["restricted"] = [s.upper() if isinstance(s, str) else s for s in given["restricted"]]
    try:
        return validate(Limits, {**defaults, **given})
    except ValidationError as problem:
        first = problem.errors()[0]
        key = str(first["loc"][0])
        raise LimitsError(f"{where}: {key} is {_said(given[key])}; {_remedy(first['msg'])}") from problem


def _read(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"), parse_float=Decimal)
    except OSError as problem:
        raise LimitsError(f"limits file {file} cannot be read: {problem.strerror}") from problem
    except (ValueError, ArithmeticError) as problem:
        raise LimitsError(
            f"limits file {file} is not TOML: {problem}; write lines like: day_loss = 0.05"
        ) from problem


def fits(value: Decimal) -> bool:
    """Whether a number has no more digits than the log can hold and the account can reckon with."""
    before, after = DIGITS_MAX
    exponent = value.as_tuple().exponent
    return isinstance(exponent, int) and value.adjusted() < before and -exponent <= after


def _said(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool | Decimal) else repr(value)


def _remedy(message: str) -> str:
    """Pydantic's "Input should be ..." as the end of a sentence of ours."""
    what = message.removeprefix("Input should be ").replace("a valid tuple", 'a list, as in ["SPY"]')
    what = what.replace("a valid decimal", "a number").replace("a valid integer", "a whole number")
    return f"it must be {what}" if message.startswith("Input should be ") else message


def in_force(limits: Limits, multiplier: Decimal) -> dict[str, str]:
    """The limits that hold, by name, for people; gross exposure is never without one."""
    shown: dict[str, str] = {}
    for name in Limits.model.model_fields:
        value = getattr(limits, name)
        if value is True:
            shown[name] = "true"
        elif isinstance(value, Decimal):
            shown[name] = plain(value)
        elif value not in (None, (), False):
            shown[name] = " ".join(value) if isinstance(value, tuple) else str(value)
    shown.setdefault("gross_exposure", f"{plain(multiplier)} (the account's multiplier)")
    return shown
