"""Brings a read model on: whole batches of a log, each group of them in one transaction.

1. Hold the advisory lock of the read model and the log: one projector at a time.
2. Read the position; look whether its last batch still stands in the log.
3. Take the next batches, whole, and make their rows.
4. In one transaction: move the position, on condition that it is where it was read, and COPY the rows.
   If it is not, roll back and go to 2.

While a transaction is on its way to the server (4), the next batches are taken (3).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from eventlog.contract import LogReader
from projections.batches import BatchReader, Position, Taken
from projections.errors import Busy, Moved, NoServer, OtherLog, ProjectionError, ServerLost
from projections.postgres import schema as schemas
from projections.postgres.rows import copy_text, rows_of, timestamp
from projections.postgres.tables import TRADING, ReadModel

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]

Texts = dict[str, bytes]
"""Rows by table, as COPY reads them."""

GROUP = 10_000
"""Decisions that a transaction holds at least, where there are so many; batches are never cut."""
LOCK_S = 3
"""How long to wait for another projector: one that was killed is let go of by the server in a moment."""
CONNECT_S = 10
MOVED_MAX = 5
WAIT_S = 0.5
TURN_S = 0.0005


@dataclass
class Done:
    """What a run brought in."""

    batches: int = 0
    decisions: int = 0
    rows: int = 0
    unreadable: int = 0
    repeats: int = 0
    seconds: float = 0.0
    switched: bool = False
    positions: dict[int, Position] = field(default_factory=dict)


@contextmanager
def connect(dsn: str) -> Iterator[Connection]:
    """A connection of Postgres' own, in UTC. Raises `NoServer`; no message holds a password."""
    import psycopg

    name, options = _read_dsn(dsn)
    try:
        connection = psycopg.connect(
            **options, autocommit=True, connect_timeout=CONNECT_S, application_name="tape project"
        )
    except psycopg.Error as problem:
        raise NoServer(f"no connection to Postgres at {name}: {_reason(problem)}") from None
    with connection, told_well(name):
        connection.execute("SET timezone = 'UTC'")
        yield connection


def shown_dsn(dsn: str) -> str:
    """A DSN as it may be shown: where and as whom, without the password. Raises `NoServer`."""
    return _read_dsn(dsn)[0]


def _read_dsn(dsn: str) -> tuple[str, dict[str, Any]]:
    from psycopg import ProgrammingError
    from psycopg.conninfo import conninfo_to_dict

    unreadable = NoServer(
        "the DSN cannot be read: write postgresql://USER:PASSWORD@HOST:PORT/DATABASE, with %40 for an @ and "
        "%2F for a / in the password"
    )
    try:
        options: dict[str, Any] = dict(conninfo_to_dict(dsn))
    except (ProgrammingError, UnicodeError):
        raise unreadable from None
    if "@" in str(options.get("host", "")) or not dsn.strip():
        raise unreadable
    place = [str(options.get("host", "localhost")), str(options.get("port", ""))]
    name = ":".join(part for part in place if part) + f"/{options.get('dbname', '')}"
    return (f"{options['user']}@{name}" if options.get("user") else name), options


def _reason(problem: BaseException) -> str:
    """The server's own words: the last line, without the place, which is said already."""
    lines = [line.strip() for line in str(problem).splitlines() if line.strip()]
    told = [line for line in lines if "FATAL:" in line] or lines[:1]
    text = told[-1] if told else type(problem).__name__
    text = text.rpartition("FATAL:")[2].strip() if "FATAL:" in text else text.rpartition("failed: ")[2]
    return text + _remedy(text)


def _remedy(text: str) -> str:
    if "password" in text:
        return "; give the password in the DSN, PGPASSWORD or ~/.pgpass"
    if "does not exist" in text:
        return "; make it, or name another"
    return (
        "; is the server running, and is this its address?" if "refused" in text or "No such" in text else ""
    )


