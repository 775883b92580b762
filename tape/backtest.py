"""A backtest: facts into a log, the core over them, a summary out of its state."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

from eventlog import EventLog, LogSpec, create_log, fingerprint, heads, last_rows, open_log
from eventlog.errors import LogError
from processors.account.account import Account
from processors.account.books import NET
from processors.hosts.inprocess import InProcessHost, Progress, core_partition
from processors.pipeline import Pipeline
from producers.importer import Imported, import_events
from producers.marketdata.lean import LeanReader
from producers.operator import command_record
from producers.sessions import Session, sessions
from schemas import (
    TOPICS,
    CoreSettings,
    Limits,
    OpenAccount,
    StrategySetting,
    decode,
    encode,
    evolve,
    log_prefix,
    plain,
    quotient,
)
from tape.strategies import load_strategy
from tape.wiring import build, configure, identity

ACCOUNT = "backtest"
NANOS = {"minute": 60_000_000_000, "second": 1_000_000_000}
LOG_NAME = "log.sqlite"


class BacktestError(Exception):
    """A backtest that cannot be run as asked; nothing was written."""


class Stopped(Exception):
    """The user asked to stop; what was committed stands and can be resumed."""


@dataclass(frozen=True)
class Wanted:
    """What the user asked for."""

    data: Path
    symbols: tuple[str, ...]
    first: date
    last: date
    resolution: str
    strategy: str
    params: dict[str, str]
    cash: Decimal
    settings: CoreSettings
    limits: Limits
    kind: str
    multiplier: Decimal
    shorting: bool
    fractions: bool
    adjusted: bool
    hours: Literal["regular", "extended"]
    allow_missing: bool
    out: Path | None
    resume: bool


@dataclass(frozen=True)
class Stage:
    """Progress of a run: which part, how much of how much."""

    name: str
    done: int
    total: int | None
    now: int = 0


Report = Callable[[Stage], None]


@dataclass
class Plan:
    """A backtest that has been checked and can be run: nothing is written yet."""

    wanted: Wanted
    reader: LeanReader
    settings: CoreSettings
    opening: OpenAccount
    log_id: str
    days: list[Session]


def plan(wanted: Wanted) -> Plan:
    """Check everything that can be checked before anything is written.

    Raises `DataError`, `LoadError`, `ValueError` and `BacktestError`, which name what is wrong.
    """
    loaded = load_strategy(wanted.strategy, wanted.params)
    name = wanted.strategy.rpartition(":")[2] or wanted.strategy
    setting = StrategySetting(
        name=name,
        kind=_kind(wanted.strategy),
        version=loaded.version,
        digest=loaded.digest,
        account=ACCOUNT,
        symbols=wanted.symbols,
        params=wanted.params,
    )
    settings = evolve(
        wanted.settings,
        strategies=(setting,),
        resolution=NANOS[wanted.resolution],
        mark_extended=wanted.hours == "extended",
    )
    reader = LeanReader(
        wanted.data,
        wanted.symbols,
        wanted.first,
        wanted.last,
        resolution=wanted.resolution,
        adjusted=wanted.adjusted,
        hours=wanted.hours,
        allow_missing=wanted.allow_missing,
    )
    reader.check()
    days = sessions(wanted.first, wanted.last)
    opening = _opening(wanted, days[0])
    log_id = identity(settings, reader.source.encode(), encode(opening))
    settings = evolve(settings, log_prefix=log_prefix(log_id))
    made = Plan(wanted, reader, settings, opening, log_id, days)
    build(configure(settings, log=log_id, time="data", partition=0))
    return made


def _kind(strategy: str) -> str:
    """The strategy as it can be found again from any folder."""
    file, colon, name = strategy.rpartition(":")
    return f"{Path(file).resolve()}:{name}" if colon else strategy


def _opening(wanted: Wanted, first: Session) -> OpenAccount:
    return OpenAccount(
        id="open-backtest",
        account=ACCOUNT,
        ts=first.extended_open - 1,
        who="tape backtest",
        why="starting cash",
        cash=wanted.cash,
        kind=wanted.kind,  # type: ignore[arg-type]  # text in the fast codec
        multiplier=wanted.multiplier,
        shorting=wanted.shorting,
        fractions=wanted.fractions,
        limits=wanted.limits,
    )


def log_url(made: Plan) -> str:
    """Where the log stands, or will stand. Raises `BacktestError` where one stands in the way."""
    wanted = made.wanted
    if wanted.out is not None:
        file = wanted.out / LOG_NAME
        if file.exists() and not wanted.resume:
            raise BacktestError(f"{file} exists; add --resume to go on with it, or name another --out")
        return f"sqlite:{file}"
    runs = Path("runs")
    mine = sorted(runs.glob(f"*-{made.log_id[:12]}"))
    if wanted.resume and mine:
        return f"sqlite:{mine[-1] / LOG_NAME}"
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    return f"sqlite:{runs / f'{stamp}-{made.log_id[:12]}' / LOG_NAME}"


def run(made: Plan, report: Report, stop: Callable[[], bool]) -> dict[str, Any]:
    """Run a planned backtest and sum it up. Raises `Stopped` after the batch in which `stop` says so."""
    started = time.perf_counter()
    url = log_url(made)
    file = Path(url.removeprefix("sqlite:"))
    file.parent.mkdir(parents=True, exist_ok=True)
    spec = LogSpec(id=made.log_id, time="data")
    log = open_log(url, expect=spec) if file.exists() else create_log(url, spec)
    with log:
        try:
            _bring_in_facts(made, log, report, stop)
            pipeline = _decide(made, log, report, stop)
        finally:
            write_heads(log, file)
        summary = summarize(made, log, pipeline)
    summary["seconds"] = round(time.perf_counter() - started, 3)
    return summary


def _bring_in_facts(made: Plan, log: EventLog, report: Report, stop: Callable[[], bool]) -> None:
    topic, partition = "operator.commands", core_partition(log, ACCOUNT)

    def progress(counts: Imported) -> None:
        report(Stage("import", counts.total, None))
        if stop():
            raise Stopped(f"{log.url}: stopped while importing")

    with log.writer("import", take_over=made.wanted.resume) as writer:
        first, end = log.bounds(topic, partition)
        if first == end:
            writer.append([command_record(made.opening, log)])
        import_events(
            made.reader.events(),
            log,
            writer,
            source=made.reader.source,
            done=last_rows(log, made.reader.source),
            progress=progress,
        )


def _decide(made: Plan, log: EventLog, report: Report, stop: Callable[[], bool]) -> Pipeline:
    def progress(p: Progress) -> None:
        report(Stage("run", p.taken, p.total, p.now))

    partition = core_partition(log, ACCOUNT)
    configured = configure(made.settings, log=log.id, time=log.time, partition=partition)
    host = InProcessHost(log, partition, configured, build, take_over=made.wanted.resume)
    asked = False

    def stopping() -> bool:
        nonlocal asked
        asked = asked or stop()
        return asked

    ran = host.run(progress, stopping)
    if asked:
        raise Stopped(f"{log.url}: stopped while running")
    return ran.pipeline


def write_heads(log: EventLog, file: Path) -> None:
    """Write LOG.head beside the log: what a copy kept elsewhere tells a truncated tail by."""
    try:
        text = json.dumps(heads(log), indent=1, sort_keys=True)
    except LogError:
        return
    temporary = file.with_name(f"{file.name}.head.new")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(file.with_name(f"{file.name}.head"))


def summarize(made: Plan, log: EventLog, pipeline: Pipeline) -> dict[str, Any]:
    """The run in figures; money as text, exact."""
    account = pipeline.accounts.desk.accounts[ACCOUNT]
    counts = _count(log)
    return {
        "end_equity": _money(account.equity),
        "cash": _money(account.cash),
        "realized": _money(account.realized),
        "unrealized": _money(account.unrealized),
        "fees": _money(account.fees),
        "income": _money(account.income),
        "receivables": _money(account.receivables),
        "start_cash": _money(account.starting),
        "return": _money(_gain(account)),
        "orders": counts["OrderRequested"],
        "denied": counts["OrderDenied"],
        "fills": counts["Fill"],
        "breaches": counts["LimitBreached"],
        "breaker": account.state,
        "reasons": list(account.breaker.reasons),
        "unpriced": list(account.unpriced),
        "positions": _positions(account),
        "limits": made.wanted.limits,
        "events": counts["events"],
        "log": log.url,
        "log_id": log.id,
        "fingerprint": fingerprint(log),
    }


def _gain(account: Account) -> Decimal | None:
    equity = account.equity
    return None if equity is None or not account.starting else quotient(equity, account.starting) - 1


def _money(value: Decimal | None) -> str | None:
    return None if value is None else plain(value)


def _positions(account: Account) -> list[dict[str, Any]]:
    rows = []
    for symbol, holding in sorted(account.holdings.items()):
        book = holding.ledger.books[NET]
        rows.append(
            {
                "symbol": symbol,
                "quantity": plain(book.quantity),
                "average": _money(book.average),
                "mark": _money(holding.mark),
                "tier": holding.tier,
                "realized": plain(book.realized),
                "unrealized": _money(holding.value - book.cost if holding.mark is not None else None)
                if book.quantity
                else "0",
                "fees": plain(book.fees),
                "income": plain(book.income),
            }
        )
    return rows


def _count(log: EventLog) -> dict[str, int]:
    """How many events of the kinds that a summary names, and how many records in all."""
    counts = dict.fromkeys(("OrderRequested", "OrderDenied", "Fill", "LimitBreached"), 0)
    counts["events"] = 0
    for topic in TOPICS:
        for partition in range(log.partitions(topic)):
            first, end = log.bounds(topic, partition)
            counts["events"] += end - first
            if topic not in ("orders", "fills", "risk.breaches"):
                continue
            position = first
            while records := log.read(topic, partition, gte=position):
                for record in records:
                    name = type(decode(topic, record.value)).__name__
                    if name in counts:
                        counts[name] += 1
                position = records[-1].offset + 1
    return counts
