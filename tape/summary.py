"""A run in figures, read off the account's state and the log."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from eventlog import EventLog, fingerprint
from eventlog.heads import Sealed, head_of
from processors.account.account import Account
from processors.account.books import NET
from schemas import TOPICS, Limits, decode, plain, quotient
from tape.limits import in_force
from tape.logs import absolute


def summarize(
    account: Account, limits: Limits, log: EventLog, sealed: Sealed | None = None
) -> dict[str, Any]:
    """The run in figures; money as text, exact. `sealed`: see `tape.logs.write_heads`."""
    counts = _count(log, sealed)
    return {
        "end_equity": _money(account.equity),
        "cash": _money(account.cash),
        "realized": _money(account.realized),
        "unrealized": _money(account.unrealized),
        "fees": _money(account.fees),
        "income": _money(account.income),
        "receivables": _money(account.receivables),
        "start_cash": _money(account.starting),
        "return": _money(_gain(account)),
        "orders": counts["OrderRequested"],
        "denied": counts["OrderDenied"],
        "fills": counts["Fill"],
        "breaches": counts["LimitBreached"],
        "breaker": account.state,
        "reasons": list(account.breaker.reasons),
        "unpriced": list(account.unpriced),
        "positions": _positions(account),
        "limits": in_force(limits, account.multiplier),
        "events": counts["events"],
        "log": absolute(log.url),
        "log_id": log.id,
        "fingerprint": fingerprint(log, sealed),
    }


def _gain(account: Account) -> Decimal | None:
    equity = account.equity
    return None if equity is None or not account.starting else quotient(equity, account.starting) - 1


def _money(value: Decimal | None) -> str | None:
    return None if value is None else plain(value)


def _positions(account: Account) -> list[dict[str, Any]]:
    rows = []
    for symbol, holding in sorted(account.holdings.items()):
        book = holding.ledger.books[NET]
        rows.append(
            {
                "symbol": symbol,
                "quantity": plain(book.quantity),
                "average": _money(book.average),
                "mark": _money(holding.mark),
                "tier": holding.tier,
                "realized": plain(book.realized),
                "unrealized": _money(holding.value - book.cost if holding.mark is not None else None)
                if book.quantity
                else "0",
                "fees": plain(book.fees),
                "income": plain(book.income),
            }
        )
    return rows


def _count(log: EventLog, sealed: Sealed | None) -> dict[str, int]:
    """How many events of the kinds that a summary names, and how many records in all."""
    counts = dict.fromkeys(("OrderRequested", "OrderDenied", "Fill", "LimitBreached"), 0)
    counts["events"] = 0
    for topic in TOPICS:
        for partition in range(log.partitions(topic)):
            counts["events"] += head_of(log, (topic, partition), sealed).count
            if topic not in ("orders", "fills", "risk.breaches"):
                continue
            position = 0
            while records := log.read(topic, partition, gte=position):
                for record in records:
                    name = type(decode(topic, record.value)).__name__
                    if name in counts:
                        counts[name] += 1
                position = records[-1].offset + 1
    return counts
