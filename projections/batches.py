"""Decisions by whole batches: what a projection applies, and how it knows that nothing is missing.

`batches` says up to which `seq` of each account a batch goes; the records of the decision topics up to
there belong to it. An account's `seq` is gapless over all topics, and `prev` chains those of one topic:
what is not beyond the last is a repeat and dropped, what does not join on is a hole.
"""

from __future__ import annotations

import hashlib
import time
from collections import defaultdict, deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from eventlog.contract import LogReader
from eventlog.errors import LogDamaged
from projections.errors import Hole
from schemas import DECISIONS, Batch, Event, Record, Unreadable, decode

COMMANDS = "operator.commands"
PAGE = 5000
BATCHES_PAGE = 50
"""A batch holds the order of its inputs, and is large."""
SETTLE_POLL_S = 0.02
SETTLE_S = 10.0
"""How long to wait for what a committed batch says is there: a broker shows its topics one by one."""


class Seen(msgspec.Struct):
    """An account's decisions so far: the last `seq`, and the last of each topic.

    `gaps` counts, by topic, unreadable records since its last readable one; `spare` those whose number
    could not be told and that no missing one has been put down to yet.
    """

    seq: int = 0
    topics: dict[str, int] = {}  # msgspec copies it
    gaps: dict[str, int] = {}
    spare: int = 0


class Position(msgspec.Struct):
    """Where a projection stands in a partition of a log."""

    next: int = 0
    """Offset of the next batch to read."""
    batches: int = 0
    decisions: int = 0
    now: int | None = None
    """Market time after the last batch, UTC ns."""
    digest: str = ""
    """Of the last batch's bytes: whether it is still the same log that is read."""
    topics: dict[str, int] = {}
    """The next offset of each decision topic."""
    accounts: dict[str, Seen] = {}


@dataclass
class Taken:
    """Whole batches: their decisions, by topic in order, and the position after them."""

    after: Position
    decisions: list[Event] = field(default_factory=list)
    unreadable: list[tuple[Record, int | None, str]] = field(default_factory=list)
    """Record, `seq` where it could be told, reason."""
    commands: dict[str, tuple[Event, bytes]] = field(default_factory=dict)
    """The commands among the batches' inputs, by id."""
    repeats: int = 0


