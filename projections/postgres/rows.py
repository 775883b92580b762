"""A decision's rows: which table, and what stands in its columns; and rows in the text format of COPY."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from operator import attrgetter
from typing import Any

import msgspec

from projections.batches import Taken
from projections.postgres.tables import Column, Table
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
Rows = dict[str, list[Row]]
"""Rows by table, as values of Python; an array is a list, a time its nanoseconds."""
Commands = Mapping[str, tuple[Event, bytes]]

AT_ONCE = 512
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
ZERO = Decimal(0)
NULL = "\\N"
ESCAPED = str.maketrans({"\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\0": "\ufffd"})
"""Postgres' text has no NUL."""
IN_ARRAY = str.maketrans({"\\": "\\\\", '"': '\\"'})


def timestamp(ns: int) -> datetime:
    """UTC nanoseconds as Postgres' timestamptz holds them: to the microsecond, cut off."""
    return EPOCH + timedelta(microseconds=ns // 1000)


def rows_of(log: str, taken: Taken) -> Rows:
    """What whole batches add to the tables."""
    rows: Rows = defaultdict(list)
    for event in taken.decisions:
        _RULES[type(event)](rows, log, event, taken.commands)
    for record, seq, reason in taken.unreadable:
        account = record.key.decode("utf-8", "replace")
        row = (log, record.topic, record.partition, record.offset, account, seq, reason, record.value)
        rows["unreadable"].append(row)
    return rows


# ------------------------------------------------------------ the text format of COPY


def copy_text(table: Table, rows: Sequence[Row]) -> bytes:
    """Rows of a table as COPY reads them, a few hundred at a time: what sends them must get its turn."""
    return b"".join(_lines(table, rows[n : n + AT_ONCE]) for n in range(0, len(rows), AT_ONCE))


def _lines(table: Table, rows: Sequence[Row]) -> bytes:
    """Column by column, which is several times faster than by row."""
    columns = [
        _format(column, row) for column, row in zip(table.columns, zip(*rows, strict=True), strict=True)
    ]
    return ("\n".join(map("\t".join, zip(*columns, strict=True))) + "\n").encode()


def _format(column: Column, values: Row) -> Iterable[str]:
    if column.type in ("numeric", "bigint", "integer"):
        if not column.nullable:
            return map(str, values)
        return [NULL if value is None else str(value) for value in values]
    return _FORMATS[column.type](values)


class _Minutes(dict[int, str]):
    """Unix minutes as COPY reads them; many come again and again."""

    def __missing__(self, minute: int) -> str:
        found = self[minute] = f"{datetime.fromtimestamp(60 * minute, UTC):%Y-%m-%d %H:%M:}"
        return found


def _times(values: Row) -> Iterable[str]:
    minutes = _Minutes()
    split = [divmod(ns // 1000, 60_000_000) for ns in values]
    return [f"{minutes[minute]}{us // 1_000_000}.{us % 1_000_000:06d}+00" for minute, us in split]


class _Escaped(dict[str | None, str]):
    """Texts as COPY reads them; many come again and again."""

    def __missing__(self, text: str) -> str:
        found = self[text] = _escape(text)
        return found


def _escape(text: str) -> str:
    return text.translate(ESCAPED) if not text.isprintable() or "\\" in text else text


def _texts(values: Row) -> Iterable[str]:
    return map(_Escaped({None: NULL}).__getitem__, values)


def _booleans(values: Row) -> Iterable[str]:
    return map({True: "t", False: "f", None: NULL}.__getitem__, values)


def _arrays(values: Row) -> Iterable[str]:
    return [
        _escape("{" + ",".join(f'"{part.translate(IN_ARRAY)}"' for part in value) + "}") for value in values
    ]


def _bytes(values: Row) -> Iterable[str]:
    return ["\\\\x" + value.hex() for value in values]


_FORMATS: dict[str, Callable[[Row], Iterable[str]]] = {
    "text": _texts,
    "jsonb": _texts,
    "boolean": _booleans,
    "text[]": _arrays,
    "bytea": _bytes,
    "timestamptz": _times,
}


def _json(value: Any) -> str:
    return _storable(msgspec.json.encode(value))


def _storable(json: bytes) -> str:
    """JSON without the escape of NUL, which Postgres refuses."""
    return json.decode().replace("\\u0000", "\\ufffd")


# ------------------------------------------------------------ events

Rule = Callable[[Rows, str, Any, Commands], None]


def _common(log: str, e: Any) -> Row:
    return (log, e.account, e.seq, e.ts, e.ts, e.cause, e.trace)


def _plain(table: str, fields: str) -> Rule:
    """A table whose columns are an event's fields, in this order."""
    of = attrgetter(*fields.split())

    def rule(rows: Rows, log: str, e: Any, commands: Commands) -> None:
        rows[table].append((*_common(log, e), *of(e)))

    return rule


def _signal(rows: Rows, log: str, e: Signal, commands: Commands) -> None:
    order = (e.side, e.quantity, e.order_type, e.limit, e.stop, e.tif, e.extended, e.order)
    wanted = (e.proposal, e.strategy, e.version, e.intent, e.symbol, e.weight, e.shares)
    rows["signals"].append((*_common(log, e), *wanted, *order, e.confidence, _json(e.features)))


def _requested(rows: Rows, log: str, e: OrderRequested, commands: Commands) -> None:
    common, terms = _common(log, e), (e.order, e.strategy, e.symbol, e.side, e.quantity)
    rows["orders"].append((*common, *terms, e.order_type, e.limit, e.stop, e.tif, e.extended))
    _history(rows, common, e, "requested", (ZERO, e.quantity, e.limit, e.stop), None, "", "")


def _accepted(rows: Rows, log: str, e: OrderAccepted, commands: Commands) -> None:
    state = (ZERO, e.quantity, e.limit, e.stop)
    _history(rows, _common(log, e), e, "accepted", state, e.reduces, e.quote, "")
    _checks(rows, log, e)


def _denied(rows: Rows, log: str, e: OrderDenied, commands: Commands) -> None:
    why = ", ".join(check.name for check in e.checks if not check.ok)
    _history(rows, _common(log, e), e, "denied", (ZERO, ZERO, None, None), e.reduces, e.quote, why)
    _checks(rows, log, e)


def _history(
    rows: Rows, common: Row, e: Any, status: str, state: Row, reduces: bool | None, quote: str, reason: str
) -> None:
    """What happened to an order before the broker had it: `state` is filled, leaves, limit and stop."""
    head = (*common, e.order, type(e).__name__, status, "none", "", e.quantity)
    rows["order_history"].append((*head, *state, None, None, None, reduces, quote, reason))


def _changed(rows: Rows, log: str, e: OrderChanged, commands: Commands) -> None:
    state = (e.status, e.pending, e.fix, e.quantity, e.filled, e.leaves, e.limit, e.stop)
    new = (e.new_quantity, e.new_limit, e.new_stop)
    rows["order_history"].append(
        (*_common(log, e), e.order, "OrderChanged", *state, *new, None, "", e.reason),
    )


def _checks(rows: Rows, log: str, e: OrderAccepted | OrderDenied) -> None:
    for n, c in enumerate(e.checks):
        found = (c.name, c.ok, c.value, c.limit, _number(c.value), _number(c.limit))
        rows["risk_checks"].append((log, e.account, e.seq, n, e.order, *found))


def _number(text: str) -> Decimal | None:
    """The number that a text is; None where it is none."""
    if not text or text[-1] not in "0123456789":
        return None
    try:
        found = Decimal(text)
    except InvalidOperation:
        return None
    return found if found.is_finite() else None


def _breached(rows: Rows, log: str, e: LimitBreached, commands: Commands) -> None:
    rows["breaches"].append((*_common(log, e), e.limit, e.value, e.threshold, e.session))
    for n, p in enumerate(e.evidence):
        of = (p.symbol, p.quantity, p.price, p.tier, p.source, p.ts, p.ts)
        rows["breach_evidence"].append((log, e.account, e.seq, n, *of))


def _tripped(of: str) -> Rule:
    def rule(rows: Rows, log: str, e: BreakerHalted | BreakerReducing, commands: Commands) -> None:
        trip = (type(e).__name__, of, e.reason, e.session, e.ordinal, e.detail, "", list(e.reasons))
        rows["breaker_changes"].append((*_common(log, e), *trip))

    return rule


def _cleared(rows: Rows, log: str, e: BreakerCleared, commands: Commands) -> None:
    what = ("BreakerCleared", e.of, e.reason, "", None, e.why, e.who, list(e.reasons))
    rows["breaker_changes"].append((*_common(log, e), *what))


def _applied(rows: Rows, log: str, e: CommandApplied, commands: Commands) -> None:
    _command(rows, log, e, True, e.why, commands)
    fact = commands.get(e.command, (None, b""))[0]
    if isinstance(fact, OpenAccount) and fact.account == e.account:
        terms = (e.command, e.who, fact.cash, fact.kind, fact.multiplier, fact.shorting, fact.fractions)
        rows["accounts"].append((*_common(log, e), *terms, _json(fact.limits)))


def _refused(rows: Rows, log: str, e: CommandRefused, commands: Commands) -> None:
    _command(rows, log, e, False, e.reason, commands)


def _command(rows: Rows, log: str, e: Any, applied: bool, why: str, commands: Commands) -> None:
    given = commands.get(e.command)
    body = _storable(given[1]) if given is not None else None
    rows["commands"].append((*_common(log, e), e.command, e.kind, e.who, applied, why, body))


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
