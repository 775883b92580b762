"""The host of folds whose output goes to market topics, which are written without transactions.

1. It takes the writer's id, which fences whoever had it.
2. It restores the last kept state, takes the inputs since in the order that was recorded, and derives
   again what they led to. Of that it writes what the ends of the output topics lack.
3. It goes on: the order of some inputs is written first (`Folded`), then what they led to, which is never
   ahead of its order. So whatever is killed between the two, or halfway, is derived again and completed.

An output with `source` and `row` is known by them at the end of its partition; one without (Mark) by its
count, since nobody else writes its topic. Other settings begin with the state of the old ones, at an input
that is recorded. Whatever goes wrong ends the host; it is started again from the log.
"""

from __future__ import annotations

import base64
import time as clock
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Protocol

from eventlog import last_of, last_of_source
from eventlog.contract import EventLog, LogReader, Stream, Writer
from eventlog.errors import LogDamaged, LogError
from eventlog.roles import Beat, Beats, Stop
from processors.contract import Processor
from processors.hosts.journal import event_of, make_batch, order_of, read_all
from processors.hosts.livemerge import LiveMerge
from processors.hosts.merge import Merge, input_streams
from processors.hosts.replay import Cursor
from schemas import Event, Folded, NewRecord, Record, decode, exact, new_record, partition_of

FOLDS = Folded.topic
PAGE = 5000
STATE_EVERY = 200_000
"""Inputs between two states that are kept."""
STATE_MAX = 600_000
"""Characters of a state in one record."""
POLL_S = 0.05
WAIT_S = 0.05
"""How long an input that gives nothing is waited for while others have something."""
BEAT_S = 0.2


class Fold(Processor, Protocol):
    """A processor that says what all its output depends on, and the name of that output."""

    source: str


Build = Callable[[str], Fold]
"""Makes the fold of some settings, given as text. Raises `ValueError` where this code cannot."""


