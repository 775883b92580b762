"""Every processor in every host that its declaration admits: same inputs, same outputs.

A subject is a processor with inputs that make it speak. `HOSTS` run a keyed processor over a log; the
core's hosts run the core. A new host is a line in one of the two tables, a new processor a subject.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from eventlog import EventLog, create_log
from eventlog.contract import Stream
from processors.alerts import RULES
from processors.hosts.inprocess import InProcessHost
from processors.hosts.keyed import run_keyed
from processors.hosts.live import LiveHost
from processors.keyed import KeyedProcessor
from schemas import (
    DECISIONS,
    BreakerHalted,
    Event,
    FeedGap,
    FeedRecovered,
    NewRecord,
    OrderDenied,
    Record,
    RoleHeartbeat,
    encode,
    exact,
    new_record,
    partition_of,
)
from schemas.codec import read_into
from schemas.orders import Check
from support.market import SECOND, at, heartbeat
from support.outside import bars, records, strategy
from support.runs import SPEC, busy_commands, busy_market, busy_settings, configured, verified, write_facts
from tape.wiring import build

SERIAL = count(1)
STORES = ("sqlite", pytest.param("kafka", marks=pytest.mark.kafka))
pytestmark = pytest.mark.timeout(600)


# ------------------------------------------------------------ subjects


@dataclass(frozen=True)
class Subject:
    """A keyed processor, and what to write to its input."""

    name: str
    make: Callable[[], KeyedProcessor]
    inputs: Callable[[EventLog], list[NewRecord]]


def _bars(log: EventLog) -> list[NewRecord]:
    return records(log, bars(60))


def _account_events(log: EventLog, make: Callable[[str, int], Any]) -> list[NewRecord]:
    """Some of each of three accounts."""
    found = []
    for seq in range(1, 30):
        for account in ("one", "two", "acc3"):
            place = partition_of(account, log.partitions("orders"))
            found.append(new_record(make(account, seq), place, account))
    return found


def _decision(account: str, seq: int) -> dict[str, Any]:
    return {"account": account, "seq": seq, "prev": seq - 1, "cause": "c", "trace": "t", "ts": seq * SECOND}


def _halts(log: EventLog) -> list[NewRecord]:
    more: dict[str, Any] = {
        "reason": "drift",
        "session": "d",
        "ordinal": 1,
        "detail": "",
        "reasons": ("drift",),
    }
    return _account_events(log, lambda account, seq: BreakerHalted(**_decision(account, seq), **more))


def _denials(log: EventLog) -> list[NewRecord]:
    more: dict[str, Any] = {
        "order": "o",
        "strategy": "s",
        "symbol": "SPY",
        "side": "buy",
        "quantity": Decimal(1),
        "reduces": False,
        "quote": "",
        "checks": (Check(name="gross", ok=False, value="", limit=""),),
    }
    return _account_events(log, lambda account, seq: OrderDenied(**_decision(account, seq), **more))


def _beats(log: EventLog) -> list[NewRecord]:
    """Three roles; one falls silent, one is behind, one is in error now and then."""
    found = []
    for second in range(120):
        for role, behind, error in (("core", 20_000, ""), ("feed", 0, "x" if second % 40 == 7 else "")):
            found.append((role, second, behind, error))
        if second < 20 or second > 80:
            found.append(("seal", second, 0, ""))
    return [
        new_record(RoleHeartbeat(role=r, instance="a", ts=s * SECOND, processed=s, behind=b, error=e), 0, r)
        for r, s, b, e in found
    ]


def _statuses(log: EventLog) -> list[NewRecord]:
    found = []
    for n in range(40):
        symbol = "AAA" if n % 2 else "BBB"
        kind: Any = FeedGap(symbol=symbol, ts=n, since=0, source="s", row=n, feed="iex")
        if n % 3 == 1:
            kind = FeedRecovered(symbol=symbol, ts=n, source="s", row=n, feed="iex")
        if n % 3 == 2:
            symbol, kind = "*", heartbeat(n)
        found.append(new_record(kind, partition_of(symbol, log.partitions("market.status")), symbol))
    return found


SUBJECTS = [
    Subject("mean-reversion", strategy, _bars),
    Subject("breaker", RULES["breaker"], _halts),
    Subject("orders", RULES["orders"], _denials),
    Subject("roles", RULES["roles"], _beats),
    Subject("feed", RULES["feed"], _statuses),
]


def test_every_rule_is_a_subject() -> None:
    assert {subject.name for subject in SUBJECTS} >= set(RULES)


# ------------------------------------------------------------ hosts of keyed processors


def _transactional(log: EventLog, make: Callable[[], KeyedProcessor], total: int) -> None:
    seen = [0]
    stop, taken = (lambda: seen[0] >= total), (lambda beat: seen.__setitem__(0, beat.processed))
    run_keyed(log, make(), name="subject", beats=taken, stop=stop)


def _in_small_pages(log: EventLog, make: Callable[[], KeyedProcessor], total: int) -> None:
    """Three at a time, ended and begun again after each seven."""
    for taken in range(7, total + 7, 7):
        seen = [0]
        run_keyed(
            log,
            make(),
            name="subject",
            beats=lambda beat: seen.__setitem__(0, beat.processed),  # noqa: B023
            stop=lambda: seen[0] >= min(taken, total),  # noqa: B023
            page=3,
        )


def _faust(log: EventLog, make: Callable[[], KeyedProcessor], total: int) -> None:
    from processors.hosts.faust import run_faust

    seen, end = [0], time.monotonic() + 240

    def stop() -> bool:
        assert time.monotonic() < end, f"{seen[0]} of {total} were taken"
        return seen[0] >= total

    taken = lambda beat: seen.__setitem__(0, beat.processed)  # noqa: E731
    run_faust(log.url, make(), name="subject", beats=taken, stop=stop)


HOSTS = [
    pytest.param("sqlite", _transactional, id="transactional-sqlite"),
    pytest.param("sqlite", _in_small_pages, id="small-pages-sqlite"),
    pytest.param("kafka", _transactional, id="transactional-kafka", marks=pytest.mark.kafka),
    pytest.param("kafka", _faust, id="faust", marks=pytest.mark.kafka),
]

Outputs = dict[tuple[str, int, bytes], list[bytes]]


def in_process(subject: Subject, log: EventLog) -> Outputs:
    """What the bare processor makes of a log's inputs, by topic, partition and source of the input."""
    processor, found = subject.make(), Outputs()
    for record in input_records(processor, log):
        with exact():
            for event in processor.apply(record):
                key = (event.topic, record.partition, record.key)
                found.setdefault(key, []).append(encode(event))
    return found


