"""The command itself: help, version, usage, output for people and for programs, the same answer twice."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from support.cli import BACKTEST, MONDAY, run, start, tape
from support.lean import SAMPLE

SPY = ("--symbols", "SPY", *MONDAY)


def test_help_teaches() -> None:
    assert tape().out == tape("--help").out
    text = " ".join(tape("backtest", "--help").out.split())
    for part in (
        "bps:X of the notional, per-share:X:MIN dollars",
        "buy-and-hold",
        "sma-cross Follows the crossing",
        "fast: int = 10; slow: int = 30;",
        "FILE.py:Class",
        "0: fills on the quote that caused the signal",
        "0 done, 1 the run failed, 2 wrong input, 130 stopped",
    ):
        assert part in text
    options = "data symbols from to resolution strategy param cash fee slippage latency-ms buffer mark"
    for name in f"{options} adjusted hours limits out resume json".split():
        assert f"--{name} " in text


def test_version() -> None:
    assert tape("--version").out.startswith("tape 0.")


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["backtest", "--symbols", "SPY"], "Invalid value for --data: no data are named"),
        (["backtset"], "No such command 'backtset'; did you mean 'backtest'; see tape --help"),
        (["backtest", "--dada", "x"], "No such option: --dada"),
        (["verify"], "Missing argument 'LOG'"),
        (["schemas"], "Missing command; see tape schemas --help"),
        (["schemas", "check", "nowhere"], "Invalid value for FOLDER: nowhere is not a folder of schemas"),
    ],
)
def test_usage(args: list[str], said: str) -> None:
    ran = tape(*args)
    assert ran.code == 2
    assert ran.said.lower().startswith(said.lower())


def test_one_object_also_for_what_is_wrong() -> None:
    ran = tape("backtest", "--cash", "much", "--json")
    assert (ran.code, ran.json["exit"], ran.json["kind"]) == (2, 2, "Usage")
    assert ran.json["error"] == ran.said


def test_what_people_see(tmp_path: Path) -> None:
    ran = tape("backtest", "--data", SAMPLE, *SPY, "--out", "out", cwd=tmp_path)
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith("end equity  99,994.05  (-0.006 %)\ncash           367.25\n")
    assert "SPY          595  167.4500  167.4400 (quote)" in ran.out
    assert "orders 1 (0 denied), fills 1, breaches 0\nbreaker ACTIVE\nlimits " in ran.out
    assert ran.out.endswith("\nderive every number again:  tape verify sqlite:out/log.sqlite\n")
    assert all(line == line.rstrip() for line in ran.out.splitlines())
    verified = tape("verify", "sqlite:out/log.sqlite", cwd=tmp_path)
    assert (verified.code, verified.out.splitlines()[-1]) == (0, "the log holds")


def test_progress_on_a_terminal(tmp_path: Path) -> None:
    shown, terminal = os.openpty()
    ran = start(*BACKTEST, *SPY, "--out", tmp_path / "out", stderr=terminal)
    os.close(terminal)
    seen = b""
    try:
        while piece := os.read(shown, 65536):
            seen += piece
    except OSError:
        pass  # the end of it, as Linux says it
    assert ran.wait() == 0
    assert [word in seen for word in (b"check", b"import", b"run", b"2013-10-07 16:00")] == [True] * 4


def test_a_reader_that_has_had_enough(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    ran = start("backtest", "--help", stdout=writing)
    os.close(writing)
    assert ran.communicate()[1] == ""


FLIP = """
from tape import Strategy

class Flip(Strategy):
    def __init__(self):
        self.last = {}

    def on_bar(self, bar, ctx):
        self.last[bar.symbol] = bar
        ctx.target(bar.symbol, weight=0 if ctx.position(bar.symbol) else 0.5)
"""


def test_the_same_answer_from_anywhere(tmp_path: Path) -> None:
    """Another folder, a moved strategy file, data named otherwise: the same id and decisions."""
    here, there = tmp_path / "here", tmp_path / "there"
    for folder in (here, there / "deep"):
        folder.mkdir(parents=True)
        (folder / "flip.py").write_text(FLIP)
    (there / "data").symlink_to(SAMPLE)
    one = run(tmp_path / "1", *SPY, "--strategy", "flip.py:Flip", cwd=here)
    two = run(tmp_path / "2", *SPY, "--strategy", "deep/flip.py:Flip", data="data", cwd=there)
    assert one["fills"] > 300
    assert (one["fingerprint"], one["log_id"]) == (two["fingerprint"], two["log_id"])
    (there / "deep" / "flip.py").write_text(FLIP.replace("0.5", "0.4"))
    other = run(tmp_path / "3", *SPY, "--strategy", "deep/flip.py:Flip", cwd=there)
    assert one["fingerprint"] != other["fingerprint"]


def test_without_out_a_run_gets_a_folder_and_resume_finds_it(tmp_path: Path) -> None:
    first = tape(*BACKTEST, *SPY, cwd=tmp_path).json
    (folder,) = (tmp_path / "runs").iterdir()
    assert first["log"] == f"sqlite:{folder.resolve()}/log.sqlite"
    again = tape(*BACKTEST, *SPY, "--resume", cwd=tmp_path).json
    assert again == {**first, "seconds": again["seconds"], "events": again["events"]}
    assert len(list((tmp_path / "runs").iterdir())) == 1


def test_schemas(tmp_path: Path) -> None:
    assert tape("schemas", "check").code == 0
    exported = tape("schemas", "export", tmp_path / "made")
    assert exported.out.startswith(f"{len(list((tmp_path / 'made').iterdir()))} schemas in ")
    assert tape("schemas", "check", tmp_path / "made").code == 0
    (tmp_path / "made" / "Fill.v1.json").unlink()
    refused = tape("schemas", "check", tmp_path / "made")
    assert refused.code == 1
    assert refused.err.startswith("Fill v1: ")
