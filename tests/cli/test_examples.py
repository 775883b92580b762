"""The how-to pages' commands print what the pages say; "..." stands for what differs from run to run."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.cli import tape
from support.lean import SAMPLE

HOW_TO = Path(__file__).parents[2] / "docs" / "how-to"
PAGES = (
    "import-my-own-data",
    "look-into-a-log",
    "read-a-brokers-export",
    "what-did-i-hold",
    "why-is-my-pnl-this",
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
    ran = 0
    for words, said in steps((HOW_TO / f"{page}.md").read_text(encoding="utf-8")):
        if words[0] == "cat":
            (tmp_path / words[1]).write_text(said)
            continue
        assert words[0] == ".venv/bin/tape"
        done = tape(*words[1:], cwd=tmp_path)
        assert re.fullmatch(as_pattern(said), done.out + done.err, re.DOTALL), done.out + done.err
        ran += 1
    assert ran >= 2
