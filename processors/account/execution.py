"""From a broker's report to the order's state, and from a fill to a position.

A fill is always booked. A repeat is known by its execution id, and across channels by the order's
cumulative quantity. What a report may do to an order's status is in `orders.TRANSITIONS`; what is
not there is recorded as an anomaly and changes nothing.
"""

from __future__ import annotations

from typing import Any

from processors.account import breaker as br
from processors.account.account import Account, Execution
from processors.account.books import Entry
from processors.account.desk import Desk, Why
from processors.account.orders import Order
from processors.account.trading import changed, position_changed, release
from processors.account.valuation import check_stale, halt, mark, reduce, watch, write_pnl
from schemas import (
    Acknowledged,
    Anomaly,
    Busted,
    Cancelled,
    CashActivity,
    Corrected,
    Expired,
    Fill,
    FillBusted,
    FillCorrected,
    Filled,
    NotSent,
    OrderSending,
    Record,
    Rejected,
    Replaced,
    Unknown,
    decision_id,
    plain,
)

EXTERNAL_BOOK = "external"

REPORTS: dict[type, str] = {
    OrderSending: "sending",
    Acknowledged: "acknowledge",
    Cancelled: "cancel",
    Expired: "expire",
    NotSent: "not_sent",
    Unknown: "unknown",
    Replaced: "replace",
}
"""What each report asks of the order's state machine."""


def on_report(desk: Desk, record: Record) -> None:
    """Take a report about an order's state."""
    report: Any = record.event
    account = desk.account(report.account)
    if account is None:
        return
    order = account.orders.get(report.order)
    if order is None:
        _unknown_order(desk, account, report.order, _why(report, report.id), type(report).__name__)
        return
    why = _why(report, order.trace)
    kind = REPORTS[type(report)]
    if kind == "not_sent" and order.pending == "cancel":
        kind = "cancel"
    if not order.move(kind):
        _illegal(desk, account, order, why, kind)
        return
    if isinstance(report, Replaced):
        order.replaced(report.quantity, report.limit, report.stop)
    if kind == "acknowledge":
        account.broker_errors = 0
    _after(desk, account, order, why, getattr(report, "reason", ""))


def on_rejected(desk: Desk, record: Record) -> None:
    """The broker refused an order, a cancel or a replacement; the latter two leave it as it was."""
    report = record.event
    assert isinstance(report, Rejected)
    account = desk.account(report.account)
    if account is None:
        return
    order = account.orders.get(report.order)
    if order is None:
        _unknown_order(desk, account, report.order, _why(report, report.id), "Rejected")
        return
    why = _why(report, order.trace)
    if report.what == "order":
        account.broker_errors += 1
    legal = order.move("reject") if report.what == "order" else _refused(order)
    if not legal:
        _illegal(desk, account, order, why, f"reject of {report.what}")
        return
    _after(desk, account, order, why, report.reason)


def _refused(order: Order) -> bool:
    """A refused request is answered; that of an order which has ended meanwhile was answered by its end."""
    return order.refuse_pending() or order.ended


def _after(desk: Desk, account: Account, order: Order, why: Why, reason: str) -> None:
    changed(desk, account, order, why, reason)
    if order.ended:
        release(desk, account, order.symbol)


def on_filled(desk: Desk, record: Record) -> None:
    """Book an execution: the fill, the order's state, the position, the money, in that order."""
    report = record.event
    assert isinstance(report, Filled)
    account = desk.account(report.account)
    if account is None or report.execution in account.executions:
        return
    order = account.orders.get(report.order)
    if order is None and report.order.startswith(f"{desk.settings.log_prefix}-"):
        _unknown_order(desk, account, report.order, _why(report, report.id), f"execution {report.execution}")
        return
    if order is not None and report.cumulative is not None and report.cumulative <= order.filled:
        return
    strategy = order.strategy if order is not None else EXTERNAL_BOOK
    why = _why(report, order.trace if order is not None else report.id)
    fill = _book(desk, account, report, strategy, why)
    after = desk.then(fill, why)
    if order is not None:
        _count(desk, account, order, report, after)
    position_changed(desk, account, report.symbol, strategy, after)
    write_pnl(desk, account, after)
    watch(desk, account, after)
    if br.STALE in account.breaker.reduces:
        check_stale(desk, account, after)
    if order is None or order.ended:
        release(desk, account, report.symbol)


def _book(desk: Desk, account: Account, report: Filled, strategy: str, why: Why) -> Fill:
    fill = desk.emit(
        account,
        Fill,
        why,
        order=report.order,
        execution=report.execution,
        strategy=strategy,
        symbol=report.symbol,
        side=report.side,
        quantity=report.quantity,
        price=report.price,
        fee=report.fee,
    )
    session = desk.market.session.count
    signed = report.quantity if report.side == "buy" else -report.quantity
    holding = account.holding(report.symbol)
    holding.ledger.add(
        Entry(
            "trade",
            session,
            strategy,
            execution=report.execution,
            quantity=signed,
            price=report.price,
            fee=report.fee,
        )
    )
    place = Execution(decision_id(account.id, fill.seq), report.order, report.symbol, session)
    account.executions[report.execution] = place
    account.cash -= signed * report.price + report.fee
    mark(desk, account, holding)
    desk.holds(account, report.symbol)
    return fill


