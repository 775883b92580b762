"""tape verify: what holds, what does not and where, what cannot be said."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import apsw
import pytest

from schemas import TOPICS
from support.cli import BACKTEST, MONDAY, Ran, here, log_in, query, run, tape

STREAM = "stream = (SELECT id FROM streams WHERE topic = ? AND partition = ?)"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run whose breaker tripped."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "limits.toml").write_text("day_loss = 0.001\non_trip = 'flatten'")
    options = ("--strategy", "sma-cross", "--fee", "bps:1", "--limits", folder / "limits.toml")
    assert run(folder, "--symbols", "SPY", *MONDAY, *options)["breaches"] >= 1
    return folder


@pytest.fixture
def log(made: Path, tmp_path: Path) -> Path:
    """A copy to do something to."""
    return Path(shutil.copy(log_in(made), tmp_path / "log.sqlite"))


def verify(log: Path, *options: str | Path) -> Ran:
    return here("verify", f"sqlite:{log}", "--json", *options)


def place(log: Path, topic: str, which: float = 0.5) -> tuple[int, int]:
    """Partition and offset of a record in the middle of a topic."""
    sql = f"SELECT partition, next FROM streams WHERE topic = '{topic}' AND next ORDER BY next DESC"
    partition, end = query(log, sql)[0]
    return partition, int((end - 1) * which)


def change(log: Path, topic: str, partition: int, offset: int) -> None:
    """Another digit in one byte."""
    db = apsw.Connection(str(log))
    where = (topic, partition, offset)
    ((value,),) = list(db.execute(f"SELECT value FROM records WHERE {STREAM} AND offset = ?", where))
    at = max(value.rfind(b"%d" % digit) for digit in range(10))
    digit = (value[at] - 48 + 1) % 10 + 48
    value = value[:at] + bytes([digit]) + value[at + 1 :]
    db.execute(f"UPDATE records SET value = ? WHERE {STREAM} AND offset = ?", (value, *where))
    db.close()


def test_a_log_that_holds(made: Path) -> None:
    log = log_in(made)
    ran = verify(log, "--head", made / "log.sqlite.head")
    found = ran.json
    assert (ran.code, found["exit"], found["faults"], found["difference"]) == (0, 0, [], None)
    assert found["not_derived"] == []
    assert found["inputs"] == 783
    decisions = "'signals', 'orders', 'fills', 'risk.breaches', 'positions', 'pnl'"
    ((count,),) = query(log, f"SELECT sum(next) FROM streams WHERE topic IN ({decisions})")
    assert found["decisions"] == count
    assert found["snapshots"] >= 1
    assert found["tail"] == "compared with the head given"
    assert "cannot be told" in verify(log).json["tail"]


WRITTEN = sorted(
    set(TOPICS)
    - {"market.trades", "market.marks", "strategy.proposals", "broker.reports"}
    - {"dead-letters", "folds", "roles", "alerts"}
)


@pytest.mark.parametrize("topic", WRITTEN)
def test_one_byte(log: Path, topic: str) -> None:
    partition, offset = place(log, topic)
    change(log, topic, partition, offset)
    ran = verify(log)
    assert ran.code == 1, ran.err
    faults = [f for f in ran.json["faults"] if (f["topic"], f["partition"]) == (topic, partition)]
    assert any(f["first"] <= offset < f["next"] for f in faults)


def test_a_changed_decision_is_shown_in_both_versions(log: Path) -> None:
    partition, offset = place(log, "fills")
    before = stored(log, "fills", partition, offset)
    change(log, "fills", partition, offset)
    difference = verify(log).json["difference"]
    assert (difference["topic"], difference["offset"]) == ("fills", offset)
    assert difference["derived"] == before
    assert difference["stored"] == stored(log, "fills", partition, offset)
    shown = tape("verify", log)
    assert shown.code == 1
    assert shown.out.startswith(f"differs: fills/{partition} [0, ")
    assert f"stored:  {difference['stored']}\n  derived: {before}" in shown.out
    assert shown.out.endswith("the log differs\n")


def stored(log: Path, topic: str, partition: int, offset: int) -> str:
    sql = f"SELECT value FROM log_records WHERE topic = '{topic}' AND partition = {partition}"
    ((value,),) = query(log, f"{sql} AND offset = {offset}")
    return str(value)


@pytest.mark.parametrize("topic", ["market.bars", "orders", "pnl"])
def test_one_dropped(log: Path, topic: str) -> None:
    partition, offset = place(log, topic)
    db = apsw.Connection(str(log))
    db.execute(f"DELETE FROM records WHERE {STREAM} AND offset = ?", (topic, partition, offset))
    db.close()
    assert fault(verify(log), topic, partition)["offset"] == offset


@pytest.mark.parametrize("topic", ["market.quotes", "signals"])
def test_two_swapped(log: Path, topic: str) -> None:
    partition, offset = place(log, topic)
    db = apsw.Connection(str(log))
    for before, after in ((offset, -1), (offset + 1, offset), (-1, offset + 1)):
        where = (after, topic, partition, before)
        db.execute(f"UPDATE records SET offset = ? WHERE {STREAM} AND offset = ?", where)
    db.close()
    found = fault(verify(log), topic, partition)
    assert found["first"] <= offset < found["next"]


def fault(ran: Ran, topic: str, partition: int) -> dict[str, Any]:
    """The first fault of a partition."""
    assert ran.code == 1
    faults: list[dict[str, Any]] = ran.json["faults"]
    return next(f for f in faults if (f["topic"], f["partition"]) == (topic, partition))


FLIP = """
from tape import Strategy

