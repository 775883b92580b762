"""Looking into a log: what its topics hold, the last records and those that follow, a single one.

All of it goes through the contract of a log: it reads what is committed, and writes nothing.
"""

from __future__ import annotations

import difflib
import heapq
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from eventlog.contract import LogReader, Stream
from eventlog.errors import NotInLog
from eventlog.seals import SEALS
from schemas import (
    DECISIONS,
    TOPICS,
    Record,
    Seal,
    Topic,
    Unreadable,
    decision_id,
    partition_of,
    read_into,
)

PAGE = 1000
SAMPLE = 100
"""How many records at each end are looked at for one with a time of its own."""
WAIT_S = 1.0
PARTS = re.compile(r"([^/]*)(?:/([0-9]{1,9}))?(?:/([0-9]{1,18}))?", re.ASCII)
DECISION = re.compile(r"(.+):([0-9]{1,18})", re.ASCII)
KINDS = ("market", "fact", "decision", "journal")
NUMBERS = {name: number for number, name in enumerate(TOPICS)}


@dataclass(frozen=True)
class Times:
    """First and last time, UTC ns: of the events, or where these have none, of their writing."""

    first: int
    last: int
    of: Literal["event", "writing"]


@dataclass
class Contents:
    """What a partition holds from offset `first` up to `next`.

    `records` is None where only counting would tell: offsets of a topic written in transactions have
    holes. `unreadable`, `types` and `unsealed` are known where the records were counted.
    """

    topic: str
    partition: int
    first: int
    next: int
    records: int | None = None
    times: Times | None = None
    unreadable: int | None = None
    first_unreadable: Record | None = None
    types: Counter[str] = field(default_factory=Counter)
    sealed: int | None = None
    """The next offset after the last seal, as the seal says it; None without a seal."""
    unsealed: int | None = None


# ------------------------------------------------------------ what a topic holds


def glance(log: LogReader, topic: str, partition: int) -> Contents:
    """What can be told of a partition by its ends; times are those of its first and last records."""
    first, next = log.bounds(topic, partition)
    seen = Contents(topic, partition, first, next)
    if next == first or log.dense or not TOPICS[topic].transactional:
        seen.records = next - first
    for sample in (1, SAMPLE):
        head = log.read(topic, partition, gte=first, lt=next, limit=sample)
        tail = _last(log, topic, partition, sample, next)
        ends = [*map(read_into, head), *map(read_into, tail)]
        seen.times = _times(ends)
        if all(event_time(record) is not None for record in ends):
            break
    return seen


def count(
    log: LogReader,
    topic: str,
    partition: int,
    seals: Mapping[Stream, Record] | None = None,
    progress: Callable[[int], None] = lambda offsets: None,
) -> Contents:
    """What a partition holds, by reading all of it; with the last seals, also what is not sealed yet.

    `progress` is called with the number of offsets so far.
    """
    first, next = log.bounds(topic, partition)
    seen = Contents(topic, partition, first, next)
    sealed_to = 0
    if (placed := (seals or {}).get((topic, partition))) is not None and isinstance(placed.event, Seal):
        seen.sealed = placed.event.next
        # A seal of the seals seals all before it, and says no more than that.
        sealed_to = placed.offset + 1 if (topic, partition) == SEALS else seen.sealed
    records = unsealed = 0
    times: list[Times | None] = []
    for page in _pages(log, topic, partition, first, next):
        for record in map(read_into, page):
            if isinstance(record.event, Unreadable):
                seen.first_unreadable = seen.first_unreadable or record
            else:
                seen.types[type(record.event).__name__] += 1
        times.append(_times(page))
        records += len(page)
        unsealed += sum(record.offset >= sealed_to for record in page)
        progress(page[-1].offset + 1 - first)
    seen.records, seen.unsealed, seen.unreadable = records, unsealed, records - seen.types.total()
    seen.times = span(times)
    return seen


def _times(records: Sequence[Record]) -> Times | None:
    """The times of decoded records."""
    events = [time for time in map(event_time, records) if time is not None]
    if events:
        return Times(min(events), max(events), "event")
    written = [record.timestamp for record in records]
    return Times(min(written), max(written), "writing") if written else None


