"""What a user may get wrong: one sentence that names the thing and the remedy, and nothing written."""

from __future__ import annotations

import resource
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from eventlog.sqlite import SqliteLog, SqliteWriter
from support.cli import (
    BACKTEST,
    MONDAY,
    THREE_DAYS,
    backtest_on,
    here,
    log_in,
    query,
    records,
    run,
    start,
    tape,
    wait_until,
)
from support.lean import SAMPLE, lean_folder

SPY = ("--symbols", "SPY")
TRADE = "34200000,1674300,1675200,1674100,1674400,816453\n"
DAMAGED = "minute/spy/20131007_trade"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--symbols SPX", "has no data of SPX (there is: AAPL, AIG, BAC, IBM, SPY): choose among these"),
        ("--symbols SPY,spy", "should name each symbol once"),
        ("--to 2013-10-10", "no minute data of SPY on 2013-10-10"),
        (
            "--from 2013-10-08",
            "the range begins on 2013-10-08, after its end on 2013-10-07: exchange the two",
        ),
        ("--from 2013-10-05 --to 2013-10-06", "no session from 2013-10-05 to 2013-10-06: choose other dates"),
        ("--from monday", "Invalid value for --from: 'monday' is not a date like 2013-10-07"),
        ("--resolution second", "second has no data of SPY (there is: "),
        ("--resolution hourly", "'hourly' is not one of 'tick', 'second', 'minute', 'daily'"),
        ("--strategy hold", "no built-in strategy 'hold'; there are buy-and-hold, sma-cross, and a file's"),
        ("--strategy none.py:A", "there is no file none.py"),
        ("--strategy sma-cross --param fast=x", "sma-cross: fast is 'x'; it must be a whole number"),
        ("--strategy sma-cross --param fast=40", "it must be 0 < fast < slow"),
        ("--param speed=1", "buy-and-hold has no parameter 'speed'; its parameters are: weight"),
        ("--param weight", "'weight' is not of the form name=value"),
        ("--param weight=1 --param weight=2", "'weight' is given twice"),
        ("--cash -5", "Invalid value for --cash: -5 is not at least 0.01"),
        ("--cash 1e99", "1e99 has more than 15 digits before or 18 after the point"),
        ("--buffer 1", "1 is not at least 0 and below 1"),
        ("--slippage NaN", "Invalid value for --slippage: NaN is not"),
        ("--fee bps", "fee 'bps' is none of: none, bps:X, per-share:X:MIN, alpaca"),
        ("--latency-ms -1", "Invalid value for '--latency-ms'"),
        ("--account cash --shorting", "a cash account cannot sell short; use --account margin"),
    ],
)
def test_what_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: str, said: str) -> None:
    monkeypatch.chdir(tmp_path)
    ran = here(*BACKTEST, *SPY, *MONDAY, "--out", "out", *options.split())
    assert ran.code == 2
    assert said in ran.said
    assert ran.json["error"] == ran.said
    assert list(tmp_path.iterdir()) == []


def test_data_that_are_nowhere(tmp_path: Path) -> None:
    ran = here(*backtest_on("nowhere"), *SPY, *MONDAY, "--out", tmp_path / "out")
    assert ran.code == 2
    assert "nowhere is not a folder: name the folder that contains equity/usa" in ran.said
    assert list(tmp_path.iterdir()) == []


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:200])


def negative(file: Path) -> None:
    lean_folder(file.parents[4], {DAMAGED: TRADE + "34260000,1674300,1675200,-1674100,1674400,1\n"})


def emptied(file: Path) -> None:
    file.write_bytes(b"")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (cut, "20131007_trade.zip cannot be read: "),
        (emptied, "20131007_trade.zip cannot be read: "),
        (negative, "20131007_trade.zip line 2: "),
        (Path.unlink, "no minute data of SPY on 2013-10-07 (expected "),
    ],
)
def test_data_that_cannot_be_used(tmp_path: Path, spoil: Callable[[Path], None], said: str) -> None:
    data = tmp_path / "data"
    shutil.copytree(SAMPLE / "equity/usa/minute/spy", data / "equity/usa/minute/spy")
    spoil(data / "equity/usa" / f"{DAMAGED}.zip")
    ran = here(*backtest_on(data), *SPY, *THREE_DAYS, "--out", tmp_path / "out")
    assert ran.code == 2
    assert said in ran.said
    assert not (tmp_path / "out").exists()