class Refold:
    """Runs a fold as a service: `Refold(log, "market", settings, build).run(beats, stop)`."""

    def __init__(
        self, log: EventLog, writer: str, settings: str, build: Build, *, state_every: int = STATE_EVERY
    ) -> None:
        self.log = log
        self._writer_id, self._settings, self._build = writer, settings, build
        self._state_every = state_every
        self._taken = self._number = self._since_state = 0
        self._fold = build(settings)
        self._streams = input_streams(log, 0, self._fold.inputs)
        self._positions = {stream: log.bounds(*stream)[0] for stream in self._streams}
        self._written: dict[Stream, int] = {}
        """Of each partition of outputs without rows, how many of them the inputs so far have led to."""
        self._begins = False
        """Whether the next inputs are the first of these settings."""

    def run(self, beats: Beats, stop: Stop) -> int:
        """Fold what comes until `stop`; how many inputs were taken. Raises whatever goes wrong."""
        beats(Beat(0))
        with exact(), self.log.writer(self._writer_id) as writer:
            if not self._recover(writer, beats, stop):
                return self._taken
            self._catch_up(writer, beats, stop)
            self._follow(writer, beats, stop)
            if self._since_state and not self._begins:
                self._write_order(writer, b"", self._positions, self._packed())
            beats(Beat(self._taken, self._positions))
        return self._taken

    # ------------------------------------------------------------ what is recorded

    def _recover(self, writer: Writer, beats: Beats, stop: Stop) -> bool:
        """Be where the recorded order ends, with every output in the log; False if it was stopped before."""
        last: Folded | None = None
        ends = _Ends(self.log, "")
        parts: list[str] | None = None
        for folded in _since_state(self.log):
            if last is None or folded.settings != last.settings:
                parts = []
            if parts is not None:
                parts.append(folded.state)
                if folded.part == folded.parts:
                    self._enter(folded, "".join(parts))
                    ends, parts = _Ends(self.log, folded.source), None
            records = [r for event in self._again(folded) for r in self._record(event, ends)]
            if records:
                writer.append(records)
            last = folded
            self._number = folded.number + 1
            self._since_state = (0 if folded.state else self._since_state) + folded.records
            beats(Beat(self._taken, self._positions))
            if stop():
                return False
        if last is None or last.settings != self._settings:
            state = None if last is None else self._fold.snapshot()
            self._fold = self._build(self._settings)
            if state is not None:
                self._fold.restore(state)
            self._begins = True
        return True

    def _enter(self, folded: Folded, state: str) -> None:
        """Be as before the inputs of a record that ends a state."""
        if not state:
            raise LogDamaged(f"{self.log.url}: fold {folded.number} begins other settings without a state")
        self._fold = self._build_again(folded)
        self._fold.restore(zlib.decompress(base64.b64decode(state)))
        self._positions = {(i.topic, i.partition): i.first for i in folded.inputs}
        self._streams = list(self._positions)
        self._written = {_stream(name): count for name, count in folded.written.items()}

    def _build_again(self, folded: Folded) -> Fold:
        """The fold that made a record; where nothing is left to derive, today's will do."""
        try:
            return self._build(folded.settings)
        except ValueError as problem:
            if not folded.records:
                return self._build(self._settings)
            raise LogError(
                f"{self.log.url}: the last outputs of {folded.source} were derived by code that is not "
                f"installed ({problem}): let that version run once more and end it in order"
            ) from problem

    def _again(self, folded: Folded) -> Iterator[Event]:
        """What the inputs of a record led to."""
        cursors = [Cursor(self.log, i.topic, i.partition, i.first) for i in folded.inputs]
        for index in order_of(folded):
            record = cursors[index].take()
            if record is None:
                raise LogDamaged(f"{self.log.url}: fold {folded.number} took an input that is not there")
            record.event = decode(record.topic, record.value)
            yield from self._fold.apply(record)
        for cursor, part in zip(cursors, folded.inputs, strict=True):
            if part.count and cursor.position != part.next:
                raise LogDamaged(f"{self.log.url}: fold {folded.number} does not end where it says")
            self._positions[part.topic, part.partition] = part.next
        self._taken += folded.records

    # ------------------------------------------------------------ what is new

    def _catch_up(self, writer: Writer, beats: Beats, stop: Stop) -> None:
        """What stands in the log now: all of it is there, so that its order is exact."""
        ends = {stream: self.log.bounds(*stream)[1] for stream in self._streams}
        merged = iter(Merge(self.log, self._streams, dict(self._positions), ends))
        while not stop() and (page := list(islice(merged, PAGE))):
            self._take(writer, page)
            beats(Beat(self._taken, self._positions))

    def _follow(self, writer: Writer, beats: Beats, stop: Stop) -> None:
        """What comes, as it comes."""
        merge = LiveMerge({stream: i for i, stream in enumerate(self._streams)}, WAIT_S)
        beaten = 0.0
        with self.log.follow(dict(self._positions)) as follower:
            while not stop():
                merge.add(follower.take(PAGE, POLL_S), clock.monotonic())
                ready = merge.ready(follower.is_at_end, clock.monotonic())
                if ready:
                    self._take(writer, ready)
                if (now := clock.monotonic()) - beaten >= BEAT_S:
                    beaten = now
                    beats(Beat(self._taken, self._positions))

    def _take(self, writer: Writer, page: Sequence[tuple[int, Record]]) -> None:
        """Write the order of some inputs, then what they lead to."""
        order = bytes(source for source, _ in page)
        after = dict(self._positions)
        for source, record in page:
            after[self._streams[source]] = record.offset + 1
        self._write_order(writer, order, after, self._state())
        events = [event for _, record in page for event in self._fold.apply(record)]
        records = [record for event in events for record in self._record(event, None)]
        if records:
            writer.append(records)
        self._positions = after
        self._taken += len(page)

    def _write_order(
        self, writer: Writer, order: bytes, after: Mapping[Stream, int], state: Sequence[str]
    ) -> None:
        """Append the order of some inputs, and before it the state in its parts."""
        parts = [
            self._folded(n, len(state), part, b"", self._positions) for n, part in enumerate(state[:-1], 1)
        ]
        parts.append(self._folded(len(state), len(state), state[-1], order, after))
        writer.append([new_record(part, 0, "0") for part in parts])
        self._since_state += len(order)

    def _folded(self, part: int, parts: int, state: str, order: bytes, after: Mapping[Stream, int]) -> Folded:
        batch = make_batch(0, self._number, 0, self._streams, self._positions, order, after, {}, 0)
        self._number += 1
        return Folded(
            number=batch.number,
            source=self._fold.source,
            settings=self._settings,
            inputs=batch.inputs,
            order=batch.order,
            records=batch.records,
            written={f"{topic}/{partition}": n for (topic, partition), n in sorted(self._written.items())},
            state=state,
            part=part,
            parts=parts,
        )

    def _state(self) -> Sequence[str]:
        """The state, from time to time; the first inputs of some settings always come with one."""
        if not self._begins and self._since_state < self._state_every:
            return ("",)
        self._begins = False
        return self._packed()

    def _packed(self) -> Sequence[str]:
        """The state as text, in parts that fit into a record each."""
        self._since_state = 0
        packed = base64.b64encode(zlib.compress(self._fold.snapshot(), 6)).decode()
        return [packed[at : at + STATE_MAX] for at in range(0, len(packed), STATE_MAX)]

    def _record(self, event: Any, ends: _Ends | None) -> Iterator[NewRecord]:
        """The record of an output, unless `ends` has it already."""
        stream = event.topic, partition_of(event.symbol, self.log.partitions(event.topic))
        row = getattr(event, "row", None)
        if row is None:
            row = self._written[stream] = self._written.get(stream, 0) + 1
            is_there = ends is not None and row <= ends.count(stream)
        else:
            is_there = ends is not None and row <= ends.row(stream)
        if not is_there:
            yield new_record(event, stream[1], event.symbol)


