"""From what is wanted to an order at the broker: requested, held against every check, accepted or denied.

An order opposite to one that works waits for its end (brokers refuse it as a wash trade). A trade
through zero closes first: the part that opens waits until the part that closes has filled. What
waits stays "requested", and is looked at again when an order of its symbol has ended.
"""

from __future__ import annotations

from decimal import Decimal
from typing import NamedTuple

from processors.account import risk
from processors.account.account import Account
from processors.account.books import NET
from processors.account.desk import Desk, Why
from processors.account.orders import Order
from schemas import (
    ZERO,
    Check,
    OrderAccepted,
    OrderChanged,
    OrderDenied,
    OrderRequested,
    PositionChanged,
    client_order_id,
    decision_id,
    plain,
)


class Terms(NamedTuple):
    """What is wanted of the broker."""

    strategy: str
    symbol: str
    side: str
    quantity: Decimal
    order_type: str = "market"
    limit: Decimal | None = None
    stop: Decimal | None = None
    tif: str = "day"
    extended: bool = False


class Asked(NamedTuple):
    """New terms for an order at the broker."""

    quantity: Decimal
    limit: Decimal | None
    stop: Decimal | None


# ---------------------------------------------------------------- requested, accepted, denied


def submit(desk: Desk, account: Account, terms: Terms, why: Why, since: int, operator: bool = False) -> Order:
    """Request an order; through zero it becomes two. It goes at once unless it has to wait.

    `since`: the time of the fact that led to it (UTC ns).
    """
    room = _room_to_zero(account, terms.symbol, terms.side)
    first = room if 0 < room < terms.quantity else terms.quantity
    order = request(desk, account, terms._replace(quantity=first), why, since, operator)
    if first < terms.quantity:
        rest = terms._replace(quantity=terms.quantity - first)
        request(desk, account, rest, why, since, operator, after=order.id)
    go(desk, account, order)
    return order


def request(
    desk: Desk,
    account: Account,
    terms: Terms,
    why: Why,
    since: int,
    operator: bool = False,
    after: str = "",
) -> Order:
    """Write OrderRequested, and keep the order."""
    seq = account.seq + 1
    order = Order(
        id=client_order_id(desk.settings.log_prefix, account.id, seq),
        seq=seq,
        trace=why.trace,
        since=since,
        operator=operator,
        after=after,
        **terms._asdict(),
    )
    desk.emit(account, OrderRequested, why, order=order.id, since=since, **terms._asdict())
    account.orders[order.id] = order
    account.track(order)
    return order


def go(desk: Desk, account: Account, order: Order) -> None:
    """Accept or deny a requested order, unless it has to wait."""
    if any(o.side != order.side for o in account.working_of(order.symbol)):
        return
    if order.after:
        first = account.orders.get(order.after)
        if first is not None and not first.ended:
            return
        if first is None or first.status != "filled":
            _deny(desk, account, order, (_unclosed(first),), "")
            return
    if _closes_first(desk, account, order) or _waits_for_market(desk, account, order):
        return
    passed, checks, taker = risk.evaluate(desk, account, order)
    quote = taker.source if taker is not None else ""
    if passed:
        _accept(desk, account, order, checks, quote)
    else:
        _deny(desk, account, order, tuple(c for c in checks if not c.ok), quote)


def _is_against(net: Decimal, side: str) -> bool:
    return bool(net) and (net > 0) == (side == "sell")


def _room_to_zero(account: Account, symbol: str, side: str) -> Decimal:
    """How many shares can be traded on this side, after all that works there, before the net position is
    flat; zero or less where there are none, or the side opens.
    """
    net = account.net(symbol)
    if not _is_against(net, side):
        return ZERO
    return abs(net) - sum((o.leaves for o in account.working_of(symbol) if o.side == side), ZERO)


def _closes_first(desk: Desk, account: Account, order: Order) -> bool:
    """Whether it has to wait for what closes the position already; it is split where it goes through zero,
    since the position may have changed while it waited.
    """
    if not _is_against(account.net(order.symbol), order.side):
        return False
    room = _room_to_zero(account, order.symbol, order.side)
    if 0 < room < order.quantity:
        terms = Terms(**{name: getattr(order, name) for name in Terms._fields})
        why = Why(decision_id(account.id, order.seq), order.trace)
        order.quantity = room
        rest = terms._replace(quantity=terms.quantity - room)
        request(desk, account, rest, why, order.since, order.operator, after=order.id)
    elif room <= 0:
        closing = [o for o in account.working_of(order.symbol) if o.reduces and o.stop is None]
        if closing:
            order.after = closing[-1].id
            return True
    return False


def _waits_for_market(desk: Desk, account: Account, order: Order) -> bool:
    """An operator's reduction is not refused because the market is shut: it waits."""
    if not (order.operator and risk.is_reduction(account, order)):
        return False
    closed = account.limits.outside_session == "deny" and not desk.market.session.is_open
    return closed or desk.market.is_halted(order.symbol)


def _unclosed(first: Order | None) -> Check:
    status = first.status if first is not None else "unknown"
    return Check(
        name="crossing-zero", ok=False, value=f"closing order {status}", limit="closing order filled"
    )


