"""The player: recorded or made market data, put on a log with their own spacing.

At speed 1 all times are shifted so that the first event is now; else they stay as they are. A play
is a source of its own, `play-DIGEST-START`: what is played and how, and the time of its first event
(UTC ns). The same play gives the same records whenever they are made, so that one that was killed
goes on after the last row of each partition and leaves the log as an undisturbed one would.

The player also moves the time where nothing else does: a Heartbeat for each second of event time
that is silent, more rarely where time runs faster, and one a second after the last event.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from typing import Any

from eventlog import EventLog, LogReader, Stream, last_of, last_of_source
from eventlog.roles import Beat, Beats, Stop
from producers.contract import Reader
from producers.feed import WRITER, Clock, Feed
from producers.importer import DEAD_LETTERS, rows_done
from producers.marketdata.errors import BadRequest
from producers.marketdata.quality import Gate, QualitySettings, iso_ns
from producers.sessions import SECOND_NS, Calendar
from schemas import (
    CORE_MARKET_INPUTS,
    EVERY_SYMBOL,
    TOPICS,
    CashDividend,
    Event,
    FeedGap,
    Heartbeat,
    SessionClosed,
    SessionOpened,
    Split,
    decode,
    digest,
    evolve,
    partition_of,
)

STATUS = "market.status"
BATCH = 5000
BATCH_NS = 10_000_000
"""How often what is due is written."""
SLICE_S = 0.2
"""How long the player sleeps at most between two looks at whether to stop."""
LATE_S = 1.0
"""From here on a play is said to be behind its schedule."""
HEARTBEATS_PER_S = 100
"""At most, of the clock: at higher speeds they are further apart in event time."""
QUIET_NS, QUIET_PARTS = 60 * SECOND_NS, 10
"""Without a speed: a heartbeat a minute of event time, and at most so many in one silence."""
RECENT = 300 * SECOND_NS
"""How old a play on wall time may be for the feed to go on with it: what was due meanwhile comes at once."""

_TIMES: dict[type, tuple[str, ...]] = {
    SessionOpened: ("close", "extended_open", "extended_close"),
    FeedGap: ("since",),
}
_DATES: dict[type, tuple[str, ...]] = {
    SessionOpened: ("session",),
    SessionClosed: ("session",),
    Split: ("ex",),
    CashDividend: ("ex", "pay"),
}


@dataclass(frozen=True)
class Pace:
    """How fast: `speed` times as fast as the data were; infinite: as fast as the log takes them.

    At speed 1 times are shifted to now, unless they are kept. Raises `BadRequest` for a speed below 1.
    """

    speed: float = 1.0
    keep_times: bool = False

    def __post_init__(self) -> None:
        if not self.speed >= 1:
            raise BadRequest(f"a speed of {self.speed:g} is too slow: choose 1 or more, or max")

    @property
    def shifts(self) -> bool:
        """Whether times are shifted to now."""
        return self.speed == 1 and not self.keep_times

    def heartbeat(self, silence: int) -> int:
        """Event time between two heartbeats of a silence of so long (ns)."""
        if math.isinf(self.speed):
            return max(QUIET_NS, silence // QUIET_PARTS)
        return max(SECOND_NS, int(SECOND_NS * self.speed / HEARTBEATS_PER_S))


@dataclass
class Played:
    """What a play has done so far.

    `events` are those of the data gone through; `skipped` had been written before, `parked` was ahead of
    its receipt. `late_s` and `late_max_s` say how far it is behind its schedule, and was at most since it
    had caught up with it.
    """

    source: str
    pace: Pace
    resumed: bool
    written: Counter[str] = field(default_factory=Counter)
    events: int = 0
    skipped: int = 0
    parked: int = 0
    first: int = 0
    last: int = 0
    """Times of the first and the last event written, heartbeats left out (UTC ns)."""
    seconds: float = 0.0
    """From the first event to the last."""
    late_s: float = 0.0
    late_max_s: float = 0.0
    finished: bool = False

    @property
    def total(self) -> int:
        """Events gone through so far, heartbeats included."""
        return self.written.total() + self.skipped

    @property
    def rate_per_s(self) -> float:
        """Events written in a second."""
        return self.written.total() / self.seconds if self.seconds else 0.0

    @property
    def asked_per_s(self) -> float | None:
        """Events that its schedule wants in a second; None where it has none, or too little was played."""
        span = (self.last - self.first) / SECOND_NS / self.pace.speed
        return self.written.total() / span if span else None

    @property
    def trouble(self) -> str:
        """That it does not keep up, or that the clock has gone back; empty if neither."""
        if self.parked:
            return (
                f"{self.parked:,} events were ahead of the clock and set aside: look whether it was set back"
            )
        if self.late_s < LATE_S:
            return ""
        asked = "" if self.asked_per_s is None else f" of {self.asked_per_s:,.0f} asked"
        return f"{self.late_s:.1f} s behind its schedule: {self.rate_per_s:,.0f}{asked} events/s"


@dataclass(frozen=True)
class Script:
    """What is played: the events of a reader, from `start` on (UTC ns), through a gate, with heartbeats."""

    reader: Reader
    pace: Pace
    quality: QualitySettings | None
    first: int
    start: int

    @classmethod
    def of(cls, reader: Reader, pace: Pace, quality: QualitySettings | None = None) -> Script:
        """The script with the data's own times. Raises `BadRequest` for data without an event."""
        first: Any = next(iter(reader.events()), None)
        if first is None:
            raise BadRequest("there is no event to play: choose other data")
        return cls(reader, pace, quality, first.ts, first.ts)

    @property
    def name(self) -> str:
        """What is played and how, without when: the beginning of its source."""
        how = repr((self.pace.shifts, self.pace.heartbeat(0), self.quality))
        return f"play-{digest(self.reader.source.encode(), how.encode())[:8]}-"

    @property
    def source(self) -> str:
        return f"{self.name}{self.start}"

    def events(self) -> Iterator[Event]:
        """All of it, rows from 1. The first concerns every symbol: it shows that the play has begun."""
        if self.quality is None:
            return self._timed()
        symbols = getattr(self.reader, "symbols", ())
        return Gate(self.quality, ordered=True, symbols=symbols).filter(self._timed())

    def _timed(self) -> Iterator[Event]:
        source, pace, quiet = self.source, self.pace, self.pace.heartbeat(0)
        row, last, shift = 0, self.start, _Shift(self.first, self.start)
        for event in self.reader.events(source):
            if not row and not (event.topic == STATUS and event.symbol == EVERY_SYMBOL):  # type: ignore[attr-defined]
                row += 1
                yield Heartbeat(ts=self.start, source=source, row=row)
            moved = shift(event, row + 1)
            silence = moved.ts - last
            if silence > quiet:
                for ts in range(last + pace.heartbeat(silence), moved.ts, pace.heartbeat(silence)):
                    row += 1
                    yield Heartbeat(ts=ts, source=source, row=row)
                moved = evolve(moved, row=row + 1)
            row += 1
            yield moved
            last = max(last, moved.ts)
        yield Heartbeat(ts=last + SECOND_NS, source=source, row=row + 1)