class _Ends:
    """What stands at the ends of the output topics, as they were when first asked."""

    def __init__(self, log: LogReader, source: str) -> None:
        self._log, self._source = log, source
        self._rows: dict[Stream, int] = {}
        self._counts: dict[Stream, int] = {}

    def count(self, stream: Stream) -> int:
        """How many records a partition that nobody else writes has ever held."""
        if stream not in self._counts:
            self._counts[stream] = self._log.bounds(*stream)[1]
        return self._counts[stream]

    def row(self, stream: Stream) -> int:
        """The last row of the source in a partition; 0 where there is none."""
        if stream not in self._rows:
            found = last_of_source(self._log, stream, self._source)
            self._rows[stream] = 0 if found is None else found.row
        return self._rows[stream]


def _since_state(log: LogReader) -> Iterator[Folded]:
    """The records since the last one with a state, that one included, each checked to follow the other."""
    first, position = log.bounds(FOLDS, 0)
    start = first
    while position > first:
        below = max(first, position - 50)
        found = log.read(FOLDS, 0, gte=below, lt=position, limit=50)
        kept = [r.offset for r in found if (f := event_of(r, Folded)).state and f.part == 1]
        if kept:
            start = kept[-1]
            break
        position = below
    due: int | None = None
    for record, folded in read_all(log, FOLDS, 0, Folded, start):
        if due is not None and folded.number != due:
            raise LogDamaged(f"{record.place} is fold {folded.number}; {due} was due")
        due = folded.number + 1
        yield folded


def last_folded(log: LogReader) -> Folded | None:
    """The last record of the order taken; None before the first."""
    found: Folded | None = last_of(log, (FOLDS, 0), lambda event: True)
    return found


def _stream(name: str) -> Stream:
    topic, _, partition = name.rpartition("/")
    return topic, int(partition)