class BatchReader:
    """Reads a partition of a log from a position on."""

    def __init__(self, log: LogReader, partition: int, position: Position) -> None:
        self._log, self._partition = log, partition
        self.position = _copy(position)
        self._batches: deque[tuple[Record, Batch]] = deque()
        self._pages: dict[str, deque[Record]] = {topic: deque() for topic in DECISIONS}
        self._ends = {topic: position.topics.get(topic, 0) for topic in DECISIONS}
        """Up to where each topic has been read into `_pages`."""
        self._batches_end = position.next

    def stands(self) -> bool:
        """Whether the last batch brought in stands in this log, where it stood then."""
        if not self.position.batches:
            return True
        offset = self.position.next - 1
        found = self._log.read("batches", self._partition, gte=offset, lt=offset + 1, limit=1)
        return bool(found) and _digest(found[0]) == self.position.digest

    def take(self, decisions: int) -> Taken | None:
        """The next batches, whole, until they have so many decisions; None at the end of the log.

        Raises `Hole`, `LogDamaged`.
        """
        batches = list(self._some_batches(decisions))
        if not batches:
            return None
        after = self.position = _copy(self.position)
        taken = Taken(after)
        for _, batch in batches:
            taken.commands.update(self._commands(batch))
        record, last = batches[-1]
        after.next, after.digest, after.now = record.offset + 1, _digest(record), last.now
        after.batches += len(batches)
        found: dict[str, list[int]] = defaultdict(list)
        for topic in DECISIONS:
            self._take_topic(topic, last.seqs, taken, found)
        if any(self._short(account, seq, found) for account, seq in last.seqs.items()):
            self._wait_for_rest(last.seqs, taken, found)
        for account, seq in last.seqs.items():
            self._close(account, seq, found)
        after.decisions += len(taken.decisions)
        return taken

    # ------------------------------------------------------------ batches and commands

    def _some_batches(self, decisions: int) -> Iterator[tuple[Record, Batch]]:
        before = sum(seen.seq for seen in self.position.accounts.values())
        while True:
            if not self._batches:
                page = self._log.read("batches", self._partition, gte=self._batches_end, limit=BATCHES_PAGE)
                if not page:
                    return
                self._batches_end = page[-1].offset + 1
                self._batches += [(record, _batch(record)) for record in page]
            yield self._batches[0]
            _, batch = self._batches.popleft()
            if sum(batch.seqs.values()) - before >= decisions:
                return

    def _commands(self, batch: Batch) -> Iterator[tuple[str, tuple[Event, bytes]]]:
        for given in batch.inputs:
            if given.topic == COMMANDS and given.count:
                for record in self._log.read(
                    COMMANDS, given.partition, gte=given.first, lt=given.next, limit=given.count
                ):
                    event: Any = decode(COMMANDS, record.value)
                    if not isinstance(event, Unreadable):
                        yield event.id, (event, record.value)

    # ------------------------------------------------------------ decisions

    def _take_topic(
        self, topic: str, seqs: Mapping[str, int], taken: Taken, found: dict[str, list[int]]
    ) -> None:
        """Take a topic's records up to the first that is beyond the batch."""
        page = self._pages[topic]
        while page or self._refill(topic):
            record = page[0]
            event: Any = decode(topic, record.value)
            if isinstance(event, Unreadable):
                account, seq = _account_of(record), _seq_of(record)
                if seq is not None and seq > seqs.get(account, 0):
                    return
                self._take_unreadable(record, account, seq, event.reason, taken, found)
            else:
                if event.seq > seqs.get(event.account, 0):
                    return
                self._take_decision(event, record, taken, found)
            self.position.topics[topic] = record.offset + 1
            page.popleft()

    def _refill(self, topic: str) -> bool:
        page = self._log.read(topic, self._partition, gte=self._ends[topic], limit=PAGE)
        if page:
            self._ends[topic] = page[-1].offset + 1
            self._pages[topic] += page
        return bool(page)

    def _take_decision(self, event: Any, record: Record, taken: Taken, found: dict[str, list[int]]) -> None:
        seen = self._seen(event.account)
        last = seen.topics.get(record.topic, 0)
        if event.seq <= last:
            taken.repeats += 1
            return
        if event.prev != last and not (seen.gaps.get(record.topic) and event.prev > last):
            raise Hole(
                f"{self._log.url}: {record.place} is decision {event.account}:{event.seq} and follows "
                f"{event.account}:{event.prev} in {record.topic}, where the last before it is "
                f"{event.account}:{last}; see `tape verify`, and bring the log back from a copy"
            )
        seen.topics[record.topic] = event.seq
        seen.gaps.pop(record.topic, None)
        found[event.account].append(event.seq)
        taken.decisions.append(event)

    def _take_unreadable(
        self,
        record: Record,
        account: str,
        seq: int | None,
        reason: str,
        taken: Taken,
        found: dict[str, list[int]],
    ) -> None:
        seen = self._seen(account)
        if seq is None:
            seen.spare += 1
        elif seq > seen.topics.get(record.topic, 0):
            found[account].append(seq)
        else:
            taken.repeats += 1
            return
        seen.gaps[record.topic] = seen.gaps.get(record.topic, 0) + 1
        taken.unreadable.append((record, seq, reason))

    def _seen(self, account: str) -> Seen:
        accounts = self.position.accounts
        if account not in accounts:
            accounts[account] = Seen()
        return accounts[account]

    # ------------------------------------------------------------ is it whole?

    def _short(self, account: str, seq: int, found: Mapping[str, list[int]]) -> bool:
        """Whether decisions are missing that no unreadable record accounts for."""
        seen = self._seen(account)
        return seq - seen.seq > len(found.get(account, ())) + seen.spare

    def _wait_for_rest(self, seqs: Mapping[str, int], taken: Taken, found: dict[str, list[int]]) -> None:
        """A broker may show a transaction's batch before its decisions: wait for them."""
        until = time.monotonic() + SETTLE_S
        while not self._log.dense and time.monotonic() < until:
            time.sleep(SETTLE_POLL_S)
            for topic in DECISIONS:
                self._take_topic(topic, seqs, taken, found)
            if not any(self._short(account, seq, found) for account, seq in seqs.items()):
                return

    def _close(self, account: str, seq: int, found: Mapping[str, list[int]]) -> None:
        """The account stands at `seq` now. Raises `Hole`."""
        seen, numbers = self._seen(account), found.get(account, [])
        missing = seq - seen.seq - len(numbers)
        if missing < 0 or len(set(numbers)) != len(numbers):
            twice = next((n for n in sorted(numbers) if numbers.count(n) > 1), seq)
            raise Hole(f"{self._log.url}: decision {account}:{twice} stands in two topics; see `tape verify`")
        if missing > seen.spare:
            lost = next(n for n in range(seen.seq + 1, seq + 1) if n not in set(numbers))
            raise Hole(
                f"{self._log.url}: decision {account}:{lost} is missing, and the batch that ends at "
                f"batches/{self._partition}/{self.position.next - 1} goes up to {account}:{seq}; "
                "see `tape verify`, and bring the log back from a copy"
            )
        seen.spare -= missing
        seen.seq = seq


def _copy(position: Position) -> Position:
    return msgspec.json.decode(msgspec.json.encode(position), type=Position)


def _digest(record: Record) -> str:
    return hashlib.blake2b(record.value, digest_size=16).hexdigest()


def _batch(record: Record) -> Batch:
    event = decode(record.topic, record.value)
    if not isinstance(event, Batch):
        why = event.reason if isinstance(event, Unreadable) else type(event).__name__
        raise LogDamaged(f"{record.place} cannot be read as a batch: {why}; see `tape verify`")
    return event


def _account_of(record: Record) -> str:
    return record.key.decode("utf-8", "replace")


def _seq_of(record: Record) -> int | None:
    """The number of a decision that cannot be read whole: of one from a later version, say."""
    try:
        found = msgspec.json.decode(record.value)
    except (ValueError, RecursionError):
        return None
    seq = found.get("seq") if isinstance(found, dict) else None
    return seq if isinstance(seq, int) and not isinstance(seq, bool) and 0 < seq < 2**63 else None
