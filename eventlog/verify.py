"""Structure: do the seals hold, are offsets whole, does everything decode?

Works on any store, and on a log that is being written: ends are noted first and seals read after,
so that every block that was full by then has its seal. What the seals do not cover yet is said to
be unsealed. A digest covers every record before it: a seal that holds proves all of them, and one
before it that differs has been changed itself.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from eventlog.contract import LogReader, Stream
from eventlog.errors import LogError
from eventlog.seals import SEALS, Chain, make_seal, seal_record
from schemas import TOPICS, Record, Seal, Unreadable, decode

PAGE = 5000
FACTS_MAY_BE_UNREADABLE = frozenset(t.name for t in TOPICS.values() if t.kind in ("market", "fact"))

Progress = Callable[[int], None]


@runtime_checkable
class RollsAlong(Protocol):
    """A store that keeps each partition's rolled digest as it appends."""

    def chain(self, topic: str, partition: int) -> Chain:
        """The partition's chain at its end."""
        ...


@dataclass(frozen=True)
class Fault:
    """Something that does not hold: where (offsets `first` up to `next`, `offset` where known), what."""

    topic: str
    partition: int
    first: int
    next: int
    offset: int | None
    reason: str


@dataclass
class SealReport:
    """What a walk over a log found.

    `sealed` and `unsealed` count what seals are for: all records but the seals. `unsealed_at` says
    how many records stand after the last seal of a partition, seals among them.
    """

    records: int = 0
    sealed: int = 0
    unsealed: int = 0
    unsealed_at: dict[str, int] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)


@dataclass(frozen=True)
class Placed:
    """A seal and its offset in topic `seals`."""

    offset: int
    seal: Seal

    def fault(self, reason: str) -> Fault:
        """What is wrong with the seal itself."""
        return Fault(*SEALS, self.offset, self.offset + 1, self.offset, reason)


def check_seals(log: LogReader, progress: Progress | None = None) -> SealReport:
    """Walk every partition: recompute the digests, compare the seals, look for holes, decode all.

    `progress` is called with the number of records so far.
    """
    report = SealReport()
    ends = _ends(log, report)
    seals = _read_seals(log, ends.get(SEALS, 0), report)
    for stream, end in ends.items():
        mine = _in_order(stream, seals.pop(stream, []), report)
        _PartitionCheck(log, stream, end, mine, report, progress).run()
    for (topic, partition), rest in seals.items():
        report.faults += [placed.fault(f"seals {topic}/{partition}, which is not there") for placed in rest]
    return report


def _ends(log: LogReader, report: SealReport) -> dict[Stream, int]:
    """Where every partition ends now; that of the seals is looked up last."""
    streams = [(topic, p) for topic in sorted(TOPICS) for p in range(log.partitions(topic))]
    ends: dict[Stream, int] = {}
    for stream in sorted(streams, key=lambda s: s == SEALS):
        try:
            ends[stream] = log.bounds(*stream)[1]
        except LogError as problem:
            report.faults.append(Fault(*stream, 0, 0, None, str(problem)))
    return ends


def _read_seals(log: LogReader, end: int, report: SealReport) -> dict[Stream, list[Placed]]:
    """The seals of each partition as they stand. What cannot be read is found when they are walked."""
    found: dict[Stream, list[Placed]] = {}
    position = 0
    try:
        while records := log.read(*SEALS, gte=position, lt=end, limit=PAGE):
            for record in records:
                event = decode(record.topic, record.value)
                if isinstance(event, Seal):
                    placed = Placed(record.offset, event)
                    found.setdefault((event.sealed, event.partition), []).append(placed)
                    made = seal_record(event)
                    if (record.key, record.value) != (made.key, made.value):
                        report.faults.append(placed.fault("a seal that is not as it was written"))
            position = records[-1].offset + 1
    except LogError:
        pass
    return found


def _in_order(stream: Stream, seals: list[Placed], report: SealReport) -> deque[Placed]:
    """The seals whose counts ascend; the others are faults."""
    kept: deque[Placed] = deque()
    for placed in seals:
        if placed.seal.count <= (kept[-1].seal.count if kept else 0):
            report.faults.append(placed.fault(f"a seal of {stream[0]}/{stream[1]} that is out of order"))
        else:
            kept.append(placed)
    return kept


