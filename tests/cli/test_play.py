"""`tape play` as a user meets it: made and recorded data, speeds, Ctrl-C, kills, mistakes."""

from __future__ import annotations

import random
import signal
from pathlib import Path
from typing import Any

import pytest

from eventlog import LogSpec, create_log, open_log
from schemas import CORE_MARKET_INPUTS, Heartbeat, Quote, SessionClosed, SessionOpened, decode
from support.cli import end, here, records, start, tape, wait_until
from support.lean import SAMPLE

SPY = ("--data", SAMPLE, "--symbols", "SPY", "--from", "2013-10-07", "--to", "2013-10-08")
MADE = ("--synthetic", "--symbols", "100", "--rate", "10000")
MAX = ("--speed", "max")
SECOND = 10**9


def stands(log: Path | str) -> dict[str, list[bytes]]:
    """The values of all that a play may write, by partition."""
    with open_log(f"sqlite:{log}", read_only=True) as read:
        return {
            f"{topic}/{p}": [record.value for record in read.read(topic, p, gte=0, limit=10**6)]
            for topic in (*CORE_MARKET_INPUTS, "dead-letters")
            for p in range(read.partitions(topic))
        }


def events(log: Path | str) -> list[Any]:
    """The market events, by source and row."""
    found: list[Any] = [
        decode(place.partition("/")[0], value)
        for place, values in stands(log).items()
        if place.startswith("market.")
        for value in values
    ]
    return sorted(found, key=lambda event: (event.source, event.row))


def played(*args: str | Path) -> dict[str, Any]:
    """What a play that must succeed tells."""
    ran = here("play", *args, "--json")
    assert ran.code == 0, ran.err
    return ran.json


def test_what_people_see(tmp_path: Path) -> None:
    ran = tape("play", "p.sqlite", *SPY, *MAX, cwd=tmp_path)
    assert (ran.code, ran.err) == (0, "")
    said = ran.out.splitlines()
    assert said[:3] == [
        "market.bars              780",
        "market.quotes            780",
        "market.status             14",
    ]
    assert said[3].startswith("1,574 events in ")
    assert said[4:6] == ["from 2013-10-07T13:30:00.000000000Z", "to   2013-10-08T20:00:00.000000000Z"]
    assert said[6].startswith("log  sqlite:p.sqlite (data time), source play-")
    assert len(said) == 7
    again = tape("play", "p.sqlite", *SPY, *MAX, "--resume", cwd=tmp_path)
    assert again.code == 0
    assert again.out.splitlines()[0] == "nothing new: all 1,574 events had been written before"


def test_what_is_played_is_what_is_imported(tmp_path: Path) -> None:
    assert here("import", *SPY, "--log", tmp_path / "imported.sqlite").code == 0
    played(tmp_path / "played.sqlite", *SPY, *MAX)

    def bare(log: str) -> list[tuple[Any, ...]]:
        kept = [e for e in events(tmp_path / log) if type(e) is not Heartbeat]
        return [(type(e), e.symbol, e.ts, getattr(e, "bid", None), getattr(e, "close", None)) for e in kept]

    assert bare("played.sqlite") == bare("imported.sqlite")