class _Shift:
    """Moves events in time: their times by the same interval, their dates by whole days."""

    def __init__(self, first: int, start: int) -> None:
        calendar = Calendar()
        self._ns = start - first
        self._days = calendar.day(start) - calendar.day(first)

    def __call__(self, event: Any, row: int) -> Any:
        ns, kind = self._ns, type(event)
        if not ns:
            return evolve(event, row=row)
        more: dict[str, Any] = {}
        if event.topic == STATUS:
            more = {name: getattr(event, name) + ns for name in _TIMES.get(kind, ())}
            more |= {name: _later(getattr(event, name), self._days) for name in _DATES.get(kind, ())}
        return evolve(event, ts=event.ts + ns, row=row, **more)


def _later(day: str, days: timedelta) -> str:
    return (date.fromisoformat(day) + days).isoformat() if day else day


def play(
    log: EventLog,
    script: Script,
    *,
    resume_since: int | None = None,
    take_over: bool = False,
    report: Callable[[Played], None] = lambda played: None,
    stop: Stop = lambda: False,
    clock: Clock = time.time_ns,
) -> Played:
    """Put a script's events on a log until they have all been written, or `stop` says so.

    `resume_since`: the last play of the same data is gone on with, if its last record is not older
    than so (UTC ns); None, or none found: a new one begins. `report` is called with each batch, and
    a few times a second.

    Raises `BadRequest` for a pace that the log's time does not allow, and for times that lie before
    what a log on data time holds; `WriterBusy` while another feed writes; `LogError`.
    """
    if log.time == "wall" and not script.pace.shifts:
        raise BadRequest(
            f"{log.url} is a log on wall time, in which the time is now: play at speed 1 and without "
            "--keep-times, or into a log on data time"
        )
    with log.writer(WRITER, take_over=take_over) as writer:
        found = None if resume_since is None else _found(log, script, resume_since)
        if found is None:
            done: Mapping[Stream, int] = {}
            script = replace(script, start=clock() if script.pace.shifts else script.first)
            last = script.start - 1
        else:
            script, done, last = found
        if log.time == "data":
            _require_order(log, "" if found is None else script.source, last)
        played = Played(script.source, script.pace, resumed=found is not None)
        _Run(Feed(log, writer, clock), script, done, played, report, stop, clock).run()
    return played


