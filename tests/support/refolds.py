"""A noisy market, and logs whose market processor is killed: what stands there is what was recorded."""

from __future__ import annotations

import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from decimal import Decimal
from itertools import count
from pathlib import Path
from random import Random
from typing import Any

from eventlog import LogReader, Writer, open_log
from eventlog.contract import Stream
from processors.hosts.journal import order_of, read_all
from processors.hosts.merge import input_streams
from processors.hosts.refold import FOLDS
from processors.hosts.replay import Cursor
from processors.market.processor import MarketProcessor
from processors.market.settings import MarketSettings
from schemas import (
    Event,
    Folded,
    Heartbeat,
    NewRecord,
    TradeCancel,
    TradeCorrection,
    decode,
    encode,
    evolve,
    exact,
    new_record,
    partition_of,
)
from support.market import MINUTE, SECOND, at, quote, session_opened, trade
from support.much import many

MS = 1_000_000
SYMBOLS = ("SPY", "IBM", "BAC")
MANY = ("SPY", "IBM", "BAC", "AAPL", "AIG", "GOOG", "MSFT", "XOM", "GE", "T")
OUTPUTS = ("market.marks", "market.bars", "market.status")
SETTINGS = MarketSettings(expected={"SPY": SECOND, "GE": SECOND}, keep=MINUTE)

HOST = """
import sys
from pathlib import Path
from eventlog import open_log
from processors.hosts import market, refold
from support.refolds import SETTINGS

refold.PAGE, refold.STATE_MAX = int(sys.argv[3]), 5000
seen = {}
with open_log(sys.argv[1]) as log, open_log(sys.argv[1]) as watch:
    def stop():
        asked = seen and Path(sys.argv[2]).exists()
        return asked and all(watch.bounds(*stream)[1] == position for stream, position in seen.items())
    host = refold.Refold(log, market.WRITER, SETTINGS.text, market.build, state_every=2000)
    host.run(lambda beat: seen.update(beat.positions), stop)
print("ended", flush=True)
"""


def beat(ts: int) -> Heartbeat:
    """Time passes."""
    return Heartbeat(ts=ts, source="beat", row=0)


def noise(seed: int, count: int = 3000, symbols: Sequence[str] = SYMBOLS) -> list[Any]:
    """A market of a few symbols with late trades, corrections, cancels, odd quotes and silences."""
    random = Random(seed)
    now = at("09:29:50")
    ids: list[tuple[str, str]] = []
    events: list[Any] = []
    for n in range(count):
        now += random.choice((0, MS, 20 * MS, 100 * MS, SECOND)) + (n % 500 == 499) * 7 * SECOND
        symbol, late = random.choice(symbols), random.choice((0, 0, 0, SECOND, 70 * SECOND))
        price = Decimal(random.randint(9950, 10050)) / 100
        which = random.random()
        if n == 100:
            events.append(evolve(session_opened(), ts=now))
        elif which < 0.5:
            events.append(
                quote(now - late, price, price + Decimal(random.randint(-1, 9)) / 100, symbol=symbol)
            )
        elif which < 0.85 or not ids:
            made = trade(now - late, price, random.randint(1, 500), symbol=symbol)
            if random.random() < 0.5:
                made = evolve(made, id=f"t{n}")
                ids.append((symbol, made.id))
            events.append(made)
        elif which < 0.9:
            symbol, id = random.choice(ids)
            events.append(
                TradeCorrection(symbol=symbol, ts=now, id=id, price=price, size=Decimal(3), source="", row=n)
            )
        elif which < 0.95:
            symbol, id = ids.pop(random.randrange(len(ids)))
            events.append(TradeCancel(symbol=symbol, ts=now, id=id, source="", row=n))
        else:
            events.append(beat(now))
    return [*events, beat(now + MINUTE)]


def in_order(seed: int, count: int) -> list[Any]:
    """Such a market in order of time, of many symbols, with rows."""
    events = sorted(noise(seed, count, MANY), key=lambda event: event.ts)
    return [evolve(event, row=n) for n, event in enumerate(events, 1)]


def late(seed: int, count: int) -> list[Any]:
    """Such a market with what is late in it, of many symbols, with rows."""
    return [evolve(event, row=n) for n, event in enumerate(noise(seed, count, MANY), 1)]


def records(log: LogReader, events: Sequence[Any]) -> list[NewRecord]:
    """Each in the partition of its symbol."""
    return [new_record(e, partition_of(e.symbol, log.partitions(e.topic)), e.symbol) for e in events]


def append_as_it_falls(log: LogReader, writer: Writer, events: Sequence[Any], random: Random) -> None:
    """In order within each partition, between them at random: what Kafka promises."""
    queues: dict[Stream, list[NewRecord]] = defaultdict(list)
    for record in reversed(records(log, events)):
        queues[record.topic, record.partition].append(record)
    while queues:
        stream = random.choice(sorted(queues))
        page = [queues[stream].pop() for _ in range(min(len(queues[stream]), random.randint(1, 40)))]
        writer.append(page)
        if not queues[stream]:
            del queues[stream]


