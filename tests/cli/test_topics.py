"""`tape topics` as a user runs it, over a backtest's log and over one with records that nobody can read."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from eventlog import LogSpec, create_log, open_log
from schemas import NewRecord, new_record
from support.cli import MONDAY, here, log_in, records, run, start, tape
from support.market import at, quote

BROKEN = b'{"type":"Quote","v":1,\x00\xff'
FUTURE = b'{"type":"Quote","v":99}'
FOREIGN = b'{"type":"Nonsense","v":1}'


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A short backtest: its log and its summary."""
    folder = tmp_path_factory.mktemp("run")
    summary = run(folder, "--symbols", "SPY", *MONDAY, "--strategy", "sma-cross")
    return log_in(folder), summary


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    """A log with one good quote, and others that cannot be read."""
    path = tmp_path / "broken.sqlite"
    good = new_record(quote(at("09:31"), 10, 11), 0, "SPY")
    bad = [NewRecord("market.quotes", 0, b"\x1b[31m", value) for value in (BROKEN, FUTURE, FOREIGN)]
    with create_log(f"sqlite:{path}", LogSpec("broken", "data")) as log, log.writer("w") as writer:
        writer.append([good, *bad])
    return path


def listed(*args: str | Path) -> dict[str, dict[str, Any]]:
    ran = here("topics", "list", *args, "--json")
    assert ran.code == 0, ran.err
    return {topic["topic"]: topic for topic in ran.json["topics"]}


# ------------------------------------------------------------ list, describe


def test_list_counts_what_the_backtest_says(ran: tuple[Path, dict[str, Any]]) -> None:
    log, summary = ran
    cheap, counted = listed(log), listed(log, "--count")
    assert sum(t["records"] for t in cheap.values()) == summary["events"]
    assert cheap["fills"]["records"] == summary["fills"] > 0
    for name, topic in counted.items():
        assert topic["records"] == cheap[name]["records"] == records(log, name)
        assert topic["unreadable"] == 0
        assert (topic["first"], topic["last"]) == (cheap[name]["first"], cheap[name]["last"])
    assert (cheap["fills"]["time_of"], cheap["seals"]["time_of"]) == ("event", "writing")


def test_list_for_people(ran: tuple[Path, dict[str, Any]]) -> None:
    log, summary = ran
    by_path, by_url = tape("topics", "list", log), tape("topics", "list", f"sqlite:{log}")
    assert by_path.out == by_url.out
    rows = {line.split()[0]: line.split()[1:] for line in by_path.out.splitlines() if line}
    assert rows["market.status"] == ["4", "2", "2013-10-07T13:30:00Z", "2013-10-07T20:00:00Z"]
    assert rows["fills"][1] == str(summary["fills"])
    assert rows["seals"][3] == rows["seals"][5] == "w"
    assert "empty: market.trades, " in by_path.out


def test_list_of_an_empty_log(tmp_path: Path) -> None:
    create_log(f"sqlite:{tmp_path}/new", LogSpec("new", "wall")).close()
    assert "the log is empty" in here("topics", "list", tmp_path / "new").out


def test_describe(ran: tuple[Path, dict[str, Any]]) -> None:
    log, summary = ran
    found = here("topics", "describe", log, "fills", "--json").json
    assert found["types"] == {"Fill": summary["fills"]}
    assert (found["written_by"], found["transactions"], found["key"]) == (["core"], True, "account")
    (held,) = [p for p in found["by_partition"] if p["records"]]
    assert (held["first_offset"], held["next_offset"]) == (0, summary["fills"])
    assert (held["sealed_to"], held["unsealed"], held["unreadable"]) == (summary["fills"], 0, 0)
    text = here("topics", "describe", log, "fills").out
    assert text.startswith("fills: decisions, written by core in transactions\nkey: account\n")
    assert f"[0, {summary['fills']})" in text


def test_describe_names_what_cannot_be_read(broken: Path) -> None:
    found = here("topics", "describe", broken, "market.quotes", "--json").json
    assert (found["records"], found["unreadable"], found["types"]) == (4, 3, {"Quote": 1})
    assert found["first_unreadable"]["place"] == "market.quotes/0/1"
    assert "cannot be read: 3; the first is market.quotes/0/1: " in (
        here("topics", "describe", broken, "market.quotes").out
    )
    assert listed(broken, "--count")["market.quotes"]["unreadable"] == 3
    assert listed(broken)["market.quotes"]["unreadable"] is None


# ------------------------------------------------------------ tail


def test_tail_ends_with_the_last_of_the_session(ran: tuple[Path, dict[str, Any]]) -> None:
    log, summary = ran
    lines = tape("topics", "tail", log, "-n", "3").out.splitlines()
    assert len(lines) == 3
    assert all(line.startswith("2013-10-07T20:00:00Z  ") for line in lines)
    *_, before, final = lines
    assert "  *  SessionClosed  session=2013-10-07 " in before
    assert "  backtest  PnL  " in final
    assert f" equity={summary['end_equity']} " in final


def test_tail_for_programs_is_an_object_a_line(ran: tuple[Path, dict[str, Any]]) -> None:
    log, summary = ran
    out = here("topics", "tail", log, "-n", "1000000", "--json").out
    objects = [json.loads(line) for line in out.splitlines()]
    with open_log(f"sqlite:{log}", read_only=True) as reader:
        for found in objects:
            (record,) = reader.read(found["topic"], found["partition"], gte=found["offset"], limit=1)
            assert found["event"] == json.loads(record.value)
    times = [found["ts"] for found in objects]
    assert times == sorted(times)
    mine = [found["event"]["seq"] for found in objects if "seq" in found["event"]]
    assert mine == list(range(1, len(mine) + 1))
    assert sum(found["topic"] == "fills" for found in objects) == summary["fills"]


