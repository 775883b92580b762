"""The arithmetic of a profit or a position: which changes of the books it is made of."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from eventlog import inspect
from eventlog.errors import NotInLog
from schemas import ZERO, Fill, PnL, PositionChanged, Record, exact, partition_of, plain
from tape.tracing import Index, Tree, causes


def with_sums(index: Index, tree: Tree) -> Tree:
    """A tree whose root, if it is a profit or a position, says what it is the sum of.

    Below a profit stand the last changes of each symbol's books too.
    """
    if tree["type"] not in ("PnL", "PositionChanged"):
        return tree
    event: Any = index.find(tree["id"]).event
    with exact():
        if tree["type"] == "PositionChanged":
            return {**tree, "sums": _of_book(index, event)}
        sums = _of_profit(index, event)
    held = [causes(index, part["id"]) for part in sums["parts"]]
    return {**tree, "causes": [*tree["causes"], *held], "sums": sums}


def _changes(index: Index, account: str, seq: int) -> Iterator[tuple[Record, PositionChanged]]:
    """Every change of the account's books up to `seq`."""
    partition = partition_of(account, index.log.partitions("positions"))
    for record in index.forward("positions", partition, index.log.bounds("positions", partition)[0]):
        event = record.event
        if isinstance(event, PositionChanged) and event.account == account:
            if event.seq > seq:
                return
            yield record, event


def _of_book(index: Index, last: PositionChanged) -> dict[str, Any]:
    """The changes of one strategy's book of a symbol: each with what it traded, and the sums."""
    parts: list[dict[str, Any]] = []
    totals = dict.fromkeys(("quantity", "cost", "realized", "fees", "income"), ZERO)
    for record, event in _changes(index, last.account, last.seq):
        if (event.strategy, event.symbol) != (last.strategy, last.symbol):
            continue
        change = {name: getattr(event, name) - totals[name] for name in totals}
        totals = {name: totals[name] + change[name] for name in totals}
        parts.append(_part(index, record, event.cause, change))
    holds = all(part["adds_up"] is not False for part in parts)
    return {
        "parts": parts,
        "totals": {name: plain(value) for name, value in totals.items()},
        "adds_up": holds and all(totals[name] == getattr(last, name) for name in totals),
    }


def _part(index: Index, record: Record, cause: str, change: dict[str, Decimal]) -> dict[str, Any]:
    """A change of a book; where a fill made it, cost less realised must change by price x quantity."""
    part: dict[str, Any] = {
        "id": inspect.identity(record),
        "cause": cause,
        "fill": None,
        "adds_up": None,
        **{name: plain(value) for name, value in change.items()},
    }
    try:
        led = index.find(cause, record).event
    except NotInLog:
        return part
    if isinstance(led, Fill):
        signed = led.quantity if led.side == "buy" else -led.quantity
        amount = signed * led.price
        part["fill"] = f"{led.side} {plain(led.quantity)} at {plain(led.price)}"
        part["adds_up"] = (
            change["quantity"] == signed
            and change["cost"] - change["realized"] == amount
            and change["fees"] == led.fee
        )
    return part


def _of_profit(index: Index, last: PnL) -> dict[str, Any]:
    """Realised profit by symbol, and the two ways to equity."""
    symbols: dict[str, PositionChanged] = {}
    for _, event in _changes(index, last.account, last.seq):
        symbols[event.symbol] = event
    realized = sum((e.net_realized for e in symbols.values()), ZERO)
    sums: dict[str, Any] = {
        "parts": [
            {
                "id": f"{e.account}:{e.seq}",
                "symbol": symbol,
                "quantity": plain(e.net_quantity),
                "cost": plain(e.net_cost),
                "realized": plain(e.net_realized),
            }
            for symbol, e in sorted(symbols.items())
        ],
        "totals": {
            "realized": plain(realized),
            "cost": plain(sum((e.net_cost for e in symbols.values()), ZERO)),
        },
    }
    holds = realized == last.realized
    if last.value is not None and last.equity is not None and last.unrealized is not None:
        cost = sum((e.net_cost for e in symbols.values()), ZERO)
        holds = (
            holds
            and last.value - cost == last.unrealized
            and last.cash + last.receivables + last.value == last.equity
        )
    return {**sums, "adds_up": holds}
