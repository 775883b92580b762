"""Where a backtest's data may stand: a LEAN folder, or a log that an import or another run has filled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from support.cli import THREE_DAYS, here, log_in, run
from support.lean import SAMPLE

CROSS = ("--symbols", "SPY,IBM", *THREE_DAYS, "--strategy", "sma-cross", "--fee", "per-share:0.005:1")
FIGURES = ("end_equity", "cash", "realized", "unrealized", "fees", "orders", "fills", "positions")


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A run on the sample, and its log."""
    folder = tmp_path_factory.mktemp("first")
    return log_in(folder), run(folder, *CROSS)


@pytest.mark.parametrize("form", ["{}", "sqlite:{}"])
def test_what_stands_in_a_log_gives_the_same_figures(
    first: tuple[Path, dict[str, Any]], tmp_path: Path, form: str
) -> None:
    log, summary = first
    again = here("backtest", "--data", form.format(log), *CROSS, "--json", "--out", tmp_path)
    assert again.code == 0, again.err
    assert {f: again.json[f] for f in FIGURES} == {f: summary[f] for f in FIGURES}
    assert again.json["log"] == f"sqlite:{log_in(tmp_path)}"
    assert here("verify", again.json["log"]).code == 0


def test_one_log_serves_many_runs(first: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    """Other symbols, days and strategies, each in a log of its own; the data's own stays as it was."""
    log, _ = first
    before = log.read_bytes()
    runs = [("IBM", "2013-10-07"), ("SPY", "2013-10-08"), ("SPY,IBM", "2013-10-09")]
    for n, (symbols, day) in enumerate(runs):
        args = ("--symbols", symbols, "--from", day, "--to", day, "--strategy", "buy-and-hold")
        out = tmp_path / str(n)
        from_log = here("backtest", "--data", log, *args, "--json", "--out", out / "log")
        from_files = here("backtest", "--data", SAMPLE, *args, "--json", "--out", out / "files")
        assert {f: from_log.json[f] for f in FIGURES} == {f: from_files.json[f] for f in FIGURES}
    assert log.read_bytes() == before


def test_a_resumed_run_on_a_log_goes_on(first: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    log, _ = first
    args = ("backtest", "--data", log, *CROSS, "--json", "--out", tmp_path)
    one = here(*args)
    two = here(*args, "--resume")
    assert (two.code, two.json["fingerprint"]) == (0, one.json["fingerprint"])


@pytest.mark.parametrize(
    ("data", "symbols", "said"),
    [
        ("{log}", "SPY,GE", "has no data of GE (there is: IBM, SPY)"),
        ("sqlite:{folder}/none.sqlite", "SPY", "there is no log at {folder}/none.sqlite"),
        ("kafka://127.0.0.1", "SPY", "is not of the form kafka://HOST:PORT/NAME"),
        ("{folder}/nothing", "SPY", "{folder}/nothing"),
    ],
)
def test_data_that_are_not_there(
    first: tuple[Path, dict[str, Any]], tmp_path: Path, data: str, symbols: str, said: str
) -> None:
    places = {"log": first[0], "folder": tmp_path}
    out = tmp_path / "out"
    args = ("--symbols", symbols, *THREE_DAYS, "--out", out)
    ran = here("backtest", "--data", data.format(**places), *args)
    assert ran.code == 2
    assert said.format(**places) in ran.said
    assert not out.exists()


BARS = """\
start,ticker,open,high,low,close,volume
2024-01-02 09:30,acme,100,101,99,100.5,1000
2024-01-02 09:31,acme,101,102,100,101.5,1000
2024-01-02 09:32,acme,102,103,101,102.5,1000
"""


def test_bars_of_a_file(tmp_path: Path) -> None:
    """Decided on the first bar's close, filled at the second's open, valued at the last close."""
    file = tmp_path / "bars.csv"
    file.write_text(BARS)
    form = ("--kind", "bars", "--columns", "ts=start,symbol=ticker", "--tz", "America/New_York")
    period = ("--period", "1m", "--bar-time", "start")
    args = ("--symbols", "ACME", "--cash", "10050", "--buffer", "0", "--json", "--out", tmp_path / "out")
    ran = here("backtest", "--data", file, *form, *period, *args)
    assert ran.code == 0, ran.err
    (held,) = ran.json["positions"]
    assert (held["quantity"], held["average"], held["mark"]) == ("100", "101", "102.5")
    assert ran.json["cash"] == "-50"
    assert ran.json["end_equity"] == "10200"


def test_made_market(tmp_path: Path) -> None:
    args = ("--synthetic", "--symbols", "A,B", "--from", "2024-01-02", "--to", "2024-01-02", "--json")
    prints = [
        here("backtest", *args, "--seed", seed, "--out", tmp_path / name).json["fingerprint"]
        for name, seed in (("one", "7"), ("two", "7"), ("three", "8"))
    ]
    assert prints[0] == prints[1] != prints[2]


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ((), "no data are named: give one of the two, --data or --synthetic"),
        (("--data", str(SAMPLE)), "a strategy trades symbols: name them, as in SPY,IBM"),
        (("--data", str(SAMPLE), "--symbols", "SPY"), "name both (--from, --to)"),
        (("--data", str(SAMPLE), "--symbols", "SPY", "--seed", "3"), "--seed: only goes with --synthetic"),
        (("--data", str(SAMPLE / "LICENSE"), "--symbols", "X", "--kind", "bars"), "no CSV or Parquet files"),
    ],
)
def test_options_that_do_not_go_together(tmp_path: Path, args: tuple[str, ...], said: str) -> None:
    ran = here("backtest", *args, "--out", tmp_path / "out")
    assert ran.code == 2
    assert said in ran.said
    assert not (tmp_path / "out").exists()