@contextmanager
def told_well(name: str) -> Iterator[None]:
    """The server's errors as ours."""
    import psycopg

    try:
        yield
    except (psycopg.OperationalError, psycopg.InterfaceError) as problem:
        raise ServerLost(
            f"Postgres at {name} ended the connection: {_reason(problem)}; what was committed stands, "
            "start the server and run this again"
        ) from problem
    except psycopg.errors.InsufficientPrivilege as problem:
        raise NoServer(
            f"Postgres at {name}: {_reason(problem)}; the user must be able to create schemas"
        ) from problem
    except psycopg.Error as problem:
        raise ProjectionError(f"Postgres at {name}: {_reason(problem)}") from problem


class Projector:
    """Fills a read model from a log. Make it with `projecting`."""

    def __init__(self, connection: Connection, log: LogReader, model: ReadModel, group: int) -> None:
        self._connection, self._log, self._model, self._group = connection, log, model, group
        self._readers: dict[int, BatchReader] = {}
        self.done = Done()

    def catch_up(
        self, progress: Callable[[Done], None] = lambda done: None, stop: Callable[[], bool] = lambda: False
    ) -> bool:
        """Bring in all there is; False if `stop` said so before. Raises `ProjectionError`, `LogDamaged`."""
        with ThreadPoolExecutor(1) as sender, _quick_turns():
            for partition in range(self._log.partitions("batches")):
                self._bring_on(sender, partition, progress, stop)
        if stop():
            return False
        self.done.switched |= schemas.switch(self._connection, self._model)
        return True

    def follow(
        self, progress: Callable[[Done], None] = lambda done: None, stop: Callable[[], bool] = lambda: False
    ) -> None:
        """Bring in what is appended, as it comes, until `stop` says so."""
        while self.catch_up(progress, stop):
            ends = {("batches", p): position.next for p, position in self.done.positions.items()}
            while not stop() and not self._log.wait(ends, WAIT_S):
                pass

    def _bring_on(
        self, sender: Executor, partition: int, progress: Callable[[Done], None], stop: Callable[[], bool]
    ) -> None:
        """Bring in a partition, to the log's end or until `stop`; begun again where another moved it."""
        lost = 0
        while lost < MOVED_MAX:
            try:
                for taken, rows in self._written(sender, partition, stop):
                    self._count(partition, taken, rows)
                    progress(self.done)
                    lost = 0
                return
            except Moved:
                del self._readers[partition]
                lost += 1
        raise Moved(
            f"another projector keeps moving {self._model.schema} on from {self._log.url}; stop it first"
        )

    def _written(
        self, sender: Executor, partition: int, stop: Callable[[], bool]
    ) -> Iterator[tuple[Taken, int]]:
        """Each group once it is committed, with the number of its rows. Raises `Moved`."""
        reader = self._reader(partition)
        sent: tuple[Future[None], Taken, int] | None = None
        while True:
            before = reader.position
            taken = None if stop() else reader.take(self._group)
            rows = {} if taken is None else rows_of(self._log.id, taken)
            texts = {t.name: copy_text(t, rows[t.name]) for t in self._model.tables if t.name in rows}
            if sent is not None:
                sent[0].result()
                yield sent[1:]
            if taken is None:
                return
            count = sum(map(len, rows.values()))
            sent = sender.submit(self._write, partition, before, taken, texts), taken, count

    def _count(self, partition: int, taken: Taken, rows: int) -> None:
        done, before = self.done, self.done.positions[partition]
        done.batches += taken.after.batches - before.batches
        done.decisions += len(taken.decisions)
        done.rows += rows
        done.unreadable += len(taken.unreadable)
        done.repeats += taken.repeats
        done.positions[partition] = taken.after

    def _reader(self, partition: int) -> BatchReader:
        """The partition's reader, from the position that stands beside the rows. Raises `OtherLog`."""
        if partition not in self._readers:
            position = self._position(partition)
            reader = BatchReader(self._log, partition, position)
            if not reader.stands():
                raise OtherLog(
                    f"{self._log.url} is not as it was when its rows were written: batch "
                    f"{position.batches - 1} of partition {partition} is another, or gone; add --rebuild to "
                    "drop the rows and project it from its beginning"
                )
            self._readers[partition] = reader
            self.done.positions[partition] = position
        return self._readers[partition]

    def _position(self, partition: int) -> Position:
        table, key = f"{self._model.schema}.progress", [self._log.id, partition]
        self._connection.execute(
            f"INSERT INTO {table} VALUES (%s, %s, 0, 0, 0, NULL, NULL, %s) ON CONFLICT DO NOTHING",
            [*key, msgspec.json.encode(Position()).decode()],
        )
        row = self._connection.execute(
            f"SELECT state FROM {table} WHERE log = %s AND partition = %s", key
        ).fetchone()
        assert row is not None
        return msgspec.convert(row[0], Position)

    def _write(self, partition: int, before: Position, taken: Taken, texts: Texts) -> None:
        """Position and rows, or neither. Raises `Moved`."""
        after = taken.after
        now = None if after.now is None else timestamp(after.now)
        with self._connection.transaction():
            moved = self._connection.execute(
                f"UPDATE {self._model.schema}.progress SET next = %s, batches = %s, decisions = %s, "
                "now = %s, now_ns = %s, state = %s WHERE log = %s AND partition = %s AND next = %s",
                [
                    *(after.next, after.batches, after.decisions, now, after.now),
                    msgspec.json.encode(after).decode(),
                    *(self._log.id, partition, before.next),
                ],
            )
            if moved.rowcount != 1:
                raise Moved("the position is not where it was read")
            copy_texts(self._connection, self._model, texts)


