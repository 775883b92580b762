"""Heads: where every partition ends, and the digest up to there. Kept elsewhere, they show a lost tail."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from eventlog.contract import LogReader, Stream
from eventlog.errors import LogError
from eventlog.seals import BLOCK, Chain
from eventlog.verify import Fault, RollsAlong
from schemas import DECISIONS, TOPICS, digest


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


def chain_of(log: LogReader, topic: str, partition: int) -> Chain:
    """The partition's chain at its end: from the store where it rolls along, else rolled anew."""
    return log.chain(topic, partition) if isinstance(log, RollsAlong) else roll(log, topic, partition)


def heads(log: LogReader) -> dict[str, Any]:
    """Where every partition that has records ends."""
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
    """Hold a log against heads kept elsewhere. Raises `LogError` for what is not heads of this log."""
    if "log" in kept and kept["log"] != log.id:
        raise LogError(f"the head is of log {kept['log']}; {log.url} is {log.id}")
    faults = []
    for stream, head in sorted(_parsed(log, kept).items()):
        fault = _check_head(log, stream, *head)
        if fault is not None:
            faults.append(fault)
    return faults


Head = tuple[int, int, str]
"""The next offset, the count of records, the digest."""


def _parsed(log: LogReader, kept: Mapping[str, Any]) -> dict[Stream, Head]:
    try:
        found = {}
        for place, head in kept["heads"].items():
            topic, _, partition = place.rpartition("/")
            found[topic, int(partition)] = (int(head["next"]), int(head["count"]), str(head["digest"]))
        return found
    except (KeyError, TypeError, ValueError, AttributeError) as problem:
        raise LogError(f"what was kept is not the head of a log: {problem!r}") from problem


def _check_head(log: LogReader, stream: Stream, next: int, count: int, rolled: str) -> Fault | None:
    try:
        chain = roll(log, *stream, count)
    except LogError as problem:
        return Fault(*stream, 0, next, None, str(problem))
    if chain.count < count and chain.next >= next:
        return Fault(*stream, 0, next, None, f"of {count} records there are {chain.count}")
    if chain.count < count:
        reason = f"the tail is truncated: the head says {count} records, there are {chain.count}"
        return Fault(*stream, chain.next, next, chain.next, reason)
    if (chain.next, chain.digest.hex()) != (next, rolled):
        return Fault(*stream, 0, next, None, "the records are not those that the head was taken of")
    return None


def fingerprint(log: LogReader) -> str:
    """The digest of the rolled digests of all decision topics: two runs that decided alike have one."""
    parts: list[bytes] = []
    for topic in sorted(DECISIONS):
        for partition in range(log.partitions(topic)):
            parts += [f"{topic}/{partition}".encode(), chain_of(log, topic, partition).digest]
    return digest(*parts)
