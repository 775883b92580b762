"""From a broker's report to the order's state, and from a fill to a position.

A fill is always booked, once. A repeat is known by its execution id, and across channels by the part
of the order that it fills: up to `cumulative`, which is counted again after a bust or correction. What
a report may do to an order's status is in `orders.TRANSITIONS`; what is not there is recorded as an
anomaly and changes nothing.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from processors.account import breaker as br
from processors.account import risk
from processors.account.account import Account, Execution
from processors.account.books import Entry
from processors.account.corporate import SMALLEST_FRACTION, cash_in_lieu
from processors.account.desk import Desk, Why
from processors.account.orders import Order
from processors.account.trading import changed, position_changed
from processors.account.valuation import check_stale, halt, mark, reduce, watch, write_pnl
from schemas import (
    ZERO,
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
    evolve,
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
        risk.reprice(desk, order)
    if kind == "acknowledge":
        account.broker_errors = 0
    changed(desk, account, order, why, getattr(report, "reason", ""))


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
    legal = order.move("reject") if report.what == "order" else order.refuse(report.what)
    if not legal:
        _illegal(desk, account, order, why, f"reject of {report.what}")
        return
    if report.what != "replace":
        changed(desk, account, order, why, report.reason)
        return
    risk.reprice(desk, order)
    changed(desk, account, order, why, report.reason)
    _check_overfill(desk, account, order, why, late=False)


def on_filled(desk: Desk, record: Record) -> None:
    """Book an execution: the fill, the order's state, the position, the money, in that order."""
    report = record.event
    assert isinstance(report, Filled)
    account = desk.account(report.account)
    if account is None or report.execution in account.executions:
        return
    order = account.orders.get(report.order)
    if order is None and _is_ours(desk, report.order):
        _hold_back(desk, account, report)
    elif order is None or not _is_counted(account, order, report):
        _fill(desk, account, order, report)


def _hold_back(desk: Desk, account: Account, report: Filled) -> None:
    """An execution of an order that should be ours and is not known: halt, and wait for the operator."""
    if all(held.execution != report.execution for held in account.held_back):
        account.held_back.append(report)
        _unknown_order(desk, account, report.order, _why(report, report.id), f"execution {report.execution}")


def book_held_back(desk: Desk, account: Account) -> None:
    """The operator has seen the executions that waited: they are booked as those of strangers."""
    held, account.held_back = account.held_back, []
    for report in held:
        _fill(desk, account, None, report)


def _is_counted(account: Account, order: Order, report: Filled) -> bool:
    """Whether the shares that the report fills, up to `cumulative`, are in the order already."""
    if report.cumulative is None:
        return False
    reached = report.cumulative - report.quantity
    for start, end in sorted((e.cumulative - e.quantity, e.cumulative) for e in _standing(account, order)):
        if start <= reached < end:
            reached = end
    return reached >= report.cumulative


def _standing(account: Account, order: Order) -> list[Execution]:
    found = (account.executions.get(name) for name in order.executions)
    return [e for e in found if e is not None and not e.is_busted]


def _fill(desk: Desk, account: Account, order: Order | None, report: Filled) -> None:
    strategy = order.strategy if order is not None else EXTERNAL_BOOK
    why = _why(report, order.trace if order is not None else report.id)
    fill = _book(desk, account, report, strategy, why)
    after = desk.then(fill, why)
    if order is not None:
        _count(desk, account, order, report, after)
    _settled(desk, account, report.symbol, strategy, after)


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
    entry = Entry("trade", session, strategy, "", report.execution, signed, report.price, report.fee)
    holding = account.holding(report.symbol)
    holding.ledger.add(entry)
    account.executions[report.execution] = Execution(
        fill=decision_id(account.id, fill.seq),
        order=report.order,
        symbol=report.symbol,
        session=session,
        quantity=report.quantity,
        cumulative=report.cumulative or ZERO,
    )
    account.cash -= signed * report.price + report.fee
    mark(desk, account, holding)
    return fill


def _count(desk: Desk, account: Account, order: Order, report: Filled, why: Why) -> None:
    """The fill in its order; one too many, or after the end, makes the account REDUCING."""
    late = order.ended and order.status != "filled"
    order.fill(report.quantity, report.price)
    order.executions.append(report.execution)
    if report.cumulative is None:
        account.executions[report.execution].cumulative = order.filled
    account.broker_errors = 0
    changed(desk, account, order, why)
    _check_overfill(desk, account, order, why, late)
    if (report.symbol, report.side) != (order.symbol, order.side):
        detail = f"{report.side} {report.symbol} for an order to {order.side} {order.symbol}"
        made = desk.emit(account, Anomaly, why, kind="fill-mismatch", order=order.id, detail=detail)
        halt(desk, account, br.INTEGRITY, f"execution {report.execution}: {detail}", desk.then(made, why))


def _check_overfill(desk: Desk, account: Account, order: Order, why: Why, late: bool) -> None:
    over = order.filled > order.at_most
    if over or late:
        kind = "overfill" if over else "fill-after-end"
        detail = f"filled {plain(order.filled)} of {plain(order.quantity)}"
        made = desk.emit(account, Anomaly, why, kind=kind, order=order.id, detail=detail)
        reduce(desk, account, br.OVERFILL, f"{kind} of {order.id}: {detail}", desk.then(made, why))


