"""The soak: every role a process, real ticks at full rate, a broker that misbehaves, kills.

`soak` runs it and returns a `Report`; what must hold is asserted on the way and at the end:

- each execution at the broker is a fill of ours, once, at its price; nothing else is;
- each order at the broker is one that the core accepted, and was taken there once;
- our cash and positions are the broker's own;
- `tape verify` holds; Postgres equals what the log says.
"""

from __future__ import annotations

import os
import random
import signal
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx

from eventlog import EventLog, LogReader, open_log
from eventlog.errors import LogError
from eventlog.kafka import broker as kafka
from processors.account.orders import ENDED
from processors.hosts.journal import last
from producers.contract import Reader
from producers.operator import command_record
from producers.player import Pace, Script, play
from schemas import (
    Batch,
    BreakerCleared,
    BreakerHalted,
    BreakerReducing,
    CancelOrder,
    CashDividend,
    Event,
    Fill,
    FillBusted,
    FillCorrected,
    NotSent,
    OrderAccepted,
    OrderChanged,
    Rearm,
    SessionClosed,
    SessionOpened,
    Split,
    decode,
    digest,
    evolve,
    partition_of,
)
from support.cli import tape
from support.lean import SAMPLE
from support.postgres import check
from tape.asking import as_of
from tape.config import LiveConfig, load
from tape.importing import DataWanted, open_reader
from tape.roles import named
from tape.supervisor import Spec, Supervisor
from tape.up import spec_of, stand

MOVING = (
    "market.quotes",
    "market.trades",
    "market.bars",
    "strategy.proposals",
    "broker.reports",
    "operator.commands",
    "orders",
)
MARKET = ("market.quotes", "market.trades", "market.status")
DAY = date(2013, 10, 7)
SYMBOLS = ("IBM", "BAC")
STEP_NS = 7 * 3600 * 1_000_000_000
"""From one session to the next."""
EVENTS_A_SESSION = 272_001
SESSION_S = 6.5 * 3600
END = "end-of-feed"
SETTLE_S = 300
ACCOUNTS = tuple(next(n for n in ("one", "two", "three", "four") if partition_of(n, 2) == p) for p in (0, 1))
"""One in each core partition."""
FAULTS = {
    "delay": "0.05",
    "lose_answer": "0.03",
    "lose_request": "0.03",
    "repeat_update": "0.05",
    "reorder_updates": "0.05",
    "early_fill": "0.1",
    "fill_on_cancel": "0.1",
    "late_fill": "0.03",
    "bust": "0.01",
    "correct": "0.02",
    "reject": "0.02",
    "disconnect": "0.005",
}
BACKOFF_S = (0.3,)
RATE_S = 5
"""Over at most so long a rate is taken."""
OF_BROKER = 9
"""Each which kill is Kafka's."""


Terms = tuple[Decimal, Decimal, Decimal]
"""Quantity, price and fee of an execution."""


class Session:
    """The same real session, `number` times seven hours later, with half an hour between: a `Reader`."""

    def __init__(self, number: int) -> None:
        self.number = number
        wanted = DataWanted((SAMPLE,), SYMBOLS, DAY, DAY, "tick")
        self._reader: Reader = open_reader(wanted)
        self.symbols = SYMBOLS

    @property
    def source(self) -> str:
        return digest(self._reader.source.encode(), str(self.number).encode())[:12]

    def check(self, progress: Callable[[int, int], None] | None = None) -> int:
        return self._reader.check()

    def events(self, source: str | None = None) -> Iterator[Event]:
        for event in self._reader.events(source or self.source):
            ts = event.ts + self.number * STEP_NS  # type: ignore[attr-defined]
            yield evolve(event, ts=ts, **_later(event, self.number))


def _later(event: Event, number: int) -> dict[str, Any]:
    """What else of an event says when: the session has a name of its own, and no extended hours."""
    assert not isinstance(event, Split | CashDividend)
    if not isinstance(event, SessionOpened | SessionClosed):
        return {}
    named = {"session": (date.fromisoformat(event.session) + timedelta(days=number)).isoformat()}
    if isinstance(event, SessionClosed):
        return named
    shift = number * STEP_NS
    close = event.close + shift
    return {**named, "close": close, "extended_open": event.ts + shift, "extended_close": close}


