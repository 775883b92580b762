"""Who holds a writer's id: static membership of a group of its name.

The broker lets one member of an instance id live; a newer one fences the older. The holder leaves a
note beside the group's offset that says which process it is, or that it let go: on the same machine a
dead holder is known at once, elsewhere when its session has ended.

Transactions are fenced by the broker. Market records are written without, so a holder that stood
still and was followed by another must be kept from writing them when it wakes up:

1. it takes the time, `T`, of what it is about to write;
2. it confirms its membership, unless that was done less than `LEASE_S` before;
3. it writes the records with time `T`, and the broker refuses what is older than `DELAY_MAX_S`, or
   ahead of its own clock by more than `AHEAD_MAX_S`.

So nothing of a former holder is written later than `SILENCE_S` after it was last confirmed. A session
is as long; who takes over from a holder that may live waits as long before its own first market record.
"""

from __future__ import annotations

import contextlib
import time as clock
from pathlib import Path

from confluent_kafka import (
    Consumer,
    KafkaError,
    KafkaException,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient

from eventlog.errors import LogError, WriterBusy, WriterFenced
from eventlog.holders import Holder
from eventlog.kafka.client import ANSWER_S, asked, consumer, leave

SESSION_S = 6.0
LEASE_S = 1.0
DELAY_MAX_S = 4.0
AHEAD_MAX_S = 1.0
SILENCE_S = LEASE_S + DELAY_MAX_S + AHEAD_MAX_S
NOTE_S = 2.0
POLL_S = 0.002
RELEASED = "released"

FENCED = (
    KafkaError._FENCED,
    KafkaError.FENCED_INSTANCE_ID,
    KafkaError.INVALID_PRODUCER_EPOCH,
    KafkaError.PRODUCER_FENCED,
)


def fenced(url: str, id: str) -> WriterFenced:
    """What a writer whose id another holds now is told."""
    return WriterFenced(f"{url}: another holder of writer {id} has taken over")


class Membership:
    """Holds a writer's id. Raises `WriterBusy` while another holder lives."""

    def __init__(
        self, url: str, address: str, name: str, admin: AdminClient, id: str, take_over: bool
    ) -> None:
        self._url, self._address, self._admin, self._id = url, address, admin, id
        self._group = f"{name}/writer/{id}"
        self._place = TopicPartition(f"{name}.log", 0)
        self._fatal: KafkaError | None = None
        self._joined = self._lost = self._leaving = False
        self._noted: list[KafkaError | None] = []
        may_live = self._refuse_or_wait(take_over)
        self._consumer = consumer(
            address,
            self._group,
            {
                "group.instance.id": id,
                "session.timeout.ms": int(SESSION_S * 1000),
                "heartbeat.interval.ms": 1000,
                "max.poll.interval.ms": 86_400_000,
                "auto.offset.reset": "latest",
                "error_cb": self._on_error,
                "on_commit": self._on_commit,
            },
        )
        self._holder = Holder.new()
        self._mine = f"{_here()} {self._holder}"
        try:
            self._join()
            self._confirmed = 0.0
            self._renew()
        except BaseException:
            self._holder.let_go()
            leave(self._consumer)
            raise
        self._silent_from = clock.monotonic() + (SILENCE_S if may_live else 0)

    def check(self) -> None:
        """Raises `WriterFenced` once a newer holder has joined; `LogError` where the broker is away."""
        self._poll(0)
        self._refuse_fenced()
        if self._lost:
            self._regain()

    def confirm(self) -> None:
        """Be sure that the id is held, and was less than `LEASE_S` ago. Raises as `check` does."""
        self.check()
        if clock.monotonic() - self._confirmed > LEASE_S:
            self._renew()

    def is_fenced(self) -> bool:
        """Whether a newer holder is known to have joined, as far as the broker answers."""
        self._poll(0)
        if self._fatal is None:
            with contextlib.suppress(LogError):
                return self._note(NOTE_S) != self._mine
        return self._fatal is not None

    def await_silence(self) -> None:
        """Until nothing of the holder before can come any more."""
        while (left := self._silent_from - clock.monotonic()) > 0:
            self._poll(min(left, 0.1))

    def close(self) -> None:
        """Let go: a static member stays in its group until its session ends, so it leaves a note."""
        if self._fatal is None and not self._lost:
            with contextlib.suppress(KafkaException, LogError):
                self._leave_note(RELEASED, NOTE_S)
        self._leaving = True
        self._holder.let_go()
        leave(self._consumer)

    def _refuse_or_wait(self, take_over: bool) -> bool:
        """Whether the holder before may live. One that dies is waited for, one that stays is refused."""
        until = clock.monotonic() + SESSION_S + 2
        note = self._note()
        holder = _holder_here(note)
        if note == RELEASED or (holder is not None and not holder.is_alive()):
            return False
        while self._members():
            if take_over:
                return True
            if holder is not None or clock.monotonic() > until:
                who = "a live process" if holder is None else f"process {holder.pid} on {holder.host}"
                raise WriterBusy(f"{self._url}: writer {self._id} is held by {who}; stop it, or take over")
            clock.sleep(0.25)
        return False

    def _members(self) -> int:
        def ask() -> int:
            described = self._admin.describe_consumer_groups([self._group], request_timeout=ANSWER_S)
            try:
                return len(described[self._group].result().members)
            except KafkaException as problem:
                if problem.args[0].code() == KafkaError.GROUP_ID_NOT_FOUND:
                    return 0
                raise

        return asked(self._url, ask)

    def _note(self, within_s: float = ANSWER_S) -> str:
        """What the last holder left; asked by a consumer.

        librdkafka's admin client ends the process (a null pointer) where it asks for a group's offsets
        before the group has a coordinator, as on a new broker.
        """
        reader = consumer(self._address, self._group)
        try:
            (found,) = asked(self._url, lambda: reader.committed([self._place], timeout=within_s), within_s)
        finally:
            reader.close()
        return found.metadata or ""

    def _join(self) -> None:
        self._joined, self._lost = False, True
        until = clock.monotonic() + 2 * ANSWER_S
        while not self._joined:
            if self._lost:
                self._lost = False
                self._consumer.subscribe(
                    [self._place.topic],
                    on_assign=self._on_assign,
                    on_revoke=self._on_lost,
                    on_lost=self._on_lost,
                )
            self._poll(POLL_S)
            self._refuse_fenced()
            if clock.monotonic() > until:
                raise LogError(f"{self._url}: writer {self._id} could not join its group")

    def _regain(self) -> None:
        """Join again after the broker, or this process, stood still for a session, unless another has.

        Another leaves its note before it writes anything, so one that joins between the two questions
        is fenced by this and has written nothing.
        """
        self._require_mine()
        self._join()
        self._require_mine()
        self._confirmed = 0.0

    def _require_mine(self) -> None:
        if self._note() != self._mine:
            raise fenced(self._url, self._id)

    def _refuse_fenced(self) -> None:
        if self._fatal is not None:
            raise fenced(self._url, self._id)

    def _renew(self) -> None:
        """Have the broker take a note, which it does of the one member that holds the id."""
        started = clock.monotonic()
        while not self._leave_note(self._mine, ANSWER_S):
            if not self._lost:
                raise LogError(
                    f"{self._url}: the broker has not confirmed writer {self._id} in {ANSWER_S:.0f} s; "
                    "see that it runs, then start again"
                )
            self._regain()
            started = clock.monotonic()
        self._confirmed = started

    def _leave_note(self, note: str, timeout_s: float) -> bool:
        """Whether it was taken in time: a broker that is gone takes no notes, nor does one that has
        ended the session. Raises `WriterFenced`."""
        until = clock.monotonic() + timeout_s
        while clock.monotonic() < until and not self._lost:
            self._noted.clear()
            place = TopicPartition(self._place.topic, self._place.partition, 0, note)
            self._consumer.commit(offsets=[place], asynchronous=True)
            while not (self._noted or self._lost) and clock.monotonic() < until:
                self._poll(POLL_S)
            self._refuse_fenced()
            if self._noted and _is_fenced(self._noted[0]):
                raise fenced(self._url, self._id)
            if self._noted and self._noted[0] is None:
                return True
            self._poll(10 * POLL_S)
        return False

    def _on_commit(self, error: KafkaError | None, partitions: list[TopicPartition]) -> None:
        self._noted.append(error or next((p.error for p in partitions if p.error is not None), None))

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._joined = True
        consumer.pause(partitions)

    def _on_lost(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        """The session has ended: a client joins again by itself, and would fence who has followed it."""
        self._lost = True
        if not self._leaving:
            with contextlib.suppress(KafkaException):  # it is fenced already
                consumer.unsubscribe()

    def _on_error(self, error: KafkaError) -> None:
        if error.fatal() or error.code() == KafkaError._FATAL:
            self._fatal = error

    def _poll(self, seconds: float) -> None:
        message = self._consumer.poll(seconds)
        error = message.error() if message is not None else None
        if error is not None and error.code() != KafkaError._PARTITION_EOF:
            self._on_error(error)


def _is_fenced(error: KafkaError | None) -> bool:
    return error is not None and error.code() in FENCED


def _here() -> str:
    """What tells processes of this machine, container and boot from those of others; "?" is nowhere."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot}/{Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return "?"


def _holder_here(note: str) -> Holder | None:
    """The holder that left a note, where it is of this machine and can be looked up."""
    place, _, text = note.partition(" ")
    return Holder.parse(text) if place == _here() != "?" else None
