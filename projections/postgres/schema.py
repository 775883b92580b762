"""A read model's schemas: its tables, the views in front of them, and the switch to a new version."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from projections.errors import OtherSchema, Refused
from projections.postgres.tables import ReadModel, Table

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]

READER = "tape_reader"
"""The role that can only read."""
MAKING = 7_218_101_931
"""The advisory lock of whoever changes schemas."""


def definition(table: Table, schema: str) -> str:
    """The statements that make a table with its indexes, or a view."""
    if table.query:
        return f"CREATE VIEW {schema}.{table.name} AS {table.query.format(schema=schema)};"
    lines = [f"    {c.name} {c.type}{'' if c.nullable else ' NOT NULL'}" for c in table.columns]
    lines.append(f"    PRIMARY KEY ({', '.join(table.key)})")
    made = f"CREATE TABLE {schema}.{table.name} (\n" + ",\n".join(lines) + "\n);"
    return made + "".join(f"\nCREATE INDEX ON {schema}.{table.name} ({column});" for column in table.index)


def layout(model: ReadModel) -> str:
    """A digest of all that a version's schema is made of."""
    made = "\n".join(definition(table, model.schema) for table in (*model.tables, *model.views))
    return hashlib.blake2b(made.encode(), digest_size=16).hexdigest()


def prepare(connection: Connection, model: ReadModel, *, rebuild: bool = False) -> None:
    """Make what is missing: schema, tables, views, the role that reads.

    `rebuild` makes a schema of another layout anew. Raises `OtherSchema`.
    """
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(%s)", [MAKING])
        found = _comment(connection, model.schema)
        if found is not None and found != layout(model):
            if not rebuild:
                raise OtherSchema(
                    f"schema {model.schema} was made by another version of Tape: its tables differ; "
                    "--rebuild drops it, with the rows of every log in it, and makes it anew"
                )
            connection.execute(f"DROP SCHEMA {model.schema} CASCADE")
            found = None
        if found is None:
            _make(connection, model)
        shown = shown_version(connection, model)
        if shown is None:
            _show(connection, model)
        elif shown > model.version:
            raise OtherSchema(
                f"schema {model.name} shows version {shown}, and this Tape writes version {model.version}; "
                "use the Tape that made it"
            )
        _let_read(connection, model)


def _make(connection: Connection, model: ReadModel) -> None:
    connection.execute(f"CREATE SCHEMA {model.schema}")
    for table in (*model.tables, *model.views):
        connection.execute(definition(table, model.schema))
        kind = "VIEW" if table.query else "TABLE"
        connection.execute(f"COMMENT ON {kind} {model.schema}.{table.name} IS {_quoted(table.doc)}")
        for column in table.columns:
            place = f"{model.schema}.{table.name}.{column.name}"
            connection.execute(f"COMMENT ON COLUMN {place} IS {_quoted(column.doc)}")
    connection.execute(f"COMMENT ON SCHEMA {model.schema} IS '{layout(model)}'")


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _comment(connection: Connection, schema: str) -> str | None:
    """What a schema's comment says; None where there is no such schema."""
    row = connection.execute(
        "SELECT coalesce(obj_description(oid, 'pg_namespace'), '') FROM pg_namespace WHERE nspname = %s",
        [schema],
    ).fetchone()
    return None if row is None else str(row[0])


# ------------------------------------------------------------ the views in front


def shown_version(connection: Connection, model: ReadModel) -> int | None:
    """The version that the views in front are on; None without views."""
    text = _comment(connection, model.name)
    return int(text) if text is not None and text.isdecimal() else None


def _show(connection: Connection, model: ReadModel) -> None:
    """Point the views in front at this version's tables. Raises `OtherSchema`."""
    found = _comment(connection, model.name)
    if found is not None and not found.isdecimal():
        holds = connection.execute(
            "SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace WHERE nspname = %s",
            [model.name],
        ).fetchone()
        if found or (holds is not None and holds[0]):
            raise OtherSchema(f"there is a schema {model.name} that is not Tape's; use another database")
    connection.execute(f"DROP SCHEMA IF EXISTS {model.name} CASCADE")
    connection.execute(f"CREATE SCHEMA {model.name}")
    for table in (*model.tables, *model.views):
        view = f"{model.name}.{table.name}"
        connection.execute(f"CREATE VIEW {view} AS SELECT * FROM {model.schema}.{table.name}")
        connection.execute(f"COMMENT ON VIEW {view} IS {_quoted(table.doc)}")
        for column in table.columns:
            connection.execute(f"COMMENT ON COLUMN {view}.{column.name} IS {_quoted(column.doc)}")
    connection.execute(f"COMMENT ON SCHEMA {model.name} IS '{model.version}'")


def _let_read(connection: Connection, model: ReadModel) -> None:
    """Let the role that reads read; it is made where this user may make one."""
    exists = connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [READER]).fetchone()
    if exists is None:
        may = connection.execute(
            "SELECT rolsuper OR rolcreaterole FROM pg_roles WHERE rolname = current_user"
        ).fetchone()
        if may is None or not may[0]:
            return
        connection.execute(f"CREATE ROLE {READER} LOGIN")
        connection.execute(f"ALTER ROLE {READER} SET default_transaction_read_only = on")
    for schema in (model.name, model.schema):
        connection.execute(f"GRANT USAGE ON SCHEMA {schema} TO {READER}")
        connection.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO {READER}")


# ------------------------------------------------------------ a new version


def switch(connection: Connection, model: ReadModel) -> bool:
    """Point the views at this version once it has caught up with the one they are on, and agrees with it.

    False: it has not caught up yet, or they are on it already. Raises `Refused` where rows differ.
    """
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(%s)", [MAKING])
        shown = shown_version(connection, model)
        if shown is None or shown >= model.version:
            return False
        old = f"{model.name}_v{shown}"
        # no projector writes rows without moving its position: what is compared stands still
        connection.execute(f"LOCK TABLE {old}.progress, {model.schema}.progress IN SHARE MODE")
        if not _caught_up(connection, old, model.schema):
            return False
        _compare(connection, old, model)
        _show(connection, model)
        _let_read(connection, model)
        return True


def _caught_up(connection: Connection, old: str, new: str) -> bool:
    behind = connection.execute(
        f"SELECT count(*) FROM {old}.progress o LEFT JOIN {new}.progress n USING (log, partition) "
        "WHERE n.next IS DISTINCT FROM o.next"
    ).fetchone()
    return behind is not None and behind[0] == 0


def _compare(connection: Connection, old: str, model: ReadModel) -> None:
    """Every row of every table that both versions have, in the columns that both have."""
    had: dict[str, set[str]] = {}
    for table, column in connection.execute(
        "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = %s", [old]
    ):
        had.setdefault(table, set()).add(column)
    for table in model.tables:
        columns = [name for name in table.names if name in had.get(table.name, ())]
        if not columns:
            continue
        chosen = ", ".join(columns)
        one, other = (f"SELECT {chosen} FROM {schema}.{table.name}" for schema in (old, model.schema))
        row = connection.execute(
            f"SELECT count(*) FROM (({one} EXCEPT ALL {other}) UNION ALL ({other} EXCEPT ALL {one})) d"
        ).fetchone()
        if row is not None and row[0]:
            raise Refused(
                f"{row[0]} rows of {table.name} differ between {old} and {model.schema}; the views stay "
                f"on {old}"
            )