def feed(url: str, rate: int, folder: Path) -> None:
    """The feed's process: plays `rate` events a second until the end is there; killed, it goes on.

    Each session is a play of its own, so that one that goes on skips a part of a session at most.
    """
    end, at = folder / END, folder / "session"
    pace = Pace(speed=rate * SESSION_S / EVENTS_A_SESSION, keep_times=True)
    number = int(at.read_text()) if at.exists() else 0
    with open_log(url) as log:
        while not end.exists():
            play(log, Script.of(Session(number), pace), resume_since=0, stop=end.exists)
            number += 1
            at.with_suffix(".new").write_text(str(number))
            at.with_suffix(".new").rename(at)
    while True:
        time.sleep(1)


CONFIG = """
log = "{url}"
time = "data"
account_partitions = 2
market_partitions = 2
[core]
simulated = false
fee = "per-share:0.005:1"
snapshot_every = 100_000
stale_after_ms = 3_600_000
[broker]
url = "{broker}"
[market]
[alerts]
places = "{places}"
{accounts}
[[strategies]]
name = "revert"
kind = "mean-reversion"
account = "{outside}"
symbols = ["IBM", "BAC"]
params = {{ length = 10, entry = 1.2 }}
where = "faust"
"""
ACCOUNT = """
[[accounts]]
id = "{id}"
cash = 1_000_000
limits = {{ day_loss = "none", day_loss_reduce = "none" }}
[[strategies]]
name = "noisy-{id}"
kind = "{noisy}:Noisy"
account = "{id}"
symbols = ["IBM", "BAC"]
params = {{ seed = "{seed}", every = "{every}", size = "100" }}
"""
NOISY = Path(__file__).with_name("noisy.py")
EVERY = 997
"""The strategies act on one in so many quotes of theirs: some ten times a second each."""


@dataclass
class Report:
    """What a soak came to."""

    kills: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    quotes: int = 0
    rates: list[float] = field(default_factory=list)
    """Market events a second, in each few seconds in which there were any."""
    batches: int = 0
    orders: int = 0
    fills: int = 0
    busted: int = 0
    corrected: int = 0
    rearmed: Counter[str] = field(default_factory=Counter)
    not_sent: Counter[str] = field(default_factory=Counter)
    faults: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        rate = self.quotes / self.seconds if self.seconds else 0
        lines = [
            f"{sum(self.kills.values())} kills: "
            + ", ".join(f"{r} {n}" for r, n in sorted(self.kills.items())),
            f"{self.quotes:,} market events in {self.seconds:,.0f} s, {rate:,.0f} a second; "
            f"{statistics.median(self.rates):,.0f} in the median while the feed plays",
            f"{self.batches:,} batches, {self.orders:,} orders accepted, {self.fills:,} fills, "
            f"{self.busted} busted, {self.corrected} corrected",
            f"not sent: {dict(self.not_sent)}; re-armed: {dict(self.rearmed)}",
            f"faults of the broker: {self.faults}",
            "no fill lost or doubled, no order sent twice, the log derives to itself, Postgres equals it, "
            "our books equal the broker's",
        ]
        return "\n".join(lines)


def soak(
    folder: Path,
    own: Path,
    dsn: str,
    *,
    kills: int,
    every_s: float,
    rate: int,
    seed: int,
    say: Callable[[str], None],
) -> Report:
    """Run all roles on the broker of folder `own`, kill them one by one; what must hold is asserted."""
    address = kafka.start(own).address
    config, venue = _configure(folder, f"kafka://{address}/soak{seed}")
    report, draw = Report(faults=dict(FAULTS)), random.Random(seed)
    with stand(config.model_copy(update={"postgres_dsn": dsn}), projects=True, say=say) as standing:
        roles = [spec_of(role, folder / "tape.toml", standing) for role in named(config, projects=True)]
        supervisor = Supervisor([*roles, _feed_spec(standing.url, rate, folder)], folder / "roles", BACKOFF_S)
        run = _Run(standing.url, venue, supervisor, own, report, draw, say)
        try:
            run.kill(kills, every_s)
            (folder / END).touch()
            run.settle()
        finally:
            for told in supervisor.stop():
                say(f"{told.what} {told.name} {told.error}")
        _compare(standing.url, report, run.books)
        assert tape("verify", standing.url).code == 0
        with open_log(standing.url, read_only=True) as log:
            check(dsn, log)
    return report


def _configure(folder: Path, url: str) -> tuple[LiveConfig, str]:
    """The configuration, and where the broker is to listen."""
    venue = f"http://127.0.0.1:{kafka.free_port()}"
    accounts = "".join(
        ACCOUNT.format(id=id, noisy=NOISY, seed=n + 1, every=EVERY) for n, id in enumerate(ACCOUNTS)
    )
    file = folder / "tape.toml"
    text = CONFIG.format(
        url=url, broker=venue, accounts=accounts, outside=ACCOUNTS[0], places=folder / "places"
    )
    file.write_text(text, encoding="utf-8")
    return load(file), venue