def start(url: str, stop: Path, page: int) -> subprocess.Popen[str]:
    """The market processor in a process of its own; once `stop` is there it takes all there is, and ends."""
    return subprocess.Popen(
        [sys.executable, "-c", HOST, url, str(stop), str(page)],
        env={"PYTHONPATH": ":".join(p for p in sys.path if p), "PATH": ""},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait(process: subprocess.Popen[str], reached: Callable[[], bool]) -> None:
    """Until it is; fails if the process ends before."""
    while not reached():
        if process.poll() is not None:
            raise AssertionError(f"the host ended: {process.communicate()[1]}")
        time.sleep(0.003)


def end(process: subprocess.Popen[str], stop: Path) -> None:
    """Let it take all there is, and end in order."""
    stop.touch()
    out, error = process.communicate(timeout=300)
    assert out == "ended\n", error
    stop.unlink()


def is_all_taken(log: LogReader) -> bool:
    """Whether the recorded order reaches the ends of the inputs."""
    end = log.bounds(FOLDS, 0)[1]
    last = None
    for record in log.read(FOLDS, 0, gte=max(0, end - 10)):
        last = decode(FOLDS, record.value)
    if not isinstance(last, Folded):
        return False
    return all(i.next == log.bounds(i.topic, i.partition)[1] for i in last.inputs)


def size(log: LogReader) -> int:
    """Records of the order and of the marks."""
    marks = sum(log.bounds("market.marks", p)[1] for p in range(log.partitions("market.marks")))
    return log.bounds(FOLDS, 0)[1] + marks


def stands(log: LogReader) -> dict[Stream, list[bytes]]:
    """What the market processor wrote, by partition."""
    found: dict[Stream, list[bytes]] = {}
    for topic in OUTPUTS:
        for partition in range(log.partitions(topic)):
            cursor = Cursor(log, topic, partition, 0)
            values = found[topic, partition] = []
            while (record := cursor.take()) is not None:
                event: Any = decode(topic, record.value)
                if getattr(event, "source", "market-").startswith("market-"):
                    values.append(record.value)
    return found


def audited(log: LogReader) -> int:
    """What stands in a log is what the recorded order leads to, each once; how many of them there are.

    The order holds each input once, in the order of its partition.
    """
    cursors = {s: Cursor(log, *s, log.bounds(*s)[0]) for s in input_streams(log, 0, MarketProcessor.inputs)}
    due: dict[Stream, list[bytes]] = {stream: [] for stream in stands(log)}
    processor: MarketProcessor | None = None
    numbers = count()
    with exact():
        for _, folded in read_all(log, FOLDS, 0, Folded):
            assert folded.number == next(numbers)
            settings = MarketSettings.of(folded.settings)
            if processor is None or processor.settings != settings:
                before, processor = processor, MarketProcessor(settings)
                if before is not None:
                    processor.restore(before.snapshot())
            streams = [(i.topic, i.partition) for i in folded.inputs]
            assert [cursors[s].position for s in streams] == [i.first for i in folded.inputs]
            for index in order_of(folded):
                for event in processor.apply(_next(cursors[streams[index]])):
                    due[_place(log, event)].append(encode(event))
    for cursor in cursors.values():
        while cursor.position < log.bounds(cursor.topic, cursor.partition)[1]:
            assert _next(cursor).event.source.startswith("market-")  # its own last words
    assert stands(log) == due
    return sum(map(len, due.values()))


def _next(cursor: Cursor) -> Any:
    record = cursor.take()
    assert record is not None
    record.event = decode(record.topic, record.value)
    return record


def _place(log: LogReader, event: Any) -> Stream:
    return event.topic, partition_of(event.symbol, log.partitions(event.topic))


def killed(url: str, folder: Path, events: Sequence[Event], seed: int, kills: int = many(10)) -> None:
    """Run over events that come meanwhile, as they fall; killed so often at moments that chance chooses."""
    random, stop = Random(seed), folder / "stop"
    step = len(events) // (kills + 1) + 1
    with open_log(url) as log, log.writer("feed") as feed:
        for n in range(kills):
            append_as_it_falls(log, feed, events[n * step : (n + 1) * step], random)
            host = start(url, stop, random.choice((50, 400, 5000)))
            goal = size(log) + random.choice((1, 2, 10, 50))
            wait(host, lambda: size(log) >= goal or is_all_taken(log))  # noqa: B023
            host.kill()
            host.communicate()
        host = start(url, stop, 400)
        append_as_it_falls(log, feed, events[kills * step :], random)
        end(host, stop)
