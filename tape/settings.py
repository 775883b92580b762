"""What a run was begun with, beside what is asked for now: in words, for who resumes it otherwise."""

from __future__ import annotations

from typing import Any

from eventlog import EventLog
from eventlog.errors import LogDamaged
from processors.hosts.journal import configurations
from schemas import CoreSettings, Limits, OpenAccount, StrategySetting, decode

_LEFT_OUT = ("log_prefix", "strategies", "id", "account", "ts", "who", "why", "limits", "version")


def changes(log: EventLog, partition: int, settings: CoreSettings, opening: OpenAccount) -> str:
    """The settings that differ, as "fee none -> bps:1"; else it is the market data that does."""
    found: list[str] = []
    for record in log.read("operator.commands", partition, gte=0, limit=1):
        opened = decode(record.topic, record.value)
        if isinstance(opened, OpenAccount):
            found += _differences(_account(opened), _account(opening))
    try:
        epochs = configurations(log, partition)
    except LogDamaged:
        epochs = []
    if epochs:
        found += _differences(_core(epochs[0].settings), _core(settings))
    return "; ".join(found) or "the files, symbols, dates or hours of the market data"


def _account(opening: OpenAccount) -> dict[str, Any]:
    return {**_fields(opening), **_fields(opening.limits)}


def _core(settings: CoreSettings) -> dict[str, Any]:
    strategies = [_strategy(s) for s in settings.strategies]
    return {**_fields(settings), **(strategies[0] if strategies else {})}


def _strategy(setting: StrategySetting) -> dict[str, Any]:
    params = {f"param {name}": value for name, value in setting.params.items()}
    shown = {"strategy": setting.name, "symbols": ",".join(setting.symbols), **params}
    return {**shown, "the strategy's source": setting.digest[:12]}


def _fields(event: CoreSettings | OpenAccount | Limits) -> dict[str, Any]:
    names: tuple[str, ...] = event.__struct_fields__  # type: ignore[union-attr]
    return {name: getattr(event, name) for name in names if name not in _LEFT_OUT}


def _differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    names = [*before, *(name for name in now if name not in before)]
    return [f"{n} {before.get(n)} -> {now.get(n)}" for n in names if before.get(n) != now.get(n)]