def test_a_made_market_at_speed_1_is_now(tmp_path: Path) -> None:
    told = played(tmp_path / "live.sqlite", *MADE, "--duration", "1s")
    assert (told["time"], told["finished"], told["shifted"]) == ("wall", True, True)
    assert told["written"] == {"market.quotes": 10_000, "market.status": 3}
    opened, *quotes, closed, last = events(tmp_path / "live.sqlite")
    assert (type(opened), type(closed), type(last)) == (SessionOpened, SessionClosed, Heartbeat)
    assert {type(quote) for quote in quotes} == {Quote}
    assert {quote.symbol for quote in quotes} == {f"S{n:03}" for n in range(100)}
    assert [quote.ts - opened.ts for quote in quotes] == [n * SECOND // 10_000 for n in range(10_000)]
    assert closed.ts == opened.close == opened.ts + SECOND


def test_the_same_seed_plays_the_same_market(tmp_path: Path) -> None:
    def prices(name: str, *args: str) -> list[Any]:
        played(tmp_path / name, "--synthetic", "--symbols", "A,B", "--rate", "50", *args, *MAX)
        return [(e.ts, e.symbol, e.bid, e.ask) for e in events(tmp_path / name) if type(e) is Quote]

    first = prices("a", "--duration", "20s")
    assert len(first) == 1000
    assert prices("b", "--duration", "20s") == first
    assert prices("c", "--duration", "20s", "--seed", "2") != first


def test_a_log_can_be_played_again(tmp_path: Path) -> None:
    played(tmp_path / "a", *SPY, *MAX)
    told = played(tmp_path / "b", "--data", tmp_path / "a", *MAX)
    assert told["written"]["market.bars"] == 780
    first, second = events(tmp_path / "a"), events(tmp_path / "b")
    for kind in (SessionOpened, Quote, SessionClosed):
        assert [e.ts for e in second if type(e) is kind] == [e.ts for e in first if type(e) is kind]
    assert [e.row for e in second] == list(range(1, len(second) + 1))


@pytest.mark.parametrize(
    ("args", "time", "shifted"),
    [
        ((), "wall", True),
        (("--log-time", "data"), "data", True),
        (("--keep-times",), "data", False),
        (("--speed", "100"), "data", False),
        (("--log-time", "data", "--speed", "max"), "data", False),
    ],
)
def test_the_time_of_a_log_that_is_made(
    tmp_path: Path, args: tuple[str, ...], time: str, shifted: bool
) -> None:
    made = ("--synthetic", "--symbols", "A", "--rate", "10", "--duration", "1s")
    told = played(tmp_path / "log", *made, *args, "--market-partitions", "2", "--account-partitions", "3")
    assert (told["time"], told["shifted"]) == (time, shifted)
    with open_log(f"sqlite:{tmp_path / 'log'}", read_only=True) as log:
        assert (log.partitions("market.quotes"), log.partitions("orders")) == (2, 3)
        assert len(log.id) == 32


def test_ctrl_c_stops_with_a_summary_and_resume_goes_on(tmp_path: Path) -> None:
    log = tmp_path / "live.sqlite"
    made = ("--synthetic", "--symbols", "A,B", "--rate", "1000", "--duration", "4s")
    process = start("play", log, *made, "--json")
    assert wait_until(process, lambda: records(log, "market.%") > 200)
    process.send_signal(signal.SIGINT)
    ran = end(process)
    assert ran.code == 130
    assert (ran.json["finished"], ran.json["resumed"]) == (False, False)
    there = records(log, "market.%")
    assert sum(ran.json["written"].values()) == there < 4003
    told = played(log, *made, "--resume")
    assert (told["source"], told["resumed"], told["finished"]) == (ran.json["source"], True, True)
    assert told["skipped"] == there
    found = events(log)
    assert [event.row for event in found] == list(range(1, 4004))
    assert found[-2].ts == found[0].ts + 4 * SECOND


def test_of_one_event_there_is_no_rate_and_of_none_no_time(tmp_path: Path) -> None:
    """Hours lie between the first events: until then there are heartbeats."""
    log = tmp_path / "live.sqlite"
    for more, times in (((), 1), (("--resume",), 0)):
        before = records(log, "market.status") if log.exists() else 0
        process = start("play", log, *SPY, "--resolution", "daily", *more)
        assert wait_until(process, lambda: records(log, "market.status") >= before + 2)  # noqa: B023
        process.send_signal(signal.SIGINT)
        ran = end(process)
        assert ran.code == 130
        assert ("a second" in ran.out, ran.out.count("from 20"), "None" in ran.out) == (False, times, False)


def test_killed_anywhere_and_resumed_it_is_as_undisturbed(tmp_path: Path) -> None:
    """Also where the data are checked, or nothing has been written yet."""
    made = ("--synthetic", "--symbols", "20", "--rate", "1000", "--duration", "60s", *MAX)
    played(tmp_path / "whole", *made)
    log, draw, hit = tmp_path / "killed", random.Random(8), 0
    for share in sorted(draw.random() for _ in range(8)):
        process = start("play", log, *made, "--resume")
        wait_until(process, lambda: records(log, "market.%") >= share * 60_000)  # noqa: B023
        process.kill()
        hit += end(process).code == -signal.SIGKILL
    assert hit > 0
    told = played(log, *made, "--resume")
    assert told["finished"]
    assert stands(log) == stands(tmp_path / "whole")


def test_a_second_play_is_refused_while_the_first_lives(tmp_path: Path) -> None:
    log = tmp_path / "live.sqlite"
    first = start("play", log, "--synthetic", "--symbols", "A", "--rate", "100")
    assert wait_until(first, lambda: records(log, "market.%") > 0)
    second = tape("play", log, "--synthetic", "--symbols", "A")
    assert second.code == 2
    assert second.said.startswith(f"sqlite:{log}: writer feed is held by process {first.pid} on ")
    assert second.said.endswith("stop it, or take over (--take-over)")
    first.send_signal(signal.SIGINT)
    assert end(first).code == 130


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ("", "no data are named: give one of the two, --data or --synthetic"),
        ("--synthetic", "a synthetic market needs symbols: name them, or say how many (--symbols 100)"),
        ("--synthetic --symbols 0", "0 symbols cannot be made: name them, or choose 1 to 10000"),
        ("--synthetic --symbols A --rate 0.5", "choose a whole number from 1 to 1000000, or name days"),
        ("--synthetic --symbols A --speed 0.5", "'0.5' is not a number from 1 to 1,000,000, or max"),
        ("--synthetic --symbols A --speed fast", "'fast' is not a number from 1 to 1,000,000, or max"),
        ("--synthetic --symbols A --speed nan", "'nan' is not a number"),
        ("--synthetic --symbols A --duration 5", "'5' is not of the form 30s, 5m or 2h"),
        ("--synthetic --symbols A --duration 0s", "'0s' is not of the form 30s, 5m or 2h"),
        ("--synthetic --symbols A --spread 2", "only goes with --synthetic --from --to"),
        (
            "--synthetic --symbols A --from 2024-01-02 --to 2024-01-02 --duration 5s",
            "without --from and --to",
        ),
        ("--synthetic --symbols A --from 2024-01-02", "from a day to a day: name both (--from, --to)"),
        ("--synthetic --symbols A --speed 2 --log-time wall", "leave out --log-time wall"),
        ("--synthetic --symbols A --keep-times --log-time wall", "leave out --log-time wall"),
        ("--data nowhere --symbols A --from 2024-01-02 --to 2024-01-02", "nowhere"),
    ],
)
def test_mistakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, args: str, said: str) -> None:
    monkeypatch.chdir(tmp_path)
    ran = here("play", "log.sqlite", *args.split())
    assert ran.code == 2
    assert said in ran.said
    assert not any(tmp_path.iterdir())


