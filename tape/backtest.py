"""A backtest: facts into a log, the core over them, a summary out of its state."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from eventlog import EventLog, LogSpec, create_log, last_rows, open_log
from eventlog.errors import LogError, LogFull, LogNotFound, LogUnreachable, WriterBusy
from eventlog.sealing import seal
from eventlog.verify import RollsAlong
from processors.hosts.inprocess import InProcessHost, Progress, core_partition
from processors.pipeline import Pipeline
from producers.contract import Reader
from producers.importer import import_events
from producers.marketdata.leanfeeds import RESOLUTIONS
from producers.operator import command_record
from producers.sessions import Calendar, Session, sessions
from schemas import (
    CoreSettings,
    Event,
    Limits,
    OpenAccount,
    StrategySetting,
    encode,
    evolve,
    log_prefix,
)
from tape.errors import Stopped, WrongInput
from tape.importing import DataWanted, open_reader, resolution_of
from tape.logs import file_of, head_beside, write_heads
from tape.progress import Report, Stage
from tape.settings import changes
from tape.strategies import Loaded, load_strategy
from tape.summary import summarize
from tape.wiring import build, configure, identity

ACCOUNT = "backtest"
LOG_NAME = "log.sqlite"
LOOK_EVERY = 5000
"""Events of an import between two looks at whether to stop."""
HEAD_EVERY_S = 1.0
"""At least so long between two writings of LOG.head, after a day has ended, while a run goes on."""
DAY_NS = RESOLUTIONS["daily"]


class BacktestError(WrongInput):
    """A backtest that cannot be run as asked; nothing was written."""


@dataclass(frozen=True)
class Wanted:
    """What the user asked for."""

    data: DataWanted
    strategy: str
    params: dict[str, str]
    cash: Decimal
    settings: CoreSettings
    limits: Limits
    kind: str
    multiplier: Decimal
    shorting: bool
    fractions: bool
    log: str | None
    out: Path | None
    resume: bool
    take_over: bool


@dataclass
class Plan:
    """A backtest that has been checked and can be run: nothing is written yet."""

    wanted: Wanted
    reader: Reader
    settings: CoreSettings
    opening: OpenAccount
    log_id: str
    events: int
    """How many there are in the data."""


def plan(wanted: Wanted, report: Report, stop: Callable[[], bool]) -> Plan:
    """Check everything that can be checked before anything is written.

    Raises `DataError`, `LoadError` and `BacktestError`, which name what is wrong, and `Stopped`.
    """
    loaded = load_strategy(wanted.strategy, wanted.params)
    reader = open_reader(wanted.data)

    def progress(done: int, total: int) -> None:
        report(Stage("check", done, total))
        if stop():
            raise Stopped("stopped while checking the data; nothing was written")

    events = reader.check(progress)
    settings = _settings(wanted, loaded, reader)
    opening = _opening(wanted, _day_of(next(reader.events())))
    log_id = identity(settings, reader.source.encode(), encode(opening))
    settings = evolve(settings, log_prefix=log_prefix(log_id))
    try:
        build(configure(settings, log=log_id, time="data", partition=0))
    except (ValueError, TypeError) as problem:
        raise BacktestError(str(problem)) from problem
    return Plan(wanted, reader, settings, opening, log_id, events)


def _settings(wanted: Wanted, loaded: Loaded, reader: Reader) -> CoreSettings:
    strategy = StrategySetting(
        name=wanted.strategy.rpartition(":")[2] or wanted.strategy,
        kind=_kind(wanted.strategy),
        version=loaded.version,
        digest=loaded.digest,
        account=ACCOUNT,
        symbols=wanted.data.symbols,
        params=wanted.params,
    )
    return evolve(
        wanted.settings,
        strategies=(strategy,),
        resolution=resolution_of(wanted.data, reader),
        mark_extended=wanted.data.hours == "extended",
    )


def _day_of(event: Any) -> Session:
    """The session on or after the day of an event."""
    day = Calendar().day(event.ts)
    return sessions(day, day + timedelta(days=14))[0]


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
    if wanted.log is not None:
        return wanted.log
    if wanted.out is not None:
        return f"sqlite:{wanted.out / LOG_NAME}"
    runs = Path("runs")
    mine = sorted(runs.glob(f"*-{made.log_id[:12]}/{LOG_NAME}"))
    return f"sqlite:{mine[-1] if wanted.resume and mine else _new_run(made) / LOG_NAME}"


def _new_run(made: Plan) -> Path:
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    return Path("runs") / f"{stamp}-{made.log_id[:12]}"


def _head(made: Plan, url: str) -> Path:
    """Where the run's head is written: beside a log's file, else in the run's folder."""
    file = file_of(url)
    return head_beside(file if file is not None else (made.wanted.out or _new_run(made)) / "log")