class Flip(Strategy):
    def on_bar(self, bar, ctx):
        ctx.target(bar.symbol, weight=0 if ctx.position(bar.symbol) else 0.5)
"""


def test_another_strategy_is_not_derived(tmp_path: Path) -> None:
    file = tmp_path / "flip.py"
    file.write_text(FLIP)
    run(tmp_path, "--symbols", "SPY", *MONDAY, "--strategy", f"{file}:Flip")
    file.write_text(FLIP + "# another\n")
    ran = tape("verify", log_in(tmp_path))
    assert ran.code == 2
    assert f", epoch 1: strategy Flip: the source of {file}:Flip is another now" in ran.out
    assert ran.out.endswith("not re-derived\n")
    file.unlink()
    assert verify(log_in(tmp_path)).json["exit"] == 2


def test_other_code_is_not_derived(tmp_path: Path) -> None:
    main = (
        "import tape.wiring as w; w.COMPONENTS['account'] = ('0', ('processors/account',));"
        "from tape.cli import main; main()"
    )
    args = [*BACKTEST, "--symbols", "SPY", *MONDAY, "--out", str(tmp_path)]
    subprocess.run([sys.executable, "-c", main, *args], check=True, capture_output=True)
    ran = verify(log_in(tmp_path))
    assert (ran.code, ran.json["faults"]) == (2, [])
    assert "it ran with other code (account)" in ran.json["not_derived"][0]


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["nowhere"], "there is no log at nowhere; name one that `tape backtest` printed"),
        (["kafka:nowhere"], "kafka:nowhere is not "),
        ([str(Path(__file__))], "test_verify.py is not a "),
    ],
)
def test_not_a_log(args: list[str], said: str) -> None:
    ran = here("verify", *args)
    assert ran.code == 2
    assert said in ran.said


def test_not_a_head(made: Path, tmp_path: Path) -> None:
    missing = verify(log_in(made), "--head", tmp_path / "head")
    assert (missing.code, missing.json["error"]) == (2, missing.said)
    assert missing.said == f"head {tmp_path}/head cannot be read: No such file or directory"
    for text in ("{", "[]", '{"log": "x", "heads": {}}', '{"heads": 5}'):
        (tmp_path / "head").write_text(text)
        assert verify(log_in(made), "--head", tmp_path / "head").code == 2
