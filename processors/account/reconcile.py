"""The broker's books of one moment, held against ours.

Before a snapshot stands every movement of cash and shares that is in it, so cash and net positions must
agree at once. Orders may be on their way: what differs there is tolerated for some snapshots (`GRACE`). Each
difference is written once, as Drift, and halts; Rearm is refused while the last snapshot shows it.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Any, NamedTuple

from processors.account import breaker as br
from processors.account.account import Account, Difference
from processors.account.desk import Desk, Why
from processors.account.execution import on_report
from processors.account.valuation import halt
from schemas import ZERO, BrokerOrder, BrokerSnapshot, Drift, Record, plain
from schemas.reports import MISMATCH

GRACE = 3
"""At so many snapshots in a row an order must differ to be Drift."""
GRACE_SENDING = 30
"""The same for one that is not acknowledged: the gateway may be looking it up, or be down."""


class Differs(NamedTuple):
    """A difference: `amount` tells one from another, `grace` is how often in a row it must have been seen."""

    what: str
    symbol: str
    ours: str
    theirs: str
    amount: str
    grace: int

    @property
    def key(self) -> str:
        """What it is a difference of; of orders, each by itself."""
        return f"{self.what} {self.symbol} {self.amount if self.what == 'order' else ''}".strip()


def on_snapshot(desk: Desk, record: Record) -> None:
    """Compare, and write what is new. What is gone is forgotten."""
    report: Any = record.event
    account = desk.account(report.account)
    if account is None:
        return
    before, account.differences = account.differences, {}
    why = Why(report.id, report.id)
    for found in sorted({d.key: d for d in _differences(desk, account, report)}.values()):
        last = before.get(found.key)
        seen = last if last is not None and last.amount == found.amount else Difference(found.amount, 0)
        seen.snapshots += 1
        account.differences[found.key] = seen
        if not seen.is_written and seen.snapshots >= found.grace:
            seen.is_written = True
            _drift(desk, account, found.what, found.symbol, found.ours, found.theirs, why)


def on_unknown(desk: Desk, record: Record) -> None:
    """No answer, or the order stands at the broker with other terms than ours: that is Drift too."""
    report: Any = record.event
    on_report(desk, record)
    account = desk.account(report.account)
    order = account.orders.get(report.order) if account is not None else None
    if report.reason == MISMATCH and account is not None and order is not None:
        why = Why(report.id, order.trace)
        prices = {"limit": order.limit, "stop": order.stop}
        terms = [f"{name} {plain(price)}" for name, price in prices.items() if price is not None]
        ours = " ".join([order.side, plain(order.quantity), order.symbol, order.order_type, *terms])
        _drift(desk, account, "terms", order.symbol, f"{order.id}: {ours}", report.raw, why)


def _drift(desk: Desk, account: Account, what: str, symbol: str, ours: str, theirs: str, why: Why) -> None:
    made = desk.emit(account, Drift, why, what=what, symbol=symbol, ours=ours, theirs=theirs)
    name = f"{what} of {symbol}" if symbol else what
    detail = f"{name}: ours {ours or 'none'}, the broker's {theirs or 'none'}"
    halt(desk, account, br.DRIFT, detail, desk.then(made, why))


def still_differs(account: Account) -> str:
    """What the last snapshot showed to differ, or ""."""
    names = [key for key in sorted(account.differences) if account.differences[key].is_written]
    return f"the broker's last snapshot still differs in {', '.join(names)}" if names else ""


def _differences(desk: Desk, account: Account, report: BrokerSnapshot) -> Iterable[Differs]:
    cash, net = _ours(account)
    if cash != report.cash:
        yield Differs("cash", "", plain(cash), plain(report.cash), plain(report.cash - cash), 1)
    theirs = {p.symbol: p.quantity for p in report.positions}
    for symbol in sorted({*net, *theirs}):
        have, has = net.get(symbol, ZERO), theirs.get(symbol, ZERO)
        if have != has:
            yield Differs("position", symbol, plain(have), plain(has), plain(has - have), 1)
    yield from _orders(desk, account, report)


def _ours(account: Account) -> tuple[Decimal, dict[str, Decimal]]:
    """Cash and net positions, with the executions that wait for the operator: the broker has them booked."""
    cash = account.cash
    net = {symbol: account.net(symbol) for symbol in account.holdings}
    for held in account.held_back:
        signed = held.quantity if held.side == "buy" else -held.quantity
        cash -= signed * held.price + held.fee
        net[held.symbol] = net.get(held.symbol, ZERO) + signed
    return cash, net


def _orders(desk: Desk, account: Account, report: BrokerSnapshot) -> Iterable[Differs]:
    """Orders of ours; those of strangers are their affair."""
    theirs = {o.order: o for o in report.orders if o.order.startswith(f"{desk.settings.log_prefix}-")}
    ours = {o.id: o for symbol in account.open_orders for o in account.working_of(symbol)}
    for id in sorted({*ours, *theirs}):
        have, has = _text(ours.get(id)), _text(theirs.get(id))
        if have != has:
            order: Any = ours.get(id) or theirs[id]
            # Those it was not in while it was on its way do not count once it is acknowledged.
            is_sending = id in ours and order.status in ("accepted", "unknown")
            amount, grace = (f"{id} sending", GRACE_SENDING) if is_sending else (id, GRACE)
            ours_text, theirs_text = have and f"{id}: {have}", has and f"{id}: {has}"
            yield Differs("order", order.symbol, ours_text, theirs_text, amount, grace)


def _text(order: Any | BrokerOrder) -> str:
    if order is None:
        return ""
    return f"{order.side} {plain(order.quantity)} {order.symbol}, {plain(order.filled)} filled"