def input_records(processor: KeyedProcessor, log: EventLog) -> Iterator[Record]:
    topic = processor.inputs[0]
    for partition in range(log.partitions(topic)):
        for record in log.read(topic, partition, gte=0, limit=1 << 30):
            yield read_into(record)


def written(processor: KeyedProcessor, log: EventLog) -> list[bytes]:
    return [
        record.value
        for topic in processor.outputs
        for partition in range(log.partitions(topic))
        for record in log.read(topic, partition, gte=0, limit=1 << 30)
    ]


@pytest.fixture
def make_log(tmp_path: Path, request: pytest.FixtureRequest) -> Callable[[str], EventLog]:
    def make(store: str) -> EventLog:
        if store == "sqlite":
            return create_log(f"sqlite:{tmp_path / f'log{next(SERIAL)}'}", SPEC)
        address = request.getfixturevalue("broker").address
        return create_log(f"kafka://{address}/conform{next(SERIAL)}", SPEC)

    return make


@pytest.mark.parametrize("subject", SUBJECTS, ids=lambda subject: subject.name)
@pytest.mark.parametrize(("store", "host"), HOSTS)
def test_every_host_writes_what_the_bare_fold_makes(
    subject: Subject, store: str, host: Any, make_log: Callable[[str], EventLog]
) -> None:
    """Byte for byte, each once (nothing was killed), in the order of each partition's inputs."""
    with make_log(store) as log:
        facts = subject.inputs(log)
        with log.writer("test") as writer:  # in several transactions, which leave holes between offsets
            for start in range(0, len(facts), 25):
                writer.append(facts[start : start + 25])
        wanted = in_process(subject, log)
        assert wanted, "the inputs lead to nothing"
        host(log, subject.make, len(facts))
        made = written(subject.make(), log)
        everything = [value for values in wanted.values() for value in values]
        assert sorted(made) == sorted(everything)
        place = {value: n for n, value in enumerate(made)}
        for values in wanted.values():
            assert values == sorted(values, key=place.__getitem__)


