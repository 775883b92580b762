"""`tape import` as a user meets it: every kind of data, kills and repeats, the gate's report, mistakes."""

from __future__ import annotations

import json
import random
import resource
import signal
import zipfile
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from eventlog import open_log
from schemas import TOPICS, decode
from support.cli import MONDAY, end, here, query, records, start, tape, wait_until
from support.lean import SAMPLE
from support.much import many

KILLS = many(12)
LEAN = ("import", "--data", str(SAMPLE), "--json")
SPY = ("--symbols", "SPY", "--from", "2013-10-07", "--to", "2013-10-08")


def stands(log: Path) -> dict[str, list[tuple[int, bytes, bytes]]]:
    """All that an import may write, by partition, to the byte."""
    found = {}
    with open_log(f"sqlite:{log}", read_only=True) as read:
        for topic in (*(t for t in TOPICS if t.startswith("market.")), "dead-letters"):
            for partition in range(read.partitions(topic)):
                rows = read.read(topic, partition, gte=0, limit=10**6)
                found[f"{topic}/{partition}"] = [(r.offset, r.key, r.value) for r in rows]
    return found


def imported(*args: str | Path) -> dict[str, Any]:
    """The report of an import that must succeed."""
    ran = here("import", "--json", *args)
    assert ran.code == 0, ran.err
    return ran.json


def events(log: Path, topic: str) -> list[Any]:
    """The events of a topic, by row."""
    found: list[Any] = [
        decode(topic, value)
        for place, rows in stands(log).items()
        for _, _, value in rows
        if place.startswith(f"{topic}/")
    ]
    return sorted(found, key=lambda event: event.row)


# ------------------------------------------------------------ what people and programs see


def test_what_people_see(tmp_path: Path) -> None:
    args = ("import", "--data", SAMPLE, "--symbols", "AAPL", "--from", "2014-06-05", "--to", "2014-06-09")
    ran = tape(*args, "--hours", "extended", "--log", "m.sqlite", cwd=tmp_path)
    assert (ran.code, ran.err) == (0, "")
    said = ran.out.splitlines()
    assert said[:4] == [
        "dead-letters               2",
        "market.bars            2,661",
        "market.quotes          2,512",
        "market.status              7",
    ]
    assert said[5:] == [
        "quality: 5,180 events passed, 2 set aside in dead-letters",
        "  move: AAPL 2",
        "    dead-letters/1/0: AAPL at 2014-06-06T08:01:00+00:00: "
        "1, last accepted 649.095, last seen 649.095",
        "    dead-letters/1/1: AAPL at 2014-06-09T08:01:00+00:00: "
        "645.57, last accepted 92.230, last seen 92.230",
        "log   sqlite:m.sqlite",
        "head  m.sqlite.head",
    ]
    again = tape(*args, "--hours", "extended", "--log", "m.sqlite", cwd=tmp_path)
    assert again.out.splitlines() == ["nothing new: all 5,182 events had been written before", *said[5:]]
    verified = tape("verify", "m.sqlite", "--head", "m.sqlite.head", cwd=tmp_path)
    assert (verified.code, verified.out.splitlines()[-1]) == (0, "the log holds")


def test_what_programs_see(tmp_path: Path) -> None:
    log = tmp_path / "new" / "m.sqlite"
    told = imported(*LEAN[1:3], *SPY, "--log", log)
    assert told["written"] == {"market.bars": 780, "market.quotes": 780, "market.status": 4}
    assert (told["events"], told["skipped"], told["left_out"]) == (1564, 0, {"outside regular hours": 1914})
    assert told["quality"]["settings"] == {
        "move_max": "0.30",
        "crossed_max": "0.01",
        "spread_max": "0.05",
        "gap_max_s": 180,
    }
    assert (told["log"], told["head"]) == (f"sqlite:{log}", f"{log}.head")
    assert json.loads(Path(told["head"]).read_text())["heads"]
    again = imported(*LEAN[1:3], *SPY, "--log", log, "--max-move", "0.3", "--max-silence", "30")
    assert (again["written"], again["skipped"]) == ({}, 1564)  # the same bounds, another way to report


