"""`tape verify` over files that are damaged, or no log: a sentence and an exit code, never a traceback."""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable
from pathlib import Path

import apsw
import pytest

from eventlog import LogSpec, create_log, heads
from schemas import NewRecord
from tape.cli import main

PAGE = 4096


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A log of 3,000 quotes."""
    file = tmp_path_factory.mktemp("whole") / "log.sqlite"
    with create_log(f"sqlite:{file}", LogSpec("test", "data")) as log:
        with log.writer("w") as writer:
            writer.append([NewRecord("market.quotes", 0, b"SPY", b"%0150d" % n) for n in range(3000)])
        assert heads(log)["heads"]["market.quotes/0"]["count"] == 3000
    return file.read_bytes()


def overwritten(data: bytes, at: int, length: int) -> bytes:
    return data[:at] + random.Random(at).randbytes(length) + data[at + length :]


@pytest.mark.parametrize(
    ("damage", "code"),
    [
        (lambda data: data, 0),
        (lambda data: overwritten(data, len(data) // 2, 1), 1),
        (lambda data: overwritten(data, len(data) // 2, PAGE), 1),
        (lambda data: overwritten(data, PAGE + 100, 3 * PAGE), 1),
        (lambda data: data[: len(data) // 2], 1),
        (lambda data: data[: PAGE // 2], 1),
        (lambda data: data[:PAGE] + bytes(PAGE) + data[2 * PAGE :], 1),
        (lambda data: b"another beginning".ljust(100) + data[100:], 2),
        (lambda data: b"", 2),
        (lambda data: b"# A text\n" * 1000, 2),
    ],
    ids=["whole", "byte", "page", "schema", "half", "stump", "zeros", "head", "empty", "text"],
)
def test_verify_says_what_is_wrong(
    whole: bytes,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    damage: Callable[[bytes], bytes],
    code: int,
) -> None:
    file = tmp_path / "log.sqlite"
    file.write_bytes(damage(whole))
    monkeypatch.setattr(sys, "argv", ["tape", "verify", f"sqlite:{file}"])
    with pytest.raises(SystemExit) as ended:
        main()
    said = "".join(capsys.readouterr())
    assert ended.value.code == code, said
    assert said.strip()
    assert "Traceback" not in said


def test_an_end_that_is_damaged_is_among_the_faults(
    whole: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "log.sqlite"
    file.write_bytes(whole)
    with apsw.Connection(str(file)) as db:
        db.execute("UPDATE streams SET next = 'many' WHERE topic = 'market.quotes' AND partition = 0")
        db.execute("UPDATE streams SET next = 'some' WHERE topic = 'orders' AND partition = 1")
    db.close()
    monkeypatch.setattr(sys, "argv", ["tape", "verify", f"sqlite:{file}", "--json"])
    with pytest.raises(SystemExit) as ended:
        main()
    found = json.loads(capsys.readouterr().out)
    assert ended.value.code == found["exit"] == 1
    reasons = {(f["topic"], f["partition"]): f["reason"] for f in found["faults"]}
    assert "'many'" in reasons["market.quotes", 0]
    assert "'some'" in reasons["orders", 1]


@pytest.mark.parametrize("place", ["nothing.sqlite", ".", "sqlite:", "postgres://host/log"])
def test_what_is_no_log_is_wrong_input(
    place: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["tape", "verify", place])
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr().err
    assert ended.value.code == 2
    assert said.startswith("tape: ")
    assert len(said.splitlines()) == 1