def run_feed(
    log: EventLog,
    reader: Reader,
    pace: Pace,
    *,
    beats: Beats,
    stop: Stop,
    quality: QualitySettings | None = None,
    take_over: bool = False,
    clock: Clock = time.time_ns,
) -> None:
    """Play as a role, until `stop`; after the last event it has nothing more to do.

    All of the data are checked first. It goes on with the last play of the same data: on wall time with
    one of the last minutes only, else a new one begins. Raises a `DataError`, and what `play` does.
    """
    said = Beat(0)

    def tell(played: Played) -> None:
        nonlocal said
        said = Beat(played.total, error=played.trouble)
        beats(said)

    def checking(done: int, total: int) -> None:
        beats(said)
        if stop():
            raise _Asked

    try:
        checking(0, 0)
        reader.check(checking)
    except _Asked:
        return
    since = 0 if log.time == "data" else clock() - RECENT
    script = Script.of(reader, pace, quality)
    play(log, script, resume_since=since, take_over=take_over, report=tell, stop=stop, clock=clock)
    while not stop():
        beats(said)
        time.sleep(SLICE_S)


class _Asked(Exception):
    """Asked to stop while the data are checked."""


def _found(log: LogReader, script: Script, since: int) -> tuple[Script, Mapping[Stream, int], int] | None:
    """The last play of a script in a log: as it was played, its last rows, and its last time."""
    start = script.first
    if script.pace.shifts:
        stream = (STATUS, partition_of(EVERY_SYMBOL, log.partitions(STATUS)))
        name = script.name
        mark = last_of(log, stream, lambda event: event.source.startswith(name), containing=name.encode())
        if mark is None:
            return None
        start = int(mark.source.rpartition("-")[2])
    found = replace(script, start=start)
    source = found.source
    done = rows_done(log, source)
    times = [last_of_source(log, stream, source).ts for stream in done if stream[0] in CORE_MARKET_INPUTS]
    last: int | None = max(times, default=None)
    return None if last is None or last < since else (found, done, last)


def _require_order(log: LogReader, own: str, last: int) -> None:
    """Raise `BadRequest` if others than source `own` have written what is younger than `last`."""
    for topic in TOPICS.values():
        if topic.kind != "market":
            continue
        for partition in range(log.partitions(topic.name)):
            end = log.bounds(topic.name, partition)[1]
            for record in log.read(topic.name, partition, gte=max(0, end - 1), limit=1):
                event: Any = decode(record.topic, record.value)
                if getattr(event, "ts", 0) > last and getattr(event, "source", "") != own:
                    raise BadRequest(
                        f"{log.url} has data up to {iso_ns(event.ts)}, and these go on from "
                        f"{iso_ns(last + 1)}: play what is younger, or into another log; a play that was "
                        "stopped goes on with --resume"
                    )


