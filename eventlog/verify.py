"""Structure: do the seals hold, are offsets whole, does everything decode?

Works on any store. What the seals do not cover yet is said to be unsealed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from eventlog.contract import LogReader, Stream
from eventlog.errors import LogError
from eventlog.seals import BLOCK, Chain, make_seal
from schemas import DECISIONS, TOPICS, Record, Seal, Unreadable, decode, digest, encode

FACTS_MAY_BE_UNREADABLE = frozenset(t.name for t in TOPICS.values() if t.kind in ("market", "fact"))


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
    """What a walk over a log found."""

    records: int = 0
    sealed: int = 0
    unsealed: int = 0
    unsealed_at: dict[str, int] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)


def check_seals(log: LogReader, progress: Callable[[int], None] | None = None) -> SealReport:
    """Walk every partition: recompute the digests, compare the seals, look for holes, decode all."""
    report = SealReport()
    seals = _read_seals(log, report)
    for topic in sorted(TOPICS):
        for partition in range(log.partitions(topic)):
            if topic == "seals":
                continue
            mine = seals.pop((topic, partition), [])
            _check_partition(log, topic, partition, mine, report)
            if progress is not None:
                progress(report.records)
    for (topic, partition), rest in seals.items():
        for offset, seal in rest:
            report.faults.append(
                _seal_fault(offset, f"seals {topic}/{partition}, which is not there: {seal}")
            )
    return report


def _seal_fault(offset: int, reason: str) -> Fault:
    return Fault("seals", 0, offset, offset + 1, offset, reason)


def _read_seals(log: LogReader, report: SealReport) -> dict[Stream, list[tuple[int, Seal]]]:
    found: dict[Stream, list[tuple[int, Seal]]] = {}
    for record in _walk(log, "seals", 0, report):
        report.records += 1
        event = decode("seals", record.value)
        if not isinstance(event, Seal):
            report.faults.append(_seal_fault(record.offset, f"a seal that cannot be read: {event}"))
        elif record.value != encode(event) or record.key != f"{event.sealed}/{event.partition}".encode():
            report.faults.append(_seal_fault(record.offset, "a seal that is not as it was written"))
        else:
            found.setdefault((event.sealed, event.partition), []).append((record.offset, event))
    return found


def _walk(log: LogReader, topic: str, partition: int, report: SealReport) -> Iterator[Record]:
    """Every record of a partition in order; holes and a wrong end are faults."""
    try:
        first, end = log.bounds(topic, partition)
    except LogError as problem:
        report.faults.append(Fault(topic, partition, 0, 0, None, str(problem)))
        return
    position = first
    while True:
        try:
            records = log.read(topic, partition, gte=position)
        except LogError as problem:
            report.faults.append(Fault(topic, partition, position, end, None, str(problem)))
            return
        if not records:
            break
        for record in records:
            if log.dense and record.offset != position:
                reason = f"records {position} to {record.offset - 1} are missing"
                report.faults.append(Fault(topic, partition, position, record.offset, position, reason))
            position = record.offset + 1
            yield record
    if log.dense and position != end:
        reason = f"the store says that {end} is next, but the records end before {position}"
        report.faults.append(
            Fault(topic, partition, min(position, end), max(position, end), min(position, end), reason)
        )


def _check_partition(
    log: LogReader, topic: str, partition: int, seals: list[tuple[int, Seal]], report: SealReport
) -> None:
    """Roll the digest over a partition and hold it against its seals, in order."""
    chain, done, sealed = Chain(), 0, 0
    waiting: list[Record] = []
    points = {seal.count: (offset, seal) for offset, seal in seals}
    if len(points) != len(seals) or sorted(points) != [s.count for _, s in seals]:
        report.faults.append(_seal_fault(seals[0][0], f"the seals of {topic}/{partition} are out of order"))
    broken = False

    def settle() -> None:
        """Hold what is rolled so far against the seal that ends here, or that must end here."""
        nonlocal sealed, done, broken
        chain.add([(r.key, r.value) for r in waiting], waiting[-1].offset + 1)
        waiting.clear()
        found = points.pop(chain.count, None)
        if found is None:
            if chain.count % BLOCK == 0 and not broken:
                reason = "a full block without its seal"
                report.faults.append(Fault(topic, partition, sealed, chain.next, None, reason))
            return
        offset, seal = found
        expected = make_seal(topic, partition, sealed, chain)
        if encode(seal) != encode(expected) and not broken:
            broken = True
            reason = (
                f"what is stored is not what was sealed (seals/0/{offset}): "
                f"digest {expected.digest[:16]} now, {seal.digest[:16]} sealed"
            )
            report.faults.append(Fault(topic, partition, seal.first, seal.next, None, reason))
        sealed, done = chain.next, chain.count

    for record in _walk(log, topic, partition, report):
        report.records += 1
        waiting.append(record)
        _check_record(record, report)
        if len(waiting) == chain.room() or chain.count + len(waiting) in points:
            settle()
    if waiting:
        chain.add([(r.key, r.value) for r in waiting], waiting[-1].offset + 1)
    for offset, seal in points.values():
        if seal.count > chain.count:
            reason = f"sealed up to {seal.next} (seals/0/{offset}), but the records end before {chain.next}"
            report.faults.append(Fault(topic, partition, seal.first, seal.next, chain.next, reason))
    report.sealed += done
    if chain.count > done:
        report.unsealed += chain.count - done
        report.unsealed_at[f"{topic}/{partition}"] = chain.count - done


def _check_record(record: Record, report: SealReport) -> None:
    """Decisions and journals are written by Tape alone: one that does not decode is damage."""
    if record.topic in FACTS_MAY_BE_UNREADABLE:
        return
    event = decode(record.topic, record.value)
    if isinstance(event, Unreadable):
        where = (record.topic, record.partition, record.offset, record.offset + 1, record.offset)
        report.faults.append(Fault(*where, f"cannot be read: {event.reason}"))


def roll(log: LogReader, topic: str, partition: int, count: int | None = None) -> Chain:
    """The chain of a partition's first `count` records, or of all."""
    chain = Chain()
    position = log.bounds(topic, partition)[0]
    while count is None or chain.count < count:
        limit = BLOCK if count is None else min(BLOCK, count - chain.count)
        records = log.read(topic, partition, gte=position, limit=limit)
        if not records:
            break
        for _ in chain.follow(records):
            pass
        position = records[-1].offset + 1
    return chain


