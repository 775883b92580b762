"""The live core beside bare Kafka clients: one broker, one topic of quotes of 100 symbols, 10 of them held.

Rates, over the same quotes that are there already:

- consume and decode, bare; consume, decode and produce in transactions, bare;
- the core's live host: read, order, decide, commit each 20 ms; alone, and two partitions at once;
- the Faust host with the smallest fold there is, over the first quotes: each state is acknowledged by the
  broker before the next record counts;
- with `--quix`: Quix Streams, exactly once, with a fold of the same positions, in an environment of its own.

Latency, while a process plays 10,000 quotes a second: from the making of a quote to the arrival of the
PnL record it led to, at a reader of committed records; beside a bare loop that consumes and produces.
"""

from __future__ import annotations

import json
import multiprocessing
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from itertools import count
from pathlib import Path
from typing import Any, cast

import msgspec
from confluent_kafka import OFFSET_BEGINNING, Producer, TopicPartition

from benchmarks.core import OPEN
from eventlog import EventLog, LogSpec, create_log, open_log
from eventlog.kafka import broker
from eventlog.kafka.client import consumer
from eventlog.roles import Beat
from processors.hosts.faust import run_faust
from processors.hosts.live import LiveHost
from processors.keyed import NOTHING, PerKey
from producers.importer import import_events
from producers.marketdata.synthetic import Synthetic
from producers.operator import command_record
from schemas import (
    Configured,
    CoreSettings,
    Event,
    Filled,
    Limits,
    NewRecord,
    OpenAccount,
    PnL,
    Quote,
    Record,
    SessionOpened,
    decode,
    encode,
    log_prefix,
    new_record,
    partition_of,
    validate,
)
from tape.wiring import build, configure, installed

Figure = tuple[str, float, str]
QUOTES = 500_000
TOPIC = "market.quotes"
HELD = tuple(f"S{n:03d}" for n in range(10))
PAGE = 5000
SERIAL = count(1)
DAY_NS = 24 * 3600 * 1_000_000_000


def accounts(partitions: int) -> list[str]:
    """An account in each partition."""
    names = [f"bench{n}" for n in range(100)]
    return [next(n for n in names if partition_of(n, partitions) == p) for p in range(partitions)]


def prepare(address: str, partitions: int, quotes: int, time_source: str = "data") -> EventLog:
    """A log with an account in each core partition and so many quotes; one partition of market topics."""
    spec = LogSpec(f"live{next(SERIAL)}", time_source, partitions, 1)  # type: ignore[arg-type]
    log = create_log(f"kafka://{address}/{spec.id}", spec)
    with log.writer("import") as writer:
        for account in accounts(partitions):
            writer.append([command_record(_opening(account), log)])
            partition = partition_of(account, partitions)
            writer.append([new_record(_bought(account, symbol), partition, account) for symbol in HELD])
        if quotes:
            symbols = tuple(f"S{n:03d}" for n in range(100))
            data = Synthetic(symbols, seed=1, quotes=quotes, start=OPEN, rate_per_s=10_000)
            import_events(data.events(), log, writer, source=data.source, done={})
    return log


def _opening(account: str) -> OpenAccount:
    return OpenAccount(
        id="open",
        account=account,
        ts=OPEN - 1,
        who="bench",
        why="",
        cash=Decimal(10_000_000),
        kind="margin",
        multiplier=Decimal(2),
        shorting=True,
        fractions=False,
        limits=validate(Limits, {}),
    )


def _bought(account: str, symbol: str) -> Filled:
    """A hundred shares, told by the broker: the gateway is outside, as in live trading."""
    return Filled(
        id=f"bought {symbol}",
        account=account,
        ts=OPEN - 1,
        order=f"before {symbol}",
        execution=f"before {symbol}",
        symbol=symbol,
        side="buy",
        quantity=Decimal(100),
        price=Decimal(100),
        fee=Decimal(0),
    )