def span(times: Iterable[Times | None]) -> Times | None:
    """Times together: those of events where there are any."""
    known = [t for t in times if t is not None]
    known = [t for t in known if t.of == "event"] or known
    return Times(min(t.first for t in known), max(t.last for t in known), known[0].of) if known else None


def last_seals(log: LogReader) -> dict[Stream, Record]:
    """The record of each partition's last seal. What it says is not checked here."""
    found = {}
    for page in _pages(log, *SEALS, *log.bounds(*SEALS)):
        for record in map(read_into, page):
            if isinstance(record.event, Seal):
                found[record.event.sealed, record.event.partition] = record
    return found


def _pages(log: LogReader, topic: str, partition: int, gte: int, lt: int) -> Iterator[list[Record]]:
    while gte < lt and (page := log.read(topic, partition, gte=gte, lt=lt, limit=PAGE)):
        yield page
        gte = page[-1].offset + 1


def _last(log: LogReader, topic: str, partition: int, count: int, next: int) -> list[Record]:
    """The last `count` records below offset `next`, sought backwards: there may be holes."""
    first = log.bounds(topic, partition)[0]
    width = count if log.dense else 2 * count + 2
    while count > 0:
        start = max(first, next - width)
        found = [record for page in _pages(log, topic, partition, start, next) for record in page]
        if len(found) >= count or start == first:
            return found[-count:]
        width *= 4
    return []


# ------------------------------------------------------------ the last, and what follows


def event_time(record: Record) -> int | None:
    """The event's `ts`, UTC ns; None for a record without."""
    time: int | None = getattr(record.event, "ts", None)
    return time


def identity(record: Record) -> str:
    """What a cause or a trace names the record by: ACCOUNT:SEQ, the fact's own id, or its place."""
    event = record.event
    if event is None or isinstance(event, Unreadable) or TOPICS[record.topic].kind == "market":
        return record.place  # a trade print has an id of the exchange's, which is no identity of ours
    if TOPICS[record.topic].kind == "decision":
        return decision_id(getattr(event, "account", ""), getattr(event, "seq", 0))
    return str(getattr(event, "id", record.place))


def last(log: LogReader, streams: Iterable[Stream], count: int) -> tuple[list[Record], dict[Stream, int]]:
    """The last `count` records of the partitions together, by event time, and where each ends."""
    ends = _ends(log, streams)
    tails = [_last(log, *stream, count, end) for stream, end in ends.items()]
    return (in_order(tails)[-count:] if count else []), ends


def follow(log: LogReader, after: Mapping[Stream, int]) -> Iterator[list[Record]]:
    """What is appended from the positions `after` on, as it comes, each time by event time; without end."""
    positions = dict(after)
    while True:
        if not log.wait(positions, WAIT_S):
            continue
        ends = {stream: max(end, positions[stream]) for stream, end in _ends(log, positions).items()}
        came = [
            [record for page in _pages(log, *stream, positions[stream], end) for record in page]
            for stream, end in ends.items()
        ]
        positions = ends
        if records := in_order(came):
            yield records


def _ends(log: LogReader, streams: Iterable[Stream]) -> dict[Stream, int]:
    """Where partitions end; decisions are asked first, so that what led to them has an end beyond it."""
    ordered = sorted(streams, key=lambda s: (NUMBERS[s[0]], s[1]))
    ends = {stream: log.bounds(*stream)[1] for stream in reversed(ordered)}
    return {stream: ends[stream] for stream in ordered}


def in_order(partitions: Sequence[Sequence[Record]]) -> list[Record]:
    """The records of several partitions by event time, facts before decisions, decisions by `seq`.

    Each partition keeps its order. A record without a time goes with the one before it.
    """
    timed = [_timed([read_into(record) for record in records]) for records in partitions]
    return [record for _, record in heapq.merge(*timed, key=lambda pair: _rank(*pair))]


def _timed(records: Sequence[Record]) -> list[tuple[int, Record]]:
    times = [event_time(record) for record in records]
    now = next((time for time in times if time is not None), None)
    pairs = []
    for time, record in zip(times, records, strict=True):
        now = time if time is not None else now
        pairs.append((record.timestamp if now is None else now, record))
    return pairs