def test_sessions_without_a_file_are_counted(tmp_path: Path) -> None:
    days = ("--from", "2013-10-04", "--to", "2013-10-08", "--resolution", "tick", "--allow-missing")
    told = imported(*LEAN[1:3], "--symbols", "IBM", *days, "--log", tmp_path / "m.sqlite")
    assert told["quality"]["silent_sessions"] == {"IBM": 2}  # the days before and after the one there is


def test_every_row_is_accounted_for(tmp_path: Path) -> None:
    """Of tick files, whose rows are mostly merged: events and what was left out are all the rows."""
    told = imported(
        *LEAN[1:3], "--symbols", "IBM", "--resolution", "tick", *MONDAY, "--log", tmp_path / "m.sqlite"
    )
    rows = 0
    for kind in ("trade", "quote"):
        with zipfile.ZipFile(SAMPLE / f"equity/usa/tick/ibm/20131007_{kind}.zip") as archive:
            rows += len(archive.read(archive.namelist()[0]).splitlines())
    assert set(told["left_out"]) >= {"merged with later ones of their millisecond", "outside regular hours"}
    assert told["events"] + sum(told["left_out"].values()) == rows + told["written"]["market.status"]


# ------------------------------------------------------------ kills


@pytest.fixture(scope="module")
def dirty(tmp_path_factory: pytest.TempPathFactory) -> list[str | Path]:
    """An import of sixty thousand trades, one in a hundred at a price that cannot be."""
    draw = random.Random(5)
    file = tmp_path_factory.mktemp("data") / "trades.csv"
    with file.open("w") as text:
        text.write("ts,symbol,price,size\n")
        for n in range(60_000):
            price = draw.choice((1, 900)) if draw.random() < 0.01 else 100 + draw.randrange(100) / 100
            text.write(f"{1_381_152_600_000 + n * 300},{draw.choice('ABCDE')},{price},{n % 9 + 1}\n")
    return ["import", "--data", file, "--kind", "trades", "--time", "ms", "--json"]


