"""The embedded log: one SQLite file.

One row a record, key and value plain. Offsets are dense in each partition, from 0. Each append is
one transaction: it checks that its writer has not been fenced, adds the records, and rolls the
seals. Readers hold no statement between pages, so that checkpoints can run.
"""

from __future__ import annotations

import os
import socket
import time as clock
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, cast

import apsw

from eventlog.contract import LogSpec, Stream
from eventlog.errors import (
    LogDamaged,
    LogError,
    LogExists,
    LogFull,
    LogMismatch,
    LogNotFound,
    WriterBusy,
    WriterFenced,
)
from eventlog.seals import BLOCK, Chain, make_seal
from schemas import TOPICS, NewRecord, Record, encode

LAYOUT = "1"
BUSY_MS = 10_000
POLL_S = 0.02
SEALS = "seals"

TABLES = """
CREATE TABLE log (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE streams (
    id INTEGER PRIMARY KEY, topic TEXT NOT NULL, partition INTEGER NOT NULL,
    next INTEGER NOT NULL DEFAULT 0, sealed INTEGER NOT NULL DEFAULT 0, boundary BLOB NOT NULL,
    UNIQUE (topic, partition)
);
CREATE TABLE records (
    stream INTEGER NOT NULL, offset INTEGER NOT NULL, timestamp INTEGER NOT NULL,
    key BLOB NOT NULL, value BLOB NOT NULL, PRIMARY KEY (stream, offset)
) WITHOUT ROWID;
CREATE TABLE writers (
    id TEXT PRIMARY KEY, epoch INTEGER NOT NULL, holder TEXT NOT NULL, since INTEGER NOT NULL
) WITHOUT ROWID;
CREATE VIEW log_records AS
    SELECT topic, partition, offset, timestamp, CAST(key AS TEXT) AS key, CAST(value AS TEXT) AS value
    FROM records JOIN streams ON streams.id = records.stream;
"""


@contextmanager
def _translated(url: str) -> Iterator[None]:
    """SQLite's errors as the log's."""
    try:
        yield
    except apsw.FullError as problem:
        raise LogFull(f"{url} is full: nothing was written; make room and append again") from problem
    except (apsw.CorruptError, apsw.NotADBError) as problem:
        raise LogDamaged(f"{url} is damaged: {problem}; restore it from a copy") from problem
    except apsw.BusyError as problem:
        raise LogError(f"{url} is locked by another process for over {BUSY_MS} ms") from problem
    except apsw.Error as problem:
        raise LogError(f"{url}: {problem}") from problem


def wal_reset_is_fixed(version: str) -> bool:
    """Whether this SQLite has the fix of the WAL-reset bug: 3.51.3, or 3.50.7 or 3.44.6 of their lines."""
    number = tuple(int(part) for part in version.split("."))
    if number[:2] == (3, 50):
        return number >= (3, 50, 7)
    if number[:2] == (3, 44):
        return number >= (3, 44, 6)
    return number >= (3, 51, 3)


def _connect(path: Path, url: str, flags: int) -> apsw.Connection:
    if not wal_reset_is_fixed(apsw.sqlite_lib_version()):
        warnings.warn(
            f"SQLite {apsw.sqlite_lib_version()} has the WAL-reset bug: use 3.51.3 or later", stacklevel=3
        )
    with _translated(url):
        db = apsw.Connection(str(path), flags=flags)
        db.set_busy_timeout(BUSY_MS)
        return db


