"""The configuration of the live plane: a TOML file, with the environment over it.

Variables are named after their keys: TAPE_LOG, TAPE_POSTGRES_DSN, TAPE_CORE__FEE; lists and tables are
JSON. Relative paths in the file are relative to the file's folder. What cannot be used is refused with
`ConfigError`, before anything is written.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable, Mapping
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, SettingsError

from eventlog.urls import is_kafka
from tape.errors import WrongInput
from tape.limits import DIGITS_MAX, fits

PREFIX = "TAPE_"
SIMULATED_BROKER = "http://127.0.0.1:9160"


class ConfigError(WrongInput):
    """A configuration that cannot be used; the message names the key and the remedy."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*")
    @classmethod
    def _has_few_digits(cls, value: Any) -> Any:
        if isinstance(value, Decimal) and not fits(value):
            raise ValueError(
                f"it has more than {DIGITS_MAX[0]} digits before or {DIGITS_MAX[1]} after the point"
            )
        return value


Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,23}$")]
Milliseconds = Annotated[int, Field(ge=0, le=86_400_000)]
Seconds = Annotated[float, Field(gt=0, le=86_400)]
Partitions = Annotated[int, Field(ge=1, le=64)]
Share = Annotated[Decimal, Field(ge=0, lt=1)]
Symbols = Annotated[tuple[str, ...], Field(min_length=1)]


class CoreConfig(_Section):
    """What decisions depend on besides the facts; a change begins an epoch."""

    simulated: bool = Field(
        default=True,
        description="The exchange is simulated inside the core; false: orders go out by the gateway.",
    )
    mark: Literal["side", "mid", "last"] = Field(
        default="side",
        description="Value longs at the bid and shorts at the ask, or all at mid, or at the last trade.",
    )
    mark_extended: bool = Field(default=False, description="Whether quotes outside regular hours mark too.")
    max_spread: Share = Field(
        default=Decimal("0.05"), description="A quote marks up to this spread, a share of mid."
    )
    resolution_ms: Milliseconds | None = Field(
        default=None,
        description="Time between two events of the data: what is silent for three of it is stale. By "
        "default that of the files that `[feed]` plays.",
    )
    stale_after_ms: Milliseconds = Field(
        default=60_000, description="What is held is stale after so long without a quote, in session."
    )
    pnl_interval_ms: Milliseconds = Field(
        default=100, description="Market time between two PnL of an account."
    )
    buffer: Share = Field(default=Decimal("0.0025"), description="Share of equity that sizing leaves alone.")
    min_change: Share = Field(
        default=Decimal("0.001"), description="Share of equity below which a target makes no order."
    )
    fee: str = Field(
        default="none",
        description="`none`, `bps:X`, `per-share:X:MIN` or `alpaca`: what orders are expected to cost.",
    )
    slippage_bps: Annotated[Decimal, Field(ge=0, lt=10_000)] = Field(
        default=Decimal(0), description="Simulated exchange: basis points lost by who takes."
    )
    latency_ms: Milliseconds = Field(
        default=0, description="Simulated exchange: from decision to exchange, in market time."
    )
    size: Literal["full", "displayed"] = Field(
        default="full", description="Simulated exchange: fill in full, or no more than what is displayed."
    )
    stop_trigger: Literal["trade", "quote"] = Field(
        default="trade", description="What triggers stops on ticks."
    )
    retain_sessions: Annotated[int, Field(ge=1, le=1000)] = Field(
        default=3, description="Sessions after which a closed order leaves the core's state."
    )
    snapshot_every: Annotated[int, Field(ge=1)] = Field(
        default=25_000, description="Inputs from one snapshot to the next: what a restart replays at most."
    )

    @field_validator("fee")
    @classmethod
    def _is_a_fee(cls, value: str) -> str:
        from processors.fees import fee_model

        fee_model(value)
        return value


