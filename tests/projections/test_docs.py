"""The reference names every table and column, and the how-to's examples run."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from eventlog import EventLog
from projections.postgres import server
from projections.postgres.tables import TRADING
from support.cli import TAPE, tape
from support.postgres import ask, in_database, project, tell

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "docs" / "reference" / "postgres.md"
HOW_TO = ROOT / "docs" / "how-to" / "ask-my-trades-in-sql.md"


def documented() -> dict[str, list[tuple[str, ...]]]:
    """Tables of the reference: name, type and meaning of each column."""
    found = {}
    for part in REFERENCE.read_text().split("\n### ")[1:]:
        name, _, text = part.partition("\n")
        rows = re.findall(r"^\| `(\w+)` \| (\S+) \| (.*) \|$", text, re.M)
        found[name] = [tuple(row) for row in rows]
    return found


def test_the_reference_has_every_column() -> None:
    assert documented() == {
        table.name: [(c.name, c.type + "?" * c.nullable, c.doc) for c in table.columns]
        for table in (*TRADING.tables, *TRADING.views)
    }


def test_views_have_the_columns_that_are_declared(dsn: str, busy: EventLog) -> None:
    project(dsn, busy)
    sql = (
        "SELECT table_schema, table_name, string_agg(column_name || ' ' || udt_name, ',' "
        "ORDER BY ordinal_position) FROM information_schema.columns "
        "WHERE table_schema LIKE 'trading%' GROUP BY 1, 2"
    )
    names = {"bigint": "int8", "integer": "int4", "boolean": "bool", "text[]": "_text"}
    assert set(ask(dsn, sql)) == {
        (schema, table.name, ",".join(f"{c.name} {names.get(c.type, c.type)}" for c in table.columns))
        for schema in ("trading", "trading_v1")
        for table in (*TRADING.tables, *TRADING.views)
    }


@pytest.fixture(scope="module")
def asked(postgres: server.Running, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The DSN after the how-to's commands have been run."""
    folder = tmp_path_factory.mktemp("how-to")
    (folder / "data").symlink_to(ROOT / "data")
    dsn = in_database(postgres.dsn, "how_to")
    tell(postgres.dsn, "CREATE DATABASE how_to")
    for block in re.findall(r"```console\n(.*?)```", HOW_TO.read_text(), re.S):
        for line in block.replace("\\\n", "").split("$ ")[1:]:
            program, *args = shlex.split(line)
            assert program == TAPE.name
            more = ("--dsn", dsn) if args[0] == "project" else ()
            ran = tape(*args, *more, cwd=folder)
            assert ran.code == 0, ran.err
    return dsn


EXAMPLES = re.findall(r"```sql\n(.*?)```", HOW_TO.read_text(), re.S)


@pytest.mark.parametrize("sql", EXAMPLES)
def test_examples_run_and_find_something(asked: str, sql: str) -> None:
    reader = asked.replace("//tape@", "//tape_reader@")
    rows = ask(reader, sql)
    assert rows
    assert all(value is not None for value in rows[0])
