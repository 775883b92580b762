"""What `tape up` shows: the table on a terminal, and lines where there is none."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from tape.show_up import Lines, drawn, sentence
from tape.supervisor import Told
from tape.up import Row, Standing

ROWS = (
    Row("core", 12, "running", 2, 123_456, 1234.5, 7, ""),
    Row("gateway", None, "waiting", 3, None, None, None, "exit code 1: [no] broker"),
)


def test_the_table_shows_every_role_and_its_figures() -> None:
    out = io.StringIO()
    Console(file=out, width=120).print(drawn(ROWS))
    head, core, gateway = (line.split() for line in out.getvalue().splitlines())
    assert head == ["role", "pid", "state", "starts", "inputs", "a", "second", "behind", "last", "error"]
    assert core == ["core", "12", "running", "2", "123,456", "1,234", "7"]
    assert gateway == ["gateway", "waiting", "3", *["exit", "code", "1:", "[no]", "broker"]]


@pytest.mark.parametrize(
    ("told", "said"),
    [
        (Told("started", "core", 5), "core starts (pid 5)"),
        (Told("ready", "core", 5), "core is ready (pid 5)"),
        (Told("stopped", "core", 5, 0), "core has ended (pid 5)"),
        (
            Told("died", "core", 5, -9, "killed by SIGKILL", 2.0),
            "core has ended (killed by SIGKILL); it starts again in 2 s",
        ),
        (Told("killed", "core", 5, error="it did not end"), "core was killed: it did not end"),
    ],
)
def test_what_happens_is_said_in_a_sentence(told: Told, said: str) -> None:
    assert sentence(told) == said


def test_lines_hold_no_password(capsys: pytest.CaptureFixture[str]) -> None:
    lines = Lines()
    dsn = "postgresql://me:hidden@db:5432/x"
    lines.begun(Standing("kafka://k/live", "0123456789abcdef", ["one", "two"], dsn, False, None), ROWS)
    lines.ended(["Postgres runs on"])
    out = capsys.readouterr().out
    for part in ("log kafka://k/live, id 0123456789ab", "accounts asked for: one, two", "me@db:5432/x"):
        assert part in out
    assert out.splitlines()[-1].endswith("Postgres runs on")
    assert "hidden" not in out