@pytest.fixture(scope="module")
def undisturbed(dirty: list[str | Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    log = tmp_path_factory.mktemp("undisturbed") / "m.sqlite"
    ran = tape(*dirty, "--log", log)
    assert ran.code == 0, ran.err
    told = ran.json
    assert told["written"]["dead-letters"] == told["quality"]["quarantined"] > 500
    assert sum(told["written"].values()) == told["events"]
    return {**told, "stands": stands(log), "records": records(log)}


def test_killed_at_random_moments(
    dirty: list[str | Path], undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    log, draw, hit = tmp_path / "m.sqlite", random.Random(11), 0
    for share in sorted(draw.random() for _ in range(KILLS)):
        process = start(*dirty, "--log", log)
        wait_until(process, lambda: records(log) >= share * undisturbed["records"])  # noqa: B023
        process.kill()
        hit += end(process).code == -signal.SIGKILL
    assert hit >= KILLS * 3 // 4
    ran = tape(*dirty, "--log", log)
    assert ran.code == 0, ran.err
    assert ran.json["skipped"] > 0
    assert ran.json["quality"] == undisturbed["quality"]
    assert stands(log) == undisturbed["stands"]
    assert tape("verify", log, "--head", ran.json["head"]).code == 0
    again = tape(*dirty, "--log", log).json
    assert (again["written"], again["skipped"]) == ({}, undisturbed["events"])


def test_stopped_by_ctrl_c(dirty: list[str | Path], undisturbed: dict[str, Any], tmp_path: Path) -> None:
    log = tmp_path / "m.sqlite"
    process = start(*dirty, "--log", log)
    assert wait_until(process, lambda: records(log) > 0)
    process.send_signal(signal.SIGINT)
    ran = end(process)
    assert (ran.code, ran.json["exit"], ran.json["kind"]) == (130, 130, "Stopped")
    said = ran.err.splitlines()[-1]
    assert said == f"tape: sqlite:{log}: stopped while importing; repeat the command to go on"
    assert tape("verify", log).code == 0
    assert tape(*dirty, "--log", log).code == 0
    assert stands(log) == undisturbed["stands"]


# ------------------------------------------------------------ files


def test_bars_with_a_mapping(tmp_path: Path) -> None:
    (tmp_path / "spy.csv").write_text(
        "when;x,o,h,l,c,vol\n2013-10-07 09:30,10,11,9,10.5,100\n2013-10-07 09:31,10.5,11,10,11,\n"
        "2013-10-07 18:00,10.5,11,10,11,5\n"
    )
    told = imported(
        *("--data", tmp_path / "spy.csv", "--kind", "bars", "--log", tmp_path / "m.sqlite"),
        *("--columns", "ts=when;x, open=o,high=h,low=l,close=c,volume=vol"),
        *("--symbol", "spy", "--tz", "America/New_York", "--period", "1m", "--bar-time", "start"),
    )
    assert told["written"] == {"market.bars": 2, "market.status": 2}
    assert told["left_out"] == {"outside regular hours": 1}
    first, second = events(tmp_path / "m.sqlite", "market.bars")
    assert (first.symbol, str(first.high), str(first.volume), first.period) == (
        "SPY",
        "11",
        "100",
        60 * 10**9,
    )
    assert first.ts == 1_381_152_660 * 10**9
    assert second.volume is None


def test_quotes_of_parquet_and_csv_together(tmp_path: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    table = pa.table(
        {
            "ts": pa.array([1_381_152_600_000_001], pa.timestamp("us", "UTC")),
            "symbol": ["A"],
            "bid": [9.99],
            "ask": [10.0],
        }
    )
    parquet.write_table(table, tmp_path / "b.parquet")
    (tmp_path / "a.csv").write_text("ts,symbol,bid,ask\n2013-10-07T13:30:00Z,A,10,10.01\n")
    told = imported("--data", tmp_path, "--kind", "quotes", "--log", tmp_path / "m.sqlite")
    assert told["written"] == {"market.quotes": 2, "market.status": 2}
    found = events(tmp_path / "m.sqlite", "market.quotes")
    assert [(e.ts % 10**9, str(e.bid)) for e in found] == [(0, "10"), (1000, "9.99")]


QUOTES = """\
ts,symbol,bid,ask
2013-10-07T13:30:00Z,A,100,100.1
2013-10-07T13:30:01Z,B,50,50.1
2013-10-07T13:30:02Z,A,-1,100.1
2013-10-07T13:30:03Z,A,102,100
2013-10-07T13:30:04Z,A,10,10.01
2013-10-07T13:30:05Z,A,100,100.1
2013-10-04T13:30:05Z,A,100,100.1
2013-10-07T13:30:02.5Z,B,50,50.1
2013-10-07T13:30:06Z,A,0,100.1
2013-10-07T13:30:07Z,A,100,100.1
2013-10-07T13:30:07Z,A,100,100.2
2013-10-07T13:40:00Z,B,50,50.1
"""
"""Bad: a negative bid, a crossed quote, a tenth of the price, another day and an earlier second."""


def test_what_cannot_be_right_is_set_aside_and_named(tmp_path: Path) -> None:
    (tmp_path / "q.csv").write_text(QUOTES)
    log = tmp_path / "m.sqlite"
    args = ("import", "--data", tmp_path / "q.csv", "--kind", "quotes", "--log", log)
    ran = here(*args, "--max-silence", "120")
    assert (ran.code, ran.err) == (0, "")
    lines = ran.out.splitlines()
    assert [line.split() for line in lines[:3]] == [
        ["dead-letters", "5"],
        ["market.quotes", "7"],
        ["market.status", "2"],
    ]
    assert lines[4:-2] == [
        "quality: 9 events passed, 5 set aside in dead-letters",
        "  crossed: A 1",
        "    dead-letters/2/1: A at 2013-10-07T13:30:03+00:00: bid 102 over ask 100",
        "  move: A 1",
        "    dead-letters/2/2: A at 2013-10-07T13:30:04+00:00: "
        "10.005, last accepted 100.05, last seen 100.05",
        "  not positive: A 1",
        "    dead-letters/2/0: A at 2013-10-07T13:30:02+00:00: -1",
        "  time goes back: A 1, B 1",
        "    dead-letters/2/3: A at 2013-10-04T13:30:05+00:00: "
        "2013-10-04T13:30:05.000000000Z after 2013-10-07T13:30:05.000000000Z",
        "    dead-letters/0/0: B at 2013-10-07T13:30:02+00:00: "
        "2013-10-07T13:30:02.500000000Z after 2013-10-07T13:30:05.000000000Z",
        "  silent in session for more than 120 s: B 2, A 1",
        "    the longest: A, 23,393 s since 2013-10-07T13:30:07+00:00",
    ]
    assert [e.ask for e in events(log, "market.quotes")] == [
        *map(Decimal, ("100.1", "50.1", "100.1", "100.1", "100.1", "100.2", "50.1"))
    ]
    assert [e.session for e in events(log, "market.status")] == ["2013-10-07"] * 2
    before = stands(log)
    assert here(*args, "--max-silence", "120").out.startswith("nothing new: all 14 events had been written")
    assert stands(log) == before


def test_without_the_gate_the_first_wrong_row_is_refused(tmp_path: Path) -> None:
    (tmp_path / "q.csv").write_text(QUOTES)
    args = ("import", "--data", tmp_path / "q.csv", "--kind", "quotes", "--log", tmp_path / "m.sqlite")
    ran = here(*args, "--no-gate")
    assert ran.code == 2
    assert f"{tmp_path / 'q.csv'} line 4: 'bid' is '-1'" in ran.said


def test_a_file_that_is_not_in_order_is_refused(tmp_path: Path) -> None:
    rows = [f"2013-10-07T14:{n:02}:00Z,{s},1,1\n" for s in "AB" for n in range(5)]
    (tmp_path / "t.csv").write_text("ts,symbol,price,size\n" + "".join(rows))
    args = ("import", "--data", tmp_path / "t.csv", "--kind", "trades", "--log", tmp_path / "m.sqlite")
    ran = here(*args)
    assert ran.code == 2
    assert (
        "line 7: 'ts' is '2013-10-07T14:00:00Z'; it is before the time of the row before it: sort" in ran.said
    )
    assert not (tmp_path / "m.sqlite").exists()


def test_a_symbol_of_which_there_is_nothing(tmp_path: Path) -> None:
    (tmp_path / "q.csv").write_text(QUOTES)
    args = ("import", "--data", tmp_path / "q.csv", "--kind", "quotes", "--log", tmp_path / "m.sqlite")
    ran = here(*args, "--symbols", "A,SPY")
    assert ran.code == 2
    assert "no rows of SPY (left out: 3 of other symbols)" in ran.said


def test_a_synthetic_market_is_that_of_its_seed(tmp_path: Path) -> None:
    args = ("--synthetic", "--symbols", "a,b", "--from", "2024-07-03", "--to", "2024-07-05", "--rate", "0.2")
    told = imported(*args, "--seed", "3", "--log", tmp_path / "1.sqlite")
    assert told["written"]["market.status"] == 4  # two sessions, the first a half day
    assert told["written"]["market.quotes"] == (3.5 + 6.5) * 3600 * 0.2
    imported(*args, "--seed", "3", "--log", tmp_path / "2.sqlite")
    imported(*args, "--seed", "4", "--log", tmp_path / "3.sqlite")
    one, same, other = (stands(tmp_path / f"{n}.sqlite") for n in (1, 2, 3))
    assert one == same
    assert one != other
    assert {e.symbol for e in events(tmp_path / "1.sqlite", "market.quotes")} == {"A", "B"}


def test_a_log_into_another(tmp_path: Path) -> None:
    imported(*LEAN[1:3], "--symbols", "SPY,IBM", *SPY[2:], "--log", tmp_path / "both.sqlite")
    told = imported("--data", tmp_path / "both.sqlite", "--symbols", "SPY", "--log", tmp_path / "spy.sqlite")
    assert told["written"] == {"market.bars": 780, "market.quotes": 780, "market.status": 4}


# ------------------------------------------------------------ mistakes

BARS = "--data {bars} --kind bars --symbol X"
MISTAKES = [
    ("", "no data are named: give one of the two, --data or --synthetic"),
    ("--data {sample} --synthetic", "there are made data too: give one of the two"),
    ("--data nowhere", "a LEAN folder is read from a day to a day: name both (--from, --to)"),
    ("--data nowhere --from 2013-10-07 --to 2013-10-07", "no symbols: name at least one"),
    (
        "--data nowhere --from 2013-10-07 --to 2013-10-07 --symbols SPY",
        "nowhere is not a folder: name the folder that contains equity/usa",
    ),
    ("--data nowhere --kind quotes", "no CSV or Parquet files in nowhere: name others"),
    ("--data {bars}", "say what is in these with --kind"),
    (
        "--data {sample} --tz UTC",
        "--tz: only goes with files: name them with --data, and say what is in them",
    ),
    ("--data {sample} --seed 3", "--seed: only goes with --synthetic"),
    ("--data {bars} --kind bars --adjusted", "--adjusted: only goes with a LEAN folder"),
    ("--data {log} --resolution tick", "--resolution: only goes with a LEAN folder"),
    ("--data {bars} --kind bars --allow-missing", "--allow-missing: only goes with a LEAN folder"),
    ("--synthetic --from 2024-01-02 --to 2024-01-02", "a synthetic market needs symbols"),
    ("--synthetic --symbols A", "a synthetic market is made from a day to a day: name both"),
    ("--synthetic --symbols A --from 2024-01-06 --to 2024-01-07", "no session from 2024-01-06"),
    ("--synthetic --symbols A --from 2024-01-02 --to 2024-01-02 --rate 0", "choose a rate above 0"),
    ("--synthetic --symbols A --from 2024-01-02 --to 2024-01-02 --rate nan", "choose a rate above 0"),
    (
        "--synthetic --symbols A --from 2024-01-02 --to 2024-01-02 --volatility 11",
        "a volatility from 0 to 10",
    ),
    ("--synthetic --symbols A --from 2024-01-02 --to 2024-01-02 --spread -1", "choose a spread from 0"),
    ("--synthetic --symbols * --from 2024-01-02 --to 2024-01-02", "'*' is no symbol"),
    ("--data {bars} --kind bars --symbol *", "'*' is no symbol; leave --symbols out to read all there are"),
    (f"{BARS} --period 1m --bar-time end --columns symbol=s", "--symbol: a column says it already"),
    (f"{BARS} --period 1m --bar-time end --time date", "the bar of a date is that of its session: leave out"),
    ("--synthetic --symbols A,a --from 2024-01-02 --to 2024-01-02", "should name each symbol once"),
    (f"{BARS}", "bars need a period, and whether their times are starts or ends"),
    (f"{BARS} --period 1d --bar-time end", "--period: '1d' is not of the form 30s, 1m or 1h"),
    (f"{BARS} --period 0m --bar-time end", "--period: '0m' is not of the form"),
    (f"{BARS} --period 1m --bar-time end --columns ts", "'ts' in 'ts' is not FIELD=COLUMN"),
    (f"{BARS} --period 1m --bar-time end --columns when=t", "bars have no field 'when'"),
    (f"{BARS} --period 1m --bar-time end --columns ts=when", "must have one column 'when'"),
    (f"{BARS} --period 1m --bar-time end --tz Mars", "no time zone is named 'Mars'"),
    (f"{BARS} --period 1m --bar-time end", "has no zone: name the one it is in with --tz"),
    (
        f"{BARS} --period 1m --bar-time end --time ms",
        "is not a number of seconds, or parts of them, since 1970",
    ),
    (f"{BARS} --period 1m --bar-time end --tz UTC --from 2014-01-01", "no rows to read (1 of other days)"),
    ("--data {bars} --kind bars --period 1m --bar-time end", "has no column 'symbol'"),
    ("--data {sample} --from 7.10.2013", "--from: '7.10.2013' is not a date like 2013-10-07"),
    ("--data {sample} --max-move 0", "--max-move: 0 is not at least 0.000001"),
    ("--data {sample} --max-move x", "--max-move: 'x' is not a number"),
    ("--data {sample} --max-silence 0", "--max-silence: 0.0 is not a number of seconds above 0"),
    ("--data {sample} --max-silence nan", "--max-silence: nan is not a number of seconds above 0"),
    ("--data {sample} --no-gate --max-cross 0.1", "--no-gate: there is nothing to set with --max-cross then"),
]


@pytest.mark.parametrize(("options", "said"), MISTAKES)
def test_mistakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: str, said: str) -> None:
    data, work = tmp_path / "data", tmp_path / "work"
    data.mkdir()
    work.mkdir()
    monkeypatch.chdir(work)
    (data / "log").write_bytes(b"SQLite format 3\0")
    (data / "bars.csv").write_text("ts,open,high,low,close\n2013-10-07 14:00,1,1,1,1\n")
    args = options.format(sample=SAMPLE, bars=data / "bars.csv", log=data / "log").split()
    ran = here("import", *args, "--json", "--log", "m.sqlite")
    assert ran.code == 2, ran.err
    assert said in ran.said
    assert ran.json["error"] == ran.said
    assert list(work.iterdir()) == []


@pytest.mark.parametrize(
    ("log", "said"),
    [
        ("kafka://127.0.0.1", "is not of the form kafka://HOST:PORT/NAME"),
        ("notes.txt", "notes.txt"),
        (".", "--log: . is a folder: name a file in it"),
    ],
)
def test_logs_that_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: str, said: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.txt").write_text("not a log, but a text that is long enough to be looked into\n" * 100)
    ran = here(*LEAN, *SPY, "--log", log)
    assert ran.code in (1, 2)
    assert said in ran.said
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]


def test_other_data_out_of_order_are_refused(tmp_path: Path) -> None:
    log = tmp_path / "m.sqlite"
    imported(*LEAN[1:3], *SPY, "--log", log)
    before = stands(log)
    ran = here(*LEAN, "--symbols", "IBM", *SPY[2:], "--log", log)
    assert ran.code == 2
    assert ran.said == (
        f"sqlite:{log} has data up to 2013-10-08T20:00:00+00:00, and these begin on "
        "2013-10-07T13:30:00+00:00: import in the order of time, what overlaps all at once, "
        "or into another log"
    )
    assert stands(log) == before
    later = imported(
        *LEAN[1:3], "--symbols", "IBM", "--from", "2013-10-09", "--to", "2013-10-09", "--log", log
    )
    assert later["written"]["market.bars"] == 390


def test_no_room(dirty: list[str | Path], undisturbed: dict[str, Any], tmp_path: Path) -> None:
    """Files may grow to 4 MB only: what was written stands, and the rest follows where there is room."""
    log = tmp_path / "m.sqlite"

    def little_room() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4_000_000, 4_000_000))

    ran = tape(*dirty, "--log", log, preexec_fn=little_room)
    assert ran.code == 1
    assert str(log) in ran.said
    assert ran.said.endswith("; what was written stands: repeat the command to go on")
    assert tape("verify", log).code == 0
    assert tape(*dirty, "--log", log).json["skipped"] > 0
    assert stands(log) == undisturbed["stands"]


def test_one_import_at_a_time(dirty: list[str | Path], tmp_path: Path) -> None:
    log = tmp_path / "m.sqlite"
    first = start(*dirty, "--log", log)
    assert wait_until(first, lambda: bool(query(log, "SELECT 1 FROM writers")))
    first.send_signal(signal.SIGSTOP)
    try:
        second = tape(*dirty, "--log", log)
    finally:
        first.send_signal(signal.SIGCONT)
    assert second.code == 2
    assert "--take-over" in second.said
    assert end(first).code == 0