def test_a_log_that_is_otherwise_is_refused(tmp_path: Path) -> None:
    for kind in ("wall", "data"):
        create_log(
            f"sqlite:{tmp_path / kind}", LogSpec("1" * 32, "wall" if kind == "wall" else "data")
        ).close()
    made = ("--synthetic", "--symbols", "A", "--rate", "10", "--duration", "1s")
    faster = here("play", tmp_path / "wall", *made, *MAX)
    assert faster.code == 2
    assert "is a log on wall time, in which the time is now" in faster.said
    other = here("play", tmp_path / "data", *made, "--log-time", "wall")
    assert other.code == 2
    assert "its time is data, not wall: leave the option out, or name another log" in other.said
    fewer = here("play", tmp_path / "data", *made, *MAX, "--market-partitions", "2")
    assert fewer.code == 2
    assert "its market partitions is 4, not 2" in fewer.said
    assert records(tmp_path / "wall", "market.%") == records(tmp_path / "data", "market.%") == 0


def test_what_lies_before_the_logs_end_is_refused(tmp_path: Path) -> None:
    log = tmp_path / "log"
    played(log, *SPY, *MAX)
    before = stands(log)
    ran = here("play", log, *SPY, *MAX)
    assert ran.code == 2
    assert "these go on from 2013-10-07T13:30:00.000000000Z: play what is younger" in ran.said
    assert stands(log) == before
    told = played(log, *SPY[:4], "--from", "2013-10-09", "--to", "2013-10-09", *MAX)
    assert told["written"]["market.bars"] == 390
