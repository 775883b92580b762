"""Records a second into the embedded log and out of it, beside bare apsw loops over one table.

Values are encoded quotes. The bare loops have the log's table, pragmas and batch sizes, and do
nothing else: no seals, no fencing, no records made.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from decimal import Decimal
from pathlib import Path

import apsw

from eventlog import LogSpec, create_log
from eventlog.verify import check_seals
from schemas import NewRecord, Quote, new_record

Figure = tuple[str, float, str]

TOPIC = "market.quotes"
RECORDS = 200_000
PAGE = 5000
TABLE = """
CREATE TABLE records (
    stream INTEGER NOT NULL, offset INTEGER NOT NULL, timestamp INTEGER NOT NULL,
    key BLOB NOT NULL, value BLOB NOT NULL, PRIMARY KEY (stream, offset)
) WITHOUT ROWID;
"""


def quotes(count: int) -> list[NewRecord]:
    """Quotes of one symbol, a millisecond apart."""
    return [
        new_record(
            Quote(
                symbol="SPY",
                ts=1_381_152_600_000_000_000 + n * 1_000_000,
                bid=Decimal("167.41") + Decimal(n % 100) / 100,
                ask=Decimal("167.42") + Decimal(n % 100) / 100,
                bid_size=Decimal(100 + n % 7),
                ask_size=Decimal(200 + n % 11),
                source="bench",
                row=n + 1,
            ),
            0,
            "SPY",
        )
        for n in range(count)
    ]


def run() -> list[Figure]:
    """Append and read rates of the log and of the bare loops, and their ratios."""
    records = quotes(RECORDS)
    figures: list[Figure] = []
    for batch, some in ((PAGE, records), (100, records[: RECORDS // 4]), (1, records[:2000])):
        log, bare = best(lambda: append_log(some, batch)), best(lambda: append_bare(some, batch))  # noqa: B023
        figures += [
            (f"append in batches of {batch:,}, sealed", log, "records/s"),
            (f"append in batches of {batch:,}, bare apsw", bare, "records/s"),
            ("log / bare", log / bare, "ratio"),
        ]
    log, checked = read_log(records)
    bare = read_bare(records)
    return [
        *figures,
        ("read, pages of 5,000", log, "records/s"),
        ("read, bare apsw", bare, "records/s"),
        ("log / bare", log / bare, "ratio"),
        ("check seals", checked, "records/s"),
    ]


def best(measure: Callable[[], float], times: int = 3) -> float:
    """The best of several measurements: what the code can do where nothing else runs."""
    return max(measure() for _ in range(times))


def append_log(records: Sequence[NewRecord], batch: int) -> float:
    """Records a second, sealed at the end."""
    with (
        tempfile.TemporaryDirectory() as folder,
        create_log(f"sqlite:{folder}/log.sqlite", LogSpec("bench", "data")) as log,
    ):
        started = time.perf_counter()
        with log.writer("bench") as writer:
            for start in range(0, len(records), batch):
                writer.append(records[start : start + batch])
        return len(records) / (time.perf_counter() - started)


def read_log(records: Sequence[NewRecord]) -> tuple[float, float]:
    """Records a second in pages, and through `check_seals`."""
    with (
        tempfile.TemporaryDirectory() as folder,
        create_log(f"sqlite:{folder}/log.sqlite", LogSpec("bench", "data")) as log,
    ):
        with log.writer("bench") as writer:
            for start in range(0, len(records), PAGE):
                writer.append(records[start : start + PAGE])

        def read() -> float:
            position, started = 0, time.perf_counter()
            while page := log.read(TOPIC, 0, gte=position, limit=PAGE):
                position = page[-1].offset + 1
            return position / (time.perf_counter() - started)

        def check() -> float:
            started = time.perf_counter()
            report = check_seals(log)
            assert not report.faults, report.faults
            return report.records / (time.perf_counter() - started)

        return best(read), best(check)


def fill_bare(path: str, records: Sequence[NewRecord], batch: int) -> apsw.Connection:
    """The same rows in the same table, by executemany."""
    db = apsw.Connection(path)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    db.execute(TABLE)
    for start in range(0, len(records), batch):
        db.execute("BEGIN IMMEDIATE")
        db.executemany(
            "INSERT INTO records VALUES (?, ?, ?, ?, ?)",
            ((1, start + n, 0, r.key, r.value) for n, r in enumerate(records[start : start + batch])),
        )
        db.execute("COMMIT")
    return db


def append_bare(records: Sequence[NewRecord], batch: int) -> float:
    """Records a second."""
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        fill_bare(str(Path(folder) / "bare.sqlite"), records, batch).close()
        return len(records) / (time.perf_counter() - started)


def read_bare(records: Sequence[NewRecord]) -> float:
    """Records a second in pages, as tuples."""
    with tempfile.TemporaryDirectory() as folder:
        db = fill_bare(str(Path(folder) / "bare.sqlite"), records, PAGE)

        def read() -> float:
            position, started = 0, time.perf_counter()
            while page := list(
                db.execute(
                    "SELECT offset, key, value, timestamp FROM records "
                    "WHERE stream = ? AND offset >= ? ORDER BY offset LIMIT ?",
                    (1, position, PAGE),
                )
            ):
                position = page[-1][0] + 1
            return position / (time.perf_counter() - started)

        rate = best(read)
        db.close()
        return rate
