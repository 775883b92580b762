"""Feeds on Kafka: killed and resumed a play is as undisturbed; one feed at a time; the heartbeat goes on."""

from __future__ import annotations

import random
import signal
import uuid
from pathlib import Path
from typing import Any

import pytest

from eventlog import LogSpec, create_log, open_log
from eventlog.errors import LogError
from eventlog.kafka import broker as kafka
from producers.feed import Feed
from producers.heartbeat import run_heartbeat
from schemas import (
    CORE_MARKET_INPUTS,
    EVERY_SYMBOL,
    DeadLetter,
    Heartbeat,
    Quote,
    SessionOpened,
    decode,
    evolve,
    partition_of,
)
from support.cli import end, start, tape, wait_until
from support.market import at, quote
from support.much import many

pytestmark = pytest.mark.kafka

KILLS = many(6)
MADE = ("--synthetic", "--symbols", "20", "--rate", "1000")
MAX = ("--duration", "200s", "--speed", "max")
EVENTS = 200_003
WRITTEN = (*CORE_MARKET_INPUTS, "dead-letters")
SECOND = 10**9


def name(broker: kafka.Broker) -> str:
    return f"kafka://{broker.address}/p{uuid.uuid4().hex[:12]}"


def stands(url: str) -> dict[str, list[bytes]]:
    """The values of all that a feed may write, by partition."""
    found: dict[str, list[bytes]] = {}
    with open_log(url, read_only=True) as log:
        for topic in WRITTEN:
            for partition in range(log.partitions(topic)):
                values = found[f"{topic}/{partition}"] = []
                position = 0
                while page := log.read(topic, partition, gte=position):
                    values += [record.value for record in page]
                    position = page[-1].offset + 1
    return found


def events(url: str) -> list[Any]:
    """The market events, by row."""
    found: list[Any] = [
        decode(place.partition("/")[0], value)
        for place, values in stands(url).items()
        if place.startswith("market.")
        for value in values
    ]
    return sorted(found, key=lambda event: event.row)


def count(url: str) -> int:
    """How many market records there are; 0 while the log cannot be asked."""
    try:
        with open_log(url, read_only=True) as log:
            return sum(log.bounds(t, p)[1] for t in CORE_MARKET_INPUTS for p in range(log.partitions(t)))
    except LogError:
        return 0


def test_killed_and_resumed_a_play_is_that_on_the_embedded_log(broker: kafka.Broker, tmp_path: Path) -> None:
    whole = f"sqlite:{tmp_path / 'whole.sqlite'}"
    assert tape("play", whole, *MADE, *MAX).code == 0
    url, draw, hit = name(broker), random.Random(4), 0
    for share in sorted(draw.random() for _ in range(KILLS)):
        process = start("play", url, *MADE, *MAX, "--resume")
        wait_until(process, lambda: count(url) >= share * EVENTS)  # noqa: B023
        process.kill()
        hit += end(process).code == -signal.SIGKILL
    assert hit >= KILLS // 2
    ran = tape("play", url, *MADE, *MAX, "--resume", "--json")
    assert ran.code == 0, ran.err
    assert ran.json["finished"]
    assert stands(url) == stands(whole)
    again = tape("play", url, *MADE, *MAX, "--resume", "--json").json
    assert (again["written"], again["skipped"]) == ({}, EVENTS)
    assert count(url) == EVENTS


def test_killed_on_wall_time_it_goes_on_as_the_same_session(broker: kafka.Broker) -> None:
    url, made = name(broker), (*MADE, "--duration", "10s")
    process = start("play", url, *made)
    assert wait_until(process, lambda: count(url) > 2000)
    process.kill()
    end(process)
    ran = tape("play", url, *made, "--resume", "--json")
    assert ran.code == 0, ran.err
    assert (ran.json["time"], ran.json["resumed"], ran.json["finished"]) == ("wall", True, True)
    assert ran.json["skipped"] >= 2000
    found = events(url)
    assert [event.row for event in found] == list(range(1, 10_004))
    assert {event.source for event in found} == {ran.json["source"]}
    opened, *quotes, _, _ = found
    assert [each.ts - opened.ts for each in quotes] == [n * SECOND // 1000 for n in range(10_000)]


def test_a_second_feed_is_refused_while_the_first_lives(broker: kafka.Broker) -> None:
    url = name(broker)
    first = start("play", url, *MADE, "--json")
    assert wait_until(first, lambda: count(url) > 0)
    second = tape("play", url, "--synthetic", "--symbols", "A")
    assert second.code == 2
    assert second.said.startswith(f"{url}: writer feed is held by process {first.pid} on ")
    assert first.poll() is None
    first.send_signal(signal.SIGINT)
    stopped = end(first)
    assert stopped.code == 130
    assert sum(stopped.json["written"].values()) == count(url)
    assert {event.source for event in events(url)} == {stopped.json["source"]}


def test_who_takes_over_ends_the_first(broker: kafka.Broker) -> None:
    url = name(broker)
    first = start("play", url, *MADE)
    assert wait_until(first, lambda: count(url) > 0)
    second = tape("play", url, *MADE, "--duration", "1s", "--take-over", "--json")
    assert second.code == 0, second.err
    ended = end(first)
    assert ended.code == 1
    assert "another holder of writer feed has taken over" in ended.said
    sources = [event.source for event in events(url) if type(event) is Quote]
    assert sources.count(second.json["source"]) == 1000


def test_what_is_ahead_of_its_receipt_is_parked(broker: kafka.Broker) -> None:
    url, now = name(broker), at("12:00")
    with create_log(url, LogSpec(uuid.uuid4().hex, "wall")) as log, log.writer("feed") as writer:
        times = (now, now + 6 * SECOND, now + SECOND)
        Feed(log, writer, clock=lambda: now).append(
            [evolve(quote(ts, 1, 2), row=row) for row, ts in enumerate(times, start=1)]
        )
    assert [event.row for event in events(url)] == [1, 3]
    (letter,) = [value for place, values in stands(url).items() if "dead" in place for value in values]
    parked = decode("dead-letters", letter)
    assert isinstance(parked, DeadLetter)
    assert parked.reason.startswith("ahead of its receipt: ")


def test_the_heartbeat_goes_on_where_it_was(broker: kafka.Broker) -> None:
    url, noon = name(broker), at("12:00")
    create_log(url, LogSpec("c4" * 16, "wall")).close()
    for times in ([noon, noon + SECOND], [noon + 2 * SECOND], [noon - SECOND, noon + 3 * SECOND]):
        left = list(times)
        with open_log(url) as log:
            run_heartbeat(
                log,
                beats=lambda beat: None,
                stop=lambda: not left,  # noqa: B023
                clock=lambda: left.pop(0),  # noqa: B023
                every_s=0,
            )
    with open_log(url, read_only=True) as log:
        partition = partition_of(EVERY_SYMBOL, log.partitions("market.status"))
    said: list[Any] = [decode("market.status", v) for v in stands(url)[f"market.status/{partition}"]]
    assert [type(event) for event in said] == [SessionOpened] + [Heartbeat] * 4
    assert [event.row for event in said] == [1, 2, 3, 4, 5]
    assert [event.ts for event in said] == [at("09:30"), *(noon + n * SECOND for n in range(4))]
    assert {event.source for event in said} == {"heartbeat-c4c4c4c4"}