def made_for(log: EventLog, partition: int, **changes: Any) -> Configured:
    """A core with the gateway outside, and no strategy."""
    settings = CoreSettings(
        log_prefix=log_prefix(log.id), simulated=False, **{"snapshot_every": 250_000, **changes}
    )
    return configure(settings, log=log.id, time=log.time, partition=partition)


# ---------------------------------------------------------------- rates


def bare_decode(log: EventLog) -> float:
    """Consume and decode; records a second."""
    reader, end = _reader(log)
    seen, started = 0, time.perf_counter()
    while seen < end:
        messages = [m for m in reader.consume(PAGE, 0.1) if m.error() is None]
        for message in messages:
            decode(TOPIC, message.value())
        seen += len(messages)
    rate = seen / (time.perf_counter() - started)
    reader.close()
    return rate


def bare_transactions(address: str, log: EventLog) -> float:
    """Consume, decode and produce each record, a transaction each 10,000; records a second."""
    reader, end = _reader(log)
    writer = Producer(
        {
            "bootstrap.servers": address,
            "transactional.id": f"bare{next(SERIAL)}",
            "linger.ms": 20,
            "compression.type": "lz4",
            "queue.buffering.max.messages": 1_000_000,
            "retry.backoff.ms": 1,
            "retry.backoff.max.ms": 10,
        }
    )
    writer.init_transactions()
    topic = log.topic("alerts")  # type: ignore[attr-defined]  # a KafkaLog; no input of the core, nor its output
    seen, started = 0, time.perf_counter()
    while seen < end:
        writer.begin_transaction()
        for _ in range(2):
            messages = [m for m in reader.consume(PAGE, 0.1) if m.error() is None]
            for message in messages:
                decode(TOPIC, message.value())
                writer.produce(topic, message.value(), message.key(), 0)
            seen += len(messages)
        writer.commit_transaction()
    rate = seen / (time.perf_counter() - started)
    reader.close()
    return rate


def _reader(log: EventLog) -> tuple[Any, int]:
    reader = consumer(log.address, "bare")  # type: ignore[attr-defined]  # a KafkaLog
    name = log.topic(TOPIC)  # type: ignore[attr-defined]
    end = log.bounds(TOPIC, 0)[1]
    reader.assign([TopicPartition(name, 0, OFFSET_BEGINNING)])
    return reader, end


def live_core(url: str, partition: int = 0, quotes: int = QUOTES) -> float:
    """The live host from the first quote to the last; records a second, from its first beat on."""
    first: list[float] = []
    last = [0.0, 0.0]

    def beats(beat: Beat) -> None:
        now = time.perf_counter()
        if beat.processed and not first:
            first[:] = [now, beat.processed]
        last[:] = [now, beat.processed]

    with open_log(url) as log:
        made = made_for(log, partition)
        LiveHost(log, partition, made, build, installed=installed).run(beats, lambda: last[1] >= quotes)
    return (last[1] - first[1]) / (last[0] - first[0])


class Newest(msgspec.Struct):
    """The newest bid of a symbol."""

    bid: Decimal | None = None


class NewestBid(PerKey[Newest]):
    """Keeps the newest bid of each symbol, and says nothing."""

    name = "newest-bid"
    version = "1"
    inputs: tuple[str, ...] = (TOPIC,)
    outputs: tuple[str, ...] = ("alerts",)
    State = Newest

    def fold(self, state: Newest, record: Record) -> Sequence[Event]:
        """Take a quote."""
        state.bid = cast("Quote", record.event).bid
        return NOTHING


def faust_host(url: str, seconds: float) -> float:
    """The Faust host for so long; records a second, from its first beat on."""
    beaten: list[tuple[float, int]] = []

    def beats(beat: Beat) -> None:
        if beat.processed:
            beaten.append((time.perf_counter(), beat.processed))

    run_faust(
        url,
        NewestBid(),
        name="bench",
        beats=beats,
        stop=lambda: bool(beaten) and beaten[-1][0] - beaten[0][0] >= seconds,
    )
    (since, before), (until, taken) = beaten[0], beaten[-1]
    return (taken - before) / (until - since)