def _feed_spec(url: str, rate: int, folder: Path) -> Spec:
    code = (
        "from tape.supervisor import die_with_parent; die_with_parent(); "
        f"from support.soak import Path, feed; feed({url!r}, {rate}, Path({str(folder)!r}))"
    )
    path = os.pathsep.join(str(Path(__file__).parents[n]) for n in (1, 2))
    return Spec("feed", [sys.executable, "-c", code], 0, {"PYTHONPATH": path})


class _Run:
    """The soak while it runs: kills, an operator who re-arms what a fault has reduced, the end."""

    def __init__(
        self,
        url: str,
        venue: str,
        supervisor: Supervisor,
        own: Path,
        report: Report,
        draw: random.Random,
        say: Callable[[str], None],
    ) -> None:
        self._url, self._venue, self._supervisor, self._own = url, venue, supervisor, own
        self._report, self._draw, self._say = report, draw, say
        self._faulty = False
        self._commands = 0
        self._operated = 0.0
        self._counted = (0.0, 0)
        self._watch = _Watch()
        self._ends: dict[tuple[str, int], int] = {}
        self.books: dict[str, Any] = {}

    def kill(self, kills: int, every_s: float) -> None:
        """So many kills, at random moments, `every_s` apart in the mean."""
        self._until(self._is_trading, "orders and fills")
        started, before = time.monotonic(), self._market_records()
        for n in range(kills):
            self._for(self._draw.uniform(0.2, 2 * every_s - 0.2))
            if n % OF_BROKER == OF_BROKER - 1:
                self._kill_kafka()
            else:
                self._kill_role()
        self._report.seconds = time.monotonic() - started
        self._report.quotes = self._market_records() - before

    def _market_records(self) -> int:
        with open_log(self._url, read_only=True) as log:
            return _records(log, MARKET)

    def _note_rate(self, log: LogReader) -> None:
        before, self._counted = self._counted, (time.monotonic(), _records(log, MARKET))
        seconds, more = (now - then for now, then in zip(self._counted, before, strict=True))
        if more and seconds < RATE_S:
            self._report.rates.append(more / seconds)

    def _kill_role(self) -> None:
        """A role that runs; of the core its host, or one of its partitions."""
        running = [child for child in self._supervisor.children if child.pid is not None]
        child = self._draw.choice(running)
        name, pid = child.spec.name, child.pid
        assert pid is not None
        partitions = _partitions_of(pid) if name == "core" else []
        if partitions and self._draw.random() < 0.6:
            name, pid = "core partition", self._draw.choice(partitions)
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            self._report.kills[name] += 1
            self._say(f"killed {name}")

    def _kill_kafka(self) -> None:
        broker = kafka.status(self._own)
        assert broker is not None
        kafka.kill(broker, signal.SIGKILL)
        self._report.kills["Kafka"] += 1
        self._say("killed Kafka")
        self._for(0.5)
        kafka.start(self._own)

    def settle(self) -> None:
        """With no more quotes: take the faults away, and wait until nothing moves any more."""
        self._set_faults({})
        self._faulty = True  # they are not to come back
        self._until(self._is_quiet, "everything decided, every order ended", SETTLE_S)
        self._until(
            self._is_reported, "each execution, bust and correction at the broker is booked", SETTLE_S
        )
        for account in ACCOUNTS:
            place = f"{self._venue}/v1/accounts/{account}"
            self.books[account] = {
                "books": httpx.get(f"{place}/books").raise_for_status().json(),
                "activities": _pages(f"{place}/activities"),
                "orders": _pages(f"{place}/orders", status="all"),
            }

    # -------------------------------------------------------- what goes on meanwhile

    def _for(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self._step()

    def _until(self, holds: Callable[[], bool], what: str, limit_s: float = 180) -> None:
        end = time.monotonic() + limit_s
        while not holds():
            assert time.monotonic() < end, f"not in {limit_s:.0f} s: {what}; {self._standing()}"
            self._step()

    def _step(self) -> None:
        for told in self._supervisor.step():
            if told.what == "died" and told.code != -signal.SIGKILL:
                self._say(f"{told.name} ended: {told.error}")
        if not self._faulty:
            self._faulty = self._set_faults(FAULTS)
        if time.monotonic() - self._operated > 2:
            self._operated = time.monotonic()
            self._operate()
        time.sleep(0.05)

    def _set_faults(self, faults: dict[str, str]) -> bool:
        try:
            body = {"faults": faults, "delay_ms": [5, 100], "late_ms": 300}
            return httpx.post(f"{self._venue}/v1/faults", json=body, timeout=2).status_code == 200
        except httpx.HTTPError:
            return False

    def _operate(self) -> None:
        """Re-arm accounts that a fault of the broker has reduced: a fill after an end does that."""
        with suppress(LogError, httpx.HTTPError), open_log(self._url) as log:
            self._watch.read(log)
            self._note_rate(log)
            for account in ACCOUNTS:
                reasons = self._watch.reasons.get(account, set())
                assert not reasons & {"drift", "integrity"}, f"{account} is halted: {reasons}"
                for reason in sorted(reasons & {"overfill"}):
                    self._tell(log, Rearm, account, reason=reason)
                    self._report.rearmed[reason] += 1

    def _tell(self, log: EventLog, kind: Any, account: str, **fields: Any) -> None:
        self._commands += 1
        id = f"soak {self._commands} {time.time_ns()}"
        command = kind(id=id, account=account, ts=1, who="soak", why="as expected", **fields)
        with log.writer(f"operator-{time.time_ns()}") as writer:
            writer.append([command_record(command, log)])

    def _is_trading(self) -> bool:
        with suppress(LogError), open_log(self._url, read_only=True) as log:
            self._watch.read(log)
        return self._watch.fills > 20

    def _is_quiet(self) -> bool:
        """Nothing was written for a while, everything is decided, and every order has ended."""
        self._for(2)
        with suppress(LogError), open_log(self._url) as log:
            self._watch.read(log)
            ends = {
                (topic, p): log.bounds(topic, p)[1] for topic in MOVING for p in range(log.partitions(topic))
            }
            still, self._ends = ends == self._ends, ends
            if not (still and _all_decided(log)):
                return False
            for order, account in sorted(self._watch.open.items()):
                self._tell(log, CancelOrder, account, order=order)
            return not self._watch.open
        return False

    def _is_reported(self) -> bool:
        """Whether our executions are the broker's: what a stream has lost, reconciliation finds later."""
        with suppress(LogError, httpx.HTTPError), open_log(self._url, read_only=True) as log:
            return all(
                _booked(log, partition_of(account, log.partitions("fills")), account, Report())
                == _executed(_pages(f"{self._venue}/v1/accounts/{account}/activities"))
                for account in ACCOUNTS
            )
        return False

    def _standing(self) -> str:
        """What a failure is told with."""
        roles = ", ".join(f"{c.spec.name} {c.state} ({c.error})" for c in self._supervisor.children)
        return f"{roles}; open {dict(list(self._watch.open.items())[:5])}; {self._watch.reasons}"


class _Watch:
    """What the decisions say, read on from where it stood."""

    def __init__(self) -> None:
        self._positions: dict[tuple[str, int], int] = {}
        self.reasons: dict[str, set[str]] = {}
        self.open: dict[str, str] = {}
        """Account by order that was accepted and has not ended."""
        self.fills = 0

    def read(self, log: LogReader) -> None:
        for topic in ("orders", "risk.breaches", "fills"):
            for partition in range(log.partitions(topic)):
                position = self._positions.get((topic, partition), 0)
                while records := log.read(topic, partition, gte=position):
                    for record in records:
                        self._take(decode(topic, record.value))
                    position = self._positions[topic, partition] = records[-1].offset + 1

    def _take(self, event: Any) -> None:
        if isinstance(event, OrderAccepted):
            self.open[event.order] = event.account
        elif isinstance(event, OrderChanged) and event.status in ENDED:
            self.open.pop(event.order, None)
        elif isinstance(event, OrderChanged) and event.order not in self.open and event.status != "requested":
            self.open[event.order] = event.account
        elif isinstance(event, BreakerReducing | BreakerHalted | BreakerCleared):
            self.reasons[event.account] = set(event.reasons)
        self.fills += isinstance(event, Fill)


def _pages(url: str, **wanted: str) -> list[dict[str, Any]]:
    """All that the broker has, by number."""
    found: list[dict[str, Any]] = []
    while True:
        after = str(found[-1]["number"]) if found else "0"
        page = httpx.get(url, params={**wanted, "after": after}, timeout=30).raise_for_status().json()
        if not page:
            return found
        found += page


def _partitions_of(pid: int) -> list[int]:
    """Process ids of the partitions that a core host runs."""
    found = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True, check=False)
    running = []
    for child in map(int, found.stdout.split()):
        with suppress(OSError):
            if Path(f"/proc/{child}/comm").read_text().startswith("tape-core-"):
                running.append(child)
    return running


