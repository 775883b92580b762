"""A limits file: TOML whose keys are the fields of `schemas.Limits`."""

from __future__ import annotations

import tomllib
from decimal import Decimal
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from schemas import Limits, validate


class LimitsError(Exception):
    """A limits file that cannot be used; the message names file, key and remedy."""


BACKTEST: dict[str, Any] = {"rearm_next_session": True}
"""No limit but gross <= multiplier x equity and the day-loss breaker, re-armed next session."""


def read_limits(file: Path | None, defaults: dict[str, Any]) -> Limits:
    """The limits of `file` over `defaults`. Raises `LimitsError`."""
    given: dict[str, Any] = {}
    if file is not None:
        try:
            given = tomllib.loads(file.read_text(encoding="utf-8"), parse_float=Decimal)
        except OSError as problem:
            raise LimitsError(f"limits file {file} cannot be read: {problem.strerror}") from problem
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as problem:
            raise LimitsError(f"limits file {file} is not TOML: {problem}") from problem
    known = sorted(Limits.model.model_fields)
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise LimitsError(f"limits file {file}: unknown key '{unknown[0]}'; the keys are {', '.join(known)}")
    try:
        return validate(Limits, {**defaults, **given})
    except ValidationError as problem:
        first = problem.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise LimitsError(f"limits file {file}: {key} = {first['input']}: {first['msg']}") from problem


def in_force(limits: Limits, multiplier: Decimal) -> dict[str, str]:
    """The limits that hold, by name, for people."""
    shown: dict[str, str] = {}
    for name in Limits.model.model_fields:
        value = getattr(limits, name)
        if value is not None and value not in ((), False):
            shown[name] = " ".join(value) if isinstance(value, tuple) else str(value)
    shown.setdefault("gross_exposure", f"{multiplier} (the account's multiplier)")
    return shown
