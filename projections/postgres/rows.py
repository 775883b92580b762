"""A decision's rows: which table, and what stands in its columns, in Postgres' text format of COPY."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any

import msgspec

from projections.batches import Taken
from schemas import (
    Anomaly,
    BreakerCleared,
    BreakerHalted,
    BreakerReducing,
    CommandApplied,
    CommandRefused,
    DayOpened,
    Drift,
    Event,
    Fill,
    FillBusted,
    FillCorrected,
    InternalTransfer,
    LimitBreached,
    OpenAccount,
    OrderAccepted,
    OrderChanged,
    OrderDenied,
    OrderRequested,
    PnL,
    PositionChanged,
    Signal,
    Unread,
)

Row = tuple[Any, ...]
Lines = dict[str, list[str]]
"""Rows by table, as lines of COPY."""
Commands = Mapping[str, tuple[Event, bytes]]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
ZERO = Decimal(0)
NULL = "\\N"
ESCAPED = str.maketrans({"\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\0": "\ufffd"})
"""Postgres' text has no NUL."""
IN_ARRAY = str.maketrans({"\\": "\\\\", '"': '\\"'})


class Json(str):
    """JSON text."""


def timestamp(ns: int) -> datetime:
    """UTC nanoseconds as Postgres' timestamptz holds them: to the microsecond, cut off."""
    return EPOCH + timedelta(microseconds=ns // 1000)


def lines_of(log: str, taken: Taken) -> Lines:
    """What whole batches add to the tables, as lines of COPY."""
    lines: Lines = {}
    for event in taken.decisions:
        _RULES[type(event)](lines, log, event, taken.commands)
    for record, seq, reason in taken.unreadable:
        account = record.key.decode("utf-8", "replace")
        row = (log, record.topic, record.partition, record.offset, account, seq, reason, record.value)
        _add(lines, "unreadable", row)
    return lines


def _add(lines: Lines, table: str, row: Row) -> None:
    line = "\t".join([_TEXT[type(value)](value) for value in row])
    try:
        lines[table].append(line)
    except KeyError:
        lines[table] = [line]


# ------------------------------------------------------------ values as COPY reads them


def _escaped(text: str) -> str:
    return text.translate(ESCAPED) if not text.isprintable() or "\\" in text else text


def _array(parts: tuple[str, ...]) -> str:
    return _escaped("{" + ",".join(f'"{part.translate(IN_ARRAY)}"' for part in parts) + "}")


_TEXT: dict[type, Callable[[Any], str]] = {
    str: _escaped,
    int: str,
    Decimal: str,
    bool: lambda value: "t" if value else "f",
    type(None): lambda value: NULL,
    datetime: str,
    tuple: _array,
    Json: lambda value: _escaped(value.replace("\\u0000", "\\ufffd")),
    bytes: lambda value: "\\\\x" + value.hex(),
}


def _json(value: Any) -> Json:
    return Json(msgspec.json.encode(value).decode())


# ------------------------------------------------------------ events

Rule = Callable[[Lines, str, Any, Commands], None]


def _common(log: str, e: Any) -> Row:
    return (log, e.account, e.seq, timestamp(e.ts), e.ts, e.cause, e.trace)


def _plain(table: str, fields: str) -> Rule:
    """A table whose columns are an event's fields, in this order."""
    names = tuple(fields.split())

    def rule(lines: Lines, log: str, e: Any, commands: Commands) -> None:
        _add(lines, table, (*_common(log, e), *[getattr(e, name) for name in names]))

    return rule


def _signal(lines: Lines, log: str, e: Signal, commands: Commands) -> None:
    order = (e.side, e.quantity, e.order_type, e.limit, e.stop, e.tif, e.extended, e.order)
    wanted = (e.proposal, e.strategy, e.version, e.intent, e.symbol, e.weight, e.shares)
    _add(lines, "signals", (*_common(log, e), *wanted, *order, e.confidence, _json(e.features)))


def _requested(lines: Lines, log: str, e: OrderRequested, commands: Commands) -> None:
    common, terms = _common(log, e), (e.order, e.strategy, e.symbol, e.side, e.quantity)
    _add(lines, "orders", (*common, *terms, e.order_type, e.limit, e.stop, e.tif, e.extended))
    _history(lines, common, e, "requested", (ZERO, e.quantity, e.limit, e.stop), None, "", "")


def _accepted(lines: Lines, log: str, e: OrderAccepted, commands: Commands) -> None:
    state = (ZERO, e.quantity, e.limit, e.stop)
    _history(lines, _common(log, e), e, "accepted", state, e.reduces, e.quote, "")
    _checks(lines, log, e)


def _denied(lines: Lines, log: str, e: OrderDenied, commands: Commands) -> None:
    why = ", ".join(check.name for check in e.checks if not check.ok)
    _history(lines, _common(log, e), e, "denied", (ZERO, ZERO, None, None), e.reduces, e.quote, why)
    _checks(lines, log, e)


def _history(
    lines: Lines, common: Row, e: Any, status: str, state: Row, reduces: bool | None, quote: str, reason: str
) -> None:
    """What happened to an order before the broker had it: `state` is filled, leaves, limit and stop."""
    head = (*common, e.order, type(e).__name__, status, "none", "", e.quantity)
    _add(lines, "order_history", (*head, *state, None, None, None, reduces, quote, reason))


def _changed(lines: Lines, log: str, e: OrderChanged, commands: Commands) -> None:
    state = (e.status, e.pending, e.fix, e.quantity, e.filled, e.leaves, e.limit, e.stop)
    new = (e.new_quantity, e.new_limit, e.new_stop)
    _add(
        lines,
        "order_history",
        (*_common(log, e), e.order, "OrderChanged", *state, *new, None, "", e.reason),
    )


def _checks(lines: Lines, log: str, e: OrderAccepted | OrderDenied) -> None:
    for n, c in enumerate(e.checks):
        found = (c.name, c.ok, c.value, c.limit, _number(c.value), _number(c.limit))
        _add(lines, "risk_checks", (log, e.account, e.seq, n, e.order, *found))


def _number(text: str) -> Decimal | None:
    """The number that a text is; None where it is none."""
    if not text or text[-1] not in "0123456789":
        return None
    try:
        found = Decimal(text)
    except InvalidOperation:
        return None
    return found if found.is_finite() else None


def _breached(lines: Lines, log: str, e: LimitBreached, commands: Commands) -> None:
    _add(lines, "breaches", (*_common(log, e), e.limit, e.value, e.threshold, e.session))
    for n, p in enumerate(e.evidence):
        of = (p.symbol, p.quantity, p.price, p.tier, p.source, timestamp(p.ts), p.ts)
        _add(lines, "breach_evidence", (log, e.account, e.seq, n, *of))


def _tripped(of: str) -> Rule:
    def rule(lines: Lines, log: str, e: BreakerHalted | BreakerReducing, commands: Commands) -> None:
        trip = (type(e).__name__, of, e.reason, e.session, e.ordinal, e.detail, "", e.reasons)
        _add(lines, "breaker_changes", (*_common(log, e), *trip))

    return rule


def _cleared(lines: Lines, log: str, e: BreakerCleared, commands: Commands) -> None:
    what = ("BreakerCleared", e.of, e.reason, "", None, e.why, e.who, e.reasons)
    _add(lines, "breaker_changes", (*_common(log, e), *what))


def _applied(lines: Lines, log: str, e: CommandApplied, commands: Commands) -> None:
    _command(lines, log, e, True, e.why, commands)
    fact = commands.get(e.command, (None, b""))[0]
    if isinstance(fact, OpenAccount) and fact.account == e.account:
        terms = (e.command, e.who, fact.cash, fact.kind, fact.multiplier, fact.shorting, fact.fractions)
        _add(lines, "accounts", (*_common(log, e), *terms, _json(fact.limits)))


def _refused(lines: Lines, log: str, e: CommandRefused, commands: Commands) -> None:
    _command(lines, log, e, False, e.reason, commands)


def _command(lines: Lines, log: str, e: Any, applied: bool, why: str, commands: Commands) -> None:
    given = commands.get(e.command)
    body = Json(given[1].decode()) if given is not None else None
    _add(lines, "commands", (*_common(log, e), e.command, e.kind, e.who, applied, why, body))


_RULES: dict[type, Rule] = {
    Signal: _signal,
    OrderRequested: _requested,
    OrderAccepted: _accepted,
    OrderDenied: _denied,
    OrderChanged: _changed,
    CommandApplied: _applied,
    CommandRefused: _refused,
    Anomaly: _plain("anomalies", "kind order detail"),
    Drift: _plain("drifts", "what symbol ours theirs"),
    Unread: _plain("unread", "place reason"),
    Fill: _plain("fills", "order execution strategy symbol side quantity price fee"),
    FillBusted: _plain("fill_busts", "fill execution reason"),
    FillCorrected: _plain("fill_corrections", "fill execution quantity price fee reason"),
    InternalTransfer: _plain("transfers", "symbol giver taker quantity price"),
    PositionChanged: _plain(
        "position_changes",
        "strategy symbol quantity cost average realized fees income net_quantity net_cost net_realized",
    ),
    DayOpened: _plain("days", "session baseline peak"),
    PnL: _plain(
        "pnl",
        "equity cash receivables value realized unrealized fees income deposits day drawdown "
        "long short crossing unpriced",
    ),
    LimitBreached: _breached,
    BreakerHalted: _tripped("halt"),
    BreakerReducing: _tripped("reduce"),
    BreakerCleared: _cleared,
}
"""What becomes of each decision; a test holds that none is left out."""


def joined(lines: Iterable[str]) -> bytes:
    """Lines as COPY reads them."""
    return ("\n".join(lines) + "\n").encode()
