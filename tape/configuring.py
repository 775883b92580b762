"""What a live configuration comes to: core settings by partition, a log that is made, accounts opened."""

from __future__ import annotations

import secrets
import time as clock
from collections.abc import Collection, Iterator
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eventlog import EventLog, LogReader, LogSpec, create_log, open_log
from eventlog.errors import LogExists, LogNotFound, LogUnreachable
from processors.market.settings import MarketSettings
from producers.marketdata.leanfeeds import RESOLUTIONS
from producers.operator import COMMANDS, command_record
from producers.player import Pace
from schemas import (
    Configured,
    CoreSettings,
    Limits,
    OpenAccount,
    StrategySetting,
    decode,
    log_prefix,
    partition_of,
)
from tape.config import (
    AccountConfig,
    ConfigError,
    FeedConfig,
    GatewayConfig,
    LiveConfig,
    MarketConfig,
    StrategyConfig,
)
from tape.importing import DataWanted, SyntheticWanted
from tape.limits import limits_of, read_limits
from tape.logs import file_of, url_of
from tape.outside import load_outside
from tape.playing import PlayWanted, reader_of
from tape.strategies import load_strategy
from tape.wiring import build, configure

if TYPE_CHECKING:
    from producers.brokers.gateway import GatewaySettings

MS = 1_000_000
SECOND = 1000 * MS
"""Nanoseconds."""
SPECIFIED = ("time", "account_partitions", "market_partitions")
"""What is said of a log when it is made, for good."""


def configured_for(config: LiveConfig, log: LogReader, partition: int) -> Configured:
    """The configuration of a core partition: the strategies inside it, of the accounts that are there.

    Raises `LoadError`.
    """
    partitions = log.partitions(COMMANDS)
    settings = _settings(
        config,
        log_prefix(log.id),
        tuple(
            strategy_setting(s)
            for s in config.strategies
            if s.where == "core" and partition_of(s.account, partitions) == partition
        ),
    )
    return configure(settings, log=log.id, time=log.time, partition=partition)


def exchange_settings(config: LiveConfig, log: LogReader) -> CoreSettings:
    """How the simulated broker fills."""
    return _settings(config, log_prefix(log.id), ())


def _settings(config: LiveConfig, prefix: str, strategies: tuple[StrategySetting, ...]) -> CoreSettings:
    core = config.core
    return CoreSettings(
        log_prefix=prefix,
        simulated=core.simulated,
        mark=core.mark,
        mark_extended=core.mark_extended,
        max_spread=core.max_spread,
        resolution=_resolution(config),
        stale_after=core.stale_after_ms * MS,
        pnl_interval=core.pnl_interval_ms * MS,
        buffer=core.buffer,
        min_change=core.min_change,
        fee=core.fee,
        slippage_bps=core.slippage_bps,
        latency=core.latency_ms * MS,
        size=core.size,
        stop_trigger=core.stop_trigger,
        retain_sessions=core.retain_sessions,
        snapshot_every=core.snapshot_every,
        strategies=strategies,
    )


def _resolution(config: LiveConfig) -> int:
    """Time between two events of the data (ns): as it is set, else that of the files that are played."""
    if config.core.resolution_ms is not None:
        return config.core.resolution_ms * MS
    feed = config.feed
    return RESOLUTIONS[feed.resolution] if feed is not None and feed.data is not None else 0


def strategy_setting(strategy: StrategyConfig) -> StrategySetting:
    """A strategy as `Configured` records it. Raises `LoadError`."""
    loaded = load_strategy(strategy.kind, strategy.params)
    return StrategySetting(
        name=strategy.name,
        kind=strategy.kind,
        version=loaded.version,
        digest=loaded.digest,
        account=strategy.account,
        symbols=strategy.symbols,
        params=strategy.params,
    )


def check(config: LiveConfig) -> None:
    """Refuse what would stop a role later: strategies, limits, data that cannot be had, a log's name.

    Raises `ConfigError`, `LoadError`, `LimitsError`, `DataError`; nothing is written.
    """
    if config.log is not None:
        url_of(config.log)
    if config.feed is not None:
        reader_of(play_of(config.feed))
    for strategy in config.strategies:
        if strategy.where != "core":
            load_outside(strategy)
    check_core(config)


def check_core(config: LiveConfig) -> None:
    """Refuse what would stop the core. Raises `ConfigError`, `LoadError`, `LimitsError`."""
    for account in config.accounts:
        limits_for(account)
    inside = (s for s in config.strategies if s.where == "core")
    settings = _settings(config, "check", tuple(strategy_setting(s) for s in inside))
    try:
        build(configure(settings, log="check", time=config.time, partition=0))
    except (ValueError, TypeError) as problem:
        raise ConfigError(f"strategies: {problem}") from problem


def limits_for(account: AccountConfig) -> Limits:
    """The limits that an account is opened with. Raises `LimitsError`."""
    if isinstance(account.limits, Path):
        return read_limits(account.limits, {})
    return limits_of(account.limits, {}, f"accounts.{account.id}.limits")