def test_tail_shows_what_cannot_be_read_and_steers_no_terminal(broken: Path) -> None:
    lines = here("topics", "tail", broken, "market.quotes/0").out.splitlines()
    assert len(lines) == 4
    assert "  \\u001b[31m  cannot be read: Quote version 99 is from the future" in lines[2]
    assert not any("\x1b" in line for line in lines)


def test_tail_follows_until_ctrl_c(tmp_path: Path) -> None:
    url = f"sqlite:{tmp_path}/log"
    with create_log(url, LogSpec("test", "wall")) as log, log.writer("w") as writer:
        writer.append([new_record(quote(at("09:31"), 10, 11), 0, "SPY")])
        process = start("topics", "tail", url, "market.quotes", "--follow", "--json")
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["place"] == "market.quotes/0/0"
        writer.append([new_record(quote(at("09:33"), 10, 11), 1, "SPY")])
        assert json.loads(process.stdout.readline())["ts"] == at("09:33")
        writer.append([NewRecord("market.quotes", 0, b"", BROKEN)])
        assert json.loads(process.stdout.readline())["hex"] == BROKEN.hex()
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=60) == ("", "")
        assert process.returncode == 130


# ------------------------------------------------------------ show


def test_show_a_decision(ran: tuple[Path, dict[str, Any]]) -> None:
    log, _ = ran
    fill = json.loads(here("topics", "tail", log, "fills", "-n", "1", "--json").out)
    shown = here("topics", "show", log, fill["place"])
    head, _, event = shown.out.partition("\n\n")
    assert json.loads(event) == fill["event"]
    assert f"id       backtest:{fill['event']['seq']}" in head
    assert "event    Fill, version 1" in head
    as_json = here("topics", "show", log, fill["place"], "--json").json
    assert as_json == fill
    assert here("topics", "show", log, fill["id"], "--json").json == fill
    signal_ = here("topics", "show", log, fill["event"]["trace"], "--json").json
    assert (signal_["topic"], signal_["id"]) == ("signals", fill["event"]["trace"])
    raw = tape("topics", "show", log, fill["place"], "--raw", text=False)
    with open_log(f"sqlite:{log}", read_only=True) as reader:
        (record,) = reader.read("fills", fill["partition"], gte=fill["offset"], limit=1)
    assert raw.out == record.value


@pytest.mark.parametrize(
    ("offset", "reason", "dump"),
    [
        (1, "not a JSON object", "00000010  22 76 22 3a 31 2c 00 ff" + " " * 26 + '|"v":1,..|'),
        (2, "Quote version 99 is from the future", "00000000  7b 22 74 79 70 65 22 3a 22 51"),
        (3, "unknown type 'Nonsense'", '|{"type":"Nonsens|'),
    ],
)
def test_show_what_cannot_be_read(broken: Path, offset: int, reason: str, dump: str) -> None:
    shown = here("topics", "show", broken, f"market.quotes/0/{offset}")
    assert shown.code == 0
    assert f"cannot be read: {reason}" in shown.out
    assert dump in shown.out
    assert reason in here("topics", "show", broken, f"market.quotes/0/{offset}", "--json").json["unreadable"]


def test_raw_bytes_of_what_cannot_be_read(broken: Path) -> None:
    assert tape("topics", "show", broken, "market.quotes/0/1", "--raw", text=False).out == BROKEN


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["show", "LOG", "market.quotes/0/4"], "there is no record market.quotes/0/4: market.quotes/0 has"),
        (
            ["show", "LOG", "market.quots/0/0"],
            "there is no topic 'market.quots'; did you mean market.quotes?",
        ),
        (["show", "LOG", "market.quotes/9/0"], "there is no partition market.quotes/9"),
        (["show", "LOG", "market.quotes/0/0", "--raw", "--json"], "Invalid value for --raw: "),
        (["show", "LOG", "backtest:1"], "there is no decision backtest:1; "),
        (["describe", "LOG", "fill"], "there is no topic 'fill'; did you mean fills?"),
        (["tail", "LOG", "pnl/7"], "there is no partition pnl/7; pnl has partitions 0 to 3"),
        (["tail", "LOG", "-n", "-1"], "Invalid value for '--lines'"),
        (["list", "nowhere"], "there is no log at nowhere"),
        (["list", str(Path(__file__))], f"{__file__} is not a Tape log"),
        (["list", "kafka://127.0.0.1"], "kafka://127.0.0.1 is not of the form kafka://HOST:PORT/NAME"),
    ],
)
def test_mistakes(broken: Path, args: list[str], said: str) -> None:
    ran = here("topics", *(str(broken) if arg == "LOG" else arg for arg in args))
    assert ran.code == 2
    if "--json" in args:
        assert ran.json["exit"] == 2
    assert ran.said.startswith(said)


def test_looking_changes_nothing(ran: tuple[Path, dict[str, Any]]) -> None:
    log, _ = ran
    before = log.read_bytes()
    for args in (["list", log, "--count"], ["describe", log, "seals"], ["tail", log]):
        assert here("topics", *args).code == 0
    assert log.read_bytes() == before