def _accept(desk: Desk, account: Account, order: Order, checks: tuple[Check, ...], quote: str) -> None:
    order.move("accept")
    desk.emit(
        account,
        OrderAccepted,
        Why(decision_id(account.id, order.seq), order.trace),
        order=order.id,
        strategy=order.strategy,
        symbol=order.symbol,
        side=order.side,
        quantity=order.quantity,
        order_type=order.order_type,
        limit=order.limit,
        stop=order.stop,
        tif=order.tif,
        extended=order.extended,
        reduces=order.reduces,
        quote=quote,
        checks=checks,
    )
    account.orders_today += 1
    account.notional_today += order.price * order.quantity
    window = max(risk.SECOND, (account.limits.duplicate_window_ms or 0) * risk.MS)
    account.recent = [(ts, text) for ts, text in account.recent if ts >= desk.ts - window]
    account.recent.append((desk.ts, risk.description(order)))


def _deny(desk: Desk, account: Account, order: Order, checks: tuple[Check, ...], quote: str) -> None:
    order.move("deny")
    _track(desk, account, order)
    desk.emit(
        account,
        OrderDenied,
        Why(decision_id(account.id, order.seq), order.trace),
        order=order.id,
        strategy=order.strategy,
        symbol=order.symbol,
        side=order.side,
        quantity=order.quantity,
        reduces=order.reduces,
        quote=quote,
        checks=checks,
    )


def resume(desk: Desk, account: Account, symbol: str) -> None:
    """Let what waits in the symbol go, oldest first, if it may."""
    for order in account.open_of(symbol):
        if order.status == "requested":
            go(desk, account, order)


# ---------------------------------------------------------------- changes


def _track(desk: Desk, account: Account, order: Order) -> None:
    """One that has ended leaves the open ones, and what waited for it is looked at again."""
    account.track(order)
    if not order.ended:
        order.ended_session = 0
        return
    order.ended_session = order.ended_session or max(desk.market.session.count, 1)
    desk.revisit(account, order.symbol)


def changed(desk: Desk, account: Account, order: Order, why: Why, reason: str = "") -> OrderChanged:
    """Write an order's state; one that has ended leaves the open ones."""
    _track(desk, account, order)
    return desk.emit(
        account,
        OrderChanged,
        why,
        order=order.id,
        strategy=order.strategy,
        symbol=order.symbol,
        side=order.side,
        status=order.status,
        pending=order.pending,
        fix=order.fix,
        quantity=order.quantity,
        filled=order.filled,
        leaves=max(order.quantity - order.filled, ZERO) if not order.ended else ZERO,
        limit=order.limit,
        stop=order.stop,
        new_quantity=order.new_quantity,
        new_limit=order.new_limit,
        new_stop=order.new_stop,
        reason=reason,
    )


def cancel(desk: Desk, account: Account, order: Order, why: Why, reason: str) -> None:
    """Ask for a cancel; an order that was not sent yet ends at once."""
    if order.ended or order.pending == "cancel":
        return
    if order.status == "requested":
        order.move("cancel")
    else:
        order.pending = "cancel"
    changed(desk, account, order, Why(why.cause, order.trace), reason)


def asked_for(order: Order, quantity: Decimal | None, limit: Decimal | None, stop: Decimal | None) -> Asked:
    """The terms that an order would have; what is None stays."""
    return Asked(
        quantity if quantity is not None else order.quantity,
        limit if limit is not None else order.limit,
        stop if stop is not None else order.stop,
    )


def replace_refusal(desk: Desk, account: Account, order: Order, asked: Asked) -> str:
    """Why the order cannot be replaced by one with these terms, or ""; nothing changes."""
    if order.ended or order.pending != "none" or order.status == "requested":
        return f"order {order.id} is {order.status}, pending {order.pending}"
    before = (order.quantity, order.limit, order.stop, order.price, order.reduces)
    room = _room_to_zero(account, order.symbol, order.side) + order.leaves
    closes = _is_against(account.net(order.symbol), order.side)
    order.quantity, order.limit, order.stop = asked
    _, checks, _ = risk.evaluate(desk, account, order)
    crosses = closes and asked.quantity > before[0] and order.leaves > room
    order.quantity, order.limit, order.stop, order.price, order.reduces = before
    failed = [f"{c.name} {c.value} against {c.limit}" for c in checks if not c.ok]
    if crosses:
        failed.append(f"crossing-zero {plain(asked.quantity - order.filled)} against {plain(room)}")
    return "; ".join(failed)


def replace(desk: Desk, account: Account, order: Order, asked: Asked, why: Why) -> None:
    """Ask for new terms; while that is pending, the larger of both is what may fill, at the worse price."""
    price = order.price
    before = (order.limit, order.stop)
    order.limit, order.stop = asked.limit, asked.stop
    risk.reprice(desk, order)
    order.limit, order.stop = before
    order.price = max(price, order.price)
    order.pending = "replace"
    order.new_quantity, order.new_limit, order.new_stop = asked
    changed(desk, account, order, Why(why.cause, order.trace), "replace")


def position_changed(desk: Desk, account: Account, symbol: str, strategy: str, why: Why) -> None:
    """Write a book's state, with the net position beside it."""
    ledger = account.holding(symbol).ledger
    book, net = ledger.book(strategy), ledger.books[NET]
    desk.emit(
        account,
        PositionChanged,
        why,
        strategy=strategy,
        symbol=symbol,
        quantity=book.quantity,
        cost=book.cost,
        average=book.average,
        realized=book.realized,
        fees=book.fees,
        income=book.income,
        net_quantity=net.quantity,
        net_cost=net.cost,
        net_realized=net.realized,
    )