def play_of(feed: FeedConfig) -> PlayWanted:
    """What a feed plays."""
    synthetic = SyntheticWanted(feed.seed, feed.rate, feed.volatility, feed.spread)
    data = DataWanted(
        data=() if feed.data is None else (feed.data,),
        symbols=feed.symbols,
        first=feed.first,
        last=feed.last,
        resolution=feed.resolution,
        adjusted=feed.adjusted,
        hours=feed.hours,
        allow_missing=feed.allow_missing,
        synthetic=synthetic if feed.data is None else None,
    )
    speed = float("inf") if feed.speed == "max" else feed.speed
    duration = None if feed.duration_s is None else feed.duration_s * SECOND
    return PlayWanted(data, Pace(speed, feed.keep_times), duration)


def market_settings(config: LiveConfig) -> MarketSettings:
    """What marks and bars are made by. What plays bars of a symbol is its vendor."""
    market, feed = config.market or MarketConfig(), config.feed
    plays_bars = feed is not None and feed.data is not None and feed.resolution != "tick"
    played = feed.symbols if feed is not None and plays_bars else ()
    return MarketSettings(
        mark_interval=market.mark_interval_ms * MS,
        mark_move_bps=market.mark_move_bps,
        mark_extended=market.mark_extended,
        max_spread=market.max_spread,
        periods=tuple(period * SECOND for period in market.periods_s),
        bar_allowance=market.bar_allowance_ms * MS,
        keep=market.keep_s * SECOND,
        vendor_bars=tuple(sorted({*market.vendor_bars, *played})),
        feed_silence=market.feed_silence_s * SECOND,
        symbol_silence=market.symbol_silence_s * SECOND,
        expected={symbol: spacing * MS for symbol, spacing in sorted(market.expected_ms.items())},
    )


def gateway_settings(config: LiveConfig) -> GatewaySettings:
    """What the gateway keeps to."""
    from producers.brokers.gateway import GatewaySettings

    gateway = config.gateway or GatewayConfig()
    return GatewaySettings(max_order_age_s=gateway.max_order_age_s, reconcile_s=gateway.reconcile_every_s)


# ------------------------------------------------------------ the log and its accounts


def open_or_make(config: LiveConfig, url: str) -> EventLog:
    """The log of the configuration, made where there is none.

    Raises `ConfigError` for one of another time or other partitions, `LogUnreachable`.
    """
    log = _opened(url)
    if log is None:
        spec = LogSpec(
            secrets.token_hex(16), config.time, config.account_partitions, config.market_partitions
        )
        if (file := file_of(url)) is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
        try:
            return create_log(url, spec)
        except LogExists:
            log = open_log(url)
    try:
        check_log(config, url, log.spec)
    except ConfigError:
        log.close()
        raise
    return log


def check_log(config: LiveConfig, url: str, found: LogSpec, keys: Collection[str] = SPECIFIED) -> None:
    """Refuse a log of another time or other partitions than the configuration says. Raises `ConfigError`."""
    for key in SPECIFIED:
        wanted, there = getattr(config, key), getattr(found, key)
        if key in keys and wanted != there:
            raise ConfigError(
                f"{key} is {wanted}, and {url} was made with {there}: set it to that, or name another log"
            )


def _opened(url: str) -> EventLog | None:
    try:
        return open_log(url)
    except LogUnreachable:
        raise
    except LogNotFound:
        return None


def open_accounts(config: LiveConfig, log: EventLog) -> list[str]:
    """Ask for the accounts of the configuration that were not asked for yet; their names."""
    new = [a for a in config.accounts if a.id not in set(_asked_for(log))]
    if new:
        ts = _opening_time(config)
        with log.writer(f"operator-{secrets.token_hex(4)}") as writer:
            writer.append([command_record(_opening(account, ts), log) for account in new])
    return [account.id for account in new]


def _asked_for(log: LogReader) -> Iterator[str]:
    for partition in range(log.partitions(COMMANDS)):
        position = log.bounds(COMMANDS, partition)[0]
        while records := log.read(COMMANDS, partition, gte=position):
            position = records[-1].offset + 1
            for record in records:
                command = decode(COMMANDS, record.value)
                if isinstance(command, OpenAccount):
                    yield command.account


def _opening_time(config: LiveConfig) -> int:
    """Now (UTC ns); where data are played on their own time, before their first event."""
    if config.time == "wall":
        return clock.time_ns()
    if config.feed is None:
        return 0
    first: Any = next(iter(reader_of(play_of(config.feed)).events()), None)
    return 0 if first is None else int(first.ts) - 1


def _opening(account: AccountConfig, ts: int) -> OpenAccount:
    is_margin = account.kind == "margin"
    multiplier = account.multiplier or Decimal(2 if is_margin else 1)
    return OpenAccount(
        id=f"open-{account.id}",
        account=account.id,
        ts=ts,
        who="tape up",
        why="the configuration names it",
        cash=account.cash,
        kind=account.kind,
        multiplier=multiplier,
        shorting=is_margin if account.shorting is None else account.shorting,
        fractions=account.fractions,
        limits=limits_for(account),
    )