def both_cores(url: str) -> float:
    """Two partitions at once, a process each; records a second of both together."""
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        return sum(pool.starmap(live_core, [(url, 0), (url, 1)]))


# ---------------------------------------------------------------- latency


def play(url: str, rate: int, seconds: float) -> None:
    """Make `rate` quotes a second of 100 symbols with the time of their making, a batch each 10 ms."""
    with open_log(url) as log, log.writer("feed") as writer:
        now = time.time_ns()
        opened = SessionOpened(
            session="2024-01-02",
            ts=now,
            close=now + DAY_NS,
            extended_open=now,
            extended_close=now + DAY_NS,
            source="play",
            row=1,
        )
        writer.append([new_record(opened, 0, "*")])
        start, row = time.perf_counter(), 2
        while (passed := time.perf_counter() - start) < seconds:
            due = int(passed * rate) + 2
            ts = time.time_ns()
            writer.append([_tick(ts, n) for n in range(row, due)])
            row = due
            time.sleep(0.01)


def _tick(ts: int, row: int) -> NewRecord:
    symbol = f"S{row % 100:03d}"
    bid = Decimal(10_000 + row % 7).scaleb(-2)
    quote = Quote(
        symbol=symbol,
        ts=ts,
        bid=bid,
        bid_size=Decimal(100),
        ask=bid + Decimal("0.01"),
        ask_size=Decimal(100),
        source="play",
        row=row,
    )
    return NewRecord(TOPIC, 0, symbol.encode(), encode(quote))