@contextmanager
def _quick_turns() -> Iterator[None]:
    """Threads take turns more often: the one that sends has little to do, and the server waits for it."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(TURN_S)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def copy_texts(connection: Connection, model: ReadModel, texts: Texts) -> None:
    """COPY rows into their tables, in the transaction at hand."""
    for table in model.tables:
        if text := texts.get(table.name):
            columns = ", ".join(table.names)
            with (
                connection.cursor() as cursor,
                cursor.copy(f"COPY {model.schema}.{table.name} ({columns}) FROM STDIN") as copy,
            ):
                copy.write(text)


@contextmanager
def projecting(
    connection: Connection,
    log: LogReader,
    *,
    model: ReadModel = TRADING,
    rebuild: bool = False,
    group: int = GROUP,
) -> Iterator[Projector]:
    """A projector that alone fills `model` from `log`, and has its schema made.

    `rebuild` drops the log's rows first. Raises `Busy`, `OtherSchema`, `OtherLog`.
    """
    schemas.prepare(connection, model, rebuild=rebuild)
    key = f"{model.schema}/{log.id}"
    _lock(connection, key, f"{model.schema} from {log.url}")
    try:
        _register(connection, model, log, rebuild)
        yield Projector(connection, log, model, group)
    finally:
        if not connection.broken:
            connection.execute("SELECT pg_advisory_unlock(hashtextextended(%s, 0))", [key])


def _lock(connection: Connection, key: str, name: str) -> None:
    until = time.monotonic() + LOCK_S
    while True:
        row = connection.execute("SELECT pg_try_advisory_lock(hashtextextended(%s, 0))", [key]).fetchone()
        if row is not None and row[0]:
            return
        if time.monotonic() > until:
            raise Busy(f"another `tape project` is filling {name}; stop it, or let it go on (--follow)")
        time.sleep(0.1)


def _register(connection: Connection, model: ReadModel, log: LogReader, rebuild: bool) -> None:
    """Note the log's name; with `rebuild`, drop what stands of it. Raises `OtherLog`."""
    with connection.transaction():
        others = connection.execute(
            f"SELECT log FROM {model.schema}.logs WHERE url = %s AND log <> %s", [log.url, log.id]
        ).fetchall()
        if others and not rebuild:
            raise OtherLog(
                f"the rows of {log.url} are of another log, {others[0][0]}; this is {log.id}: add --rebuild "
                "to drop them, or name another place for this one"
            )
        for one in {log.id, *(other for (other,) in others)} if rebuild else ():
            for table in model.tables:
                connection.execute(f"DELETE FROM {model.schema}.{table.name} WHERE log = %s", [one])
        connection.execute(
            f"INSERT INTO {model.schema}.logs VALUES (%s, %s, %s) "
            "ON CONFLICT (log) DO UPDATE SET url = excluded.url",
            [log.id, log.url, log.time],
        )
