"""Rows a second from a log into Postgres, beside a bare COPY of the same rows into the same tables.

The log holds 110,000 decisions in batches of 5,500. The bare COPY is psycopg's: `write_row` over rows
that are ready as Python values, one COPY a table, all in one transaction; it reads no log, decodes
nothing, checks nothing.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

from eventlog import EventLog, LogReader, LogSpec, create_log
from projections.batches import BatchReader, Position
from projections.postgres import server
from projections.postgres.projector import connect, projecting
from projections.postgres.rows import Rows, rows_of, timestamp
from projections.postgres.tables import TRADING
from schemas import (
    Batch,
    Check,
    Event,
    Fill,
    OrderAccepted,
    OrderChanged,
    OrderRequested,
    PnL,
    PositionChanged,
    Signal,
    new_record,
)

Figure = tuple[str, float, str]

ORDERS = 10_000
BATCH = 500
"""Orders in a batch, of eleven decisions each."""
TIMES = 3
PRICE = Decimal("167.42")
CHECKS = tuple(Check(name=f"check-{n}", ok=True, value="93565.26", limit="188211.5") for n in range(5))
WANTED: dict[str, Any] = {
    "proposal": "sma/1/market.quotes/0/1/0",
    "version": "1",
    "intent": "target",
    "weight": Decimal("0.5"),
    "shares": None,
    "confidence": None,
    "features": {"fast": "167.41", "slow": "167.42"},
}
BOOK: dict[str, Any] = {
    "strategy": "sma",
    "symbol": "SPY",
    "quantity": Decimal(100),
    "cost": Decimal(16742),
    "average": PRICE,
    "realized": Decimal("-3535.99"),
    "fees": Decimal("23.1"),
    "income": Decimal(0),
    "net_quantity": Decimal(100),
    "net_cost": Decimal(16742),
    "net_realized": Decimal("-3535.99"),
}
MONEY: dict[str, Any] = {
    **dict.fromkeys(("equity", "cash", "value", "realized", "unrealized", "fees"), Decimal("94196.67")),
    **dict.fromkeys(("day", "drawdown", "long", "short", "crossing"), Decimal("-1623.27")),
    **dict.fromkeys(("receivables", "income", "deposits"), Decimal(0)),
    "unpriced": (),
}


def run() -> list[Figure]:
    """The best of three of each, in turn, and their ratio."""
    with tempfile.TemporaryDirectory() as folder, _server() as running, _log(folder) as log:
        rows, count = _finished(log)
        ours, bare = [], []
        for _ in range(TIMES):
            bare.append(count / _copied(running.dsn, log, rows))
            ours.append(count / _projected(running.dsn, log))
    return [
        ("log to Postgres", max(ours), "rows/s"),
        ("the same rows, bare COPY", max(bare), "rows/s"),
        ("projection / bare", max(ours) / max(bare), "ratio"),
    ]


@contextmanager
def _server() -> Iterator[server.Running]:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        try:
            yield server.start(Path(folder))
        finally:
            server.stop(Path(folder))


def _projected(dsn: str, log: LogReader) -> float:
    """Seconds of a rebuild, without the dropping of what stood."""
    with connect(dsn) as connection, projecting(connection, log, rebuild=True) as projector:
        started = time.perf_counter()
        projector.catch_up()
        return time.perf_counter() - started


def _copied(dsn: str, log: LogReader, rows: Rows) -> float:
    """Seconds of a bare COPY into the same tables, emptied."""
    with connect(dsn) as connection:
        with projecting(connection, log, rebuild=True):
            pass
        started = time.perf_counter()
        with connection.transaction(), connection.cursor() as cursor:
            for table in TRADING.tables:
                with cursor.copy(f"COPY {TRADING.schema}.{table.name} FROM STDIN") as copy:
                    for row in rows.get(table.name, ()):
                        copy.write_row(row)
        return time.perf_counter() - started


def _finished(log: LogReader) -> tuple[Rows, int]:
    """All rows, and how many there are."""
    taken = BatchReader(log, 0, Position()).take(1 << 60)
    assert taken is not None
    rows = rows_of(log.id, taken)
    rows["pnl"] = [(*row[:-1], list(row[-1])) for row in rows["pnl"]]  # psycopg takes a tuple for a record
    for table in TRADING.tables:
        times = [n for n, column in enumerate(table.columns) if column.type == "timestamptz"]
        for place in times if table.name in rows else ():
            rows[table.name] = [
                (*row[:place], timestamp(row[place]), *row[place + 1 :]) for row in rows[table.name]
            ]
    return rows, sum(map(len, rows.values()))


# ------------------------------------------------------------ a log


@contextmanager
def _log(folder: str) -> Iterator[EventLog]:
    with create_log(f"sqlite:{folder}/log.sqlite", LogSpec("b" * 32, "data", 1, 1)) as log:
        with log.writer("core-0") as writer:
            made = _Decisions()
            for number in range(ORDERS // BATCH):
                events = [event for _ in range(BATCH) for event in made.order()]
                writer.append([new_record(event, 0, "bench") for event in events])
                writer.append([new_record(made.batch(number), 0, "0")])
        yield log


class _Decisions:
    """What orders lead to, over and over: signal, order, checks, fill, position, profit and loss."""

    def __init__(self) -> None:
        self.seq, self.last = 0, dict[str, int]()

    def batch(self, number: int) -> Batch:
        return Batch(
            partition=0,
            number=number,
            epoch=1,
            inputs=(),
            order="",
            records=0,
            seqs={"bench": self.seq},
            now=self._ts(),
        )

    def order(self) -> Iterator[Event]:
        order = f"bbbbbb-bench-{self.seq}"
        terms = {"order": order, "strategy": "sma", "symbol": "SPY", "side": "buy", "quantity": Decimal(100)}
        prices = {"limit": None, "stop": None}
        kind = {"order_type": "market", "tif": "day", "extended": False, **prices}
        state = {"pending": "none", "fix": "2", "filled": Decimal(100), "leaves": Decimal(0), **prices}
        checked = {"reduces": False, "quote": "market.quotes/0/1", "checks": CHECKS}
        yield self._made(Signal, **(terms | WANTED | kind | {"order": ""}))
        yield self._made(OrderRequested, **terms, **kind)
        yield self._made(OrderAccepted, **terms, **kind, **checked)
        yield self._made(OrderChanged, **terms, **state, status="working")
        yield self._made(OrderChanged, **terms, **state, status="filled")
        yield self._made(Fill, **terms, execution=order, price=PRICE, fee=Decimal("0.52"))
        yield self._made(PositionChanged, **BOOK)
        for _ in range(4):
            yield self._made(PnL, **MONEY)

    def _made(self, kind: Any, **fields: Any) -> Event:
        self.seq += 1
        place = {"account": "bench", "seq": self.seq, "prev": self.last.get(kind.topic, 0), "ts": self._ts()}
        self.last[kind.topic] = self.seq
        made: Event = kind(**place, **fields, cause=f"bench:{self.seq - 1}", trace="bench:1")
        return made

    def _ts(self) -> int:
        return 1_381_152_600_000_000_000 + self.seq * 100_000_003
