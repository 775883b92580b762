"""The embedded log: one SQLite file.

One row a record, key and value plain. Offsets are dense in each partition, from 0. Each append is
one transaction: it checks that its writer has not been fenced, adds the records, and rolls the
seals. Readers hold no statement between pages, so that checkpoints can run.
"""

from __future__ import annotations

import contextlib
import os
import time as clock
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any, Literal, Self, cast
from urllib.parse import quote

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
from eventlog.following import PagedFollower
from eventlog.holders import Holder
from eventlog.seals import BLOCK, SEALS, ZERO, Chain, make_seal, seal_record
from schemas import TOPICS, NewRecord, Record

LAYOUT = "1"
BUSY_MS = 10_000
POLL_S = 0.02
END = 1 << 62

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
    except (apsw.CorruptError, apsw.NotADBError, apsw.ConstraintError, UnicodeDecodeError) as problem:
        raise LogDamaged(f"{url} is damaged: {problem}; restore it from a copy") from problem
    except apsw.BusyError as problem:
        raise LogError(f"{url} is locked by another process for over {BUSY_MS} ms") from problem
    except (apsw.CantOpenError, apsw.ReadOnlyError, apsw.PermissionsError) as problem:
        raise LogError(
            f"{url}: {problem}; look whether the file and its folder may be read and written"
        ) from problem
    except apsw.IOError as problem:
        raise LogError(
            f"{url}: the disk could not be read or written ({problem}); look whether it is full, whether "
            "files may grow (ulimit -f), and whether the disk is sound, then try again"
        ) from problem
    except (apsw.Error, UnicodeEncodeError) as problem:
        raise LogError(f"{url}: {problem}") from problem


def wal_reset_is_fixed(version: str) -> bool:
    """Whether this SQLite has the fix of the WAL-reset bug: 3.51.3, or 3.50.7 or 3.44.6 of their lines."""
    number = tuple(int(part) for part in version.split("."))
    if number[:2] == (3, 50):
        return number >= (3, 50, 7)
    if number[:2] == (3, 44):
        return number >= (3, 44, 6)
    return number >= (3, 51, 3)


def _connect(name: str, url: str, flags: int) -> apsw.Connection:
    if not wal_reset_is_fixed(apsw.sqlite_lib_version()):
        warnings.warn(
            f"SQLite {apsw.sqlite_lib_version()} has the WAL-reset bug: use 3.51.3 or later", stacklevel=3
        )
    with _translated(url):
        db = apsw.Connection(name, flags=flags)
        db.set_busy_timeout(BUSY_MS)
        return db


def _connect_writing(file: Path, url: str, flags: int = 0) -> apsw.Connection:
    db = _connect(str(file), url, apsw.SQLITE_OPEN_READWRITE | flags)
    with _translated(url):
        db.execute("PRAGMA synchronous = FULL")
    return db


def _connect_reading(file: Path, url: str) -> apsw.Connection:
    """A connection that only reads, also where SQLite may not put its own files beside the log."""
    db = _connect(str(file), url, apsw.SQLITE_OPEN_READONLY)
    try:
        list(db.execute("SELECT 1 FROM sqlite_schema LIMIT 1"))
    except (apsw.CantOpenError, apsw.ReadOnlyError):
        db.close()
        wal = file.with_name(f"{file.name}-wal")
        if wal.exists() and wal.stat().st_size:
            raise LogError(
                f"{url}: its last appends stand in {wal.name}, and the folder may not be written; "
                "copy both files to one that may"
            ) from None
        # Nobody who may not write here is appending, and there is no WAL: the file stands as it is.
        db = _connect(
            f"file:{quote(str(file))}?immutable=1", url, apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI
        )
    except apsw.Error:
        pass  # the first query says it again, and is translated
    return db