class AccountConfig(_Section):
    """An account of the log. It is opened once; later changes of these keys need operator commands."""

    id: Name = Field(description="Its name, for good: letters, digits, `_`, `.`, `-`; at most 24.")
    cash: Annotated[Decimal, Field(gt=0)] = Field(description="Starting cash, dollars.")
    kind: Literal["cash", "margin"] = Field(
        default="margin", description="A cash account neither borrows nor sells short."
    )
    multiplier: Annotated[Decimal, Field(gt=0)] | None = Field(
        default=None, description="Gross exposure allowed, in multiples of equity; 2, of a cash account 1."
    )
    shorting: bool | None = Field(
        default=None, description="Whether it may sell short; a margin account may."
    )
    fractions: bool = Field(default=False, description="Allow fractions of a share (millionths).")
    limits: Path | dict[str, Any] = Field(
        default={}, description="A table of limits, or the name of a TOML file with them: see the reference."
    )

    @model_validator(mode="after")
    def _can_be_opened(self) -> Self:
        if self.kind == "cash" and self.shorting:
            raise ValueError('a cash account cannot sell short: leave out shorting, or set kind = "margin"')
        return self


class StrategyConfig(_Section):
    """A strategy that trades for one account."""

    name: Name = Field(description="Its name in signals, books and reports.")
    kind: str = Field(description="A built-in strategy, or FILE.py:Class.")
    account: Name = Field(description="The account it trades for.")
    symbols: Symbols = Field(description="What it trades.")
    params: dict[str, str] = Field(default={}, description="Its parameters.")
    where: Literal["core", "faust", "transactional"] = Field(
        default="core",
        description="Inside the core, or outside it, on Faust or in a process with transactions.",
    )

    @field_validator("symbols")
    @classmethod
    def _upper(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return _symbols(value)

    @field_validator("params", mode="before")
    @classmethod
    def _as_text(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        return {name: _text(given) for name, given in value.items()}


class FeedConfig(_Section):
    """Market data to be played: a LEAN folder, a log, or a synthetic market."""

    data: str | None = Field(
        default=None, description="A folder in LEAN's layout, or a log; none: a synthetic market."
    )
    symbols: Symbols = Field(description="What is played.")
    first: date | None = Field(
        default=None, alias="from", description="First day; a synthetic market needs none."
    )
    last: date | None = Field(default=None, alias="to", description="Last day, inclusive.")
    duration_s: Annotated[int, Field(ge=1)] | None = Field(
        default=None, description="Synthetic, without days: how long it lasts; a session."
    )
    speed: Annotated[float, Field(ge=1)] | Literal["max"] = Field(
        default=1, description="How fast, in times of real; on wall time always 1."
    )
    keep_times: bool = Field(
        default=False, description="At speed 1, keep the data's times instead of shifting them to now."
    )
    resolution: Literal["tick", "second", "minute", "daily"] = Field(
        default="minute", description="Which files of a LEAN folder."
    )
    adjusted: bool = Field(default=False, description="Adjust LEAN's prices for splits and dividends.")
    hours: Literal["regular", "extended"] = Field(
        default="regular", description="The regular session, or all."
    )
    allow_missing: bool = Field(
        default=False, description="Go on where a LEAN folder lacks a session's file."
    )
    seed: int = Field(default=1, description="Synthetic: the same seed, the same market.")
    rate: Annotated[float, Field(gt=0)] = Field(
        default=1.0, description="Synthetic: quotes a second of market time."
    )
    volatility: Annotated[float, Field(ge=0)] = Field(
        default=0.2, description="Synthetic: of a year's return."
    )
    spread: Annotated[float, Field(gt=0)] = Field(
        default=2.0, description="Synthetic: basis points of the price."
    )

    @field_validator("symbols")
    @classmethod
    def _upper(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return _symbols(value)

    @model_validator(mode="after")
    def _has_days(self) -> Self:
        if (self.first is None) != (self.last is None):
            raise ValueError("from and to go together: give both")
        if self.first is not None and self.last is not None and self.last < self.first:
            raise ValueError("to is before from: exchange them")
        if self.duration_s is not None and (self.data is not None or self.first is not None):
            raise ValueError("duration_s is of a synthetic market without days: leave it out")
        return self


class MarketConfig(_Section):
    """Marks, bars and gaps made of quotes and trades; the table alone, even empty, names the role."""

    mark_interval_ms: Milliseconds = Field(default=100, description="Time between two marks of a symbol.")
    mark_move_bps: Annotated[Decimal, Field(ge=0)] = Field(
        default=Decimal(5), description="A move beyond so many basis points is shown at once."
    )
    mark_extended: bool = Field(default=False, description="Whether quotes outside regular hours mark too.")
    max_spread: Share = Field(
        default=Decimal("0.05"), description="A quote marks up to this spread, a share of mid."
    )
    periods_s: Annotated[tuple[Annotated[int, Field(ge=1, le=86_400)], ...], Field(min_length=1)] = Field(
        default=(1, 60), description="Lengths of the bars that are made."
    )
    bar_allowance_ms: Milliseconds = Field(
        default=0, description="How long after its end a bar waits for late trades."
    )
    keep_s: Annotated[int, Field(ge=1)] = Field(
        default=3600, description="How long after its end a bar can be revised."
    )
    vendor_bars: tuple[str, ...] = Field(
        default=(),
        description="Symbols whose bars a vendor brings: none are made; `*` is every symbol. Those whose "
        "bars `[feed]` plays are among them.",
    )
    feed_silence_s: Annotated[int, Field(ge=1)] = Field(
        default=5, description="How long a feed may say nothing in session."
    )
    symbol_silence_s: Annotated[int, Field(ge=1)] = Field(
        default=60, description="How long a symbol of `expected_ms` may, at least."
    )
    expected_ms: dict[str, Annotated[int, Field(ge=1)]] = Field(
        default={}, description="Symbols that are watched for gaps, each with the spacing expected of it."
    )


class AlertsConfig(_Section):
    """Alerts into topic `alerts`, and from there; the table alone, even empty, names the role.

    The webhook's token, if it wants one, stands in the environment: `TAPE_ALERTS_TOKEN`.
    """

    rules: Annotated[tuple[Literal["breaker", "orders", "roles", "feed"], ...], Field(min_length=1)] = Field(
        default=("breaker", "orders", "roles", "feed"), description="Which rules hold."
    )
    host: Literal["faust", "transactional"] = Field(
        default="transactional", description="Run them on Faust, or in a process with transactions."
    )
    silent_s: Annotated[int, Field(ge=1)] = Field(
        default=30, description="Rule `roles`: a role is silent after so long, while others are heard."
    )
    behind: Annotated[int, Field(ge=0)] = Field(
        default=10_000, description="Rule `roles`: it is late with more than so many records to read,"
    )
    behind_s: Annotated[int, Field(ge=0)] = Field(default=30, description="for so long.")
    file: Path | None = Field(default=None, description="A file that gets each alert, a JSON object a line.")
    webhook: str | None = Field(
        default=None, pattern=r"^https?://", description="A URL that each alert is posted to, as JSON."
    )
    places: Path = Field(
        default=Path("runs/alerts"), description="The folder that keeps how far file and webhook have come."
    )


class BrokerConfig(_Section):
    """Where the gateway sends orders. The simulated broker knows the accounts of this configuration."""

    adapter: Literal["sim"] = Field(default="sim", description="Which broker: the simulated one.")
    url: str = Field(
        default=SIMULATED_BROKER,
        pattern=r"^http://[^/@\s:]+:\d{1,5}$",
        description="Where it answers, `http://HOST:PORT`; the simulated one listens on that port.",
    )
    listen: str = Field(default="127.0.0.1", description="The address that the simulated one listens on.")
    folder: Path = Field(
        default=Path("runs/broker-sim"),
        description="Where the simulated one keeps its books, in a folder for each log.",
    )
    faults: dict[str, str] = Field(
        default={},
        description="What the simulated one does wrong: a fault's name, and a probability (`0.05`) or how "
        "often (`2x`).",
    )


class GatewayConfig(_Section):
    """What the gateway keeps to; the table may be left out."""

    max_order_age_s: Seconds = Field(
        default=2.0,
        description="How old an order that adds risk may be when it leaves, on a log on wall time; an older "
        "one is not sent.",
    )
    reconcile_every_s: Seconds = Field(
        default=10.0, description="From one look at the broker's books to the next."
    )


class LiveConfig(BaseSettings):
    """All of it; see `load`."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_nested_delimiter="__", extra="forbid", frozen=True, hide_input_in_errors=True
    )

    log: str | None = Field(default=None, description="sqlite:PATH or kafka://HOST:PORT/NAME.")
    time: Literal["wall", "data"] = Field(
        default="wall", description="The log's time, for good: the clock's, or that of data which are played."
    )
    account_partitions: Partitions = Field(
        default=4,
        description="Of a log that is made: partitions of accounts, each with a core process of its own.",
    )
    market_partitions: Partitions = Field(
        default=4, description="Of a log that is made: partitions of market data."
    )
    postgres_dsn: str | None = Field(
        default=None,
        description="A Postgres server for the read model, postgresql://USER@HOST:PORT/DATABASE.",
    )
    commit_ms: Annotated[int, Field(ge=1, le=1000)] = Field(
        default=20, description="How long the core gathers decisions for one commit."
    )
    wait_ms: Annotated[int, Field(ge=0, le=10_000)] = Field(
        default=50, description="How long the core waits for a market input that is silent."
    )
    core: CoreConfig = CoreConfig()
    accounts: tuple[AccountConfig, ...] = ()
    strategies: tuple[StrategyConfig, ...] = ()
    feed: FeedConfig | None = None
    market: MarketConfig | None = None
    alerts: AlertsConfig | None = None
    broker: BrokerConfig | None = None
    gateway: GatewayConfig | None = None

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment goes over the file."""
        return env_settings, init_settings

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        _require_once("accounts", "id", [a.id for a in self.accounts])
        _require_once("strategies", "name", [s.name for s in self.strategies])
        known = {a.id for a in self.accounts}
        for strategy in self.strategies:
            if strategy.account not in known:
                raise ValueError(
                    f"strategies: {strategy.name} trades for '{strategy.account}', and there are "
                    f"{', '.join(sorted(known)) or 'no'} [[accounts]]: add it, or name another"
                )
        feed = self.feed
        if self.time == "wall" and feed is not None and (feed.speed != 1 or feed.keep_times):
            raise ValueError(
                'feed: on wall time the time is now: leave out speed and keep_times, or set time = "data"'
            )
        if self.core.simulated and self.broker is not None:
            raise ValueError(
                "core.simulated is true, and there is a [broker]: set it to false for orders to go there, or "
                "leave out [broker]"
            )
        if self.core.simulated and self.gateway is not None:
            raise ValueError(
                "core.simulated is true, and there is a [gateway]: leave it out, or set simulated to "
                "false, and add a [broker]"
            )
        if not self.core.simulated and self.broker is None:
            raise ValueError('core.simulated is false, and there is no [broker]: add one, adapter = "sim"')
        return self


def _symbols(given: Iterable[str]) -> tuple[str, ...]:
    symbols = tuple(s.strip().upper() for s in given)
    if not all(symbols) or "*" in symbols:
        raise ValueError('name symbols, as in ["SPY", "IBM"]')
    if len(set(symbols)) != len(symbols):
        raise ValueError("name each symbol once")
    return symbols


def _text(value: Any) -> Any:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _require_once(section: str, key: str, names: list[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"{section}: {key} '{twice[0]}' is given twice; name each once")


# ------------------------------------------------------------ reading


def load(file: Path | None, *, log: str | None = None, postgres_dsn: str | None = None) -> LiveConfig:
    """The configuration of a file and the environment; what is given here goes over both.

    Without a file: defaults. Raises `ConfigError`.
    """
    where = "the configuration" if file is None else str(file)
    over = {"log": log, "postgres_dsn": postgres_dsn}
    try:
        made = LiveConfig(**({} if file is None else _read(file)))
        given = {key: value for key, value in over.items() if value is not None}
        return made.model_copy(update=given)
    except ValidationError as problem:
        raise ConfigError(f"{where}: {_said(problem)}") from None
    except SettingsError as problem:
        raise ConfigError(f"the environment: {problem}; lists and tables are written as JSON") from None


def _read(file: Path) -> dict[str, Any]:
    try:
        table = tomllib.loads(file.read_text(encoding="utf-8"), parse_float=Decimal)
    except OSError as problem:
        raise ConfigError(f"{file} cannot be read: {problem.strerror}; name another with --config") from None
    except (ValueError, ArithmeticError) as problem:
        raise ConfigError(f"{file} is not TOML: {problem}") from None
    return _with_paths(table, file.resolve().parent)


def _with_paths(table: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The file's table, its relative paths as they are from anywhere."""

    def at(section: Any, key: str) -> None:
        text = section.get(key) if isinstance(section, dict) else None
        if isinstance(text, str) and not is_kafka(text):
            scheme = "sqlite:" if text.startswith("sqlite:") else ""
            section[key] = f"{scheme}{folder / text.removeprefix(scheme)}"

    at(table, "log")
    at(table.get("feed"), "data")
    at(table.get("broker"), "folder")
    at(table.get("alerts"), "file")
    at(table.get("alerts"), "places")
    for account in _tables(table, "accounts"):
        at(account, "limits")
    for strategy in _tables(table, "strategies"):
        if ".py" in str(strategy.get("kind")):
            at(strategy, "kind")
    return table


def _tables(table: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    found = table.get(key)
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def _said(problem: ValidationError) -> str:
    """The first thing that is wrong: its key, and what to do. No value is shown: one may be secret."""
    first = problem.errors(include_input=False, include_url=False)[0]
    place, kind = first["loc"], first["type"]
    key = ".".join(str(part + 1) if isinstance(part, int) else part for part in place if part != "path")
    if kind == "extra_forbidden":
        return f"there is no key {key}{_near(place)}"
    if kind == "missing":
        return f"{key} is missing; add it"
    message = first["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
    if kind == "string_pattern_mismatch":
        message = f"it must be like {first['ctx']['pattern']}" if "ctx" in first else message
    message = message.replace("Input should be", "it must be").replace("a valid decimal", "a number")
    message = message.replace("a valid integer", "a whole number").replace("a valid boolean", "true or false")
    message = message.replace("a valid tuple", "a list").replace("a valid string", "text")
    return f"{key}: {message}" if key else message


def _near(place: tuple[int | str, ...]) -> str:
    """What may have been meant by the last part of a place, and all that there is."""
    keys = list(_keys(LiveConfig, [part for part in place[:-1] if isinstance(part, str)]))
    near = difflib.get_close_matches(str(place[-1]), keys, n=1)
    return f"; did you mean {near[0]}?" if near else f"; there are {', '.join(keys)}"


def _keys(model: type[BaseModel], path: list[str]) -> list[str]:
    for name in path:
        section = SECTIONS.get(name)
        if section is not None:
            model = section
    return [field.alias or name for name, field in model.model_fields.items()]


SECTIONS: dict[str, type[BaseModel]] = {
    "core": CoreConfig,
    "accounts": AccountConfig,
    "strategies": StrategyConfig,
    "feed": FeedConfig,
    "market": MarketConfig,
    "alerts": AlertsConfig,
    "broker": BrokerConfig,
    "gateway": GatewayConfig,
}
"""The tables of the file by their names."""


def shown(config: LiveConfig) -> dict[str, Any]:
    """The configuration as JSON may show it: without passwords, and what else opens a door."""
    table = config.model_dump(mode="json", by_alias=True)
    if config.postgres_dsn:
        from projections.postgres.projector import shown_dsn

        table["postgres_dsn"] = shown_dsn(config.postgres_dsn)
    if config.alerts is not None and config.alerts.webhook is not None:
        table["alerts"]["webhook"] = _shown_url(config.alerts.webhook)
    return table


def _shown_url(url: str) -> str:
    """Scheme and host of a URL: a token may stand before the host, in the path or in the query."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}/..."
