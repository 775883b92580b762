"""`tape play`: data of any kind on a log with their own spacing; the same as a role."""

from __future__ import annotations

import math
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from eventlog import EventLog, LogSpec, create_log, open_log
from eventlog.errors import LogError, LogFull, LogNotFound, LogUnreachable, WriterBusy
from eventlog.roles import Beats, Stop
from producers import player
from producers.contract import Reader
from producers.marketdata.errors import BadRequest
from producers.marketdata.quality import QualitySettings, iso_ns
from producers.marketdata.synthetic import Synthetic
from producers.player import LATE_S, Pace, Played, Script
from producers.sessions import SECOND_NS
from tape.errors import Stopped, WrongInput
from tape.importing import DataWanted, open_reader, quality_for
from tape.logs import is_log
from tape.progress import Report, Stage

OPENS = 1_704_205_800 * SECOND_NS
"""When a market that is made without days opens, on a log on data time: 2024-01-02, 09:30 in New York."""
DURATION = 23_400 * SECOND_NS
"""How long it lasts, unless something else is asked for: a session."""


class PlayRefused(WrongInput):
    """A play that cannot be as it was asked for; nothing was written."""


@dataclass(frozen=True)
class PlayWanted:
    """What is to be played, and how.

    A synthetic market without days is made as it is played: `rate_per_s` quotes a second for `duration`
    (ns). One with days is that of the calendar, as `tape import` makes it.
    """

    data: DataWanted
    pace: Pace
    duration: int | None = None

    @property
    def is_made(self) -> bool:
        """Whether the market is made as it is played."""
        return self.data.synthetic is not None and self.data.first is None and self.data.last is None


@dataclass(frozen=True)
class NewLog:
    """What a log is made with where there is none; what is given must be so of one that exists."""

    time: Literal["wall", "data"] | None = None
    account_partitions: int | None = None
    market_partitions: int | None = None


def reader_of(wanted: PlayWanted) -> Reader:
    """The reader of what is to be played. Raises a `DataError` if that cannot be."""
    made = wanted.data.synthetic
    if made is None or not wanted.is_made:
        return open_reader(wanted.data, gated=quality_of(wanted) is not None)
    if not wanted.data.symbols:
        raise BadRequest("a synthetic market needs symbols: name them, or say how many (--symbols 100)")
    rate = int(made.rate_per_s)
    if rate != made.rate_per_s or not 1 <= rate <= 1_000_000:
        raise BadRequest(
            f"a rate of {made.rate_per_s:g} quotes a second cannot be played: choose a whole number "
            "from 1 to 1000000, or name days (--from, --to)"
        )
    quotes = (wanted.duration or DURATION) * rate // SECOND_NS
    return Synthetic(wanted.data.symbols, made.seed, quotes, OPENS, rate)


def quality_of(wanted: PlayWanted) -> QualitySettings | None:
    """The gate that data go through, that of an import; none for what was made, or stands in a log."""
    data = wanted.data
    passed = data.synthetic is not None or (len(data.data) == 1 and is_log(data.data[0]))
    return None if passed else quality_for(data)


def run_play(log: EventLog, wanted: PlayWanted, *, beats: Beats, stop: Stop, take_over: bool = False) -> None:
    """The feed as a role: see `producers.player.run_feed`."""
    player.run_feed(
        log,
        reader_of(wanted),
        wanted.pace,
        quality=quality_of(wanted),
        beats=beats,
        stop=stop,
        take_over=take_over,
    )


def play(
    wanted: PlayWanted,
    url: str,
    *,
    new: NewLog = NewLog(),
    resume: bool = False,
    take_over: bool = False,
    report: Report = lambda stage: None,
    stop: Callable[[], bool] = lambda: False,
) -> dict[str, Any]:
    """Check all of the data, then play them into the log, which is made if there is none; what was played.

    Asked to stop, it ends after a batch: `finished` is False then.

    Raises a `DataError` or `PlayRefused` before anything is written, `LogError`, and `Stopped` when
    `stop` says so while the data are checked.
    """
    if new.time == "wall" and not wanted.pace.shifts:
        raise PlayRefused(
            "on a log on wall time the time is now: leave out --log-time wall, or play at --speed 1 "
            "and without --keep-times"
        )
    reader = reader_of(wanted)

    def checking(done: int, total: int) -> None:
        report(Stage("check", done, total))
        if stop():
            raise Stopped("stopped while checking the data; nothing was written")

    events = reader.check(checking)
    script = Script.of(reader, wanted.pace, quality_of(wanted))
    started = time.monotonic()
    with _open(url, new, wanted.pace) as log, _says_how_to_go_on(url):
        try:
            played = player.play(
                log,
                script,
                resume_since=0 if resume else None,
                take_over=take_over,
                report=lambda played: report(_stage(played, events)),
                stop=stop,
            )
        except WriterBusy as busy:
            raise PlayRefused(f"{busy} (--take-over)") from busy
        return {"log": url, "log_id": log.id, "time": log.time} | _told(played, time.monotonic() - started)


def _open(url: str, new: NewLog, pace: Pace) -> EventLog:
    try:
        log = open_log(url)
    except LogUnreachable:
        raise
    except LogNotFound:
        kind = new.time or ("wall" if pace.shifts else "data")
        spec = LogSpec(uuid.uuid4().hex, kind, new.account_partitions or 4, new.market_partitions or 4)
        return create_log(url, spec)
    for name, wanted in vars(new).items():
        if wanted is not None and wanted != getattr(log.spec, name):
            log.close()
            raise PlayRefused(
                f"{url} exists, and its {name.replace('_', ' ')} is {getattr(log.spec, name)}, not {wanted}: "
                "leave the option out, or name another log"
            )
    return log


@contextmanager
def _says_how_to_go_on(url: str) -> Iterator[None]:
    """Where the store fails under a play: what was written stands."""
    try:
        yield
    except LogFull as full:
        raise LogFull(
            f"{url} has no room left; what was written stands: make room, and go on with --resume"
        ) from full
    except LogError as problem:
        if type(problem) not in (LogError, LogUnreachable):
            raise
        raise LogError(f"{problem}; what was written stands: go on with --resume") from problem


def _stage(played: Played, events: int) -> Stage:
    note = played.trouble or f"{played.rate_per_s:,.0f} a second"
    return Stage("play", min(played.events, events), events, note=note)


def _told(played: Played, seconds: float) -> dict[str, Any]:
    speed, asked = played.pace.speed, played.asked_per_s
    return {
        "source": played.source,
        "resumed": played.resumed,
        "finished": played.finished,
        "written": dict(sorted(played.written.items())),
        "skipped": played.skipped,
        "parked": played.parked,
        "first": iso_ns(played.first) if played.first else None,
        "last": iso_ns(played.last) if played.last else None,
        "speed": "max" if math.isinf(speed) else speed,
        "shifted": played.pace.shifts,
        "seconds": round(seconds, 3),
        "rate_per_s": round(played.rate_per_s, 1),
        "asked_per_s": None if asked is None or math.isinf(speed) else round(asked, 1),
        "late_max_s": round(played.late_max_s, 3),
        "kept_up": played.late_max_s < LATE_S,
    }
