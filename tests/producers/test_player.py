"""The player on real logs: times, heartbeats, pacing, resuming, and what is ahead of its receipt."""

from __future__ import annotations

import math
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import date
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from eventlog import EventLog, LogSpec, create_log, open_log
from eventlog.roles import Beat
from producers.feed import Feed
from producers.marketdata.errors import BadRequest
from producers.marketdata.lean import LeanReader
from producers.marketdata.quality import QualitySettings, imported_row
from producers.marketdata.synthetic import Synthetic, SyntheticMarket
from producers.player import Pace, Script, play, run_feed
from schemas import (
    CORE_MARKET_INPUTS,
    CashDividend,
    DeadLetter,
    Event,
    FeedGap,
    Heartbeat,
    Quote,
    SessionClosed,
    SessionOpened,
    Split,
    decode,
    evolve,
)
from support.lean import SAMPLE
from support.market import at, quote, session_closed, session_opened, split

SECOND = 10**9
MAX = Pace(math.inf)


class Events:
    """A reader of events that a test names."""

    def __init__(self, *events: Event, source: str = "events") -> None:
        self.source, self._events = source, events

    def check(self, progress: Callable[[int, int], None] | None = None) -> int:
        return len(self._events)

    def events(self, source: str | None = None) -> Any:
        for row, event in enumerate(self._events, start=1):
            yield evolve(event, source=source or self.source, row=row)


MARKET = Synthetic(("SPY", "IBM", "BAC", "AIG"), seed=3, quotes=2000, start=at("09:30"), rate_per_s=100)


def made(tmp_path: Path, kind: str = "data", name: str = "log") -> EventLog:
    spec = LogSpec(id="ab" * 16, time="wall" if kind == "wall" else "data")
    return create_log(f"sqlite:{tmp_path / name}.sqlite", spec)


def stands(log: EventLog) -> dict[str, list[bytes]]:
    """The values of all that a play may write, by partition."""
    topics = (*CORE_MARKET_INPUTS, "dead-letters")
    return {
        f"{topic}/{p}": [record.value for record in log.read(topic, p, gte=0, limit=10**6)]
        for topic in topics
        for p in range(log.partitions(topic))
    }


def told(log: EventLog) -> list[Any]:
    """The events of the market topics, by row."""
    events = [
        decode(place.partition("/")[0], value)
        for place, values in stands(log).items()
        if place.startswith("market.")
        for value in values
    ]
    return sorted(events, key=lambda event: event.row)  # type: ignore[union-attr]


class Power:
    """Cut after so many records: what came before stands, in the partitions it came to."""

    def __init__(self, records: int) -> None:
        self.left = records

    def cut(self, log: EventLog) -> EventLog:
        holder = log.writer

        def writer(id: str, *, take_over: bool = False) -> Any:
            made = holder(id, take_over=take_over)
            append = made.append

            def limited(records: Sequence[Any]) -> None:
                append(records[: self.left])
                self.left -= len(records)
                if self.left < 0:
                    raise OSError("power cut")

            made.append = limited  # type: ignore[method-assign]
            return made

        log.writer = writer  # type: ignore[method-assign]
        return log


# ------------------------------------------------------------ times


def test_a_play_with_its_own_times_is_the_data_and_heartbeats(tmp_path: Path) -> None:
    with made(tmp_path) as log:
        played = play(log, Script.of(MARKET, MAX))
        assert played.finished
        *events, last = told(log)
    data = list(MARKET.events())
    assert events == [evolve(event, source=played.source) for event in data]
    assert last == Heartbeat(ts=data[-1].ts + SECOND, source=played.source, row=len(data) + 1)  # type: ignore[attr-defined]
    assert played.source.startswith("play-")
    assert played.source.endswith(f"-{MARKET.start}")
    assert played.written == {"market.quotes": 2000, "market.status": 3}


