"""Quotes a second through the exchange, the account and a Python strategy that sees each of them.

Four figures over the same synthetic quotes of 100 symbols, 10 of them held:

- bare: read a page from the store and decode each record, nothing else;
- merge: read, decode and bring into the order of the core;
- core: records in memory through exchange, account and strategy;
- host: all of it, from the log back into the log, with batches, seals and a snapshot.
"""

from __future__ import annotations

import gc
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path

from eventlog import EventLog, LogSpec, create_log
from processors.hosts.inprocess import InProcessHost, core_partition
from processors.hosts.merge import Merge, input_streams
from producers.importer import import_events
from producers.marketdata.synthetic import Synthetic
from producers.operator import command_record
from schemas import (
    Configured,
    CoreSettings,
    Limits,
    OpenAccount,
    Record,
    StrategySetting,
    decode,
    exact,
    validate,
)
from tape.strategies import load_strategy
from tape.wiring import SNAPSHOT_EVERY, build, configure

ACCOUNT = "bench"
OPEN = 1_381_152_600_000_000_000
"""2013-10-07 09:30 New York, UTC ns."""

Figure = tuple[str, float, str]


def market(quotes: int) -> Synthetic:
    """A session of `quotes` quotes of 100 symbols, spread over six and a half hours."""
    symbols = tuple(f"S{n:03d}" for n in range(100))
    return Synthetic(symbols, seed=1, quotes=quotes, start=OPEN, rate_per_s=max(quotes // 23_400, 1))


def fill(log: EventLog, quotes: int) -> float:
    """Import the market and open the account; events a second."""
    data = market(quotes)
    opening = OpenAccount(
        id="open",
        account=ACCOUNT,
        ts=OPEN - 1,
        who="bench",
        why="",
        cash=Decimal(1_000_000),
        kind="margin",
        multiplier=Decimal(2),
        shorting=True,
        fractions=False,
        limits=validate(Limits, {}),
    )
    with log.writer("import") as writer:
        writer.append([command_record(opening, log)])
        started = time.perf_counter()
        import_events(data.events(), log, writer, source=data.source, done={})
        return quotes / (time.perf_counter() - started)


def configured(log: EventLog) -> Configured:
    """One strategy that sees every quote."""
    kind = f"{Path(__file__).with_name('watcher.py')}:Watcher"
    loaded = load_strategy(kind, {})
    setting = StrategySetting(
        name="watcher",
        kind=kind,
        version=loaded.version,
        digest=loaded.digest,
        account=ACCOUNT,
        symbols=market(1).symbols,
    )
    settings = CoreSettings(
        log_prefix=log.id[:6], simulated=True, strategies=(setting,), snapshot_every=SNAPSHOT_EVERY
    )
    return configure(settings, log=log.id, time=log.time, partition=core_partition(log, ACCOUNT))


def bare(log: EventLog, topic: str) -> float:
    """Read and decode every record of a topic; records a second."""
    count, started = 0, time.perf_counter()
    for partition in range(log.partitions(topic)):
        position = 0
        while records := log.read(topic, partition, gte=position):
            for record in records:
                decode(topic, record.value)
            count += len(records)
            position = records[-1].offset + 1
    return count / (time.perf_counter() - started)


def merged(log: EventLog, made: Configured) -> Iterator[Record]:
    """The core's inputs in order."""
    streams = input_streams(log, made.partition, build(made).inputs)
    ends = {stream: log.bounds(*stream)[1] for stream in streams}
    for _, record in Merge(log, streams, dict.fromkeys(streams, 0), ends):
        yield record


def rate(records: Iterable[object], count: int) -> float:
    """Items a second of an iteration."""
    started = time.perf_counter()
    for _ in records:
        pass
    return count / (time.perf_counter() - started)


def through_core(log: EventLog, made: Configured) -> float:
    """Records in memory through exchange, account and strategy; records a second."""
    records = list(merged(log, made))
    pipeline = build(made)
    gc.collect()
    gc.freeze()
    with exact():
        started = time.perf_counter()
        for record in records:
            pipeline.apply(record)
        took = time.perf_counter() - started
    gc.unfreeze()
    return len(records) / took


@contextmanager
def a_log(name: str) -> Iterator[EventLog]:
    """A log of a run's own, deleted afterwards."""
    with (
        tempfile.TemporaryDirectory() as folder,
        create_log(f"sqlite:{folder}/{name}", LogSpec("bench", "data")) as log,
    ):
        yield log


def run(quotes: int = 400_000) -> list[Figure]:
    """All figures; the last is the host's share of the bare loop."""
    with a_log("core.sqlite") as log:
        imported = fill(log, quotes)
        made = configured(log)
        plain = bare(log, "market.quotes")
        in_order = rate(merged(log, made), quotes)
        core = through_core(log, made)
        started = time.perf_counter()
        ran = InProcessHost(log, made.partition, made, build).run()
        host = ran.taken / (time.perf_counter() - started)
    return [
        ("import: make, encode, append, seal", imported, "quotes/s"),
        ("bare: read and decode", plain, "quotes/s"),
        ("merge: read, decode, order", in_order, "quotes/s"),
        ("core: exchange, account, strategy", core, "quotes/s"),
        ("host: read, merge, core, append", host, "quotes/s"),
        ("host / bare", host / plain, "ratio"),
    ]


def memory(quotes: int = 5_000_000) -> list[Figure]:
    """Peak memory of importing and running `quotes` quotes, in a process of its own."""
    code = f"from benchmarks.core import soak; soak({quotes})"
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    peak, took = found.stdout.split()
    return [
        (f"peak memory over {quotes:,} quotes", float(peak), "MiB"),
        (f"import and run of {quotes:,} quotes", quotes / float(took), "quotes/s"),
    ]


def soak(quotes: int) -> None:
    """Import and run; prints peak memory (MiB) and seconds."""
    started = time.perf_counter()
    with a_log("memory.sqlite") as log:
        fill(log, quotes)
        made = configured(log)
        ran = InProcessHost(log, made.partition, made, build).run()
        assert ran.taken == quotes + 3, ran.taken
    print(peak_mib(), time.perf_counter() - started)


def peak_mib() -> float:
    """The greatest resident size of this process so far, MiB.

    Where /proc tells it, from there: `getrusage` counts the parent's size before the exec, too.
    """
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        return float(next(line.split()[1] for line in lines if line.startswith("VmHWM"))) / 1024
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
