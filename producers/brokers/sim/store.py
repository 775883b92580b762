"""The simulated broker's file: accounts, orders, executions, activities, and the venue as it stood.

One SQLite file. Whatever belongs together changes in one transaction, flushed before anybody is told.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import apsw

from eventlog.contract import Stream
from producers.brokers.sim.api import OPEN, Activity, Order
from schemas import ZERO, plain

FILE = "broker-sim.sqlite"
LAYOUT = "1"
BUSY_MS = 2000
TABLES = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE market (
    topic TEXT, partition INTEGER, next INTEGER NOT NULL, PRIMARY KEY (topic, partition)
) WITHOUT ROWID;
CREATE TABLE accounts (
    id TEXT PRIMARY KEY, opening_cash TEXT NOT NULL, cash TEXT NOT NULL, activities INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE orders (
    number INTEGER PRIMARY KEY, account TEXT NOT NULL, client_id TEXT NOT NULL, is_open INTEGER NOT NULL,
    executed TEXT NOT NULL, body TEXT NOT NULL, UNIQUE (account, client_id)
);
CREATE INDEX open_orders ON orders (account, number) WHERE is_open;
CREATE TABLE executions (
    account TEXT, id TEXT, number INTEGER NOT NULL, symbol TEXT NOT NULL, side TEXT NOT NULL,
    qty TEXT NOT NULL, price TEXT NOT NULL, fee TEXT NOT NULL, stands INTEGER NOT NULL,
    PRIMARY KEY (account, id)
) WITHOUT ROWID;
CREATE TABLE activities (
    account TEXT, number INTEGER, body TEXT NOT NULL, PRIMARY KEY (account, number)
) WITHOUT ROWID;
CREATE TABLE positions (
    account TEXT, symbol TEXT, qty TEXT NOT NULL, PRIMARY KEY (account, symbol)
) WITHOUT ROWID;
CREATE TABLE dividends (account TEXT, symbol TEXT, pay TEXT, amount TEXT NOT NULL);
"""


class StoreError(Exception):
    """The broker's file cannot be used; the message says why, and what to do."""


@dataclass(frozen=True)
class Execution:
    """An execution with its terms as they are now. `number` is the order's; a busted one does not stand."""

    account: str
    id: str
    number: int
    symbol: str
    side: str
    qty: Decimal
    price: Decimal
    fee: Decimal
    stands: bool = True

    @property
    def shares(self) -> Decimal:
        """What it does to the position."""
        return self.qty if self.side == "buy" else -self.qty

    @property
    def cash(self) -> Decimal:
        """What it does to the account's cash."""
        return -self.shares * self.price - self.fee


@dataclass(frozen=True)
class Held:
    """An order and its account. `executed`: shares that the exchange has filled, the busted among them."""

    account: str
    order: Order
    executed: Decimal = ZERO

    def now(self, *, executed: Decimal | None = None, **changes: Any) -> Held:
        """The same with some fields of the order changed."""
        order = self.order.model_copy(update=changes)
        return Held(self.account, order, self.executed if executed is None else executed)