class _PartitionCheck:
    """Rolls the digest over a partition and holds it against its seals, in order."""

    def __init__(
        self,
        log: LogReader,
        stream: Stream,
        end: int,
        seals: deque[Placed],
        report: SealReport,
        progress: Progress | None,
    ) -> None:
        self._log, self._stream, self._report, self._progress = log, stream, report, progress
        self._end = end
        self._until = max(end, seals[-1].seal.next) if seals and stream != SEALS else end
        self._seals = seals
        self._chain = Chain()
        self._waiting: list[Record] = []
        self._sealed = 0
        """Where the last seal ended, whether it holds or not."""
        self._reached = self._proven = 0
        """How many records the last seal covers, and the last that holds."""
        self._differing: list[tuple[Placed, Fault]] = []
        self._torn = False
        """Whether records are missing, so that no later digest can hold."""

    def run(self) -> None:
        """Find every fault of the partition."""
        faults_before = len(self._report.faults)
        stop = self._records_to_next()
        for record in self._walk():
            self._check_record(record)
            self._waiting.append(record)
            if len(self._waiting) == stop:
                self._roll()
                self._settle()
                stop = self._records_to_next()
        self._roll()
        self._conclude()
        if len(self._report.faults) == faults_before:
            self._compare_kept()

    def _records_to_next(self) -> int:
        """How many records until the next seal, or the end of the block."""
        count, room = self._chain.count, self._chain.room()
        return min(room, self._seals[0].seal.count - count) if self._seals else room

    def _roll(self) -> None:
        if self._waiting:
            self._chain.add(self._waiting, self._waiting[-1].offset + 1)
            self._waiting = []

    def _fault(self, first: int, next: int, offset: int | None, reason: str) -> Fault:
        return Fault(*self._stream, first, next, offset, reason)

    def _add(self, first: int, next: int, offset: int | None, reason: str) -> None:
        self._report.faults.append(self._fault(first, next, offset, reason))

    def _walk(self) -> Iterator[Record]:
        """Every record in order; holes and a wrong end are faults."""
        position = 0
        try:
            position = self._log.bounds(*self._stream)[0]
            while records := self._log.read(*self._stream, gte=position, lt=self._until, limit=PAGE):
                for record in records:
                    if record.offset != position:
                        self._check_step(position, record.offset)
                    position = record.offset + 1
                    yield record
                self._report.records += len(records)
                if self._progress is not None:
                    self._progress(self._report.records)
            self._check_end(position)
        except LogError as problem:
            self._torn = True
            self._add(position, max(position, self._end), None, str(problem))

    def _check_step(self, due: int, found: int) -> None:
        """From one record to the next: offsets ascend, and have no holes where the store has none."""
        if type(found) is not int or found < due:
            raise LogError(f"offset {found} stands after {due - 1}")
        if self._log.dense:
            self._torn = True
            self._add(due, found, due, f"records {due} to {found - 1} are missing")

    def _check_end(self, position: int) -> None:
        """The records end where the store said, and nothing stands beyond what it says is next."""
        if not self._log.dense:
            return
        if position < self._end:
            self._torn = True
            reason = f"the store says that {self._end} is next, but the records end before {position}"
            self._add(position, self._end, position, reason)
        beyond = self._log.read(*self._stream, gte=position, limit=1)
        last = beyond[0].offset + 1 if beyond else position
        next = self._log.bounds(*self._stream)[1]
        if last > next:
            reason = f"the store says that {next} is next, but offset {last - 1} has a record"
            self._add(next, last, next, reason)

    def _check_record(self, record: Record) -> None:
        """Decisions and journals are written by Tape alone: one that does not decode is damage."""
        if record.topic in FACTS_MAY_BE_UNREADABLE:
            return
        event = decode(record.topic, record.value)
        if isinstance(event, Unreadable):
            self._add(record.offset, record.offset + 1, record.offset, f"cannot be read: {event.reason}")

    def _settle(self) -> None:
        """Hold what is rolled against the seal that ends here, or that must end here."""
        chain = self._chain
        if self._seals and self._seals[0].seal.count == chain.count:
            self._hold(self._seals.popleft())
            self._sealed, self._reached = chain.next, chain.count
        elif (self._log.dense or self._seals) and not self._torn:
            self._add(self._sealed, chain.next, None, "a full block without its seal")

    def _hold(self, placed: Placed) -> None:
        seal, expected = placed.seal, make_seal(self._stream, self._sealed, self._chain)
        if seal.digest == expected.digest:
            self._proven = self._chain.count
            for earlier, _ in self._differing:
                reason = "the seal was changed: a later one shows that the records were not"
                self._report.faults.append(earlier.fault(reason))
            self._differing.clear()
            if seal != expected:
                reason = (
                    f"covers [{seal.first}, {seal.next}), but the seal before ends at {expected.first} "
                    f"and the records at {expected.next}"
                )
                self._report.faults.append(placed.fault(reason))
            return
        reason = (
            f"what is stored is not what was sealed ({_place(placed)}): "
            f"digest {expected.digest[:16]} now, {seal.digest[:16]} sealed"
        )
        fault = self._fault(expected.first, max(expected.next, seal.next), None, reason)
        self._differing.append((placed, fault))

    def _conclude(self) -> None:
        """The first thing that does not hold, of which the rest is a consequence; and the counts."""
        if self._torn:
            pass
        elif self._differing:
            self._report.faults.append(self._differing[0][1])
        elif self._seals:
            placed, end = self._seals[0], self._chain.next
            reason = f"sealed up to {placed.seal.next} ({_place(placed)}), but the records end before {end}"
            self._add(min(placed.seal.first, end), max(placed.seal.next, end), end, reason)
        unsealed = self._chain.count - self._reached
        if self._stream == SEALS:
            unsealed -= bool(self._reached)  # the seal of the seals holds, and says no more than that
        else:
            self._report.sealed += self._proven
            self._report.unsealed += unsealed
        if unsealed:
            self._report.unsealed_at["{}/{}".format(*self._stream)] = unsealed

    def _compare_kept(self) -> None:
        """Where the store rolls along: is what it keeps the digest of what it stores?"""
        if isinstance(self._log, RollsAlong):
            try:
                kept = self._log.chain(*self._stream)
            except LogError as problem:
                self._add(self._sealed, self._chain.next, None, str(problem))
                return
            if kept.next == self._chain.next and kept.digest != self._chain.digest:
                reason = "the digest that the store keeps is not that of its records"
                self._add(self._sealed, self._chain.next, None, reason)


def _place(placed: Placed) -> str:
    return f"{SEALS[0]}/{SEALS[1]}/{placed.offset}"
