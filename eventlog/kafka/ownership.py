"""Who owns which core partition: a consumer group on `operator.commands`, whose partitions are paused.

The group only says who is to run a partition; that nobody else writes it is the writer's affair, whose
transactional id fences the owner before. A member that is silent for `SESSION_S` loses what it owns.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Self

from confluent_kafka import Consumer, KafkaException, TopicPartition

from eventlog.errors import LogError
from eventlog.kafka.client import consumer, leave
from eventlog.kafka.membership import SESSION_S

if TYPE_CHECKING:
    from eventlog.kafka.store import KafkaLog

TOPIC = "operator.commands"


class Ownership:
    """Membership of the group of core hosts. `owned` are the partitions that are this member's."""

    def __init__(self, log: KafkaLog, release: Callable[[frozenset[int]], None]) -> None:
        """`release` ends the work on partitions that another member is to have, before it gets them."""
        self.owned: frozenset[int] = frozenset()
        self._release = release
        self._url = log.url
        self._consumer = consumer(
            log.address,
            f"{log.name}/core",
            {
                "session.timeout.ms": int(SESSION_S * 1000),
                "heartbeat.interval.ms": 500,
                "partition.assignment.strategy": "cooperative-sticky",
                "auto.offset.reset": "latest",
                "enable.partition.eof": False,
            },
        )
        self._consumer.subscribe(
            [log.topic(TOPIC)], on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._lost
        )

    def poll(self, timeout_s: float) -> frozenset[int]:
        """Take part in the group for so long; what is owned now. Raises `LogError`."""
        try:
            message = self._consumer.poll(timeout_s)
        except KafkaException as problem:
            raise LogError(f"{self._url}: the group of core hosts: {problem.args[0].str()}") from problem
        error = message.error() if message is not None else None
        if error is not None and not error.retriable():
            raise LogError(f"{self._url}: the group of core hosts: {error.str()}")
        return self.owned

    def _assigned(self, member: Consumer, came: list[TopicPartition]) -> None:
        member.incremental_assign(came)
        member.pause(came)
        self.owned |= {place.partition for place in came}

    def _revoked(self, member: Consumer, gone: list[TopicPartition]) -> None:
        self._release(frozenset(place.partition for place in gone))
        self._lost(member, gone)

    def _lost(self, member: Consumer, gone: list[TopicPartition]) -> None:
        """Another member may have them already."""
        self.owned -= {place.partition for place in gone}
        member.incremental_unassign(gone)

    def close(self) -> None:
        """Leave the group: its partitions go to others at once."""
        leave(self._consumer)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