class SqliteLog:
    """A log in one file; see `eventlog.contract.EventLog`."""

    dense = True

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        """Open an existing log. Raises `LogNotFound`, `LogMismatch`, `LogDamaged`."""
        self.path, self.url, self.read_only = path, f"sqlite:{path}", read_only
        self.file = _existing(path)
        connect = _connect_reading if read_only else _connect_writing
        self._db = connect(self.file, self.url)
        self._streams: dict[Stream, int] = {}
        try:
            self.spec = self._spec()
            self._find_streams()
        except BaseException:
            self._db.close()
            raise
        self.id, self.time = self.spec.id, self.spec.time

    @classmethod
    def create(cls, path: Path, spec: LogSpec) -> SqliteLog:
        """Make a new log. Raises `LogExists`."""
        file = Path(os.path.abspath(path))
        try:
            if file.exists():
                raise _taken(file)
            file.parent.mkdir(parents=True, exist_ok=True)
            with TemporaryDirectory(prefix=f".{file.name}.", dir=file.parent) as folder:
                _fill(Path(folder) / "new", f"sqlite:{path}", spec)
                _name(Path(folder) / "new", file)
            _flush_folder(file.parent)
        except OSError as problem:
            raise LogError(f"no log can be made at {path}: {problem}") from problem
        return cls(path)

    def _spec(self) -> LogSpec:
        """What is recorded in the log at its creation."""
        try:
            meta = dict(self._db.execute("SELECT name, value FROM log"))
            layout = meta.get("layout")
        except (apsw.SQLError, apsw.NotADBError, ValueError) as problem:
            raise LogMismatch(
                f"{self.path} is not a Tape log, or its beginning is damaged: {problem}"
            ) from problem
        except apsw.Error:
            with _translated(self.url):
                raise
        if layout != LAYOUT:
            raise LogMismatch(f"{self.path} has layout {layout}; this Tape reads layout {LAYOUT}")
        try:
            time = {"wall": "wall", "data": "data"}[meta["time"]]
            counts = int(meta["account_partitions"]), int(meta["market_partitions"])
            return LogSpec(str(meta["id"]), cast(Literal["wall", "data"], time), *counts)
        except (KeyError, ValueError) as problem:
            raise LogDamaged(f"{self.url} is damaged: its record of itself says {meta}") from problem

    def _find_streams(self) -> None:
        """Number the partitions. A log older than a topic of the catalogue has none of it, or all."""
        rows = self.query("SELECT topic, partition, id FROM streams")
        self._streams = {(topic, partition): number for topic, partition, number in rows}
        for topic, found in Counter(topic for topic, _ in self._streams).items():
            if topic in TOPICS and found != self.spec.partitions(topic):
                raise LogDamaged(
                    f"{self.url} is damaged: it says that {topic} has {self.spec.partitions(topic)} "
                    f"partitions, and has {found}"
                )

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
            (self._stream(topic, partition), gte, END if lt is None else lt, limit),
        )
        if rows and not gte <= _whole(rows[-1][0], self.url):  # whoever reads on from here comes back
            raise LogDamaged(
                f"{self.url} is damaged: {topic}/{partition} has offset {rows[-1][0]} after {gte}"
            )
        return [
            Record(topic, partition, offset, key, value, at)
            if type(key) is type(value) is bytes
            else _not_bytes(self.url, topic, partition, offset)
            for offset, key, value, at in rows
        ]

    def bounds(self, topic: str, partition: int) -> tuple[int, int]:
        rows = self.query("SELECT next FROM streams WHERE id = ?", (self._stream(topic, partition),))
        return (0, _whole(rows[0][0], self.url)) if rows else (0, 0)

    def wait(self, after: Mapping[Stream, int], timeout_s: float) -> bool:
        for stream in after:
            self._stream(*stream)
        until = clock.monotonic() + timeout_s
        while True:
            ends = {(t, p): n for t, p, n in self.query("SELECT topic, partition, next FROM streams")}
            if any(_whole(ends.get(stream, 0), self.url) > offset for stream, offset in after.items()):
                return True
            if clock.monotonic() >= until:
                return False
            clock.sleep(min(POLL_S, max(until - clock.monotonic(), 0)))

    def follow(self, positions: Mapping[Stream, int]) -> PagedFollower:
        return PagedFollower(self, positions)

    def chain(self, topic: str, partition: int) -> Chain:
        """The partition's rolling digest, from its last block boundary and the records since."""
        rows = self.query(
            "SELECT boundary, next FROM streams WHERE id = ?", (self._stream(topic, partition),)
        )
        boundary, end = rows[0] if rows else (ZERO, 0)
        if not isinstance(boundary, bytes) or len(boundary) != len(ZERO) or _whole(end, self.url) < 0:
            raise LogDamaged(f"{self.url} is damaged: the digest of {topic}/{partition} is {boundary!r}")
        start = end - end % BLOCK
        chain = Chain(boundary, start, start)
        chain.follow(self.read(topic, partition, gte=start, lt=end, limit=BLOCK))
        return chain

    def _stream(self, topic: str, partition: int) -> int:
        """The number of a partition; 0, of which there are no records, for one that is not there yet."""
        number = self._streams.get((topic, partition))
        if number is not None:
            return number
        if topic not in TOPICS or not 0 <= partition < self.spec.partitions(topic):
            raise LogError(f"{self.url} has no partition {topic}/{partition}")
        self._find_streams()
        return self._streams.get((topic, partition), 0)

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


def _whole(number: object, url: str) -> int:
    """SQLite's columns take any type; where ours is not in its place, the file is damaged."""
    if type(number) is not int:
        raise LogDamaged(f"{url} is damaged: {number!r} stands in the place of a number")
    return number


def _not_bytes(url: str, topic: str, partition: int, offset: object) -> Record:
    raise LogDamaged(f"{url} is damaged: {topic}/{partition}/{offset} is not made of bytes")