def test_at_speed_1_the_first_event_is_now_and_all_times_move_along(tmp_path: Path) -> None:
    opened, closed = session_opened(0), session_closed(0, "09:30:01")
    gap = FeedGap(symbol="SPY", ts=at("09:30:00.5"), since=at("09:30"), source="", row=0)
    dividend = CashDividend(
        symbol="SPY",
        ts=at("09:30"),
        ex="2024-01-02",
        pay="2024-01-05",
        amount=Decimal("0.5"),
        source="",
        row=0,
    )
    opened, closed = evolve(opened, session="2024-01-02"), evolve(closed, session="2024-01-02")
    halved = evolve(split(at("09:30"), 2, 1), ex="2024-01-02")
    events = Events(opened, halved, dividend, quote(at("09:30:00.25"), 10, 11), gap, closed)
    asked = at("11:00", day=40)
    with made(tmp_path, "wall") as log:
        play(log, Script.of(events, Pace()), clock=Clock(asked))
        told_now = {type(event): event for event in told(log)}
    now = told_now[SessionOpened].ts
    assert asked <= now < asked + 600 * SECOND
    moved = now - at("09:30")
    assert told_now[SessionOpened] == evolve(
        opened,
        session="2024-02-11",
        ts=now,
        close=opened.close + moved,
        extended_open=opened.extended_open + moved,
        extended_close=opened.extended_close + moved,
        source=told_now[SessionOpened].source,
        row=1,
    )
    assert (told_now[Split].ts, told_now[Split].ex) == (now, "2024-02-11")
    assert (told_now[CashDividend].ex, told_now[CashDividend].pay) == ("2024-02-11", "2024-02-14")
    assert told_now[Quote].ts == now + SECOND // 4
    assert (told_now[FeedGap].ts, told_now[FeedGap].since) == (now + SECOND // 2, now)
    assert (told_now[SessionClosed].ts, told_now[SessionClosed].session) == (now + SECOND, "2024-02-11")


class Clock:
    """A clock that begins at a time and goes on, until it is set back by `back` ns after some looks."""

    def __init__(self, start: int, back: int = 0, after: int = 10**9) -> None:
        self._offset, self._back, self._left = start - time.monotonic_ns(), back, after

    def __call__(self) -> int:
        self._left -= 1
        return time.monotonic_ns() + self._offset - (self._back if self._left < 0 else 0)


@pytest.mark.parametrize(
    ("speed", "silence_s", "apart_s", "count"),
    [
        (1, 10, 1, 9),
        (1, 1, 1, 0),
        (50, 10, 1, 9),
        (1000, 100, 10, 9),
        (math.inf, 60, 60, 0),
        (math.inf, 300, 60, 4),
        (math.inf, 3000, 300, 9),
    ],
)
def test_time_passes_in_silence(speed: float, silence_s: int, apart_s: int, count: int) -> None:
    start = at("10:00")
    script = Script.of(
        Events(session_opened(), quote(start, 1, 2), quote(start + silence_s * SECOND, 1, 2)), Pace(speed)
    )
    events: list[Any] = list(script.events())
    begin = next(i for i, e in enumerate(events) if type(e) is Quote)
    beats = [e for e in events[begin:-1] if type(e) is Heartbeat]
    assert [b.ts - start for b in beats] == [(i + 1) * apart_s * SECOND for i in range(count)]
    assert [e.row for e in events] == list(range(1, len(events) + 1))
    assert events[-1] == Heartbeat(ts=events[-2].ts + SECOND, source=script.source, row=len(events))


def test_years_of_daily_bars_are_not_drowned_in_heartbeats() -> None:
    reader = LeanReader(SAMPLE, ("SPY",), date(2010, 1, 1), date(2012, 12, 31), resolution="daily")
    counts = Counter(type(event) for event in Script.of(reader, MAX).events())
    assert counts[SessionOpened] > 700
    assert 0 < counts[Heartbeat] <= 20 * counts[SessionOpened] + 1


def test_a_play_begins_with_a_status_of_every_symbol() -> None:
    first, second, _ = Script.of(Events(quote(at("10:00"), 1, 2)), Pace()).events()
    assert type(first) is Heartbeat
    assert (first.ts, second.ts) == (at("10:00"), at("10:00"))  # type: ignore[attr-defined]


# ------------------------------------------------------------ pacing


class Recording:
    """Notes when each append came, beside making it."""

    def __init__(self, log: EventLog) -> None:
        self.appends: list[tuple[int, list[Any]]] = []
        holder = log.writer

        def writer(id: str, *, take_over: bool = False) -> Any:
            made = holder(id, take_over=take_over)
            append = made.append

            def noted(records: Sequence[Any]) -> None:
                self.appends.append((time.time_ns(), [decode(r.topic, r.value) for r in records]))
                append(records)

            made.append = noted  # type: ignore[method-assign]
            return made

        log.writer = writer  # type: ignore[method-assign]


def test_nothing_is_written_before_its_time(tmp_path: Path) -> None:
    market = Synthetic(("A", "B"), seed=1, quotes=300, start=at("09:30"), rate_per_s=200)
    with made(tmp_path, "wall") as log:
        recording = Recording(log)
        played = play(log, Script.of(market, Pace()))
        assert len(told(log)) == 303
    assert played.finished
    assert len(recording.appends) > 20
    for written, events in recording.appends:
        assert all(event.ts <= written for event in events)
    times = [event.ts for _, events in recording.appends for event in events]
    assert all(a <= b for a, b in pairwise(times))


def test_a_play_that_cannot_keep_up_says_so(tmp_path: Path) -> None:
    """Twelve seconds a thousand times as fast, into a log that takes 0.3 ms a record."""
    market = Synthetic(("A",), seed=1, quotes=12_000, start=at("09:30"), rate_per_s=1000)
    said: list[str] = []
    with made(tmp_path) as log:
        taking = log.writer

        def slow(id: str, *, take_over: bool = False) -> Any:
            writer = taking(id, take_over=take_over)
            append = writer.append

            def slowly(records: Sequence[Any]) -> None:
                time.sleep(len(records) * 0.0003)
                append(records)

            writer.append = slowly  # type: ignore[method-assign]
            return writer

        log.writer = slow  # type: ignore[method-assign]
        played = play(log, Script.of(market, Pace(1000)), report=lambda p: said.append(p.trouble))
    assert played.finished
    assert played.late_max_s > 1
    assert any("behind its schedule" in text for text in said)
    assert played.asked_per_s is not None
    assert played.rate_per_s < played.asked_per_s / 10


# ------------------------------------------------------------ going on


@pytest.mark.parametrize("seed", range(12))
def test_cut_anywhere_and_resumed_a_play_is_as_undisturbed(tmp_path: Path, seed: int) -> None:
    draw = random.Random(seed)
    script = Script.of(MARKET, MAX)
    with made(tmp_path, name="whole") as whole:
        play(whole, script)
        expected = stands(whole)
    power = Power(draw.randrange(2003))
    with made(tmp_path) as log, pytest.raises(OSError, match="power cut"):
        play(power.cut(log), script)
    with open_log(f"sqlite:{tmp_path / 'log'}.sqlite") as log:
        played = play(log, script, resume_since=0)
        assert (played.finished, played.total) == (True, 2003)
        assert stands(log) == expected
        again = play(log, script, resume_since=0)
        assert (again.finished, again.skipped, again.written.total()) == (True, 2003, 0)
        assert stands(log) == expected


def test_a_play_on_wall_time_goes_on_with_its_own_shift(tmp_path: Path) -> None:
    market = Synthetic(("A", "B"), seed=1, quotes=300, start=at("09:30"), rate_per_s=100)
    with made(tmp_path, "wall") as log:
        appends: list[int] = []
        first = play(
            log,
            Script.of(market, Pace()),
            report=lambda p: appends.append(p.total),
            stop=lambda: sum(appends) > 500,
        )
        assert not first.finished
        second = play(log, Script.of(market, Pace()), resume_since=0)
        assert (second.source, second.resumed, second.finished) == (first.source, True, True)
        assert second.skipped == first.total
        events = told(log)
        assert [e.row for e in events] == list(range(1, 304))
        start = events[0].ts
        assert [e.ts - start for e in events[:-1]] == [e.ts - at("09:30") for e in market.events()]  # type: ignore[attr-defined]
        third = play(log, Script.of(market, Pace()), stop=lambda: True)
        assert (third.resumed, third.source != first.source) == (False, True)


def test_without_resume_what_lies_before_the_logs_end_is_refused(tmp_path: Path) -> None:
    with made(tmp_path) as log:
        play(log, Script.of(MARKET, MAX))
        before = stands(log)
        with pytest.raises(BadRequest, match=r"has data up to .* play what is younger.*--resume"):
            play(log, Script.of(MARKET, MAX))
        other = Synthetic(("A",), seed=9, quotes=10, start=MARKET.start + SECOND)
        for since in (None, 0):
            with pytest.raises(BadRequest, match="has data up to"):
                play(log, Script.of(other, MAX), resume_since=since)
        assert stands(log) == before
        younger = Synthetic(("A",), seed=9, quotes=10, start=at("09:30", day=1))
        assert play(log, Script.of(younger, MAX)).finished


@pytest.mark.parametrize("pace", [MAX, Pace(2), Pace(1, keep_times=True)])
def test_a_log_on_wall_time_takes_only_what_is_now(tmp_path: Path, pace: Pace) -> None:
    with made(tmp_path, "wall") as log:
        with pytest.raises(BadRequest, match="wall time"):
            play(log, Script.of(MARKET, pace))
        assert not any(stands(log).values())


def test_a_speed_below_one_is_refused() -> None:
    with pytest.raises(BadRequest, match="choose 1 or more"):
        Pace(0.5)


# ------------------------------------------------------------ quality, and the future


def test_what_cannot_be_right_is_set_aside_once(tmp_path: Path) -> None:
    prices = ("10", "10", "900", "10", "10")
    quotes = [quote(at("09:30") + i * SECOND, p, f"{p}.1") for i, p in enumerate(prices)]
    with made(tmp_path) as log:
        script = Script.of(Events(session_opened(), *quotes), MAX, QualitySettings())
        play(log, script)
        play(log, script, resume_since=0)
        letters = [decode("dead-letters", v) for p, vs in stands(log).items() if "dead" in p for v in vs]
        assert [type(letter) for letter in letters] == [DeadLetter]
        assert imported_row(letters[0]) == (script.source, 4)  # type: ignore[arg-type]
        assert [e.row for e in told(log)] == [1, 2, 3, 5, 6, 7]


def test_a_quote_from_the_future_is_parked(tmp_path: Path) -> None:
    now = at("12:00")
    near, far = quote(now + 5 * SECOND, 1, 2), quote(now + 5 * SECOND + 1, 1, 2)
    with made(tmp_path, "wall") as log, log.writer("feed") as writer:
        feed = Feed(log, writer, clock=lambda: now)
        feed.append([evolve(near, row=1), evolve(far, row=2)])
        assert [e.row for e in told(log)] == [1]
        (letter,) = [decode("dead-letters", v) for p, vs in stands(log).items() if "dead" in p for v in vs]
        assert isinstance(letter, DeadLetter)
        assert letter.key == "SPY"
        assert letter.reason == (
            "ahead of its receipt: 2024-01-02T17:00:05.000000001Z, received at 2024-01-02T17:00:00.000000000Z"
        )
        assert (feed.parked, feed.written) == (1, {"market.quotes": 1, "dead-letters": 1})
    with made(tmp_path, "data", "data") as log, log.writer("feed") as writer:
        Feed(log, writer, clock=lambda: now).append([evolve(far, row=2)])
        assert [e.row for e in told(log)] == [2]


def test_a_play_whose_clock_is_set_back_parks_and_says_so(tmp_path: Path) -> None:
    market = Synthetic(("A",), seed=1, quotes=100, start=at("09:30"), rate_per_s=100)
    with made(tmp_path, "wall") as log:
        played = play(
            log, Script.of(market, Pace()), clock=Clock(at("12:00", 30), back=60 * SECOND, after=20)
        )
        assert played.parked > 0
        assert "set back" in played.trouble
        assert len(told(log)) + played.parked == 103


# ------------------------------------------------------------ the role


def test_the_feed_as_a_role_goes_on_after_a_cut_and_waits_at_its_end(tmp_path: Path) -> None:
    beats: list[Beat] = []
    with made(tmp_path, name="whole") as whole:
        play(whole, Script.of(MARKET, MAX))
        expected = stands(whole)
    with made(tmp_path) as log, pytest.raises(OSError, match="power cut"):
        run_feed(Power(700).cut(log), MARKET, MAX, beats=beats.append, stop=lambda: False)
    with open_log(f"sqlite:{tmp_path / 'log'}.sqlite") as log:
        at_end = 0

        def stop() -> bool:
            nonlocal at_end
            at_end += beats[-1].processed == 2003
            return at_end > 5

        run_feed(log, MARKET, MAX, beats=beats.append, stop=stop)
        assert stands(log) == expected


def test_on_wall_time_the_role_goes_on_with_a_recent_play_only(tmp_path: Path) -> None:
    market = Synthetic(("A",), seed=1, quotes=20, start=at("09:30"), rate_per_s=100)
    now = at("12:00", 30)

    def run(clock: Clock) -> None:
        beats: list[Beat] = []
        run_feed(
            log,
            market,
            Pace(),
            beats=beats.append,
            stop=lambda: bool(beats) and beats[-1].processed == 23,
            clock=clock,
        )

    with made(tmp_path, "wall") as log:
        run(Clock(now))
        once = stands(log)
        run(Clock(now + 60 * SECOND))
        assert stands(log) == once
        run(Clock(now + 3600 * SECOND))
        events = told(log)
        assert len({event.source for event in events}) == 2
        assert len(events) == 46


def test_a_market_on_the_calendar_plays_its_sessions(tmp_path: Path) -> None:
    days = {"first": date(2024, 7, 3), "last": date(2024, 7, 5)}
    market = SyntheticMarket(("A", "B"), seed=3, rate_per_s=0.01, **days)  # type: ignore[arg-type]
    with made(tmp_path) as log:
        play(log, Script.of(market, MAX))
        events = told(log)
    sessions = [type(e) for e in events if type(e) in (SessionOpened, SessionClosed)]
    assert sessions == [SessionOpened, SessionClosed] * 2
    gaps = [b.ts - a.ts for a, b in pairwise(events)]
    assert max(gaps) <= 5 * 3600 * SECOND
    assert min(gaps) >= 0
