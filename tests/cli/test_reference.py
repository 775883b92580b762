"""The reference says what the code says."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

from schemas import Limits
from support.cli import TAPE

DOCS = Path(__file__).parents[2] / "docs"


def test_the_page_of_commands_is_that_of_the_commands() -> None:
    made = subprocess.run(
        [TAPE.with_name("typer"), "tape.cli", "utils", "docs", "--name", "tape"],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"COLUMNS": "80"},
    ).stdout
    shown = re.sub(r"\n{3,}", "\n\n", made.replace("\b", ""))
    page = (DOCS / "reference" / "commands.md").read_text()
    assert page.split() == shown.split(), "write it anew: make docs"


def test_every_limit_is_explained() -> None:
    page = (DOCS / "reference.md").read_text()
    rows = "".join(re.findall(r"^\|(.*?)\|", page, re.MULTILINE))
    assert [name for name in Limits.__struct_fields__ if f"`{name}`" not in rows] == []
