"""What the core knew at a moment: an account as it was, as objects for programs."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from eventlog import LogReader
from processors.account.account import Account, Holding
from processors.account.books import NET, Book
from processors.account.orders import Order
from processors.hosts.journal import configurations, last
from processors.hosts.state import NoSuchMoment, state_at
from producers.sessions import NEW_YORK
from schemas import ZERO, Batch, exact, partition_of, plain
from tape.errors import WrongInput
from tape.limits import in_force
from tape.topics import iso
from tape.wiring import build, installed

SECOND_NS = 1_000_000_000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class AskError(WrongInput):
    """What was asked about is not in the log; the message says what is."""


def moment(text: str, zone: str | None) -> tuple[int, bool]:
    """A time in UTC ns, and whether it is a whole day: of a date alone, its last ns in New York.

    Raises `AskError` for what is no time, or has no zone where none is given.
    """
    place = _zone(zone)
    try:
        day = date.fromisoformat(text)
    except ValueError:
        pass
    else:
        after = datetime.combine(day + timedelta(days=1), datetime.min.time(), place or NEW_YORK)
        return _ns(after) - 1, True
    try:
        whole, fraction = _split_fraction(text)
        found = datetime.fromisoformat(whole)
    except ValueError:
        raise AskError(f"--time '{text}' is not a time; write it like 2013-10-07T11:03-04:00") from None
    if found.tzinfo is None and place is None:
        raise AskError(f"--time {text} has no zone; add one, or say which with --tz America/New_York")
    return _ns(found if found.tzinfo is not None else found.replace(tzinfo=place)) + fraction, False


def _split_fraction(text: str) -> tuple[str, int]:
    """A time without its fraction of a second, and that in ns. Raises `ValueError`."""
    head, point, rest = text.partition(".")
    digits = rest[: len(rest) - len(rest.lstrip("0123456789"))]
    if not point:
        return text, 0
    if not 1 <= len(digits) <= 9:
        raise ValueError("a fraction of a second has one to nine digits")
    return head + rest[len(digits) :], int(digits.ljust(9, "0"))


def _zone(name: str | None) -> ZoneInfo | None:
    try:
        return None if name is None else ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise AskError(f"--tz {name} is not a time zone; use a name like America/New_York") from None


def _ns(time: datetime) -> int:
    return (time - EPOCH) // timedelta(microseconds=1) * 1000


# ------------------------------------------------------------ as of


def as_of(
    log: LogReader, name: str, *, seq: int | None = None, time: int | None = None, whole_day: bool = False
) -> dict[str, Any]:
    """Account `name` after the input that led to its decision `seq`, or at `time` (UTC ns).

    A whole day may reach beyond the end of the log, if the log ends on it. Raises `AskError` for an
    account, a seq or a time that the log has not.
    """
    partition = partition_of(name, log.partitions("batches"))
    end = last(log, "batches", partition, Batch)
    if end is None or name not in end.seqs:
        raise AskError(f"{log.url} has no account {name}; {_those(log)}")
    if time is not None and time > end.now:
        if not whole_day or _day(end.now) != _day(time):
            raise AskError(f"{log.url} ends at {iso(end.now)}; {iso(time)} is after it")
        time = end.now
    try:
        pipeline = state_at(log, partition, build, account=name, seq=seq, time=time)
    except NoSuchMoment as problem:
        raise AskError(str(problem)) from problem
    account = pipeline.accounts.desk.accounts.get(name)
    if account is None:
        raise AskError(f"account {name} was not open yet at {iso(time)}; see: tape topics tail {log.url}")
    other = [why for c in configurations(log, partition) if (why := installed(c))]
    return {
        "log": log.url,
        "asked": {"seq": seq, "time": None if time is None else iso(time)},
        **account_at(account, pipeline.now),
        "other_code": other,
    }


def _day(ns: int) -> date:
    return datetime.fromtimestamp(ns // SECOND_NS, NEW_YORK).date()


def accounts(log: LogReader) -> dict[str, int]:
    """The accounts of a log, with the partition of each."""
    found: dict[str, int] = {}
    for partition in range(log.partitions("batches")):
        end = last(log, "batches", partition, Batch)
        found |= dict.fromkeys(end.seqs if end is not None else (), partition)
    return dict(sorted(found.items()))


def _those(log: LogReader) -> str:
    names = ", ".join(accounts(log))
    return f"there is {names}" if names else "nothing has been decided on it yet"


def account_at(account: Account, now: int) -> dict[str, Any]:
    """An account's state for programs: money as exact text, times ISO 8601 in UTC, ages in seconds."""
    with exact():
        return {
            "account": account.id,
            "seq": account.seq,
            "time": iso(now) if now else None,
            "pnl": _pnl(account),
            "positions": [_position(h, now) for _, h in sorted(account.holdings.items()) if _is_used(h)],
            "unpriced": list(account.unpriced),
            "orders": [_order(account.orders[i]) for ids in _open(account) for i in ids],
            "breaker": {
                "state": account.state,
                "reasons": list(account.breaker.reasons),
                "halts": dict(sorted(account.breaker.halts.items())),
                "reduces": dict(sorted(account.breaker.reduces.items())),
            },
            "limits": in_force(account.limits, account.multiplier),
        }


