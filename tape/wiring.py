"""The one place where parts are put together: from a configuration to a pipeline."""

from __future__ import annotations

import sys
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path

import msgspec

import schemas
from processors.account.processor import Accounts
from processors.exchange.exchange import Exchange
from processors.pipeline import Pipeline
from processors.strategies.processor import Strategies
from schemas import Component, Configured, CoreSettings, StrategySetting, digest, evolve
from tape.strategies import LoadError, load_strategy

ROOT = Path(schemas.__file__).resolve().parent.parent

SNAPSHOT_EVERY = 25_000
"""Inputs from one snapshot to the next: what an as-of question replays at most."""

COMPONENTS = {
    "account": ("1", ("processors/account",)),
    "exchange": ("1", ("processors/exchange", "processors/fees.py")),
    "pipeline": ("1", ("processors/pipeline.py",)),
    "strategies": ("1", ("processors/strategies",)),
}
"""What decisions depend on, besides the schemas: version and sources."""


def build(configured: Configured) -> Pipeline:
    """The pipeline a configuration describes. Raises `LoadError` for a strategy that is not to be had."""
    settings = configured.settings
    accounts = Accounts(settings)
    members = [(s, load_strategy(s.kind, s.params).strategy) for s in settings.strategies]
    exchange = Exchange(settings) if settings.simulated else None
    return Pipeline(accounts, Strategies(members, accounts), exchange)


def configure(settings: CoreSettings, *, log: str, time: str, partition: int) -> Configured:
    """The configuration of a core partition as the installed code would run it."""
    return Configured(
        partition=partition,
        epoch=0,
        log=log,
        time=time,  # type: ignore[arg-type]  # text in the fast codec
        components=components(),
        dependencies=dependencies(),
        schemas=_source_digest(("schemas",)),
        settings=settings,
    )


def installed(configured: Configured) -> str:
    """Why the installed code is not what `configured` ran with; "" where it is."""
    if configured.dependencies != dependencies():
        return f"it ran with other libraries ({configured.dependencies}; installed: {dependencies()})"
    if configured.schemas != _source_digest(("schemas",)):
        return "it ran with other schemas"
    here = {c.name: c for c in components()}
    other = [c.name for c in configured.components if here.get(c.name) != c]
    if other:
        return f"it ran with other code ({', '.join(other)})"
    return "; ".join(filter(None, (_strategy_installed(s) for s in configured.settings.strategies)))


def _strategy_installed(setting: StrategySetting) -> str:
    try:
        found = load_strategy(setting.kind, setting.params)
    except LoadError as problem:
        return f"strategy {setting.name}: {problem}"
    if found.digest != setting.digest:
        return f"strategy {setting.name}: the source of {setting.kind} is another now"
    return ""


@lru_cache
def components() -> tuple[Component, ...]:
    """The parts of the installed code, with a digest of their sources."""
    return tuple(
        Component(name=name, version=number, digest=_source_digest(places))
        for name, (number, places) in sorted(COMPONENTS.items())
    )


@lru_cache
def dependencies() -> str:
    """The libraries whose behaviour reaches a decision or its bytes."""
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    return f"python {python}, msgspec {version('msgspec')}"


@lru_cache
def _source_digest(places: tuple[str, ...]) -> str:
    files: list[Path] = []
    for place in places:
        path = ROOT / place
        files.extend(sorted(path.rglob("*.py")) if path.is_dir() else [path])
    parts = []
    for file in files:
        parts += [file.relative_to(ROOT).as_posix().encode(), file.read_bytes()]
    return digest(*parts)


def identity(settings: CoreSettings, *parts: bytes) -> str:
    """A log id made of everything that a backtest's bytes depend on: settings, facts, commands.

    Where a strategy's file stands is no part of it; what it says is.
    """
    strategies = tuple(
        evolve(s, kind=s.kind.replace("\\", "/").rpartition("/")[2]) for s in settings.strategies
    )
    anonymous = evolve(settings, strategies=strategies, log_prefix="")
    return digest(msgspec.json.encode(anonymous, order="deterministic"), *parts)[:32]