def _all_decided(log: LogReader) -> bool:
    for partition in range(log.partitions("batches")):
        end = last(log, "batches", partition, Batch)
        if end is None or any(log.read(i.topic, i.partition, gte=i.next, limit=1) for i in end.inputs):
            return False
    return True


# ---------------------------------------------------------------- what must hold


def _compare(url: str, report: Report, books: dict[str, Any]) -> None:
    """Fills, orders, cash and positions of each account against the broker's."""
    with open_log(url, read_only=True) as log:
        for account in ACCOUNTS:
            partition = partition_of(account, log.partitions("orders"))
            broker = books[account]
            _compare_orders(log, partition, account, broker["orders"], report)
            _compare_fills(log, partition, account, broker["activities"], report)
            ours, theirs = as_of(log, account), broker["books"]
            assert Decimal(ours["pnl"]["cash"]) == Decimal(theirs["cash"]), account
            held = {p["symbol"]: Decimal(p["quantity"]) for p in ours["positions"]}
            assert {s: q for s, q in held.items() if q} == {
                s: Decimal(q) for s, q in theirs["positions"].items() if Decimal(q)
            }, account
            assert "drift" not in ours["breaker"]["halts"], ours["breaker"]
            assert "integrity" not in ours["breaker"]["halts"], ours["breaker"]
        report.batches = sum(
            end.number + 1
            for p in range(log.partitions("batches"))
            if (end := last(log, "batches", p, Batch)) is not None
        )