STRATEGIES = """
import sys
from tape import Strategy

class Blank(Strategy):
    pass

class NotOne:
    pass

class Fragile(Strategy):
    def __init__(self, n: int = 0):
        self.x = 1 / n

class Threaded(Strategy):
    def __init__(self):
        self.lock = sys.stdout

    def on_bar(self, bar, ctx):
        pass

class Unsaved(Threaded):
    def save(self):
        raise KeyError("lost")
"""


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Missing", "has no class Missing; its strategies are Blank, Fragile, Threaded, Unsaved"),
        ("NotOne", "NotOne in strategies.py is not a class that extends tape.Strategy"),
        ("Blank", "strategy 'Blank' wants nothing: it overrides none of the on_... methods"),
        ("Fragile", "cannot be made: ZeroDivisionError: division by zero, in "),
        ("Threaded", "strategy 'Threaded' cannot be saved: its attribute lock is of type "),
        ("Unsaved", "strategy 'Unsaved' cannot be kept: its save() raised KeyError: 'lost', in "),
    ],
)
def test_a_strategy_that_cannot_be_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "strategies.py").write_text(STRATEGIES)
    options = ("--strategy", f"strategies.py:{name}", "--out", "out")
    ran = here(*BACKTEST, *SPY, *MONDAY, *options)
    assert ran.code == 2
    assert said in ran.said
    assert not (tmp_path / "out").exists()


FAILING = """
from tape import Strategy

class Failing(Strategy):
    def __init__(self):
        self.seen = 0

    def on_bar(self, bar, ctx):
        self.seen += 1
        ctx.target(bar.symbol, weight=self.seen % 2)
        if self.seen == 100:
            self.fail()

    def fail(self):
        HOW
"""


@pytest.mark.parametrize(
    ("how", "said"),
    [
        (
            'raise ValueError("enough")',
            "strategy 'Failing' failed on Bar of SPY at 2013-10-07T15:10:00.000000000Z "
            "(market.bars/3/99): ValueError: enough, in {file} line 15",
        ),
        ("exit(0)", "a strategy called exit(0); let it raise an exception instead"),
        ("self.file = open(__file__)", "strategy 'Failing' cannot be saved: its attribute file is of type "),
    ],
)
def test_a_strategy_that_fails_leaves_the_log_whole(tmp_path: Path, how: str, said: str) -> None:
    file = tmp_path.resolve() / "failing.py"
    file.write_text(FAILING.replace("HOW", how))
    options = ("--strategy", f"{file}:Failing", "--out", tmp_path / "out")
    ran = tape(*BACKTEST, *SPY, *MONDAY, *options)
    assert ran.code == 1
    assert said.format(file=file) in ran.said
    assert ran.json["error"] == ran.said
    assert tape("verify", log_in(tmp_path / "out")).code == 0
    assert records(log_in(tmp_path / "out"), "market.%") > 700


def test_an_out_folder_that_is_taken(tmp_path: Path) -> None:
    done = run(tmp_path / "out", *SPY, *MONDAY)
    before = records(log_in(tmp_path / "out"))
    for options, said in (
        ((), "log.sqlite exists; add --resume to go on with it, or name another --out"),
        (("--resume", "--fee", "bps:1"), "begun with other settings or data (fee none -> bps:1); repeat"),
        (("--resume", "--cash", "5"), "other settings or data (cash 100000 -> 5); repeat what it was"),
        (("--resume", "--param", "weight=1"), "(param weight None -> 1)"),
        (("--resume", "--strategy", "sma-cross"), "(strategy buy-and-hold -> sma-cross)"),
        (("--resume", "--to", "2013-10-08"), "(the files, symbols, dates or hours of the market data)"),
    ):
        ran = here(*BACKTEST, *SPY, *MONDAY, "--out", tmp_path / "out", *options)
        assert (ran.code, said in ran.said) == (2, True), ran.err
    assert records(log_in(tmp_path / "out")) == before
    again = run(tmp_path / "out", *SPY, *MONDAY, "--resume")
    assert again == {**done, "seconds": again["seconds"], "events": again["events"]}


