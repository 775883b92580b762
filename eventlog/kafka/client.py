"""What every client of the broker has in common: settings, ends of partitions, the log's name."""

from __future__ import annotations

import logging
import re
import threading
import time as clock
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from confluent_kafka import Consumer, IsolationLevel, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]

from eventlog.errors import LogError, LogUnreachable

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}")
ANSWER_S = 15.0
"""How long a broker may take to answer, a restart of its included."""
POLL_S = 0.01
LEAVE_S = 3.0
"""How long a member may take to leave its group."""
RECORD_MAX = 8 * 1024 * 1024
LATEST = OffsetSpec.latest()  # type: ignore[no-untyped-call]

QUIET = logging.getLogger("eventlog.kafka.client")
"""librdkafka's own log lines: what matters of them comes as an error."""
QUIET.addHandler(logging.NullHandler())
QUIET.propagate = False

Answer = TypeVar("Answer")


def split_url(url: str) -> tuple[str, str]:
    """HOST:PORT and NAME of kafka://HOST:PORT/NAME. Raises `LogError`."""
    address, slash, name = url.removeprefix("kafka://").partition("/")
    if not url.startswith("kafka://") or not slash or ":" not in address or not NAME.fullmatch(name):
        raise LogError(f"{url} is not of the form kafka://HOST:PORT/NAME")
    return address, name


def settings(address: str, more: dict[str, Any] | None = None) -> dict[str, Any]:
    """Of every client."""
    return {
        "bootstrap.servers": address,
        "logger": QUIET,
        "log_level": 0,
        "socket.timeout.ms": 10_000,
        "reconnect.backoff.ms": 20,
        "reconnect.backoff.max.ms": 500,
    } | (more or {})


def consumer(address: str, group: str, more: dict[str, Any] | None = None) -> Consumer:
    """A consumer of committed records that commits no positions."""
    return Consumer(
        settings(address)
        | {
            "group.id": group,
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
            "auto.offset.reset": "error",
            "fetch.wait.max.ms": 50,
            "fetch.error.backoff.ms": 20,
            "fetch.queue.backoff.ms": 2,
            "queued.min.messages": 20_000,
            "queued.max.messages.kbytes": 8192,
        }
        | (more or {})
    )


def leave(member: Consumer) -> None:
    """Close a member of a group, as far as that ends: librdkafka waits for ever for the answer to a
    commit that a broker which has died did not give. The thread that is left behind ends with the process."""
    closing = threading.Thread(target=member.close, daemon=True)
    closing.start()
    closing.join(LEAVE_S)


def asked(url: str, ask: Callable[[], Answer], within_s: float = ANSWER_S) -> Answer:
    """An answer of the broker, asked for again while it restarts or elects. Raises `LogError`."""
    until = clock.monotonic() + within_s
    while True:
        try:
            return ask()
        except SystemError as problem:  # what Ctrl-C inside the client's C code comes out as
            if isinstance(problem.__cause__, KeyboardInterrupt):
                raise KeyboardInterrupt from problem
            raise
        except KafkaException as problem:
            if clock.monotonic() > until:
                raise LogError(
                    f"{url}: the broker does not answer ({problem.args[0].str()}); see that it runs"
                ) from problem
        clock.sleep(5 * POLL_S)


def partition_counts(admin: AdminClient, url: str) -> dict[str, int]:
    """Of all of the broker's topics. Raises `LogUnreachable`."""
    try:
        found = admin.list_topics(timeout=ANSWER_S).topics
    except KafkaException as problem:
        raise LogUnreachable(f"{url}: the broker does not answer: {problem.args[0].str()}") from problem
    return {name: len(topic.partitions) for name, topic in found.items()}


def watermarks(reader: Consumer, place: TopicPartition, url: str) -> tuple[int, int]:
    """First offset and end of a partition. Raises `LogError`."""
    found = asked(url, lambda: reader.get_watermark_offsets(place, timeout=ANSWER_S))
    if found is None:
        raise LogError(f"{url}: {place.topic}/{place.partition}: no answer in {ANSWER_S:.0f} s")
    return int(found[0]), int(found[1])


def ends(
    admin: AdminClient, places: Iterable[tuple[str, int]], url: str, *, committed: bool = True
) -> dict[tuple[str, int], int]:
    """Ends of partitions by topic and partition, in one question. Raises `LogError`."""
    level = IsolationLevel.READ_COMMITTED if committed else IsolationLevel.READ_UNCOMMITTED
    wanted = {TopicPartition(*place): LATEST for place in places}

    def ask() -> dict[tuple[str, int], int]:
        answers = admin.list_offsets(wanted, isolation_level=level, request_timeout=ANSWER_S)
        try:
            return {(p.topic, p.partition): int(answer.result().offset) for p, answer in answers.items()}
        except KafkaException:
            admin.list_topics(timeout=1)  # the leaders that the client remembers may be those of before
            raise

    return asked(url, ask) if wanted else {}