def latencies(address: str, topic: str, seconds: float, ts_of: Callable[[bytes], int]) -> list[float]:
    """From a quote's time to the arrival of what it led to, ms, sorted; the first seconds are left out."""
    reader = consumer(address, "latency", {"fetch.wait.max.ms": 5, "auto.offset.reset": "latest"})
    reader.assign([TopicPartition(topic, 0)])
    found: list[float] = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for message in reader.consume(1, 0.1) or ():
            if message.error() is None and (ts := ts_of(message.value())):
                found.append((time.time_ns() - ts) / 1e6)
    reader.close()
    return sorted(found[len(found) // 5 :])


def _pnl_ts(value: bytes) -> int:
    event = decode("pnl", value)
    return event.ts if isinstance(event, PnL) else 0


def _quote_ts(value: bytes) -> int:
    event = decode(TOPIC, value)
    return event.ts if isinstance(event, Quote) else 0


@contextmanager
def playing(url: str, rate: int, seconds: float) -> Iterator[None]:
    """While a process plays."""
    made = multiprocessing.get_context("spawn").Process(target=play, args=(url, rate, seconds))
    made.start()
    try:
        yield
    finally:
        made.join()


def core_latency(address: str, rate: int, seconds: float) -> list[float]:
    """Through the live core, in a process of its own."""
    log = prepare(address, 1, 0, "wall")
    code = f"import sys, threading; from benchmarks.live import serve; serve({log.url!r}, {seconds + 6})"
    core = subprocess.Popen([sys.executable, "-c", code])
    time.sleep(3)
    with playing(log.url, rate, seconds):
        found = latencies(address, log.topic("pnl"), seconds, _pnl_ts)  # type: ignore[attr-defined]
    core.wait()
    log.close()
    return found


def serve(url: str, seconds: float) -> None:
    """The live host for so long; a PnL record each 5 ms at most."""
    end = time.monotonic() + seconds
    with open_log(url) as log:
        made = made_for(log, 0, pnl_interval=5_000_000)
        LiveHost(log, 0, made, build).run(lambda beat: None, lambda: time.monotonic() > end)


def bare_latency(address: str, rate: int, seconds: float) -> list[float]:
    """Through a loop that consumes quotes and produces one in a hundred."""
    log = prepare(address, 1, 0, "wall")
    name = log.topic("pnl")  # type: ignore[attr-defined]
    stopping = threading.Event()

    def loop() -> None:
        reader = consumer(address, "bare", {"fetch.wait.max.ms": 5, "auto.offset.reset": "latest"})
        reader.assign([TopicPartition(log.topic(TOPIC), 0)])  # type: ignore[attr-defined]
        writer = Producer({"bootstrap.servers": address, "linger.ms": 1, "acks": "all"})
        seen = 0
        while not stopping.is_set():
            for message in reader.consume(1, 0.05) or ():
                seen += 1
                if message.error() is None and seen % 50 == 0:
                    writer.produce(name, message.value(), message.key(), 0)
            writer.poll(0)
        reader.close()

    thread = threading.Thread(target=loop)
    thread.start()
    with playing(log.url, rate, seconds):
        found = latencies(address, name, seconds, _quote_ts)
    stopping.set()
    thread.join()
    log.close()
    return found


def quantiles(name: str, sorted_ms: Sequence[float]) -> list[Figure]:
    """Median, 99 and 99.9 per cent."""
    size = len(sorted_ms)
    return [
        (f"{name}, p{of:g} of {size:,}", sorted_ms[min(int(size * of / 100), size - 1)], "ms")
        for of in (50, 99, 99.9)
    ]


# ---------------------------------------------------------------- all


def run(quotes: int = QUOTES, seconds: float = 30, quix: str = "") -> list[Figure]:
    """All figures; `quix` is the Python of an environment that has Quix Streams."""
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory(prefix="tape-bench-") as folder:
        address = broker.start(Path(folder)).address
        try:
            log = prepare(address, 1, quotes)
            bare = max(bare_decode(log) for _ in range(2))
            transactions = bare_transactions(address, log)
            core = live_core(log.url, 0, quotes)
            figures += [
                ("consume and decode, bare", bare, "records/s"),
                ("consume, decode, produce in transactions, bare", transactions, "records/s"),
                ("core, 10 of 100 symbols held", core, "records/s"),
                ("core / consume and decode", core / bare, "ratio"),
            ]
            faust = faust_host(log.url, seconds)
            figures += [
                ("Faust host, the newest bid of each symbol", faust, "records/s"),
                ("Faust host / consume and decode", faust / bare, "ratio"),
            ]
            if quix:
                figures += _quix(quix, address, log, core)
            log.close()
            two = prepare(address, 2, quotes)
            both = both_cores(two.url)
            figures += [
                ("two core partitions at once, together", both, "records/s"),
                ("two partitions / one", both / core, "ratio"),
            ]
            two.close()
            figures += quantiles("quote to PnL at 10,000 quotes/s", core_latency(address, 10_000, seconds))
            figures += quantiles("bare consume and produce", bare_latency(address, 10_000, seconds))
        finally:
            broker.stop(Path(folder))
    return [(f"live: {name}", value, unit) for name, value, unit in figures]


def _quix(python: str, address: str, log: EventLog, core: float) -> list[Figure]:
    """Quix Streams over the same topic; see `benchmarks/quix_fold.py`."""
    script = Path(__file__).with_name("quix_fold.py")
    topic = log.topic(TOPIC)  # type: ignore[attr-defined]
    found = subprocess.run(
        [python, str(script), address, topic, str(log.bounds(TOPIC, 0)[1])],
        check=True,
        capture_output=True,
        text=True,
    )
    rate = float(json.loads(found.stdout.splitlines()[-1])["rate"])
    return [
        ("Quix Streams, exactly once, the same fold", rate, "records/s"),
        ("core / Quix Streams", core / rate, "ratio"),
    ]


if __name__ == "__main__":
    for name, value, unit in run(quix=sys.argv[1] if len(sys.argv) > 1 else ""):
        print(f"{name:60}{value:14,.2f} {unit}")
