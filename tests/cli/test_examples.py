"""The commands of README and the how-to pages print what is said there; "..." stands for what differs."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.cli import tape
from support.lean import SAMPLE

ROOT = Path(__file__).parents[2]
PAGES = (
    "README",
    "docs/how-to/import-my-own-data",
    "docs/how-to/look-into-a-log",
    "docs/how-to/play-data-live",
    "docs/how-to/read-a-brokers-export",
    "docs/how-to/what-did-i-hold",
    "docs/how-to/why-is-my-pnl-this",
)


def steps(page: str) -> Iterator[tuple[list[str], str]]:
    """Each command of a page, as words, with what stands below it."""
    for block in re.findall(r"```console\n(.*?)```", page, re.DOTALL):
        for step in re.split(r"^\$ ", block.replace("\\\n", " "), flags=re.MULTILINE)[1:]:
            command, _, said = step.partition("\n")
            yield shlex.split(command), said


def as_pattern(said: str) -> str:
    """What a page says as a regular expression; "..." stands for anything, lines too."""
    return re.escape(said).replace(re.escape("..."), ".*")


@pytest.mark.parametrize("page", PAGES)
def test_commands_print_what_the_page_says(page: str, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "sample").symlink_to(SAMPLE)
    (tmp_path / "deploy").symlink_to(ROOT / "deploy")
    ran = 0
    for words, said in steps((ROOT / f"{page}.md").read_text(encoding="utf-8")):
        if words[0] == "make":
            continue  # `make demo` has tests of its own, `make test` is this
        if words[0] == "cat":
            (tmp_path / words[1]).write_text(said)
            continue
        assert words[0] == ".venv/bin/tape"
        done = tape(*words[1:], cwd=tmp_path)
        assert re.fullmatch(as_pattern(said), done.out + done.err, re.DOTALL), done.out + done.err
        ran += 1
    assert ran >= 2
