"""The heartbeat on a real log, with a clock that tests set."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from eventlog import EventLog, LogSpec, create_log, open_log
from eventlog.errors import WriterBusy
from eventlog.roles import Beat
from producers.heartbeat import run_heartbeat
from producers.marketdata.errors import BadRequest
from producers.sessions import NEW_YORK
from schemas import EVERY_SYMBOL, Heartbeat, SessionClosed, SessionOpened, decode, partition_of

SECOND = 10**9
STATUS = "market.status"


def ny(text: str) -> int:
    """UTC ns of a clock in New York: "2024-01-02 09:30:00"."""
    return int(datetime.fromisoformat(text).replace(tzinfo=NEW_YORK).timestamp()) * SECOND


@pytest.fixture
def url(tmp_path: Path) -> str:
    made = f"sqlite:{tmp_path / 'log.sqlite'}"
    create_log(made, LogSpec(id="3f" * 16, time="wall")).close()
    return made


def run(url: str, times: Sequence[int]) -> list[Beat]:
    """Run the heartbeat for as many looks at the clock as there are times; its beats."""
    beats: list[Beat] = []
    left = list(times)
    with open_log(url) as log:
        run_heartbeat(log, beats=beats.append, stop=lambda: not left, clock=lambda: left.pop(0), every_s=0)
    return beats


def said(url: str) -> list[Any]:
    """All that stands in market.status of every symbol."""
    with open_log(url, read_only=True) as log:
        partition = partition_of(EVERY_SYMBOL, log.partitions(STATUS))
        return [decode(STATUS, r.value) for r in log.read(STATUS, partition, gte=0)]


def told(url: str) -> list[tuple[str, int]]:
    return [(type(event).__name__, event.ts) for event in said(url)]


OPEN, CLOSE = ny("2024-01-02 09:30:00"), ny("2024-01-02 16:00:00")


def test_sessions_come_at_their_wall_times(url: str) -> None:
    run(url, [OPEN - SECOND, OPEN, OPEN + SECOND, CLOSE - SECOND, CLOSE + SECOND // 2])
    assert told(url) == [
        ("Heartbeat", OPEN - SECOND),
        ("SessionOpened", OPEN),
        ("Heartbeat", OPEN + SECOND),
        ("Heartbeat", CLOSE - SECOND),
        ("SessionClosed", CLOSE),
        ("Heartbeat", CLOSE + SECOND // 2),
    ]
    events = said(url)
    assert [event.row for event in events] == list(range(1, 7))
    assert {event.source for event in events} == {"heartbeat-3f3f3f3f"}
    opened = events[1]
    assert (opened.session, opened.close) == ("2024-01-02", CLOSE)
    assert (opened.extended_open, opened.extended_close) == (
        ny("2024-01-02 04:00:00"),
        ny("2024-01-02 20:00:00"),
    )


def test_a_restart_says_no_session_twice_and_goes_on_with_its_rows(url: str) -> None:
    noon = OPEN + 9000 * SECOND
    for times in ([OPEN], [noon], [noon + SECOND], [CLOSE], [CLOSE + SECOND]):
        run(url, times)
    kinds = [type(event) for event in said(url)]
    assert kinds == [SessionOpened, Heartbeat, Heartbeat, SessionClosed, Heartbeat]
    assert [event.row for event in said(url)] == list(range(1, 6))


def test_a_start_in_mid_session_opens_it(url: str) -> None:
    run(url, [OPEN + 9000 * SECOND])
    assert told(url) == [("SessionOpened", OPEN), ("Heartbeat", OPEN + 9000 * SECOND)]


@pytest.mark.parametrize(
    "time", ["2024-01-02 08:00:00", "2024-01-02 16:00:01", "2024-01-06 12:00:00", "2024-01-01 12:00:00"]
)
def test_a_start_out_of_session_opens_none(url: str, time: str) -> None:
    run(url, [ny(time)])
    assert [type(event) for event in said(url)] == [Heartbeat]


def test_a_session_left_open_is_closed_by_the_next_start(url: str) -> None:
    run(url, [OPEN + 60 * SECOND])
    run(url, [ny("2024-01-03 08:00:00")])
    run(url, [ny("2024-01-03 10:00:00")])
    assert told(url)[2:] == [
        ("SessionClosed", CLOSE),
        ("Heartbeat", ny("2024-01-03 08:00:00")),
        ("SessionOpened", ny("2024-01-03 09:30:00")),
        ("Heartbeat", ny("2024-01-03 10:00:00")),
    ]


def test_a_half_day_closes_early(url: str) -> None:
    run(url, [ny("2024-07-03 12:59:59"), ny("2024-07-03 13:00:00")])
    assert said(url)[2] == SessionClosed(
        session="2024-07-03", ts=ny("2024-07-03 13:00:00"), source="heartbeat-3f3f3f3f", row=3
    )


def test_a_clock_set_back_writes_nothing_below_the_last_time(url: str) -> None:
    noon = ny("2024-01-02 12:00:00")
    back = [noon - 600 * SECOND, noon - 300 * SECOND, ny("2024-01-02 09:29:59"), OPEN]
    beats = run(url, [noon, *back, noon + SECOND])
    assert told(url) == [("SessionOpened", OPEN), ("Heartbeat", noon), ("Heartbeat", noon + SECOND)]
    errors = [beat.error for beat in beats]
    assert sum("before the last time written" in error for error in errors) == len(back)
    assert "600 s before the last" in "".join(errors)
    assert run(url, [noon - 600 * SECOND])[-1].error  # also after a restart
    assert len(said(url)) == 3


def test_a_clock_that_jumps_forward_is_said_and_no_session_is_left_out(url: str) -> None:
    early = ny("2024-01-02 08:00:00")
    beats = run(url, [early, early + SECOND, ny("2024-01-03 17:00:00")])
    assert told(url)[2:] == [
        ("SessionOpened", OPEN),
        ("SessionClosed", CLOSE),
        ("SessionOpened", ny("2024-01-03 09:30:00")),
        ("SessionClosed", ny("2024-01-03 16:00:00")),
        ("Heartbeat", ny("2024-01-03 17:00:00")),
    ]
    assert [beat.error for beat in beats[:-1]] == [""] * (len(beats) - 1)
    assert beats[-1].error.startswith("the clock went forward by 118,7")


def test_a_second_heartbeat_is_refused_while_the_first_lives(url: str) -> None:
    with open_log(url) as log, log.writer("heartbeat"), pytest.raises(WriterBusy):
        run(url, [OPEN])


def test_a_log_on_data_time_is_refused(tmp_path: Path) -> None:
    made: EventLog = create_log(f"sqlite:{tmp_path / 'data.sqlite'}", LogSpec(id="x" * 32, time="data"))
    with made, pytest.raises(BadRequest, match="leave this role out"):
        run_heartbeat(made, beats=lambda beat: None, stop=lambda: True)