def _compare_orders(log: LogReader, partition: int, account: str, theirs: Any, report: Report) -> None:
    """What the broker took are orders that the core accepted, with their terms, each taken once."""
    events = [decode("orders", r.value) for r in _all(log, "orders", partition)]
    accepted = {e.order: e for e in events if isinstance(e, OrderAccepted) and e.account == account}
    taken = Counter(order["client_order_id"] for order in theirs)
    assert taken
    assert set(taken.values()) == {1}
    assert set(taken) <= set(accepted)
    for order in theirs:
        ours = accepted[order["client_order_id"]]
        assert (ours.symbol, ours.side, ours.order_type) == (order["symbol"], order["side"], order["type"])
    reports = [decode("broker.reports", r.value) for r in _all(log, "broker.reports", partition)]
    for event in reports:
        if isinstance(event, NotSent) and event.account == account:
            report.not_sent[event.reason] += 1
            assert event.order not in taken, f"{event.order} was not sent, and the broker has it"
    report.orders += len(accepted)


def _compare_fills(log: LogReader, partition: int, account: str, theirs: Any, report: Report) -> None:
    """Executions that stand, with quantity, price and fee: ours and the broker's are the same."""
    standing = _executed(theirs)
    assert standing
    assert _booked(log, partition, account, report) == standing


def _booked(log: LogReader, partition: int, account: str, report: Report) -> dict[str, Terms]:
    """Our executions that stand. None is booked twice."""
    ours: dict[str, Terms] = {}
    for record in _all(log, "fills", partition):
        event: Any = decode("fills", record.value)
        if event.account != account:
            continue
        if isinstance(event, Fill):
            assert event.execution not in ours, f"{event.execution} is booked twice"
            ours[event.execution] = (event.quantity, event.price, event.fee)
            report.fills += 1
        elif isinstance(event, FillBusted):
            del ours[event.execution]
            report.busted += 1
        elif isinstance(event, FillCorrected):
            ours[event.execution] = (event.quantity, event.price, event.fee)
            report.corrected += 1
    return ours


def _executed(activities: Any) -> dict[str, Terms]:
    """The broker's executions that stand."""
    standing: dict[str, Terms] = {}
    for activity in activities:
        if activity["type"] == "bust":
            del standing[activity["execution_id"]]
        elif activity["type"] in ("fill", "correction"):
            terms = (Decimal(activity["qty"]), Decimal(activity["price"]), Decimal(activity["fee"]))
            standing[activity["execution_id"]] = terms
    return standing


def _records(log: LogReader, topics: Iterable[str]) -> int:
    return sum(log.bounds(topic, p)[1] for topic in topics for p in range(log.partitions(topic)))


def _all(log: LogReader, topic: str, partition: int) -> Iterator[Any]:
    position = 0
    while records := log.read(topic, partition, gte=position):
        yield from records
        position = records[-1].offset + 1