def run(made: Plan, report: Report, stop: Callable[[], bool]) -> dict[str, Any]:
    """Run a planned backtest and sum it up. Raises `Stopped` after the batch in which `stop` says so.

    One process at a time: raises `BacktestError` while another holds the log.
    """
    started = time.perf_counter()
    url = log_url(made)
    head = _head(made, url)
    with _open(made, url) as log, _says_how_to_go_on(url):
        try:
            holder = log.writer("backtest", take_over=made.wanted.take_over)
        except WriterBusy as busy:
            raise BacktestError(f"{busy} (--take-over)") from busy
        sealed = None
        with holder:
            try:
                _bring_in_facts(made, log, report, stop)
                pipeline = _decide(made, log, head, report, stop)
            finally:
                if isinstance(log, RollsAlong):
                    write_heads(log, head)
            if not isinstance(log, RollsAlong):
                sealed = seal(log, holder)
                write_heads(log, head, sealed)
        account = pipeline.accounts.desk.accounts[ACCOUNT]
        summary = summarize(account, made.wanted.limits, log, sealed)
    summary["head"] = str(head.resolve())
    return {**summary, "seconds": round(time.perf_counter() - started, 3)}


@contextmanager
def _says_how_to_go_on(url: str) -> Iterator[None]:
    """Where the store fails under a run: what was committed stands."""
    try:
        yield
    except LogFull as full:
        raise LogFull(
            f"{url} has no room left; what was committed stands: make room, and go on with --resume"
        ) from full
    except LogError as problem:
        if type(problem) not in (LogError, LogUnreachable):
            raise
        raise LogError(f"{problem}; what was committed stands: go on with --resume") from problem


def _open(made: Plan, url: str) -> EventLog:
    """The log of the run: a new one, or the one to go on with. Raises `BacktestError`."""
    log = _existing(url)
    option = "--out" if made.wanted.log is None else "--log"
    if log is None:
        _make_folder(url, option)
        return create_log(url, LogSpec(id=made.log_id, time="data"))
    name = url.removeprefix("sqlite:")
    if not made.wanted.resume:
        log.close()
        raise BacktestError(f"{name} exists; add --resume to go on with it, or name another {option}")
    if log.id == made.log_id:
        return log
    with log:
        other = changes(log, core_partition(log, ACCOUNT), made.settings, made.opening)
    raise BacktestError(
        f"{name} was begun with other settings or data ({other}); repeat what it was begun with, "
        f"or name another {option}"
    )


def _existing(url: str) -> EventLog | None:
    file = file_of(url)
    if file is not None:
        return open_log(url) if file.exists() else None
    try:
        return open_log(url)
    except LogUnreachable:
        raise
    except LogNotFound:
        return None


def _make_folder(url: str, option: str) -> None:
    file = file_of(url)
    if file is None:
        return
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise BacktestError(
            f"{file.parent} cannot be made: {problem.strerror}; name another {option}"
        ) from problem


def _bring_in_facts(made: Plan, log: EventLog, report: Report, stop: Callable[[], bool]) -> None:
    topic, partition = "operator.commands", core_partition(log, ACCOUNT)

    def watched() -> Iterator[Event]:
        for done, event in enumerate(made.reader.events()):
            if done % LOOK_EVERY == 0:
                report(Stage("import", done, made.events))
                if stop():
                    raise Stopped(f"{log.url}: stopped while importing; go on with --resume")
            yield event
        report(Stage("import", made.events, made.events))

    with log.writer("import", take_over=made.wanted.take_over) as writer:
        if not log.read(topic, partition, gte=0, limit=1):
            writer.append([command_record(made.opening, log)])
        done = last_rows(log, made.reader.source)
        import_events(watched(), log, writer, source=made.reader.source, done=done)


def _decide(made: Plan, log: EventLog, head: Path, report: Report, stop: Callable[[], bool]) -> Pipeline:
    day, written, asked = 0, time.monotonic(), False

    def progress(p: Progress) -> None:
        nonlocal day, written
        report(Stage("run", p.taken, p.total, p.now))
        due = p.now // DAY_NS > day and time.monotonic() - written >= HEAD_EVERY_S
        if due and isinstance(log, RollsAlong):
            write_heads(log, head)
            day, written = p.now // DAY_NS, time.monotonic()

    def stopping() -> bool:
        nonlocal asked
        asked = asked or stop()
        return asked

    partition = core_partition(log, ACCOUNT)
    configured = configure(made.settings, log=log.id, time=log.time, partition=partition)
    host = InProcessHost(log, partition, configured, build, take_over=made.wanted.take_over)
    ran = host.run(progress, stopping)
    if asked:
        raise Stopped(f"{log.url}: stopped after a batch; go on with --resume")
    return ran.pipeline
