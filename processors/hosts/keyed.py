"""The transactional host of keyed processors: every output exactly once, in any store.

1. It takes the writer's id, which fences whoever had it.
2. It reads which outputs there are, by their ids.
3. It folds its inputs from the start. What it derives and is there already, it does not write again; the
   outputs of a page go in one append.
4. Whatever goes wrong ends it; started again, it begins at 1.
"""

from __future__ import annotations

from collections.abc import Sequence

from eventlog.contract import EventLog, Stream
from eventlog.roles import Beat, Beats, Stop
from processors.hosts.outputs import DEAD_LETTERS, identity, placed, take
from processors.keyed import KeyedProcessor
from schemas import NewRecord, Record, Unreadable
from schemas.codec import read_into

PAGE = 2000
POLL_S = 0.2


def run_keyed(
    log: EventLog,
    processor: KeyedProcessor | Sequence[KeyedProcessor],
    *,
    name: str,
    beats: Beats,
    stop: Stop,
    writer_id: str | None = None,
    page: int = PAGE,
) -> None:
    """Run one processor, or several of different inputs, as strategy `name` until `stop`.

    Its writer is strategies-NAME, unless another is named. Raises `WriterBusy` while another holder of it
    lives, and whatever goes wrong.
    """
    processors = processor if isinstance(processor, Sequence) else (processor,)
    by_topic = {one.inputs[0]: one for one in processors}
    if len(by_topic) < len(processors):
        raise ValueError("processors that run together need an input topic each")
    with log.writer(writer_id or f"strategies-{name}") as writer:
        written = _written(log, {topic for one in processors for topic in (*one.outputs, DEAD_LETTERS)})
        with log.follow(_firsts(log, by_topic)) as follower:
            taken = 0
            while not stop():
                records = follower.take(page, POLL_S)
                new: list[NewRecord] = []
                for record in records:
                    new += _new(by_topic[record.topic], record, written, log)
                if new:
                    writer.append(new)
                taken += len(records)
                beats(Beat(taken, follower.positions))


def _new(processor: KeyedProcessor, record: Record, written: set[str], log: EventLog) -> list[NewRecord]:
    """What a record leads to that is not there yet."""
    outputs = [(identity(event), event) for event in take(processor, record)]
    return [placed(event, record, log.partitions) for id, event in outputs if id not in written]


def _firsts(log: EventLog, topics: Sequence[str] | dict[str, KeyedProcessor]) -> dict[Stream, int]:
    """The first offset of every partition of topics."""
    streams = [(topic, partition) for topic in topics for partition in range(log.partitions(topic))]
    return {stream: log.bounds(*stream)[0] for stream in streams}


def _written(log: EventLog, topics: set[str]) -> set[str]:
    """The identities of everything in topics."""
    found: set[str] = set()
    for stream, first in _firsts(log, sorted(topics)).items():
        position, end = first, log.bounds(*stream)[1]
        while records := log.read(*stream, gte=position, lt=end):
            events = [read_into(record).event for record in records]
            found.update(identity(e) for e in events if e is not None and not isinstance(e, Unreadable))
            position = records[-1].offset + 1
    return found
