"""Operator commands: each is applied or refused, and says who and why. A repeated id does nothing."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

from processors.account import breaker as br
from processors.account import risk, unread
from processors.account.account import Account
from processors.account.desk import Desk, Why
from processors.account.execution import book_held_back
from processors.account.flatten import begin_flatten
from processors.account.reconcile import still_differs
from processors.account.trading import Terms, asked_for, cancel, replace, replace_refusal, submit
from processors.account.valuation import clear, halt, watch, write_pnl
from schemas import (
    CancelOrder,
    CommandApplied,
    CommandRefused,
    DayOpened,
    Deposit,
    Flatten,
    HaltAccount,
    Limits,
    OpenAccount,
    PlaceOrder,
    Rearm,
    Record,
    ReplaceOrder,
    ResolveUnread,
    SetLimits,
    Withdraw,
    plain,
)
from schemas.ids import CLIENT_ORDER_ID_MAX

SHOWN = 5
"""Places of unreadable records that a refusal names."""


def on_command(desk: Desk, record: Record) -> None:
    """Apply a command, or refuse it with the reason. One for an account that is not open is left out, and so
    is the opening of one whose name is too long for the ids of its orders."""
    command: Any = record.event
    desk.fact_ts = command.ts
    account = desk.account(command.account)
    if account is None:
        if not isinstance(command, OpenAccount) or not _can_be_named(desk, command):
            return
        account = _opened(desk, command)
    elif command.id in account.commands:
        return
    elif isinstance(command, OpenAccount):
        _refuse(desk, account, command, "the account is open already")
        return
    account.commands[command.id] = desk.market.session.count
    COMMANDS[type(command)](desk, account, command)


def _can_be_named(desk: Desk, command: OpenAccount) -> bool:
    """Whether the ids of all orders that the account will ever send are short enough for a broker."""
    return len(f"{desk.settings.log_prefix}-{command.account}-{10**15}") <= CLIENT_ORDER_ID_MAX


def _opened(desk: Desk, command: OpenAccount) -> Account:
    account = Account(
        id=command.account,
        kind=command.kind,
        multiplier=command.multiplier,
        shorting=command.shorting,
        fractions=command.fractions,
        limits=command.limits,
        starting=command.cash,
        cash=command.cash,
        baseline=command.cash,
        peak=command.cash,
    )
    desk.accounts[account.id] = account
    return account


def _apply(desk: Desk, account: Account, command: Any) -> Why:
    """Write that the command is applied; what follows has it as its cause."""
    root = Why(command.id, command.id)
    kind = type(command).__name__
    made = desk.emit(
        account, CommandApplied, root, command=command.id, kind=kind, who=command.who, why=command.why
    )
    return desk.then(made, root)


def _refuse(desk: Desk, account: Account, command: Any, reason: str) -> None:
    why = Why(command.id, command.id)
    kind = type(command).__name__
    desk.emit(account, CommandRefused, why, command=command.id, kind=kind, who=command.who, reason=reason)


def _open(desk: Desk, account: Account, command: OpenAccount) -> None:
    why = _apply(desk, account, command)
    desk.emit(
        account,
        DayOpened,
        why,
        session=desk.market.session.name if desk.market.session.is_open else "",
        baseline=account.baseline,
        peak=account.peak,
    )
    write_pnl(desk, account, why)
    account.arm()
    check_baseline(desk, account, why)


def check_baseline(desk: Desk, account: Account, why: Why) -> None:
    """A day that begins with nothing, or less, has no loss one could measure: it halts."""
    if account.baseline is not None and account.baseline <= 0:
        halt(desk, account, br.INTEGRITY, f"baseline {plain(account.baseline)} is not positive", why)


def _deposit(desk: Desk, account: Account, command: Deposit) -> None:
    _flow(desk, account, command, command.amount)


def _withdraw(desk: Desk, account: Account, command: Withdraw) -> None:
    if command.amount > account.cash:
        _refuse(
            desk, account, command, f"{plain(command.amount)} is more than the cash, {plain(account.cash)}"
        )
        return
    _flow(desk, account, command, -command.amount)


def _flow(desk: Desk, account: Account, command: Any, amount: Decimal) -> None:
    why = _apply(desk, account, command)
    account.flow(amount)
    account.arm()
    write_pnl(desk, account, why)
    watch(desk, account, why)


def _set_limits(desk: Desk, account: Account, command: SetLimits) -> None:
    why = _apply(desk, account, command)
    account.limits = command.limits
    account.arm()
    watch(desk, account, why)


def _halt(desk: Desk, account: Account, command: HaltAccount) -> None:
    halt(desk, account, br.OPERATOR, f"{command.who}: {command.why}", _apply(desk, account, command))


def _rearm(desk: Desk, account: Account, command: Rearm) -> None:
    halted, reducing = command.reason in account.breaker.halts, command.reason in account.breaker.reduces
    if not (halted or reducing):
        _refuse(desk, account, command, f"no reason {command.reason} stands; standing: {standing(account)}")
        return
    limits = command.limits if command.limits is not None else account.limits
    still = {
        of: _still_holds(account, command.reason, of, limits)
        for of, stands in (("halt", halted), ("reduce", reducing))
        if stands
    }
    if all(still.values()):
        _refuse(desk, account, command, next(iter(still.values())))
        return
    why = _apply(desk, account, command)
    account.limits = limits
    for of in (of for of, reason in still.items() if not reason):
        clear(desk, account, command.reason, of, command.who, command.why, why)
    account.arm()
    write_pnl(desk, account, why)
    if command.reason == br.INTEGRITY:
        book_held_back(desk, account)
    watch(desk, account, why)


def standing(account: Account) -> str:
    """The reasons that stand, for people."""
    return ", ".join(account.breaker.reasons) or "none"


def _still_holds(account: Account, reason: str, of: str, limits: Limits) -> str:
    """Why the condition behind a halt (of = "halt") or a reducing reason still holds, or ""."""
    if reason == br.INTEGRITY:
        if account.unread:
            places = sorted(account.unread)
            more = f" and {len(places) - SHOWN} more" if len(places) > SHOWN else ""
            return f"{len(places)} unreadable records are not resolved: {', '.join(places[:SHOWN])}{more}"
        if account.baseline is not None and account.baseline <= 0:
            return f"the baseline, {plain(account.baseline)}, is not positive"
        return ""
    if reason == br.DRIFT:
        return still_differs(account)
    if reason == br.STALE:
        return "prices are not back; it clears itself when they are"
    if reason not in br.LOSSES:
        return ""
    if account.equity is None or account.baseline is None or account.peak is None:
        return f"equity is not known: {', '.join(account.unpriced)} without a price"
    for loss in br.losses(limits, account.equity, account.flows, account.baseline, account.peak):
        if (loss.reason, loss.halts) == (reason, of == "halt") and loss.reached:
            return f"the condition still holds: {loss.text}"
    return ""


def _place(desk: Desk, account: Account, command: PlaceOrder) -> None:
    wanted = risk.PRICES.get(command.order_type, (False, False))
    prices = {"limit": command.limit, "stop": command.stop}
    for (name, price), needed in zip(prices.items(), wanted, strict=True):
        if needed != (price is not None):
            text = f"a {command.order_type} order {'needs a' if needed else 'has no'} {name} price"
            _refuse(desk, account, command, text)
            return
    terms = Terms(
        command.strategy,
        command.symbol,
        command.side,
        command.quantity,
        command.order_type,
        command.limit,
        command.stop,
        command.tif,
        command.extended,
    )
    submit(desk, account, terms, _apply(desk, account, command), min(desk.ts, command.ts), operator=True)


def _replace(desk: Desk, account: Account, command: ReplaceOrder) -> None:
    order = account.orders.get(command.order)
    if order is None:
        _refuse(desk, account, command, f"order {command.order} is not known")
        return
    asked = asked_for(order, command.quantity, command.limit, command.stop)
    refusal = replace_refusal(desk, account, order, asked)
    if refusal:
        _refuse(desk, account, command, refusal)
    else:
        replace(desk, account, order, asked, _apply(desk, account, command))


def _cancel(desk: Desk, account: Account, command: CancelOrder) -> None:
    order = account.orders.get(command.order)
    if order is None or order.ended:
        state = "not known" if order is None else order.status
        _refuse(desk, account, command, f"order {command.order} is {state}")
        return
    cancel(desk, account, order, _apply(desk, account, command), "operator")


def _flatten(desk: Desk, account: Account, command: Flatten) -> None:
    why = _apply(desk, account, command)
    symbols = {command.symbol} if command.symbol else {*account.holdings, *account.open_orders}
    for symbol in sorted(symbols):
        begin_flatten(desk, account, symbol, why)


def _resolve(desk: Desk, account: Account, command: ResolveUnread) -> None:
    refusal = unread.refusal(desk, account, command.place)
    if refusal:
        _refuse(desk, account, command, refusal)
        return
    record = unread.read_again(desk, command.place) if command.action == "retry" else None
    if isinstance(record, str):
        _refuse(desk, account, command, f"{command.place}: {record}")
        return
    unread.resolve(desk, command.place, _apply(desk, account, command))
    if record is not None:
        unread.retry(desk, record, command.id)


COMMANDS: dict[type, Callable[[Desk, Account, Any], None]] = {
    OpenAccount: _open,
    Deposit: _deposit,
    Withdraw: _withdraw,
    SetLimits: _set_limits,
    HaltAccount: _halt,
    Rearm: _rearm,
    PlaceOrder: _place,
    ReplaceOrder: _replace,
    CancelOrder: _cancel,
    Flatten: _flatten,
    ResolveUnread: _resolve,
}