def _existing(path: Path) -> Path:
    """The file of a log, absolute: a later change of the working folder does not matter."""
    try:
        if path.is_dir():
            raise LogNotFound(f"{path} is a folder; name the log in it")
        if not path.is_file():
            raise LogNotFound(f"there is no log at {path}; name one that `tape backtest` printed")
    except OSError as problem:
        raise LogError(f"{path} cannot be looked at: {problem}") from problem
    return Path(os.path.abspath(path))


def _fill(file: Path, url: str, spec: LogSpec) -> None:
    """Make an empty log in a file of its own."""
    db = _connect_writing(file, url, apsw.SQLITE_OPEN_CREATE)
    meta = {
        "layout": LAYOUT,
        "id": spec.id,
        "time": spec.time,
        "account_partitions": str(spec.account_partitions),
        "market_partitions": str(spec.market_partitions),
    }
    with contextlib.closing(db), _translated(url):
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("BEGIN")  # and no ROLLBACK, whose own error would hide the first: the file goes away
        db.execute(TABLES)
        db.executemany("INSERT INTO log VALUES (?, ?)", list(meta.items()))
        _add_streams(db, [(t, p) for t in sorted(TOPICS) for p in range(spec.partitions(t))])
        db.execute("COMMIT")


def _add_streams(db: apsw.Connection, streams: Sequence[Stream]) -> None:
    db.executemany(
        "INSERT INTO streams (topic, partition, boundary) VALUES (?, ?, ?)",
        [(topic, partition, ZERO) for topic, partition in streams],
    )


def _name(made: Path, file: Path) -> None:
    """Give a file its name at once and whole; nothing is ever replaced. Raises `LogExists`."""
    try:
        os.link(made, file)
    except FileExistsError:
        raise _taken(file) from None
    except OSError:  # a file system without hard links
        if file.exists():
            raise _taken(file) from None
        made.rename(file)


def _taken(file: Path) -> LogExists:
    return LogExists(f"{file} exists; open it, or name another place")