def _settled(desk: Desk, account: Account, symbol: str, strategy: str, why: Why) -> None:
    """The books of a symbol have changed: its position, the money, the breaker, what waited for it."""
    desk.holds(account, symbol)
    position_changed(desk, account, symbol, strategy, why)
    write_pnl(desk, account, why)
    watch(desk, account, why, traded=symbol)
    if br.STALE in account.breaker.reduces:
        check_stale(desk, account, why)
    desk.revisit(account, symbol)


def on_busted(desk: Desk, record: Record) -> None:
    """Take an execution out of the books, as if it had never been. A repeat is dropped."""
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
    account.holding(execution.symbol).ledger.entries.remove(entry)
    account.cash += entry.quantity * entry.price + entry.fee
    execution.is_busted = True
    why = desk.then(made, _why(report, execution.fill))
    _rebuilt(desk, account, execution, (entry.quantity, entry.price), None, entry.strategy, why)


def on_corrected(desk: Desk, record: Record) -> None:
    """Give an execution other terms; its books are folded anew from there. A repeat is dropped."""
    report = record.event
    assert isinstance(report, Corrected)
    found = _booked(desk, report)
    if found is None:
        return
    account, execution, entry = found
    quantity = report.quantity if entry.quantity > 0 else -report.quantity
    if (quantity, report.price, report.fee) == (entry.quantity, entry.price, entry.fee):
        return
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
    before = (entry.quantity, entry.price)
    account.cash += entry.quantity * entry.price + entry.fee
    entry.quantity, entry.price, entry.fee = quantity, report.price, report.fee
    account.cash -= entry.quantity * entry.price + entry.fee
    execution.quantity = report.quantity
    why = desk.then(made, _why(report, execution.fill))
    _rebuilt(desk, account, execution, before, (entry.quantity, entry.price), entry.strategy, why)


def _booked(desk: Desk, report: Busted | Corrected) -> tuple[Account, Execution, Entry] | None:
    """The entry an execution led to; one that the state no longer holds halts the account, and one that
    waits for the operator waits as it is now."""
    account = desk.account(report.account)
    if account is None:
        return None
    execution = account.executions.get(report.execution)
    if execution is not None and execution.is_busted and isinstance(report, Busted):
        return None
    entry = account.holding(execution.symbol).ledger.find(report.execution) if execution is not None else None
    if execution is None or entry is None:
        _amend_held_back(account, report)
        why = _why(report, report.id)
        detail = f"{type(report).__name__} of execution {report.execution}, which is not in the books"
        made = desk.emit(account, Anomaly, why, kind="unknown-execution", order="", detail=detail)
        halt(desk, account, br.INTEGRITY, detail, desk.then(made, why))
        return None
    return account, execution, entry


def _amend_held_back(account: Account, report: Busted | Corrected) -> None:
    held = {fill.execution: fill for fill in account.held_back}
    found = held.pop(report.execution, None)
    if found is not None and isinstance(report, Corrected):
        terms = {"quantity": report.quantity, "price": report.price, "fee": report.fee}
        held[report.execution] = evolve(found, **terms)
    account.held_back = list(held.values())


def _rebuilt(
    desk: Desk,
    account: Account,
    execution: Execution,
    before: tuple[Decimal, Decimal],
    now: tuple[Decimal, Decimal] | None,
    strategy: str,
    why: Why,
) -> None:
    """Fold the books again, bring the order in line (quantity, price before and now), show the money."""
    holding = account.holding(execution.symbol)
    holding.ledger.rebuild()
    found = desk.market.price(desk.market.symbol(execution.symbol), holding.quantity > 0)
    if found is not None:
        cash_in_lieu(desk, account, holding, found.price, SMALLEST_FRACTION, why)
    mark(desk, account, holding)
    order = account.orders.get(execution.order)
    if order is not None:
        order.unfill(abs(before[0]), before[1])
        if now is not None:
            order.fill(abs(now[0]), now[1])
        _recount(account, order)
        of_order = Why(why.cause, order.trace)
        changed(desk, account, order, of_order, "execution changed")
        _check_overfill(desk, account, order, of_order, late=False)
    _settled(desk, account, execution.symbol, strategy, why)


def _recount(account: Account, order: Order) -> None:
    """The cumulative quantities of what still stands, in the same order."""
    filled = ZERO
    for execution in sorted(_standing(account, order), key=lambda e: e.cumulative):
        filled += execution.quantity
        execution.cumulative = filled


def on_cash(desk: Desk, record: Record) -> None:
    """Cash moved at the broker without a trade."""
    report = record.event
    assert isinstance(report, CashActivity)
    account = desk.account(report.account)
    if account is None or report.id in account.cash_reports:
        return
    account.cash_reports[report.id] = desk.market.session.count
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


def _is_ours(desk: Desk, order: str) -> bool:
    return order.startswith(f"{desk.settings.log_prefix}-")


def _unknown_order(desk: Desk, account: Account, order: str, why: Why, what: str) -> None:
    """A report for an order that should be ours and is not known halts; that of a stranger is its affair."""
    if not _is_ours(desk, order):
        return
    detail = f"{what} for order {order}, which is not known"
    made = desk.emit(account, Anomaly, why, kind="unknown-order", order=order, detail=detail)
    halt(desk, account, br.INTEGRITY, detail, desk.then(made, why))


def _illegal(desk: Desk, account: Account, order: Order, why: Why, what: str) -> None:
    detail = f"{what} while {order.status}, pending {order.pending}"
    desk.emit(account, Anomaly, why, kind="illegal-transition", order=order.id, detail=detail)
