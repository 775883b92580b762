"""The real Postgres that tests project into, logs made by hand, and what the tables must then hold.

`expected` reads a log's bytes as JSON, without the code that makes the rows.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import uuid
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row

from eventlog import EventLog, LogReader, LogSpec, create_log
from projections.postgres import server
from projections.postgres.projector import Done, connect, projecting
from projections.postgres.tables import TRADING
from schemas import (
    DECISIONS,
    TOPICS,
    Batch,
    BatchInput,
    CommandApplied,
    Event,
    NewRecord,
    OpenAccount,
    encode,
    evolve,
    new_record,
)
from support.examples import EXAMPLES

ACCOUNT = "main"
Tables = dict[str, list[dict[str, Any]]]

# ------------------------------------------------------------ servers and databases


@pytest.fixture(scope="session")
def postgres() -> Iterator[server.Running]:
    """The Postgres that comes with Tape, with a data folder of its own, stopped at the end."""
    folder = Path(tempfile.mkdtemp(prefix="tape-postgres-"))
    try:
        yield server.start(folder)
    finally:
        server.stop(folder)
        shutil.rmtree(folder)


@pytest.fixture
def dsn(postgres: server.Running) -> Iterator[str]:
    """A database of the test's own."""
    name = f"t{uuid.uuid4().hex[:12]}"
    with psycopg.connect(postgres.dsn, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
        yield in_database(postgres.dsn, name)
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def in_database(dsn: str, name: str) -> str:
    """The DSN of another database of the same server."""
    return dsn.replace("/tape?", f"/{name}?")


def project(dsn: str, log: LogReader, **options: Any) -> Done:
    """Bring everything in."""
    with connect(dsn) as connection, projecting(connection, log, **options) as projector:
        assert projector.catch_up()
        return projector.done


def tables(dsn: str, schema: str = TRADING.schema, **where: str) -> Tables:
    """All rows of all tables, in order; of one log with `log=`."""
    found: Tables = {}
    with psycopg.connect(dsn, row_factory=dict_row, options="-c timezone=UTC") as connection:
        for table in TRADING.tables:
            sql = f"SELECT * FROM {schema}.{table.name}"
            if where:
                sql += f" WHERE log = '{where['log']}'"
            rows: list[dict[str, Any]] = connection.execute(sql).fetchall()
            found[table.name] = sorted(rows, key=lambda row, table=table: [row[name] for name in table.key])
    return found


def ask(dsn: str, sql: str) -> list[tuple[Any, ...]]:
    """Rows of a query."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        return connection.execute(sql).fetchall()


def tell(dsn: str, sql: str) -> None:
    """Run statements."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(sql)


# ------------------------------------------------------------ logs made by hand


def decisions() -> list[Event]:
    """One decision of every type, of one account, numbered as the core would."""
    (opening,) = (event for event in EXAMPLES.values() if isinstance(event, OpenAccount))
    kinds = [event for event in EXAMPLES.values() if TOPICS[event.topic].kind == "decision"]
    made, last = [], dict.fromkeys(DECISIONS, 0)
    for seq, event in enumerate(kinds, 1):
        place = {"account": ACCOUNT, "seq": seq, "prev": last[event.topic], "ts": 10**18 + seq}
        opens = {"kind": "OpenAccount", "command": opening.id} if isinstance(event, CommandApplied) else {}
        made.append(evolve(event, **place, **opens))
        last[event.topic] = seq
    return made


def hand_made(folder: Path, batches: Sequence[Sequence[Any]], name: str = "log") -> EventLog:
    """A log of one partition with these decisions, batch by batch; its commands come first."""
    log = create_log(f"sqlite:{folder / name}", LogSpec(f"{name:0<32}", "data", 1, 1))
    commands = [e for e in EXAMPLES.values() if e.topic == "operator.commands"]
    with log.writer("operator") as writer:
        writer.append([new_record(command, 0, ACCOUNT) for command in commands])
    write_batches(log, batches, commands=len(commands))
    return log


@dataclass(frozen=True)
class Garbled:
    """A record that cannot be read, in the place of a decision; None: it is missing."""

    instead_of: Any
    value: bytes | None = b"{"


def write_batches(log: EventLog, batches: Sequence[Sequence[Any]], *, commands: int = 0) -> None:
    """Append batches of decisions, which may be garbled."""
    with log.writer("core-0") as writer:
        for batch in batches:
            places = [e.instead_of if isinstance(e, Garbled) else e for e in batch]
            values = [e.value if isinstance(e, Garbled) else encode(e) for e in batch]
            records = [
                NewRecord(place.topic, 0, place.account.encode(), value)
                for place, value in zip(places, values, strict=True)
                if value is not None
            ]
            last = batch_of(log, max(place.seq for place in places), commands)
            writer.append([*records, new_record(last, 0, "0")])


def batch_of(log: EventLog, seq: int, commands: int) -> Batch:
    """A batch that goes up to a decision."""
    number = log.bounds("batches", 0)[1]
    given = BatchInput(topic="operator.commands", partition=0, first=0, count=commands, next=commands)
    return Batch(
        partition=0,
        number=number,
        epoch=1,
        inputs=(given,),
        order="",
        records=commands,
        seqs={ACCOUNT: seq},
        now=10**18 + seq,
    )


# ------------------------------------------------------------ what the tables must hold


def records_of(log: LogReader, topic: str) -> Iterator[Any]:
    """Every record of a topic, partition by partition."""
    for partition in range(log.partitions(topic)):
        position = 0
        while page := log.read(topic, partition, gte=position):
            yield from page
            position = page[-1].offset + 1


PLAIN = {
    "Signal": "signals",
    "OrderRequested": "orders",
    "Fill": "fills",
    "FillBusted": "fill_busts",
    "FillCorrected": "fill_corrections",
    "InternalTransfer": "transfers",
    "PositionChanged": "position_changes",
    "DayOpened": "days",
    "PnL": "pnl",
    "LimitBreached": "breaches",
    "Anomaly": "anomalies",
    "Drift": "drifts",
    "Unread": "unread",
}
RENAMED = {"order_id": "order", "limit_price": "limit", "stop_price": "stop", "limit_name": "limit"}


def expected(log: LogReader) -> Tables:
    """The rows of every table of decisions, as the log's JSON says them."""
    rows: Tables = defaultdict(list)
    commands = {}
    for record in records_of(log, "operator.commands"):
        fact = json.loads(record.value)
        commands[fact["id"]] = fact
    for topic in DECISIONS:
        for record in records_of(log, topic):
            _expect(rows, log.id, json.loads(record.value), commands)
    for table in (t for t in TRADING.tables if t.name in rows):
        rows[table.name].sort(key=lambda row, table=table: [row[name] for name in table.key])
    return dict(rows)


def _expect(rows: Tables, log: str, e: dict[str, Any], commands: dict[str, Any]) -> None:
    kind = e["type"]
    if kind in PLAIN:
        rows[PLAIN[kind]].append(_row(PLAIN[kind], log, e))
    if kind in ("OrderRequested", "OrderAccepted", "OrderDenied", "OrderChanged"):
        rows["order_history"].append(_row("order_history", log, _state(e)))
    for n, check in enumerate(e.get("checks", ())):
        more = {"order": e["order"], "n": n, "passed": check["ok"], "limit_value": check["limit"]}
        numbers = {"value_number": _number(check["value"]), "limit_number": _number(check["limit"])}
        rows["risk_checks"].append(_row("risk_checks", log, e | check | more | numbers))
    for n, part in enumerate(e.get("evidence", ())):
        more = {"n": n, "price_ts": _time(part["ts"]), "price_ts_ns": part["ts"]}
        rows["breach_evidence"].append(_row("breach_evidence", log, e | part | more))
    if kind in ("BreakerReducing", "BreakerHalted"):
        of = "halt" if kind == "BreakerHalted" else "reduce"
        rows["breaker_changes"].append(_row("breaker_changes", log, e | {"event": kind, "of": of, "who": ""}))
    if kind == "BreakerCleared":
        more = {"event": kind, "session": "", "ordinal": None, "detail": e["why"]}
        rows["breaker_changes"].append(_row("breaker_changes", log, e | more))
    if kind in ("CommandApplied", "CommandRefused"):
        fact = commands.get(e["command"])
        more = {"applied": kind == "CommandApplied", "why": e.get("why", e.get("reason")), "body": fact}
        rows["commands"].append(_row("commands", log, e | more))
        if kind == "CommandApplied" and e["kind"] == fact["type"] == "OpenAccount":
            rows["accounts"].append(_row("accounts", log, fact | e | {"kind": fact["kind"]}))


def _state(e: dict[str, Any]) -> dict[str, Any]:
    """An order's state after an event, where the event does not say it in so many words."""
    kind = e["type"]
    before = {"pending": "none", "fix": "", "filled": "0", "reduces": None, "quote": "", "reason": ""}
    before |= {"new_quantity": None, "new_limit": None, "new_stop": None, "limit": None, "stop": None}
    status = {"OrderRequested": "requested", "OrderAccepted": "accepted", "OrderDenied": "denied"}.get(
        kind, ""
    )
    leaves = "0" if status == "denied" else e["quantity"]
    reason = ", ".join(c["name"] for c in e.get("checks", ()) if not c["ok"])
    return before | {"status": status, "leaves": leaves, "event": kind, "reason": reason} | e


def _row(table: str, log: str, e: dict[str, Any]) -> dict[str, Any]:
    (found,) = (t for t in TRADING.tables if t.name == table)
    given = {"log": log, "ts": _time(e["ts"]), "ts_ns": e["ts"]}
    row = {}
    for column in found.columns:
        name = RENAMED.get(column.name, column.name)
        value = given[name] if name in given else e[name]
        row[column.name] = Decimal(value) if column.type == "numeric" and value is not None else value
    return row


def _time(ns: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=ns // 1000)


def _number(text: str) -> Decimal | None:
    digits = text.removeprefix("-").replace(".", "", 1)
    return Decimal(text) if digits.isdecimal() else None


def check(dsn: str, log: LogReader, schema: str = TRADING.schema) -> Tables:
    """Every table of decisions holds what the log says, row by row; the tables."""
    found, wanted = tables(dsn, schema, log=log.id), expected(log)
    for table in TRADING.tables:
        if table.name not in ("logs", "progress", "unreadable"):
            assert found[table.name] == wanted.get(table.name, []), table.name
    return found