def _flush_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class SqliteWriter:
    """A writer of a `SqliteLog`, on a connection of its own; see `eventlog.contract.Writer`."""

    def __init__(self, log: SqliteLog, id: str, take_over: bool) -> None:
        self.id = id
        self._log = log
        self._db = _connect_writing(log.file, log.url)
        self._chains: dict[Stream, Chain] = {}
        self._holder = Holder.new()
        self._open = True
        try:
            self._epoch = self._acquire(take_over)
        except BaseException:
            self._holder.let_go()
            self._db.close()
            raise

    def limit_pages(self, pages: int) -> int:
        """Let the file grow to at most `pages` database pages; the bound in force."""
        ((bound,),) = self._db.execute(f"PRAGMA max_page_count = {int(pages)}")
        return cast(int, bound)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        if not self._open:
            raise LogError(f"{self._log.url}: writer {self.id} is closed")
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
        """Become the holder of the id; the epoch of this holding."""
        with self._transaction():
            rows = list(self._db.execute("SELECT epoch, holder, since FROM writers WHERE id = ?", (self.id,)))
            epoch, held, since = rows[0] if rows else (0, "", 0)
            if held and not take_over:
                self._refuse_second(held, since)
            self._db.execute(
                "INSERT OR REPLACE INTO writers VALUES (?, ?, ?, ?)",
                (self.id, epoch + 1, str(self._holder), clock.time_ns()),
            )
            there = self._db.execute("SELECT topic, partition FROM streams")
            _add_streams(self._db, sorted(_catalogue(self._log.spec) - set(there)))
            return int(epoch) + 1

    def _refuse_second(self, held: str, since: int) -> None:
        """Raise `WriterBusy` where the holder is alive, or cannot be told to be dead."""
        holder = Holder.parse(held)
        if holder is None or holder.is_alive():
            who = held if holder is None else f"process {holder.pid} on {holder.host}"
            raise WriterBusy(
                f"{self._log.url}: writer {self.id} is held by {who} since {_iso(since)}; "
                "stop it, or take over"
            )

    def append(self, records: Sequence[NewRecord], /) -> None:
        if not records:
            return
        by_stream: dict[Stream, list[NewRecord]] = {}
        for record in records:
            stream = (record.topic, record.partition)
            mine = by_stream.get(stream)
            if mine is None:
                by_stream[stream] = [record]
            else:
                mine.append(record)
        with self._transaction():
            self._check_epoch()
            now = clock.time_ns()
            seals: list[NewRecord] = []
            for stream, mine in by_stream.items():
                seals += self._append_stream(stream, mine, now)
            self._append_seals(seals, now)

    def _check_epoch(self) -> None:
        rows = list(self._db.execute("SELECT epoch FROM writers WHERE id = ?", (self.id,)))
        if not rows or rows[0][0] != self._epoch:
            raise WriterFenced(f"{self._log.url}: another holder of writer {self.id} has taken over")

    def _append_stream(self, stream: Stream, records: Sequence[NewRecord], now: int) -> list[NewRecord]:
        """Append to one partition; the seals of the blocks that fill."""
        number = self._number(stream)
        next, sealed, boundary = self._end(stream)
        chain = self._chain(stream, next, boundary)
        self._db.executemany(
            "INSERT INTO records VALUES (?, ?, ?, ?, ?)",
            [(number, offset, now, r.key, r.value) for offset, r in enumerate(records, next)],
        )
        seals = []
        start = 0
        while start < len(records):
            part = records[start : start + chain.room()]
            start += len(part)
            if chain.add(part, chain.next + len(part)):
                seals.append(seal_record(make_seal(stream, sealed, chain)))
                sealed = chain.next
        self._db.execute(
            "UPDATE streams SET next = ?, sealed = ?, boundary = ? WHERE id = ?",
            (chain.next, sealed, chain.boundary, number),
        )
        return seals

    def _end(self, stream: Stream) -> tuple[int, int, bytes]:
        """Where a partition ends, where its last seal ended, and its digest at the last block's end."""
        rows = list(
            self._db.execute(
                "SELECT next, sealed, boundary FROM streams WHERE id = ?", (self._number(stream),)
            )
        )
        if len(rows) == 1 and tuple(map(type, rows[0])) == (int, int, bytes):
            return cast(tuple[int, int, bytes], rows[0])
        raise LogDamaged(f"{self._log.url} is damaged: it does not say where {stream[0]}/{stream[1]} ends")

    def _append_seals(self, seals: list[NewRecord], now: int) -> None:
        while seals:
            seals = self._append_stream(SEALS, seals, now)

    def _number(self, stream: Stream) -> int:
        number = self._log._streams.get(stream)
        return number if number is not None else self._log._stream(*stream)

    def _chain(self, stream: Stream, next: int, boundary: bytes) -> Chain:
        """The stream's chain as it is at `next`; another writer may have appended since we knew it."""
        chain = self._chains.get(stream)
        if chain is not None and chain.next == next:
            return chain
        start = next - next % BLOCK
        if chain is None or chain.next < start:
            chain = self._chains[stream] = Chain(boundary, start, start)
        rows = self._db.execute(
            "SELECT key, value FROM records WHERE stream = ? AND offset >= ? AND offset < ? ORDER BY offset",
            (self._number(stream), chain.next, next),
        )
        chain.add([NewRecord(*stream, key, value) for key, value in rows], next)
        if chain.count != next:
            raise LogDamaged(f"{self._log.url} is damaged: {stream[0]}/{stream[1]} lacks records")
        return chain

    def close(self) -> None:
        """Seal what is not sealed yet, and let go of the id; fenced, only let go."""
        if not self._open:
            return
        try:
            with self._transaction():
                self._check_epoch()
                self._seal_all(clock.time_ns())
        except WriterFenced:
            pass  # whoever has taken over seals
        except LogFull as problem:
            warnings.warn(f"not sealed, the next writer does it: {problem}", stacklevel=2)
        finally:
            self._release()

    def _seal_all(self, now: int) -> None:
        """Seal every partition up to its end; last, the seals."""
        rows = self._db.execute(
            "SELECT topic, partition FROM streams WHERE next > sealed ORDER BY topic, partition"
        )
        open_streams = cast(list[Stream], list(rows))
        self._append_seals([self._seal(stream) for stream in open_streams if stream != SEALS], now)
        next, sealed, _ = self._end(SEALS)
        if next - sealed > bool(sealed):  # after the seals' own seal, it stands there alone
            self._append_seals([self._seal(SEALS)], now)

    def _seal(self, stream: Stream) -> NewRecord:
        next, sealed, boundary = self._end(stream)
        chain = self._chain(stream, next, boundary)
        self._db.execute("UPDATE streams SET sealed = ? WHERE id = ?", (next, self._number(stream)))
        return seal_record(make_seal(stream, sealed, chain))

    def _release(self) -> None:
        """Let go of the id without a seal."""
        if not self._open:
            return
        self._open = False
        self._holder.let_go()
        try:
            with _translated(self._log.url):
                self._db.execute(
                    "UPDATE writers SET holder = '' WHERE id = ? AND epoch = ?", (self.id, self._epoch)
                )
        except LogError:
            pass  # the holder that still stands there is known to be dead
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


def _catalogue(spec: LogSpec) -> set[Stream]:
    return {(topic, partition) for topic in TOPICS for partition in range(spec.partitions(topic))}


def _iso(ns: int) -> str:
    return clock.strftime("%Y-%m-%dT%H:%M:%SZ", clock.gmtime(ns // 1_000_000_000))