def _open(account: Account) -> list[list[str]]:
    return [ids for _, ids in sorted(account.open_orders.items())]


def _is_used(holding: Holding) -> bool:
    return holding.ledger.net != Book() or bool(holding.ledger.strategies())


def _pnl(account: Account) -> dict[str, str | None]:
    values = {
        "equity": account.equity,
        "cash": account.cash,
        "receivables": account.receivables,
        "value": None if account.unpriced else account.value,
        "realized": account.realized,
        "unrealized": account.unrealized,
        "fees": account.fees,
        "income": account.income,
        "starting": account.starting,
        "deposits": account.deposits,
        "baseline": account.baseline,
        "flows": account.flows,
        "day": account.day,
        "peak": account.peak,
    }
    return {name: text(value) for name, value in values.items()}


def _position(holding: Holding, now: int) -> dict[str, Any]:
    priced = holding.mark is not None
    books = holding.ledger.books
    net = books[NET]
    unrealized = holding.value - net.cost if priced else None
    return {
        "symbol": holding.symbol,
        **_book(net),
        "mark": text(holding.mark),
        "tier": holding.tier or None,
        "source": holding.source or None,
        "marked": iso(holding.mark_ts) if priced else None,
        "age_s": seconds(now - holding.mark_ts) if priced else None,
        "value": text(holding.value) if priced or not net.quantity else None,
        "unrealized": text(unrealized if net.quantity else ZERO),
        "books": {name: _book(books[name]) for name in holding.ledger.strategies()},
    }


def _book(book: Book) -> dict[str, str | None]:
    return {
        "quantity": plain(book.quantity),
        "average": text(book.average),
        "cost": plain(book.cost),
        "realized": plain(book.realized),
        "fees": plain(book.fees),
        "income": plain(book.income),
    }


def _order(order: Order) -> dict[str, Any]:
    return {
        "order": order.id,
        "seq": order.seq,
        "strategy": order.strategy,
        "symbol": order.symbol,
        "side": order.side,
        "type": order.order_type,
        "quantity": plain(order.quantity),
        "filled": plain(order.filled),
        "leaves": plain(order.leaves),
        "limit": text(order.limit),
        "stop": text(order.stop),
        "tif": order.tif,
        "state": order.status,
        "pending": order.pending,
        "new_quantity": text(order.new_quantity),
        "new_limit": text(order.new_limit),
        "new_stop": text(order.new_stop),
    }


def text(value: Decimal | None) -> str | None:
    """A number as exact text; None stays."""
    return None if value is None else plain(value)


def seconds(ns: int) -> str:
    """Nanoseconds as exact seconds."""
    with exact():
        return plain(Decimal(ns).scaleb(-9))