def chain_of(log: LogReader, topic: str, partition: int) -> Chain:
    """The partition's chain at its end: from the store where it keeps boundaries, else rolled anew."""
    kept = getattr(log, "chain", None)
    found: Chain = kept(topic, partition) if kept is not None else roll(log, topic, partition)
    return found


def heads(log: LogReader) -> dict[str, Any]:
    """Where every partition ends: kept elsewhere, it shows a truncated tail later."""
    found = {}
    for topic in sorted(TOPICS):
        for partition in range(log.partitions(topic)):
            chain = chain_of(log, topic, partition)
            if chain.count:
                found[f"{topic}/{partition}"] = {
                    "next": chain.next,
                    "count": chain.count,
                    "digest": chain.digest.hex(),
                }
    return {"log": log.id, "heads": found}


def check_heads(log: LogReader, kept: Mapping[str, Any]) -> list[Fault]:
    """Hold a log against heads kept elsewhere. Raises `LogError` for heads of another log."""
    if kept.get("log") != log.id or not isinstance(kept.get("heads"), dict):
        raise LogError(f"the head is of log {kept.get('log')}; {log.url} is {log.id}")
    faults = []
    for place, head in sorted(kept["heads"].items()):
        topic, _, number = place.rpartition("/")
        partition, count = int(number), int(head["count"])
        chain = roll(log, topic, partition, count)
        if chain.count < count:
            reason = f"the tail is truncated: the head says {count} records, there are {chain.count}"
            faults.append(Fault(topic, partition, chain.next, int(head["next"]), chain.next, reason))
        elif chain.digest.hex() != head["digest"]:
            reason = "the records are not those that the head was taken of"
            faults.append(Fault(topic, partition, 0, int(head["next"]), None, reason))
    return faults


def fingerprint(log: LogReader) -> str:
    """The digest of the rolled digests of all decision topics: two runs that decided alike have one."""
    parts: list[bytes] = []
    for topic in sorted(DECISIONS):
        for partition in range(log.partitions(topic)):
            parts += [f"{topic}/{partition}".encode(), chain_of(log, topic, partition).digest]
    return digest(*parts)