class Store:
    """The file, open for one broker. Calls are made under the broker's lock."""

    def __init__(self, folder: Path, log: str) -> None:
        """Open it or make it. Raises `StoreError` for one of another log, or that another broker holds."""
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / FILE
        try:
            self._db = apsw.Connection(str(file))
            self._db.set_busy_timeout(BUSY_MS)
            self._db.execute("PRAGMA locking_mode = EXCLUSIVE")
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
            self._open(file, log)
        except apsw.BusyError as problem:
            raise StoreError(f"{file} is held by another simulated broker: stop it first") from problem
        except (apsw.CantOpenError, apsw.NotADBError, apsw.CorruptError, apsw.ReadOnlyError) as problem:
            raise StoreError(f"{file} cannot be used: {problem}; name another folder") from problem

    def _open(self, file: Path, log: str) -> None:
        with self.transaction():
            if not self._rows("SELECT 1 FROM sqlite_schema LIMIT 1"):
                self._db.execute(TABLES)
                for name, value in (("layout", LAYOUT), ("log", log), ("prefix", secrets.token_hex(3))):
                    self._db.execute("INSERT INTO meta VALUES (?, ?)", (name, value))
        found = dict(self._rows("SELECT name, value FROM meta WHERE name IN ('layout', 'log', 'prefix')"))
        if found.get("layout") != LAYOUT or found.get("log") != log:
            raise StoreError(
                f"{file} is the broker of log {found.get('log')} (layout {found.get('layout')}), not of "
                f"{log}: name another folder, or another log"
            )
        self.prefix = str(found["prefix"])
        """Begins the ids of this broker's orders, so that no two brokers give the same one."""

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All that is changed inside, or nothing of it; on the disk when it ends."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            if not self._db.get_autocommit():
                self._db.execute("ROLLBACK")
            raise

    def _rows(self, sql: str, bindings: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        return list(self._db.execute(sql, bindings))

    # ------------------------------------------------------------ the venue

    def venue(self) -> tuple[bytes | None, dict[Stream, int], int]:
        """The exchange as it stood, the market positions that it reflects, and the time (UTC ns)."""
        found = dict(self._rows("SELECT name, value FROM meta WHERE name IN ('exchange', 'now')"))
        positions = {(t, p): n for t, p, n in self._rows("SELECT topic, partition, next FROM market")}
        return found.get("exchange"), positions, int(found.get("now", 0))

    def keep_venue(self, snapshot: bytes, positions: Mapping[Stream, int], now: int) -> None:
        """The exchange as it stands."""
        self._db.execute("REPLACE INTO meta VALUES ('exchange', ?), ('now', ?)", (snapshot, now))
        rows = [(topic, partition, at) for (topic, partition), at in positions.items()]
        self._db.executemany("REPLACE INTO market VALUES (?, ?, ?)", rows)

    # ------------------------------------------------------------ accounts

    def accounts(self) -> list[str]:
        """All accounts, in order."""
        return [row[0] for row in self._rows("SELECT id FROM accounts ORDER BY id")]

    def account(self, account: str) -> tuple[Decimal, Decimal, int] | None:
        """Opening cash, cash, and the number of the last activity."""
        rows = self._rows("SELECT opening_cash, cash, activities FROM accounts WHERE id = ?", (account,))
        return (Decimal(rows[0][0]), Decimal(rows[0][1]), rows[0][2]) if rows else None

    def open_account(self, account: str, cash: Decimal) -> None:
        self._db.execute("INSERT INTO accounts VALUES (?, ?, ?, 0)", (account, plain(cash), plain(cash)))

    def positions(self, account: str) -> dict[str, Decimal]:
        """Shares by symbol, in order; none that are flat."""
        rows = self._rows("SELECT symbol, qty FROM positions WHERE account = ? ORDER BY symbol", (account,))
        return {symbol: Decimal(qty) for symbol, qty in rows}

    # ------------------------------------------------------------ orders

    def next_number(self) -> int:
        """The number of the next order."""
        return int(self._rows("SELECT coalesce(max(number), 0) + 1 FROM orders")[0][0])

    def order(self, number: int) -> Held:
        """The order of a number that there is."""
        rows = self._rows("SELECT account, body, executed FROM orders WHERE number = ?", (number,))
        account, body, executed = rows[0]
        return Held(account, Order.model_validate_json(body), Decimal(executed))

    def order_of(self, account: str, client_id: str) -> Order | None:
        rows = self._rows("SELECT body FROM orders WHERE account = ? AND client_id = ?", (account, client_id))
        return Order.model_validate_json(rows[0][0]) if rows else None

    def orders(self, account: str, *, only_open: bool, after: int, limit: int) -> list[Order]:
        """Orders by number."""
        condition = "is_open AND" if only_open else ""
        rows = self._rows(
            f"SELECT body FROM orders WHERE {condition} account = ? AND number > ? ORDER BY number LIMIT ?",
            (account, after, limit),
        )
        return [Order.model_validate_json(body) for (body,) in rows]

    def newest_order(self, account: str, prefix: str) -> str:
        """The client id of the last order taken that begins so."""
        rows = self._rows(
            "SELECT client_id FROM orders WHERE account = ? AND substr(client_id, 1, ?) = ? "
            "ORDER BY number DESC LIMIT 1",
            (account, len(prefix), prefix),
        )
        return rows[0][0] if rows else ""

    def count_open(self) -> int:
        return int(self._rows("SELECT count(*) FROM orders WHERE is_open")[0][0])

    def keep_order(self, held: Held) -> None:
        """The order as it is now."""
        order = held.order
        self._db.execute(
            "INSERT INTO orders VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (number) DO UPDATE "
            "SET is_open = excluded.is_open, executed = excluded.executed, body = excluded.body",
            (
                order.number,
                held.account,
                order.client_order_id,
                order.status in OPEN,
                plain(held.executed),
                order.model_dump_json(),
            ),
        )

    # ------------------------------------------------------------ executions and activities

    def execution(self, account: str, id: str) -> Execution | None:
        rows = self._rows("SELECT * FROM executions WHERE account = ? AND id = ?", (account, id))
        return _execution(rows[0]) if rows else None

    def executions(self, account: str) -> list[Execution]:
        """All executions, the busted too."""
        return [_execution(r) for r in self._rows("SELECT * FROM executions WHERE account = ?", (account,))]

    def keep_execution(self, one: Execution) -> None:
        """The execution as it is now."""
        self._db.execute(
            "REPLACE INTO executions VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                one.account,
                one.id,
                one.number,
                one.symbol,
                one.side,
                plain(one.qty),
                plain(one.price),
                plain(one.fee),
                one.stands,
            ),
        )

    def add_activity(self, activity: Activity) -> None:
        """The activity, and what it does to cash and position."""
        account, symbol = activity.account, activity.symbol
        found = self.account(account)
        assert found is not None and activity.number == found[2] + 1, (found, activity)  # noqa: PT018
        cash = found[1] + activity.cash_change
        self._db.execute(
            "INSERT INTO activities VALUES (?, ?, ?)", (account, activity.number, activity.model_dump_json())
        )
        self._db.execute(
            "UPDATE accounts SET cash = ?, activities = ? WHERE id = ?",
            (plain(cash), activity.number, account),
        )
        if activity.qty_change:
            held = self.positions(account).get(symbol, ZERO) + activity.qty_change
            if held:
                self._db.execute("REPLACE INTO positions VALUES (?, ?, ?)", (account, symbol, plain(held)))
            else:
                self._db.execute("DELETE FROM positions WHERE account = ? AND symbol = ?", (account, symbol))

    def activities(self, account: str, after: int, limit: int) -> list[Activity]:
        """Activities by number."""
        rows = self._rows(
            "SELECT body FROM activities WHERE account = ? AND number > ? ORDER BY number LIMIT ?",
            (account, after, limit),
        )
        return [Activity.model_validate_json(body) for (body,) in rows]

    def owe_dividend(self, account: str, symbol: str, pay: str, amount: Decimal) -> None:
        """A dividend to be paid on its day (YYYY-MM-DD)."""
        self._db.execute("INSERT INTO dividends VALUES (?, ?, ?, ?)", (account, symbol, pay, plain(amount)))

    def take_dividends(self, day: str) -> list[tuple[str, str, Decimal]]:
        """Account, symbol and amount of what is payable on a day; they are owed no more."""
        rows = self._rows(
            "SELECT account, symbol, amount FROM dividends WHERE pay <= ? ORDER BY account, symbol, rowid",
            (day,),
        )
        self._db.execute("DELETE FROM dividends WHERE pay <= ?", (day,))
        return [(account, symbol, Decimal(amount)) for account, symbol, amount in rows]


def _execution(row: tuple[Any, ...]) -> Execution:
    account, id, number, symbol, side, qty, price, fee, stands = row
    return Execution(
        account, id, number, symbol, side, Decimal(qty), Decimal(price), Decimal(fee), bool(stands)
    )
