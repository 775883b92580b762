"""The demo as a newcomer runs it: it comes to its end, and what it says to try works."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.cli import Ran, tape

MODULES = """
import sys
from tape.cli import main
sys.argv = ["tape", "demo"]
try:
    main()
except SystemExit as end:
    found = {"confluent_kafka", "faust", "alpaca", "aiokafka"} & sys.modules.keys()
    sys.exit(f"imported: {found}" if found else end.code)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder to run it in, with a Postgres of its own."""
    folder = tmp_path_factory.mktemp("demo")
    yield folder
    tape("postgres", "stop", env=environ(folder))


def environ(folder: Path) -> dict[str, str]:
    without = {k: v for k, v in os.environ.items() if k != "TAPE_POSTGRES_DSN"}
    return {**without, "XDG_DATA_HOME": str(folder / "share")}


@pytest.fixture(scope="module")
def demo(folder: Path) -> Ran:
    return tape("demo", cwd=folder, env=environ(folder))


def test_it_shows_a_run_a_trip_and_where_the_rows_are(demo: Ran) -> None:
    assert demo.code == 0, demo.err
    assert "100,000.00 -> 97,668.60" in demo.out
    assert "day-loss: -303.64, the limit is -300.00" in demo.out
    assert "decisions of both runs are in Postgres now" in demo.out


def test_what_it_says_to_try_works(demo: Ran, folder: Path) -> None:
    _, _, after = demo.out.partition("Try next:\n")
    commands = [line.split() for line in after.splitlines() if not line.startswith("   ")]
    assert len(commands) == 5
    for words in commands:
        ran = subprocess.run(
            words, cwd=folder, env=environ(folder), capture_output=True, text=True, check=False
        )
        assert ran.returncode == 0, (words, ran.stderr)
        assert ran.stdout


def test_it_needs_no_kafka(demo: Ran, folder: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", MODULES],
        cwd=folder,
        env=environ(folder),
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