def _count(desk: Desk, account: Account, order: Order, report: Filled, why: Why) -> None:
    """The fill in its order; one too many, or after the end, makes the account REDUCING."""
    late = order.ended and order.status != "filled"
    order.fill(report.quantity, report.price)
    account.broker_errors = 0
    changed(desk, account, order, why)
    over = order.filled > order.quantity
    if over or late:
        kind = "overfill" if over else "fill-after-end"
        detail = f"filled {plain(order.filled)} of {plain(order.quantity)}"
        made = desk.emit(account, Anomaly, why, kind=kind, order=order.id, detail=detail)
        reduce(desk, account, br.OVERFILL, f"{kind} of {order.id}: {detail}", desk.then(made, why))


def on_busted(desk: Desk, record: Record) -> None:
    """Take an execution out of the books, as if it had never been."""
    report = record.event
    assert isinstance(report, Busted)
    found = _booked(desk, report)
    if found is None:
        return
    account, execution, entry = found
    made = desk.emit(
        account,
        FillBusted,
        _why(report, execution.fill),
        fill=execution.fill,
        execution=report.execution,
        reason=report.reason,
    )
    ledger = account.holding(execution.symbol).ledger
    ledger.entries.remove(entry)
    account.cash += entry.quantity * entry.price + entry.fee
    del account.executions[report.execution]
    _rebuilt(desk, account, execution, entry, None, desk.then(made, _why(report, execution.fill)))


def on_corrected(desk: Desk, record: Record) -> None:
    """Give an execution other terms; its books are folded anew from there."""
    report = record.event
    assert isinstance(report, Corrected)
    found = _booked(desk, report)
    if found is None:
        return
    account, execution, entry = found
    made = desk.emit(
        account,
        FillCorrected,
        _why(report, execution.fill),
        fill=execution.fill,
        execution=report.execution,
        quantity=report.quantity,
        price=report.price,
        fee=report.fee,
        reason=report.reason,
    )
    before = Entry("trade", entry.session, entry.strategy, quantity=entry.quantity, price=entry.price)
    account.cash += entry.quantity * entry.price + entry.fee
    entry.quantity = report.quantity if entry.quantity > 0 else -report.quantity
    entry.price, entry.fee = report.price, report.fee
    account.cash -= entry.quantity * entry.price + entry.fee
    _rebuilt(desk, account, execution, before, entry, desk.then(made, _why(report, execution.fill)))


def _booked(desk: Desk, report: Busted | Corrected) -> tuple[Account, Execution, Entry] | None:
    """The entry an execution led to; one that the state no longer holds halts the account."""
    account = desk.account(report.account)
    if account is None:
        return None
    execution = account.executions.get(report.execution)
    entry = account.holding(execution.symbol).ledger.find(report.execution) if execution is not None else None
    if execution is None or entry is None:
        why = _why(report, report.id)
        detail = f"{type(report).__name__} of execution {report.execution}, which is not in the books"
        made = desk.emit(account, Anomaly, why, kind="unknown-execution", order="", detail=detail)
        halt(desk, account, br.INTEGRITY, detail, desk.then(made, why))
        return None
    return account, execution, entry


def _rebuilt(
    desk: Desk, account: Account, execution: Execution, before: Entry, now: Entry | None, why: Why
) -> None:
    """Fold the books again, bring the order's cumulative quantity in line, and show the money."""
    holding = account.holding(execution.symbol)
    holding.ledger.rebuild()
    mark(desk, account, holding)
    desk.holds(account, execution.symbol)
    order = account.orders.get(execution.order)
    if order is not None:
        order.unfill(abs(before.quantity), before.price)
        if now is not None:
            order.fill(abs(now.quantity), now.price)
        if not order.ended:
            order.ended_session = 0
        changed(desk, account, order, Why(why.cause, order.trace), "execution changed")
    position_changed(desk, account, execution.symbol, before.strategy, why)
    write_pnl(desk, account, why)
    watch(desk, account, why)


def on_cash(desk: Desk, record: Record) -> None:
    """Cash moved at the broker without a trade."""
    report = record.event
    assert isinstance(report, CashActivity)
    account = desk.account(report.account)
    if account is None:
        return
    if report.kind in ("deposit", "withdrawal"):
        account.flow(report.amount)
        account.arm()
    else:
        account.cash += report.amount
        if report.kind == "fee":
            account.fees -= report.amount
        else:
            account.income += report.amount
    why = _why(report, report.id)
    write_pnl(desk, account, why)
    watch(desk, account, why)


def _why(report: Any, trace: str) -> Why:
    return Why(report.cause or report.id, trace)


def _unknown_order(desk: Desk, account: Account, order: str, why: Why, what: str) -> None:
    """A report for an order that should be ours and is not known: halt, and wait for the operator."""
    detail = f"{what} for order {order}, which is not known"
    made = desk.emit(account, Anomaly, why, kind="unknown-order", order=order, detail=detail)
    halt(desk, account, br.INTEGRITY, detail, desk.then(made, why))


def _illegal(desk: Desk, account: Account, order: Order, why: Why, what: str) -> None:
    detail = f"{what} while {order.status}, pending {order.pending}"
    desk.emit(account, Anomaly, why, kind="illegal-transition", order=order.id, detail=detail)