def _rank(time: int, record: Record) -> tuple[int, int, int, int]:
    kind = TOPICS[record.topic].kind
    seq = getattr(record.event, "seq", 0) if kind == "decision" else 0
    return time, KINDS.index(kind), seq, NUMBERS[record.topic]


# ------------------------------------------------------------ one topic, one record


def topic_named(name: str) -> Topic:
    """The topic of the catalogue. Raises `NotInLog`, which suggests the nearest name."""
    if name in TOPICS:
        return TOPICS[name]
    near = difflib.get_close_matches(name, TOPICS, 1, 0.5)
    remedy = f"did you mean {near[0]}?" if near else f"there are {', '.join(TOPICS)}"
    raise NotInLog(f"there is no topic '{name}'; {remedy}")


def streams_named(log: LogReader, text: str) -> list[Stream]:
    """The partitions that TOPIC or TOPIC/PARTITION names. Raises `NotInLog`."""
    parts = PARTS.fullmatch(text)
    if parts is None or parts[3] is not None:
        raise NotInLog(f"'{text}' is not of the form TOPIC or TOPIC/PARTITION, as fills/0")
    topic = topic_named(parts[1]).name
    partitions = log.partitions(topic)
    if parts[2] is None:
        return [(topic, partition) for partition in range(partitions)]
    return [(topic, _partition(log, topic, int(parts[2])))]


def record_named(log: LogReader, name: str) -> Record:
    """The record at TOPIC/PARTITION/OFFSET, or the decision ACCOUNT:SEQ, decoded. Raises `NotInLog`."""
    decision = DECISION.fullmatch(name)
    return _at(log, name) if decision is None else _decision(log, decision[1], int(decision[2]))


def _decision(log: LogReader, account: str, seq: int) -> Record:
    """A decision, by reading those of its account's partition."""
    name, sign = decision_id(account, seq), f'"seq":{seq},'.encode()
    for topic in DECISIONS:
        partition = partition_of(account, log.partitions(topic))
        for page in _pages(log, topic, partition, *log.bounds(topic, partition)):
            for record in page:
                if sign in record.value and identity(read_into(record)) == name:
                    return record
    raise NotInLog(f"there is no decision {name}; `tape topics tail LOG orders` shows the last ones")


def _at(log: LogReader, place: str) -> Record:
    parts = PARTS.fullmatch(place)
    if parts is None or parts[3] is None:
        raise NotInLog(
            f"'{place}' is neither TOPIC/PARTITION/OFFSET, as fills/0/12, nor a decision's id, as backtest:12"
        )
    topic, offset = topic_named(parts[1]).name, int(parts[3])
    partition = _partition(log, topic, int(parts[2]))
    found = log.read(topic, partition, gte=offset, lt=offset + 1, limit=1)
    if not found:
        raise NotInLog(
            f"there is no record {topic}/{partition}/{offset}: {_why(log, topic, partition, offset)}"
        )
    return read_into(found[0])


def _partition(log: LogReader, topic: str, partition: int) -> int:
    partitions = log.partitions(topic)
    if partition >= partitions:
        has = "one partition, 0" if partitions == 1 else f"partitions 0 to {partitions - 1}"
        raise NotInLog(f"there is no partition {topic}/{partition}; {topic} has {has}")
    return partition


def _why(log: LogReader, topic: str, partition: int, offset: int) -> str:
    """Why an offset has no record."""
    first, end = log.bounds(topic, partition)
    if first == end:
        return f"{topic}/{partition} is empty"
    if not first <= offset < end:
        return f"{topic}/{partition} has offsets {first} to {end - 1}"
    if log.dense:
        return "it is missing, which `tape verify` looks into"
    before = _last(log, topic, partition, 1, offset)
    after = log.read(topic, partition, gte=offset, lt=end, limit=1)
    near = " and ".join(str(record.offset) for record in (*before, *after)) or "none"
    return (
        f"its offset is taken by a transaction's marker, or by what was aborted; the nearest records: {near}"
    )
