"""Logs that a core has run over, or is to run over: a busy market, noisy strategies, one call a step.

with busy_log(tmp_path) as log:
    run(log, SETTINGS)
    assert verified(log).difference is None
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from functools import lru_cache
from pathlib import Path
from random import Random
from typing import Any

from eventlog import EventLog, LogReader, LogSpec, Writer, create_log
from processors.hosts.inprocess import InProcessHost, Progress, Ran, core_partition
from processors.hosts.merge import Merge, input_streams
from processors.hosts.verify import Derived, derive
from processors.pipeline import Pipeline
from producers.importer import import_events
from producers.operator import command_record
from schemas import (
    TOPICS,
    CashDividend,
    Configured,
    CoreSettings,
    Deposit,
    Event,
    Flatten,
    Limits,
    NewRecord,
    OpenAccount,
    PlaceOrder,
    Record,
    StrategySetting,
    evolve,
    exact,
    partition_of,
    validate,
)
from support.market import (
    MINUTE,
    SECOND,
    at,
    bar,
    halt,
    heartbeat,
    quote,
    resume,
    session_closed,
    session_opened,
    split,
    trade,
)
from tape.strategies import load_strategy
from tape.wiring import build, configure, installed

NOISY = f"{Path(__file__).with_name('noisy.py')}:Noisy"
SOURCE = "busy"
SPEC = LogSpec("0123456789abcdef", "data", account_partitions=2, market_partitions=2)
SYMBOLS = ("AAA", "BBB", "CCC")
"""AAA and BBB come as quotes and trades, CCC as bars."""


def accounts_in(partition: int, count: int) -> list[str]:
    """Names of accounts that belong to a partition."""
    names = (f"acc{n}" for n in range(1000))
    return [name for name in names if partition_of(name, SPEC.account_partitions) == partition][:count]


ONE, TWO = accounts_in(0, 2)
"""Two accounts of partition 0."""
(ELSEWHERE,) = accounts_in(1, 1)
"""An account of partition 1."""


# ---------------------------------------------------------------- facts


@lru_cache
def busy_market(seed: int = 1, days: int = 3, quotes: int = 150) -> tuple[Event, ...]:
    """Sessions of three symbols: a split, a dividend, a halt, a fall, late records, crossed quotes."""
    draw = Random(seed).random
    events: list[Any] = []
    cents = {"AAA": 10_000, "BBB": 5_000, "CCC": 2_000}
    for day in range(days):
        events.append(session_opened(day))
        if day == 1:
            events.append(split(at("09:30", day) + 1, 2, 1, "AAA"))
            cents["AAA"] //= 2
        if day == 2:
            events.append(_dividend(at("09:30", day) + 1, "BBB"))
        events += _ticks(draw, cents, day, quotes)
        events += [halt(at("11:00", day), "BBB"), resume(at("11:10", day), "BBB")]
        events += [heartbeat(at("15:59", day)), session_closed(day)]
    events.sort(key=lambda event: event.ts)
    for n in range(40, len(events) - 10, 60):
        events.insert(n + 5, events.pop(n))
    return tuple(evolve(event, source=SOURCE, row=n + 1) for n, event in enumerate(events))


def _dividend(ts: int, symbol: str) -> CashDividend:
    return CashDividend(
        symbol=symbol, ts=ts, ex="day 2", pay="day 2", amount=Decimal("0.25"), source="", row=0
    )


def _ticks(draw: Callable[[], float], cents: dict[str, int], day: int, quotes: int) -> Iterable[Event]:
    ts, step = at("09:30", day), 23_000 * SECOND // quotes
    for n in range(quotes):
        ts += 1 + int(draw() * 2 * step) if n % 4 else 1000
        if ts >= at("16:00", day):
            return
        symbol = "AAA" if draw() < 0.5 else "BBB"
        fall = 30 if day == 2 and quotes // 3 < n < quotes // 2 else 0
        cents[symbol] = max(500, cents[symbol] + int(draw() * 7) - 3 - fall)
        price = cents[symbol]
        bid, ask = _price(price), _price(price + 1 + int(draw() * 3))
        if draw() < 0.02:
            bid, ask = ask, bid
        sizes = (100 * int(1 + draw() * 3), 100 * int(1 + draw() * 3))
        yield quote(ts, bid, ask, sizes, symbol=symbol, backfilled=draw() < 0.01)
        if draw() < 0.3:
            yield trade(ts + 500, _price(price + int(draw() * 3) - 1), symbol=symbol)
        if draw() < 0.1:
            low, high = cents["CCC"] - int(draw() * 8), cents["CCC"] + int(draw() * 8)
            now = cents["CCC"] = low + int(draw() * (high - low + 1))
            prices = " ".join(str(_price(p)) for p in (low, high, low, now))
            yield bar(ts - ts % MINUTE, prices, symbol="CCC")


def _price(cents: int) -> Decimal:
    return Decimal(cents).scaleb(-2)


LIMITS = {"day_loss": "0.004", "day_loss_reduce": "0.002", "rearm_next_session": True, "on_trip": "flatten"}
"""Close enough to be reached."""


def opening(account: str, ts: int = at("09:00"), **limits: Any) -> OpenAccount:
    """An account of 100,000 dollars, opened before the first session."""
    return OpenAccount(
        id=f"open {account}",
        account=account,
        ts=ts,
        who="test",
        why="",
        cash=Decimal(100_000),
        kind="margin",
        multiplier=Decimal(2),
        shorting=True,
        fractions=False,
        limits=validate(Limits, LIMITS | limits),
    )


def busy_commands() -> list[Event]:
    """Two accounts from the start, one opened in the first session, and an operator at work."""
    said = {"who": "test", "why": ""}
    return [
        opening(ONE),
        opening(ELSEWHERE),
        opening(TWO, at("10:00"), on_trip="cancel", max_quantity=150),
        Deposit(id="deposit", account=ONE, ts=at("12:00"), amount=Decimal(5000), **said),
        PlaceOrder(
            id="place", account=TWO, ts=at("12:01"), symbol="AAA", side="buy", quantity=Decimal(10), **said
        ),
        Flatten(id="flatten", account=TWO, ts=at("14:00", 1), **said),
        Flatten(id="flatten one", account=ONE, ts=at("15:00", 1), symbol="AAA", **said),
    ]


def write_facts(
    log: EventLog, market: Sequence[Event] = (), commands: Sequence[Event] = (), *, batch: int = 5000
) -> None:
    """Append facts, `batch` at a time."""
    with log.writer("import") as writer:
        records = [command_record(command, log) for command in commands]
        for start in range(0, len(records), batch):
            writer.append(records[start : start + batch])
        import_events(market, log, writer, source=SOURCE, done={}, batch=batch)


def busy_log(folder: Path, name: str = "log", *, batch: int = 5000) -> EventLog:
    """A log of the busy market, on which nothing has run yet."""
    log = create_log(f"sqlite:{folder / name}", SPEC)
    write_facts(log, busy_market(), busy_commands(), batch=batch)
    return log


# ---------------------------------------------------------------- settings


def noisy(name: str, account: str, symbols: Sequence[str] = SYMBOLS, **params: Any) -> StrategySetting:
    """A noisy strategy of an account."""
    return strategy(NOISY, name, account, symbols, **params)


def strategy(kind: str, name: str, account: str, symbols: Sequence[str], **params: Any) -> StrategySetting:
    """A strategy by its kind: a built-in one, or FILE.py:Class."""
    texts = {key: str(value) for key, value in params.items()}
    loaded = load_strategy(kind, texts)
    return StrategySetting(
        name=name,
        kind=kind,
        version=loaded.version,
        digest=loaded.digest,
        account=account,
        symbols=tuple(symbols),
        params=texts,
    )


def core(*strategies: StrategySetting, **changes: Any) -> CoreSettings:
    """Settings under which much is on its way at any moment: latency, displayed sizes, fees."""
    given: dict[str, Any] = {
        "latency": 2000,
        "size": "displayed",
        "fee": "per-share:0.005:1",
        "slippage_bps": Decimal(1),
        "snapshot_every": 200,
        "stale_after": 1800 * SECOND,
        **changes,
    }
    return CoreSettings(log_prefix=SPEC.id[:6], simulated=True, strategies=strategies, **given)


def busy_settings(**changes: Any) -> CoreSettings:
    """Three accounts, four noisy strategies."""
    members = (
        noisy("first", ONE),
        noisy("second", ONE, ("AAA", "BBB"), seed=2, every=5),
        noisy("third", TWO, seed=3, every=4),
        noisy("fourth", ELSEWHERE, seed=4),
    )
    return core(*members, **changes)


def configured(log: LogReader, settings: CoreSettings, partition: int = 0) -> Configured:
    """What the installed code would run on a partition; strategies of other partitions are left out."""
    mine = tuple(s for s in settings.strategies if core_partition(log, s.account) == partition)
    return configure(evolve(settings, strategies=mine), log=log.id, time=log.time, partition=partition)


# ---------------------------------------------------------------- running


def host(log: EventLog, settings: CoreSettings, partition: int = 0, **options: Any) -> InProcessHost:
    """The host of a partition."""
    return InProcessHost(log, partition, configured(log, settings, partition), build, **options)


def run(log: EventLog, settings: CoreSettings, partition: int = 0, **options: Any) -> Ran:
    """Run a partition to the end of its inputs."""
    return host(log, settings, partition, **options).run()


class Cut(Exception):
    """Ends a run as a kill would: nothing more is written."""


def run_cut(log: EventLog, settings: CoreSettings, every: int, *, stop: bool = False, **options: Any) -> int:
    """Run partition 0, cut off after every `every`-th batch and begun again; the runs it took.

    `stop`: it is asked to stop instead, and ends well.
    """
    runs = 0
    while True:
        left = iter(range(every - 1))

        def over() -> bool:
            return next(left, None) is None  # noqa: B023  # called in this round only

        def cut(_: Progress) -> None:
            if over():
                raise Cut

        runs += 1
        try:
            one = host(log, settings, **options)
            ran = one.run(stop=over) if stop else one.run(cut)
            if not stop or not ran.taken:
                return runs
        except Cut:
            pass


def verified(log: LogReader) -> Derived:
    """What comes of deriving the log again with the installed code."""
    return derive(log, build, installed)


def inputs(log: LogReader, partition: int = 0, page: int = 5000) -> list[tuple[int, Record]]:
    """The inputs of a partition in their order, each with the index of its stream."""
    topics = build(configured(log, core(), partition)).inputs
    streams = input_streams(log, partition, topics)
    bounds = {stream: log.bounds(*stream) for stream in streams}
    starts = {stream: first for stream, (first, _) in bounds.items()}
    ends = {stream: end for stream, (_, end) in bounds.items()}
    return list(Merge(log, streams, starts, ends, page))


def applied(pipeline: Pipeline, records: Iterable[Record]) -> list[list[Event]]:
    """The decisions of each record."""
    with exact():
        return [list(pipeline.apply(record)) for record in records]


# ---------------------------------------------------------------- logs that are not as they were written


Change = Callable[[Record], Sequence[tuple[bytes, bytes]]]
"""What stands in a log instead of a record: keys and values."""


def kept(record: Record) -> Sequence[tuple[bytes, bytes]]:
    """The record as it is."""
    return [(record.key, record.value)]


def all_records(log: LogReader, topic: str, partition: int) -> list[Record]:
    """Every record of a partition."""
    return log.read(topic, partition, gte=0, limit=1 << 30)


def rewritten(log: LogReader, path: Path, change: Change) -> EventLog:
    """A copy of a log with some records changed, dropped or added, and seals that hold."""
    copy = create_log(f"sqlite:{path}", SPEC)
    with copy.writer("forger") as writer:
        for topic in TOPICS:
            if topic != "seals":
                for partition in range(log.partitions(topic)):
                    _rewrite(log, topic, partition, change, writer)
    return copy


def _rewrite(log: LogReader, topic: str, partition: int, change: Change, writer: Writer) -> None:
    records = all_records(log, topic, partition)
    writer.append([NewRecord(topic, partition, *pair) for record in records for pair in change(record)])
