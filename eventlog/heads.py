"""Heads: where every partition ends, and the digest up to there. Kept elsewhere, they show a lost tail."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from eventlog.contract import LogReader, Stream
from eventlog.errors import LogError
from eventlog.seals import BLOCK, SEALS, ZERO, Chain
from eventlog.verify import Fault, RollsAlong
from schemas import DECISIONS, TOPICS, Seal, digest


def roll(log: LogReader, topic: str, partition: int, count: int | None = None) -> Chain:
    """The chain of a partition's first `count` records, or of all."""
    chain = Chain()
    position = log.bounds(topic, partition)[0]
    while count is None or chain.count < count:
        limit = BLOCK if count is None else min(BLOCK, count - chain.count)
        records = log.read(topic, partition, gte=position, limit=limit)
        if not records:
            break
        chain.follow(records)
        position = records[-1].offset + 1
    return chain


@dataclass(frozen=True)
class Head:
    """Where a partition ends, how many records there are up to there, and their rolled digest in hex."""

    next: int
    count: int
    digest: str


Sealed = Mapping[Stream, Seal]
"""The last seal of each partition of a log that has just been sealed to its end."""


def head_of(log: LogReader, stream: Stream, sealed: Sealed | None = None) -> Head:
    """The partition's head: from its seal or the store where it rolls along, else rolled anew."""
    if sealed is not None and stream != SEALS:
        last = sealed.get(stream)
        return Head(0, 0, ZERO.hex()) if last is None else Head(last.next, last.count, last.digest)
    chain = log.chain(*stream) if isinstance(log, RollsAlong) else roll(log, *stream)
    return Head(chain.next, chain.count, chain.digest.hex())


def heads(log: LogReader, sealed: Sealed | None = None) -> dict[str, Any]:
    """Where every partition that has records ends."""
    found = {}
    for topic in sorted(TOPICS):
        for partition in range(log.partitions(topic)):
            head = head_of(log, (topic, partition), sealed)
            if head.count:
                found[f"{topic}/{partition}"] = asdict(head)
    return {"log": log.id, "heads": found}


def check_heads(log: LogReader, kept: Mapping[str, Any]) -> list[Fault]:
    """Hold a log against heads kept elsewhere. Raises `LogError` for what is not heads of this log."""
    if "log" in kept and kept["log"] != log.id:
        raise LogError(f"the head is of log {kept['log']}; {log.url} is {log.id}")
    faults = []
    for stream, head in sorted(_parsed(log, kept).items()):
        fault = _check_head(log, stream, head)
        if fault is not None:
            faults.append(fault)
    return faults


def _parsed(log: LogReader, kept: Mapping[str, Any]) -> dict[Stream, Head]:
    try:
        found = {}
        for place, head in kept["heads"].items():
            topic, _, partition = place.rpartition("/")
            found[topic, int(partition)] = Head(int(head["next"]), int(head["count"]), str(head["digest"]))
        return found
    except (KeyError, TypeError, ValueError, AttributeError) as problem:
        raise LogError(f"what was kept is not the head of a log: {problem!r}") from problem


def _check_head(log: LogReader, stream: Stream, head: Head) -> Fault | None:
    next, count = head.next, head.count
    try:
        chain = roll(log, *stream, count)
    except LogError as problem:
        return Fault(*stream, 0, next, None, str(problem))
    if chain.count < count and chain.next >= next:
        return Fault(*stream, 0, next, None, f"of {count} records there are {chain.count}")
    if chain.count < count:
        reason = f"the tail is truncated: the head says {count} records, there are {chain.count}"
        return Fault(*stream, chain.next, next, chain.next, reason)
    if (chain.next, chain.digest.hex()) != (next, head.digest):
        return Fault(*stream, 0, next, None, "the records are not those that the head was taken of")
    return None


def fingerprint(log: LogReader, sealed: Sealed | None = None) -> str:
    """The digest of the rolled digests of all decision topics: two runs that decided alike have one."""
    parts: list[bytes] = []
    for topic in sorted(DECISIONS):
        for partition in range(log.partitions(topic)):
            rolled = head_of(log, (topic, partition), sealed).digest
            parts += [f"{topic}/{partition}".encode(), bytes.fromhex(rolled)]
    return digest(*parts)
