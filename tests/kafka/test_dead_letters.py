"""`tape dead-letters` on Kafka, beside the live core: what a producer of another make may leave behind."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

import pytest
from confluent_kafka import Producer

from eventlog import EventLog, create_log
from eventlog.kafka.broker import Broker
from schemas import CommandApplied, Deposit, decode, encode, new_record, partition_of
from support.cli import here, tape
from support.market import at, quote, session_opened
from support.runs import ELSEWHERE, ONE, SPEC, TWO, configured, core, opening, write_facts
from tape.core import run_core

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(600)]

SETTINGS = core(latency=0, stale_after=7200 * 10**9)
DEPOSIT = Deposit(id="bad", account=ONE, ts=at("10:30"), who="ann", why="test", amount=Decimal(7))
QUOTE = quote(at("10:30"), 100, "100.10", symbol="AAA")
LARGE = 7 * 1024 * 1024
"""Of so many bytes, base64 does not fit into a record."""
COMMANDS: list[bytes | None] = [
    b"buy 10 AAA",
    None,
    encode(DEPOSIT)[:-1],
    encode(DEPOSIT).replace(b"ann", b"\xff\xfe"),
    encode(DEPOSIT).replace(b"Deposit", b"Gift"),
    encode(DEPOSIT).replace(b'"v":1', b'"v":2'),
    encode(DEPOSIT).replace(b'"amount"', b'"sum"'),
    encode(QUOTE),
    encode(DEPOSIT).replace(b'"7"', b'"7.0000000001"'),
    b"x" * LARGE,
]
PRICES: list[bytes | None] = [b"\x00", encode(QUOTE).replace(b'"v":1', b'"v":2'), b"y" * LARGE]
TOPICS = ("operator.commands", "market.quotes", "strategy.proposals")
WAIT = ("--wait", "120")


@contextmanager
def live_core(log: EventLog) -> Iterator[None]:
    """The role, in a thread; what it raises is raised at the end."""
    ending, raised = threading.Event(), []

    def work() -> None:
        try:
            run_core(
                log.url,
                lambda partition: configured(log, SETTINGS, partition),
                beats=lambda beat: None,
                stop=ending.is_set,
            )
        except Exception as problem:
            raised.append(problem)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        ending.set()
        thread.join()
    assert raised == []


def until(holds: Callable[[], bool], what: str, limit_s: float = 180) -> None:
    end = time.monotonic() + limit_s
    while not holds():
        assert time.monotonic() < end, f"not in {limit_s:.0f} s: {what}"
        time.sleep(0.2)


def applied(log: EventLog, partition: int) -> set[str]:
    """Commands that were applied in a partition."""
    events = [decode("orders", r.value) for r in log.read("orders", partition, gte=0)]
    return {event.command for event in events if isinstance(event, CommandApplied)}


def write_bad(broker: Broker, log: EventLog) -> None:
    """By a producer that knows nothing of Tape."""
    producer = Producer({"bootstrap.servers": broker.address, "message.max.bytes": 8 << 20})
    name = log.url.rpartition("/")[2]
    for topic, key, values in (
        ("operator.commands", ONE.encode(), COMMANDS),
        ("market.quotes", b"AAA", PRICES),
        ("market.quotes", None, [b"{"]),
        ("strategy.proposals", b"\xff", [b"{"]),
    ):
        partition = 0 if key in (ONE.encode(), b"\xff") else partition_of("AAA", SPEC.market_partitions)
        for value in values:
            producer.produce(f"{name}.{topic}", key=key, value=value, partition=partition)
        assert producer.flush(60) == 0


def listed(url: str) -> list[dict[str, Any]]:
    found = here("dead-letters", "list", url, "--json")
    assert found.code == 0, found.err
    letters: list[dict[str, Any]] = found.json["dead_letters"]
    return letters


def test_each_kind_parks_and_the_core_goes_on(broker: Broker) -> None:
    url = f"kafka://{broker.address}/d{uuid.uuid4().hex[:12]}"
    names = (ONE, TWO, ELSEWHERE)
    with create_log(url, SPEC) as log, live_core(log):
        write_facts(log, (), [opening(name) for name in names])
        with log.writer("feed") as writer:
            market = (session_opened(), quote(at("10:00"), 100, "100.10", symbol="AAA"))
            writer.append([new_record(e, partition_of(e.symbol, 2), e.symbol) for e in market])
        until(lambda: applied(log, 0) >= {f"open {ONE}", f"open {TWO}"}, "accounts of partition 0")
        until(lambda: applied(log, 1) >= {f"open {ELSEWHERE}"}, "accounts of partition 1")
        write_bad(broker, log)
        later = [
            Deposit(id="later", account=name, ts=at("10:40"), who="ann", why="test", amount=Decimal(5))
            for name in names
        ]
        write_facts(log, (), later)
        until(lambda: {"later"} <= applied(log, 0) & applied(log, 1), "what comes after")
        market = [*PRICES, b"{"]
        until(
            lambda: [len(x["open_in"]) for x in listed(url)].count(2) == len(market), "both cores have told"
        )
        parked = {letter["place"]: letter for letter in listed(url)}
        check(url, log, parked)
        first = next(iter(parked))
        retried = here("dead-letters", "retry", url, first, "--why", "test", *WAIT, "--json")
        assert (retried.code, [a["outcome"] for a in retried.json["answers"]]) == (1, ["refused"])
        dropped = tape("dead-letters", "drop", url, first, "--why", "test", "--who", "ann", *WAIT)
        assert (dropped.code, dropped.out.splitlines()[0]) == (0, f"{ONE}: ResolveUnread applied")
        gone = {first, *(next(reversed([p for p in parked if p.startswith(topic)])) for topic in TOPICS)}
        for place in gone - {first}:
            assert here("dead-letters", "drop", url, place, "--why", "test", *WAIT).code == 0
        left = {letter["place"]: letter for letter in listed(url)}
        assert set(left) == set(parked)
        assert {place for place, letter in left.items() if letter["status"] == "dropped"} == gone
        assert here("dead-letters", "drop", url, first, "--why", "test").code == 2
        accounts = here("status", url, "--json").json["accounts"]
        (unread,) = [account["unread"] for account in accounts if account["account"] == ONE]
        assert set(unread) == {p for p in parked if not p.startswith("market.")} - gone


def check(url: str, log: EventLog, parked: dict[str, dict[str, Any]]) -> None:
    """Each kind is there, with whom it concerns; the bytes are those that were written."""
    found: dict[str, list[bytes]] = {}
    for place, letter in parked.items():
        topic, partition, offset = place.split("/")
        (record,) = log.read(topic, int(partition), gte=int(offset), limit=1)
        found.setdefault(topic, []).append(record.value)
        assert letter["status"] == "open"
        concerned = {"operator.commands": [ONE], "strategy.proposals": [ONE, TWO]}
        assert letter["accounts"] == sorted(concerned.get(topic, [ONE, TWO, ELSEWHERE]))
        if len(record.value) in (0, LARGE):
            shown = here("dead-letters", "show", url, place, "--json").json
            assert bytes.fromhex(shown["hex"]) == record.value
    assert found == {
        "operator.commands": [value or b"" for value in COMMANDS],
        "strategy.proposals": [b"{"],
        "market.quotes": [*PRICES, b"{"],
    }
