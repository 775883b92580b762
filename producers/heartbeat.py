"""The heartbeat of a log on wall time that no player feeds: sessions by the calendar, and the time.

It says SessionOpened and SessionClosed at their times, each once whoever has said it, and a Heartbeat
a second. Its source is the same in every run on a log, and rows go on where the last run ended. Times
it writes never go back: while the clock stands behind the last of them, it writes nothing.
"""

from __future__ import annotations

import time

from eventlog import EventLog, last_of, last_of_source
from eventlog.roles import Beat, Beats, Stop
from producers.feed import Clock
from producers.marketdata.errors import BadRequest
from producers.marketdata.quality import iso_ns
from producers.sessions import SECOND_NS, Calendar, Session
from schemas import (
    EVERY_SYMBOL,
    Event,
    Heartbeat,
    SessionClosed,
    SessionOpened,
    new_record,
    partition_of,
)

STATUS = "market.status"
WRITER = "heartbeat"
SLICE_S = 0.2
DAY_NS = 86_400 * SECOND_NS
JUMP_NS = 60 * SECOND_NS
"""A clock that goes forward by more than this beyond the time that has passed has been set."""


def run_heartbeat(
    log: EventLog,
    *,
    beats: Beats,
    stop: Stop,
    clock: Clock = time.time_ns,
    every_s: float = 1.0,
) -> None:
    """Say sessions and the time until `stop`. A clock that jumps is said in the beats' error.

    Raises `BadRequest` for a log on data time, `WriterBusy` while another heartbeat lives, `LogError`.
    """
    if log.time != "wall":
        raise BadRequest(
            f"{log.url} is a log on data time: whoever plays data into it brings sessions and heartbeats; "
            "leave this role out"
        )
    beats(Beat(0))
    with log.writer(WRITER) as writer:
        heart, watch, written = Heart(log), _Watch(), 0
        while not stop():
            tick, now = time.monotonic(), clock()
            events = heart.events(now)
            if events:
                writer.append([new_record(event, heart.partition, EVERY_SYMBOL) for event in events])
                written += len(events)
            beat = Beat(written, error=watch.look(now, heart.last))
            wait_s = min(every_s, (heart.boundary(now) - now) / SECOND_NS)
            beats(beat)
            while (left := tick + wait_s - time.monotonic()) > 0 and not stop():
                time.sleep(min(left, SLICE_S))
                beats(beat)


class Heart:
    """What is to be said at each look at the clock, given what stands in the log.

    `last` is the last time written (UTC ns): nothing is written below it.
    """

    def __init__(self, log: EventLog) -> None:
        self.source = f"heartbeat-{log.id[:8]}"
        self.partition = partition_of(EVERY_SYMBOL, log.partitions(STATUS))
        stream = (STATUS, self.partition)
        own = last_of_source(log, stream, self.source)
        newest = last_of(log, stream, lambda event: True)
        said = last_of(
            log, stream, lambda event: type(event) in (SessionOpened, SessionClosed), containing=b'"Session'
        )
        self._row: int = own.row if own is not None else 0
        self.last: int = max(event.ts if event is not None else 0 for event in (own, newest))
        self._said: str = said.session if said is not None else ""
        self._open: SessionOpened | None = said if type(said) is SessionOpened else None
        self._looked: int | None = None
        self._calendar = Calendar()

    def events(self, now: int) -> list[Event]:
        """What has come to pass since the last look, and that it is `now` (UTC ns)."""
        said: list[Event] = []
        if self._open is not None and self._open.close <= now:
            said.append(self._closed(self._open.session, self._open.close))
        since = now if self._looked is None else self._looked
        self._looked = max(since, now)
        for session in self._calendar.between(self._calendar.day(since), self._calendar.day(now)):
            if session.date.isoformat() > self._said and session.open <= now and session.close > since:
                said.append(self._opened(session))
                if session.close <= now:
                    said.append(self._closed(self._said, session.close))
        if now > self.last:
            said.append(Heartbeat(ts=self._at(now), source=self.source, row=self._next()))
        return said

    def boundary(self, now: int) -> int:
        """When the session of the day of `now` opens or closes next; far away where it does not."""
        session = self._calendar.session(self._calendar.day(now))
        times = () if session is None else (session.open, session.close)
        return min((ts for ts in times if ts > now), default=now + DAY_NS)

    def _opened(self, session: Session) -> SessionOpened:
        self._said = session.date.isoformat()
        self._open = SessionOpened(
            session=self._said,
            ts=self._at(session.open),
            close=session.close,
            extended_open=session.extended_open,
            extended_close=session.extended_close,
            source=self.source,
            row=self._next(),
        )
        return self._open

    def _closed(self, name: str, close: int) -> SessionClosed:
        self._open = None
        return SessionClosed(session=name, ts=self._at(close), source=self.source, row=self._next())

    def _at(self, ts: int) -> int:
        """A time to be written: never below the last."""
        self.last = max(self.last, ts)
        return self.last

    def _next(self) -> int:
        self._row += 1
        return self._row


class _Watch:
    """Says when the clock has jumped."""

    def __init__(self) -> None:
        self._before: tuple[int, int] | None = None
        self._jumped = ""

    def look(self, now: int, last: int) -> str:
        """What is wrong with the clock, or was last; `last` is the last time written (UTC ns)."""
        passed = time.monotonic_ns()
        if self._before is not None:
            jump = (now - self._before[0]) - (passed - self._before[1])
            if jump > JUMP_NS:
                self._jumped = f"the clock went forward by {jump / SECOND_NS:,.0f} s, to {iso_ns(now)}"
        self._before = now, passed
        if last - now > SECOND_NS:
            return (
                f"the clock says {iso_ns(now)}, {(last - now) / SECOND_NS:,.0f} s before the last time "
                "written: nothing is written until then"
            )
        return self._jumped