class _Run:
    """Writes what is due, every few milliseconds."""

    def __init__(
        self,
        feed: Feed,
        script: Script,
        done: Mapping[Stream, int],
        played: Played,
        report: Callable[[Played], None],
        stop: Stop,
        clock: Clock,
    ) -> None:
        self._feed, self._script, self._done = feed, script, done
        self._played, self._report, self._stop = played, report, stop
        self._speed = script.pace.speed
        self._set_aside = max((row for (topic, _), row in done.items() if topic == DEAD_LETTERS), default=0)
        self._now, self._began = clock(), time.monotonic_ns()
        self._first_written = self._began
        self._is_cut = False
        self._is_on_time = False
        """Whether it has caught up with what was due when it began: after a kill that may be much."""

    def run(self) -> None:
        fresh = self._fresh()
        waiting: Any = next(fresh, None)
        if waiting is not None:
            self._begin(waiting)
        limit = 1  # the first alone: on Kafka an append may be killed between two partitions
        while waiting is not None and not self._stop():
            tick, due = time.monotonic_ns(), self._due()
            batch: list[Any] = []
            while waiting is not None and len(batch) < limit and _ts(waiting) <= due:
                batch.append(waiting)
                waiting = next(fresh, None)
            if batch:
                self._feed.append(batch)
                self._note(batch, waiting)
                limit = BATCH
            self._tell()
            if waiting is not None:
                self._rest(tick, waiting)
        self._played.finished = waiting is None and not self._is_cut
        self._tell()

    def _fresh(self) -> Iterator[Event]:
        """What the log lacks of the script."""
        done, partition, played = self._done, self._feed.partition, self._played
        for event in self._script.events():
            played.events += type(event) is not Heartbeat
            if done and _row(event) <= max(done.get((event.topic, partition(event)), 0), self._set_aside):
                played.skipped += 1
                if played.skipped % BATCH == 0:
                    self._report(played)
                    if self._stop():
                        self._is_cut = True
                        return
            else:
                yield event

    def _begin(self, first: Any) -> None:
        """The schedule starts: shifted times are the clock's, others count from the first to be written."""
        self._first_written = time.monotonic_ns()
        if not self._script.pace.shifts:
            self._now, self._began = _ts(first), time.monotonic_ns()

    def _due(self) -> int:
        """Up to which event time all should be written by now."""
        if math.isinf(self._speed):
            return 1 << 63
        return self._now + int((time.monotonic_ns() - self._began) * self._speed)

    def _note(self, batch: list[Any], waiting: Any) -> None:
        played = self._played
        times = [ts for event in batch if type(event) is not Heartbeat and (ts := _ts(event))]
        if times:
            played.first, played.last = played.first or times[0], times[-1]
            played.seconds = (time.monotonic_ns() - self._first_written) / SECOND_NS
        if not math.isinf(self._speed):
            late = 0 if waiting is None else self._due() - _ts(waiting)
            played.late_s = max(late / self._speed / SECOND_NS, 0.0)
            before = played.late_max_s if self._is_on_time else 0.0
            played.late_max_s = max(before, played.late_s)
            self._is_on_time = self._is_on_time or played.late_s < LATE_S

    def _tell(self) -> None:
        self._played.written, self._played.parked = self._feed.written, self._feed.parked
        self._report(self._played)

    def _rest(self, tick: int, waiting: Any) -> None:
        """Until the next event is due, and at least until a batch has been collected."""
        if math.isinf(self._speed):
            return
        wake = max(tick + BATCH_NS, time.monotonic_ns() + int((_ts(waiting) - self._due()) / self._speed))
        while (left := (wake - time.monotonic_ns()) / SECOND_NS) > 0 and not self._stop():
            time.sleep(min(left, SLICE_S))
            if left > SLICE_S:
                self._tell()


def _ts(event: Any) -> int:
    """When an event is due; what was set aside is with the next."""
    ts: int = getattr(event, "ts", 0)
    return ts


def _row(event: Any) -> int:
    if event.topic != DEAD_LETTERS:
        return int(event.row)
    return int(event.place.rpartition("/")[2])