class SqliteLog:
    """A log in one file; see `eventlog.contract.EventLog`."""

    dense = True

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        """Open an existing log. Raises `LogNotFound`, `LogMismatch`, `LogDamaged`."""
        self.path, self.url, self.read_only = path, f"sqlite:{path}", read_only
        if not path.is_file():
            raise LogNotFound(f"there is no log at {path}; name one that `tape backtest` printed")
        flags = apsw.SQLITE_OPEN_READONLY if read_only else apsw.SQLITE_OPEN_READWRITE
        self._db = _connect(path, self.url, flags)
        meta = self._meta()
        if meta.get("layout") != LAYOUT:
            raise LogMismatch(f"{path} has layout {meta.get('layout')}; this Tape reads layout {LAYOUT}")
        self.id = meta["id"]
        self.time = cast(Literal["wall", "data"], meta["time"])
        self.spec = LogSpec(
            self.id, self.time, int(meta["account_partitions"]), int(meta["market_partitions"])
        )
        if not read_only:
            with _translated(self.url):
                self._db.execute("PRAGMA synchronous = FULL")
        self._streams: dict[Stream, int] = {
            (topic, partition): number
            for number, topic, partition in self.query("SELECT id, topic, partition FROM streams")
        }

    @classmethod
    def create(cls, path: Path, spec: LogSpec) -> SqliteLog:
        """Make a new log. Raises `LogExists`."""
        if path.exists():
            raise LogExists(f"{path} exists; open it, or name another place")
        path.parent.mkdir(parents=True, exist_ok=True)
        made = path.with_name(f".{path.name}.{os.getpid()}")
        made.unlink(missing_ok=True)
        url = f"sqlite:{path}"
        db = _connect(made, url, apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE)
        with _translated(url):
            _fill_new(db, spec)
            db.close()
        try:
            os.link(made, path)
        except FileExistsError:
            raise LogExists(f"{path} exists; open it, or name another place") from None
        finally:
            made.unlink()
        return cls(path)

    def _meta(self) -> dict[str, str]:
        try:
            return dict(self.query("SELECT name, value FROM log"))
        except LogDamaged:
            raise
        except LogError as problem:
            raise LogMismatch(f"{self.path} is not a Tape log: {problem}") from problem

    def query(self, sql: str, bindings: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Rows of a statement, read to its end."""
        with _translated(self.url):
            return list(self._db.execute(sql, bindings))

    def partitions(self, topic: str) -> int:
        return self.spec.partitions(topic)

    def read(
        self, topic: str, partition: int, *, gte: int, lt: int | None = None, limit: int = 5000
    ) -> list[Record]:
        rows = self.query(
            "SELECT offset, key, value, timestamp FROM records "
            "WHERE stream = ? AND offset >= ? AND offset < ? ORDER BY offset LIMIT ?",
            (self._stream(topic, partition), gte, (1 << 62) if lt is None else lt, limit),
        )
        return [Record(topic, partition, offset, key, value, at) for offset, key, value, at in rows]

    def bounds(self, topic: str, partition: int) -> tuple[int, int]:
        return 0, self.query("SELECT next FROM streams WHERE id = ?", (self._stream(topic, partition),))[0][0]

    def wait(self, after: Mapping[Stream, int], timeout_s: float) -> bool:
        until = clock.monotonic() + timeout_s
        while True:
            ends = {(t, p): n for t, p, n in self.query("SELECT topic, partition, next FROM streams")}
            if any(ends[stream] > offset for stream, offset in after.items()):
                return True
            if clock.monotonic() >= until:
                return False
            clock.sleep(min(POLL_S, max(until - clock.monotonic(), 0)))

    def chain(self, topic: str, partition: int) -> Chain:
        """The partition's rolling digest, from its last block boundary and the records since."""
        boundary, end = self.query(
            "SELECT boundary, next FROM streams WHERE id = ?", (self._stream(topic, partition),)
        )[0]
        start = end - end % BLOCK
        chain = Chain(bytes(boundary), start, start)
        for _ in chain.follow(self.read(topic, partition, gte=start, limit=BLOCK)):
            pass
        return chain

    def _stream(self, topic: str, partition: int) -> int:
        try:
            return self._streams[topic, partition]
        except KeyError:
            raise LogError(f"{self.url} has no partition {topic}/{partition}") from None

    def writer(self, id: str, *, take_over: bool = False) -> SqliteWriter:
        if self.read_only:
            raise LogError(f"{self.url} is open for reading only")
        return SqliteWriter(self, id, take_over)

    def close(self) -> None:
        self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _fill_new(db: apsw.Connection, spec: LogSpec) -> None:
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    with db:
        db.execute(TABLES)
        meta = {
            "layout": LAYOUT,
            "id": spec.id,
            "time": spec.time,
            "account_partitions": str(spec.account_partitions),
            "market_partitions": str(spec.market_partitions),
        }
        db.executemany("INSERT INTO log VALUES (?, ?)", list(meta.items()))
        db.executemany(
            "INSERT INTO streams (topic, partition, boundary) VALUES (?, ?, ?)",
            [(t, p, bytes(32)) for t in sorted(TOPICS) for p in range(spec.partitions(t))],
        )


class SqliteWriter:
    """A writer of a `SqliteLog`, on a connection of its own; see `eventlog.contract.Writer`."""

    def __init__(self, log: SqliteLog, id: str, take_over: bool) -> None:
        self.id = id
        self._log = log
        self._db = _connect(log.path, log.url, apsw.SQLITE_OPEN_READWRITE)
        with _translated(log.url):
            self._db.execute("PRAGMA synchronous = FULL")
        self._chains: dict[Stream, Chain] = {}
        self._sealed: dict[Stream, int] = {}
        self._open = True
        try:
            self._epoch = self._acquire(take_over)
        except BaseException:
            self._db.close()
            raise

    def limit_pages(self, pages: int) -> int:
        """Let the file grow to at most `pages` database pages; the bound in force."""
        return int(self._row(f"PRAGMA max_page_count = {int(pages)}")[0])

    def _row(self, sql: str, bindings: Sequence[Any] = ()) -> tuple[Any, ...]:
        """The only row of a statement, read to its end."""
        row: tuple[Any, ...]
        (row,) = self._db.execute(sql, bindings)
        return row

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with _translated(self._log.url):
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                self._chains.clear()
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    def _acquire(self, take_over: bool) -> int:
        with self._transaction():
            rows = list(self._db.execute("SELECT epoch, holder, since FROM writers WHERE id = ?", (self.id,)))
            epoch, holder, since = rows[0] if rows else (0, "", 0)
            if holder and not take_over and _is_alive(holder):
                raise WriterBusy(
                    f"{self._log.url}: writer {self.id} is held by process {holder.split(':')[1]} since "
                    f"{_iso(since)}; stop it, or take over"
                )
            self._db.execute(
                "INSERT OR REPLACE INTO writers VALUES (?, ?, ?, ?)",
                (self.id, epoch + 1, _me(), clock.time_ns()),
            )
            return int(epoch) + 1

    def append(self, records: Sequence[NewRecord], /) -> None:
        if not records:
            return
        by_stream: dict[Stream, list[NewRecord]] = {}
        for record in records:
            by_stream.setdefault((record.topic, record.partition), []).append(record)
        with self._transaction():
            self._check_epoch()
            now = clock.time_ns()
            seals: list[NewRecord] = []
            for stream, mine in by_stream.items():
                self._append_stream(stream, mine, now, seals)
            if seals:
                self._append_stream((SEALS, 0), seals, now, [])

    def _check_epoch(self) -> None:
        rows = list(self._db.execute("SELECT epoch FROM writers WHERE id = ?", (self.id,)))
        if not self._open or not rows or rows[0][0] != self._epoch:
            raise WriterFenced(f"{self._log.url}: another holder of writer {self.id} has taken over")

    def _append_stream(
        self, stream: Stream, records: Sequence[NewRecord], now: int, seals: list[NewRecord]
    ) -> None:
        number = self._log._stream(*stream)
        next, sealed, boundary = self._row(
            "SELECT next, sealed, boundary FROM streams WHERE id = ?", (number,)
        )
        self._db.executemany(
            "INSERT INTO records VALUES (?, ?, ?, ?, ?)",
            ((number, next + n, now, r.key, r.value) for n, r in enumerate(records)),
        )
        if stream[0] != SEALS:
            chain = self._chain(stream, next, bytes(boundary))
            sealed = self._roll(stream, chain, records, sealed, seals)
            boundary = chain.boundary
        self._db.execute(
            "UPDATE streams SET next = ?, sealed = ?, boundary = ? WHERE id = ?",
            (next + len(records), sealed, boundary, number),
        )

    def _roll(
        self,
        stream: Stream,
        chain: Chain,
        records: Sequence[NewRecord],
        sealed: int,
        seals: list[NewRecord],
    ) -> int:
        """Add the records to the chain; a seal for each block that fills. Where it is sealed up to now."""
        start = 0
        while start < len(records):
            part = records[start : start + chain.room()]
            start += len(part)
            if chain.add([(r.key, r.value) for r in part], chain.next + len(part)):
                seals.append(seal_record(stream, sealed, chain))
                sealed = chain.next
        return sealed

    def _chain(self, stream: Stream, next: int, boundary: bytes) -> Chain:
        """The stream's chain as it is at `next`; another writer may have appended since we knew it."""
        chain = self._chains.get(stream)
        if chain is None or chain.next != next:
            start = next - next % BLOCK
            chain = self._chains[stream] = Chain(boundary, start, start)
            rows = self._db.execute(
                "SELECT key, value FROM records "
                "WHERE stream = ? AND offset >= ? AND offset < ? ORDER BY offset",
                (self._log._stream(*stream), start, next),
            )
            chain.add([(key, value) for key, value in rows], next)
        return chain

    def close(self) -> None:
        """Seal what is not sealed yet, and let go of the id; fenced, only let go."""
        if not self._open:
            return
        try:
            with self._transaction():
                self._check_epoch()
                seals: list[NewRecord] = []
                self._seal_open_blocks(seals)
                if seals:
                    self._append_stream((SEALS, 0), seals, clock.time_ns(), [])
        except (LogFull, WriterFenced):
            pass
        finally:
            self._release()

    def _seal_open_blocks(self, seals: list[NewRecord]) -> None:
        rows = self._db.execute(
            "SELECT id, topic, partition, next, sealed, boundary FROM streams "
            "WHERE next > sealed AND topic <> ? ORDER BY topic, partition",
            (SEALS,),
        )
        for number, topic, partition, next, sealed, boundary in list(rows):
            chain = self._chain((topic, partition), next, bytes(boundary))
            seals.append(seal_record((topic, partition), sealed, chain))
            self._db.execute("UPDATE streams SET sealed = ? WHERE id = ?", (next, number))

    def _release(self) -> None:
        if not self._open:
            return
        self._open = False
        try:
            with _translated(self._log.url):
                self._db.execute(
                    "UPDATE writers SET holder = '' WHERE id = ? AND epoch = ?", (self.id, self._epoch)
                )
        except LogError:
            pass  # the holder's process ends; its pid then says that it is not alive
        finally:
            self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self._release()


def seal_record(stream: Stream, first: int, chain: Chain) -> NewRecord:
    """The seal of a stream up to where its chain is, as a record."""
    topic, partition = stream
    return NewRecord(
        SEALS, 0, f"{topic}/{partition}".encode(), encode(make_seal(topic, partition, first, chain))
    )


def _iso(ns: int) -> str:
    return clock.strftime("%Y-%m-%dT%H:%M:%SZ", clock.gmtime(ns // 1_000_000_000))


def _me() -> str:
    return f"{socket.gethostname()}:{os.getpid()}:{_started(os.getpid())}"


def _started(pid: int) -> str:
    """When a process started, in the system's own units; "" where that cannot be told."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def _is_alive(holder: str) -> bool:
    """Whether the process that holds a writer lives; one on another host is taken to."""
    host, pid, started = holder.rsplit(":", 2)
    if host != socket.gethostname():
        return True
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return _started(int(pid)) == started