# ------------------------------------------------------------ snapshots of keyed processors


@pytest.mark.parametrize("subject", SUBJECTS, ids=lambda subject: subject.name)
def test_snapshot_and_restore_between_any_two_inputs_change_nothing(
    subject: Subject, make_log: Callable[[str], EventLog]
) -> None:
    """Of all state, and of each key by itself."""
    with make_log("sqlite") as log:
        with log.writer("test") as writer:
            writer.append(subject.inputs(log))
        straight, whole, apart = subject.make(), subject.make(), subject.make()
        spoken = 0
        with exact():
            for record in input_records(straight, log):
                wanted = list(straight.apply(record))
                spoken += len(wanted)
                before, whole = whole, subject.make()
                whole.restore(before.snapshot())
                assert list(whole.apply(record)) == wanted
                assert whole.snapshot() == straight.snapshot()
                key, saved = straight.key(record), apart.save(straight.key(record))
                apart = subject.make()
                apart.load(key, saved)
                kept = straight.save(key)
                assert list(apart.apply(record)) == wanted
                assert apart.save(key) == kept
                apart = subject.make()
                apart.restore(straight.snapshot())
        assert spoken


# ------------------------------------------------------------ the core


def _core_in_process(batch: int) -> Callable[[EventLog, int], None]:
    def run(log: EventLog, partition: int) -> None:
        InProcessHost(log, partition, configured(log, busy_settings(), partition), build, batch=batch).run()

    return run


def _core_live(log: EventLog, partition: int) -> None:
    """The live host until it has taken everything, in the order in which it comes."""
    wanted = {
        stream: end
        for topic in build(configured(log, busy_settings(), partition)).inputs
        for stream in streams_of(log, topic, partition)
        if (end := log.bounds(*stream)[1])
    }
    positions: dict[Stream, int] = {}
    end = time.monotonic() + 240

    def stop() -> bool:
        assert time.monotonic() < end, f"{positions} of {wanted}"
        return all(not log.wait({s: positions.get(s, 0)}, 0) for s in wanted)

    made = configured(log, busy_settings(), partition)
    host = LiveHost(log, partition, made, build)
    host.run(lambda beat: positions.update(beat.positions), stop)


def commands() -> list[Event]:
    """What stands before the market opens: live, commands are taken as they come."""
    return [one for one in busy_commands() if one.ts < at("09:30")]  # type: ignore[attr-defined]


def streams_of(log: EventLog, topic: str, partition: int) -> list[Stream]:
    if topic.startswith("market."):
        return [(topic, p) for p in range(log.partitions(topic))]
    return [(topic, partition)]


CORE_HOSTS = [
    pytest.param(_core_in_process(5000), True, id="in-process"),
    pytest.param(_core_in_process(17), True, id="in-process-small-batches"),
    pytest.param(_core_live, False, id="live"),
]
"""A host, and whether it takes its inputs in the one order of a backtest."""


@lru_cache
def core_decisions(folder: Path) -> tuple[bytes, ...]:
    """What one run in process decides."""
    with create_log(f"sqlite:{folder / 'reference'}", SPEC) as log:
        write_facts(log, busy_market(quotes=80), commands())
        _core_in_process(5000)(log, 0)
        return decisions(log)


def decisions(log: EventLog) -> tuple[bytes, ...]:
    return tuple(r.value for topic in DECISIONS for r in log.read(topic, 0, gte=0, limit=1 << 30))


@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize(("host", "has_one_order"), CORE_HOSTS)
def test_the_core_decides_the_same_in_every_host(
    store: str,
    host: Any,
    has_one_order: bool,
    make_log: Callable[[str], EventLog],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Byte for byte what the bare pipeline makes of the same inputs in the order that was recorded."""
    wanted = core_decisions(tmp_path_factory.getbasetemp())
    with make_log(store) as log:
        write_facts(log, busy_market(quotes=80), commands())
        host(log, 0)
        derived = verified(log)
        assert derived.difference is None
        assert len(decisions(log)) > 100
        assert decisions(log) == wanted or not has_one_order