def test_an_out_folder_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    ran = tape(*BACKTEST, *SPY, *MONDAY, "--out", tmp_path / "file" / "out")
    assert ran.code == 2
    assert ran.said == f"{tmp_path}/file/out cannot be made: Not a directory; name another --out"


def test_a_full_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite says that it is full, as on a full disk."""
    begin = SqliteLog.writer

    def writer(log: SqliteLog, id: str, *, take_over: bool = False) -> SqliteWriter:
        made = begin(log, id, take_over=take_over)
        made.limit_pages(100)
        return made

    args = (*BACKTEST, *SPY, *MONDAY, "--out", tmp_path)
    with monkeypatch.context() as small:
        small.setattr(SqliteLog, "writer", writer)
        ran = here(*args)
    assert ran.code == 1
    assert ran.said == (
        f"sqlite:{log_in(tmp_path)} has no room left; what was committed stands: make room, "
        "and go on with --resume"
    )
    assert here("verify", log_in(tmp_path)).code == 0
    assert here(*args, "--resume").code == 0


def test_files_that_may_not_grow(tmp_path: Path) -> None:
    """Files may grow to 500 KB only: the run stops, the log holds, and goes on where there is room."""
    undisturbed = run(tmp_path / "a", *SPY, *THREE_DAYS)

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, 500_000))

    args = (*BACKTEST, *SPY, *THREE_DAYS, "--out", tmp_path / "b")
    ran = tape(*args, preexec_fn=limit)
    assert ran.code == 1
    assert str(log_in(tmp_path / "b")) in ran.said
    assert tape("verify", log_in(tmp_path / "b")).code == 0
    resumed = tape(*args, "--resume").json
    assert resumed["fingerprint"] == undisturbed["fingerprint"]


WAITING = """
import time
from pathlib import Path
from tape import Strategy

class Waiting(Strategy):
    def __init__(self, until: str):
        self.until, self.seen = until, 0

    def on_bar(self, bar, ctx):
        self.seen += 1
        while self.seen == 100 and not Path(self.until).exists():
            time.sleep(0.01)
        ctx.target(bar.symbol, weight=self.seen % 2)
"""


def test_a_second_process_is_refused_unless_it_takes_over(tmp_path: Path) -> None:
    """The first waits in its strategy for a file; it holds the log until another takes it over."""
    (tmp_path / "waiting.py").write_text(WAITING)
    log, go = log_in(tmp_path / "out"), tmp_path / "go"
    strategy = ("--strategy", tmp_path / "waiting.py:Waiting", "--param", f"until={go}")
    args = (*BACKTEST, *SPY, *MONDAY, *strategy, "--out", tmp_path / "out")
    first = start(*args)
    assert wait_until(first, lambda: records(log, "configuration") == 1)
    before = records(log)
    refused = tape(*args, "--resume")
    assert refused.code == 2
    assert f"writer backtest is held by process {first.pid} " in refused.said
    assert refused.said.endswith("(--take-over)")
    assert records(log) == before
    second = start(*args, "--resume", "--take-over")
    assert wait_until(second, lambda: holders(log) == {"backtest": 2, "core": 2})
    go.write_text("")
    summary = second.communicate()[0]
    assert (second.returncode, first.wait()) == (0, 1)
    assert "taken over" in first.communicate()[1]
    go_on = tape(*args, "--resume").json
    assert f'"fingerprint": "{go_on["fingerprint"]}"' in summary
    assert tape("verify", log).code == 0


def holders(log: Path) -> dict[str, int]:
    """How often the run and its core have been taken hold of."""
    rows = query(log, "SELECT id, epoch FROM writers WHERE id = 'backtest' OR id LIKE 'core-%'")
    return {id.partition("-")[0]: epoch for id, epoch in rows}
