"""From what a strategy or an operator wants to an order at the broker.

A proposal becomes a signal; a target is sized; an order is requested, held against every risk
check, and accepted or denied. An order opposite to one that works waits for its end (brokers
refuse it as a wash trade), and a trade through zero closes first. What waits stays "requested".
"""

from __future__ import annotations

from decimal import Decimal
from typing import NamedTuple

from processors.account import risk
from processors.account.account import Account, Flattening, Target
from processors.account.books import NET, Entry
from processors.account.desk import Desk, Why
from processors.account.orders import Order
from processors.account.sizing import shares_of_weight
from schemas import (
    ZERO,
    Anomaly,
    Check,
    InternalTransfer,
    OrderAccepted,
    OrderChanged,
    OrderDenied,
    OrderRequested,
    PositionChanged,
    Proposal,
    Record,
    Signal,
    client_order_id,
    decision_id,
    quotient,
)

OPERATOR_BOOK = "operator"


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


def on_proposal(desk: Desk, record: Record) -> None:
    """Write the signal a proposal makes, and act on it; a repeat is dropped."""
    proposal = record.event
    assert isinstance(proposal, Proposal)
    account = desk.account(proposal.account)
    if account is None:
        return
    key, at = f"{proposal.strategy}|{proposal.source}", (proposal.position, proposal.ordinal)
    if account.seen.get(key, (-1, -1)) >= at:
        return
    account.seen[key] = at
    why = _signal(desk, account, proposal, proposal.id if record.offset >= 0 else proposal.cause)
    if proposal.intent == "target":
        account.targets.get(proposal.symbol, {}).pop(proposal.strategy, None)
        pursue(desk, account, proposal.strategy, proposal.symbol, _target(proposal, why))
    elif proposal.intent == "order" and proposal.side is not None and proposal.quantity is not None:
        submit(desk, account, _terms(proposal, proposal.side, proposal.quantity), why)
    elif proposal.intent in ("cancel", "replace"):
        _change(desk, account, proposal, why)


def _signal(desk: Desk, account: Account, p: Proposal, cause: str) -> Why:
    root = decision_id(account.id, account.seq + 1)
    desk.emit(
        account,
        Signal,
        Why(cause, root),
        proposal=p.id,
        strategy=p.strategy,
        version=p.version,
        intent=p.intent,
        symbol=p.symbol,
        weight=p.weight,
        shares=p.shares,
        side=p.side,
        quantity=p.quantity,
        order_type=p.order_type,
        limit=p.limit,
        stop=p.stop,
        tif=p.tif,
        extended=p.extended,
        order=p.order,
        confidence=p.confidence,
        features=p.features,
    )
    return Why(root, root)


def _target(p: Proposal, why: Why) -> Target:
    return Target(p.weight, p.shares, why.cause, why.trace)


def _terms(p: Proposal, side: str, quantity: Decimal) -> Terms:
    return Terms(p.strategy, p.symbol, side, quantity, p.order_type, p.limit, p.stop, p.tif, p.extended)


def _change(desk: Desk, account: Account, p: Proposal, why: Why) -> None:
    """A strategy cancels or replaces an order of its own."""
    order = account.orders.get(p.order)
    if order is None or order.strategy != p.strategy:
        text = f"{p.intent} of an order that {p.strategy} does not have"
        desk.emit(account, Anomaly, why, kind="unknown-order", order=p.order, detail=text)
    elif p.intent == "cancel":
        cancel(desk, account, order, why, "strategy")
    else:
        replace(desk, account, order, p.quantity, p.limit, p.stop, why)


# ---------------------------------------------------------------- targets


def pursue(desk: Desk, account: Account, strategy: str, symbol: str, target: Target) -> None:
    """Order what lacks to the target; one-shot, but kept while orders against it are cancelled."""
    why = Why(target.cause, target.trace)
    held = account.holdings.get(symbol)
    book = held.ledger.books.get(strategy) if held is not None else None
    mine = [o for o in account.open_of(symbol) if o.strategy == strategy]
    current = sum((o.signed_leaves for o in mine), book.quantity if book is not None else ZERO)
    sized = _size(desk, account, symbol, target, current)
    if sized is None:
        return
    wanted, price = sized
    change = wanted - current
    if not change:
        return
    side = "buy" if change > 0 else "sell"
    against = [o for o in mine if o.side != side]
    if against:
        account.targets.setdefault(symbol, {})[strategy] = target
        for order in against:
            cancel(desk, account, order, why, "newer target")
        return
    equity = account.equity
    if wanted and equity is not None and abs(change) * price < desk.settings.min_change * equity:
        return
    submit(desk, account, Terms(strategy, symbol, side, abs(change)), why)


def _size(
    desk: Desk, account: Account, symbol: str, target: Target, current: Decimal
) -> tuple[Decimal, Decimal] | None:
    """The position wanted (signed shares) and the price it was sized at; None: no price, no order."""
    state = desk.market.symbol(symbol)
    for side in ("buy", "sell"):
        price = desk.market.taker_price(state, side)
        wanted = target.shares
        if wanted is None and target.weight is not None:
            wanted = ZERO if not target.weight else None
            equity = account.equity
            if wanted is None and price is not None and equity is not None:
                wanted = shares_of_weight(
                    target.weight,
                    equity,
                    desk.settings.buffer,
                    side,
                    price.price,
                    desk.fees,
                    desk.ts,
                    account.fractions,
                )
        if wanted is None or (price is None and wanted):
            return None
        if (wanted > current) if side == "buy" else (wanted < current):
            return wanted, price.price if price is not None else ZERO
    return None


# ---------------------------------------------------------------- orders


def submit(desk: Desk, account: Account, terms: Terms, why: Why, operator: bool = False) -> Order:
    """Request an order; through zero it becomes two, and the opening one waits for the closing one."""
    net = account.net(terms.symbol)
    closes = net and (net > 0) != (terms.side == "buy")
    same = (o.leaves for o in account.working_of(terms.symbol) if o.side == terms.side)
    room = abs(net) - sum(same, ZERO) if closes else ZERO
    if 0 < room < terms.quantity:
        first = request(desk, account, terms._replace(quantity=room), why, operator)
        rest = terms.quantity - room
        request(desk, account, terms._replace(quantity=rest), why, operator, after=first.id)
        go(desk, account, first)
        return first
    order = request(desk, account, terms, why, operator)
    go(desk, account, order)
    return order


def request(
    desk: Desk, account: Account, terms: Terms, why: Why, operator: bool = False, after: str = ""
) -> Order:
    """Write OrderRequested, and keep the order."""
    seq = account.seq + 1
    order = Order(
        id=client_order_id(desk.settings.log_prefix, account.id, seq),
        seq=seq,
        trace=why.trace,
        operator=operator,
        after=after,
        **terms._asdict(),
    )
    desk.emit(account, OrderRequested, why, order=order.id, **terms._asdict())
    account.orders[order.id] = order
    account.track(order)
    return order


def go(desk: Desk, account: Account, order: Order) -> None:
    """Accept or deny a requested order, unless it has to wait."""
    others = account.working_of(order.symbol)
    if any(o.side != order.side for o in others):
        return
    if order.after:
        first = account.orders.get(order.after)
        if first is not None and not first.ended:
            return
        if first is None or first.status != "filled":
            _deny(desk, account, order, (_unclosed(first),), "")
            return
    passed, checks, taker = risk.evaluate(desk, account, order)
    quote = taker.source if taker is not None else ""
    if not passed:
        _deny(desk, account, order, tuple(c for c in checks if not c.ok), quote)
        return
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
    _count(desk, account, order)


def _unclosed(first: Order | None) -> Check:
    status = first.status if first is not None else "unknown"
    return Check(
        name="crossing-zero", ok=False, value=f"closing order {status}", limit="closing order filled"
    )


def _count(desk: Desk, account: Account, order: Order) -> None:
    account.orders_today += 1
    account.notional_today += order.price * order.quantity
    window = max(risk.SECOND, (account.limits.duplicate_window_ms or 0) * risk.MS)
    account.recent = [(ts, text) for ts, text in account.recent if ts >= desk.ts - window]
    account.recent.append((desk.ts, risk.description(order)))


def _deny(desk: Desk, account: Account, order: Order, checks: tuple[Check, ...], quote: str) -> None:
    order.move("deny")
    order.ended_session = desk.market.session.count
    account.track(order)
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


def changed(desk: Desk, account: Account, order: Order, why: Why, reason: str = "") -> OrderChanged:
    """Write an order's state; one that has ended leaves the open ones."""
    if order.ended and not order.ended_session:
        order.ended_session = max(desk.market.session.count, 1)
    account.track(order)
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
        changed(desk, account, order, Why(why.cause, order.trace), reason)
        release(desk, account, order.symbol)
        return
    order.pending = "cancel"
    order.new_quantity = order.new_limit = order.new_stop = None
    changed(desk, account, order, Why(why.cause, order.trace), reason)


def replace(
    desk: Desk,
    account: Account,
    order: Order,
    quantity: Decimal | None,
    limit: Decimal | None,
    stop: Decimal | None,
    why: Why,
) -> str:
    """Ask for new terms, if they pass every check; otherwise nothing changes. The refusal, or ""."""
    if order.ended or order.pending != "none" or order.status == "requested":
        return f"order {order.id} is {order.status}, pending {order.pending}"
    before = (order.quantity, order.limit, order.stop)
    asked = (
        quantity if quantity is not None else order.quantity,
        limit if limit is not None else order.limit,
        stop if stop is not None else order.stop,
    )
    order.quantity, order.limit, order.stop = asked
    price = order.price
    passed, checks, _ = risk.evaluate(desk, account, order)
    order.quantity, order.limit, order.stop = before
    if not passed:
        order.price = price
        failed = "; ".join(f"{c.name} {c.value} against {c.limit}" for c in checks if not c.ok)
        changed(desk, account, order, Why(why.cause, order.trace), f"replace denied: {failed}")
        return failed
    order.price = max(price, order.price)
    order.pending = "replace"
    order.new_quantity, order.new_limit, order.new_stop = asked
    changed(desk, account, order, Why(why.cause, order.trace), "replace")
    return ""


def release(desk: Desk, account: Account, symbol: str) -> None:
    """An order has ended: what waited for it goes, kept targets are sized again, a flatten goes on."""
    for order in account.open_of(symbol):
        if order.status == "requested":
            go(desk, account, order)
    kept = account.targets.get(symbol, {})
    for strategy in sorted(kept):
        if not any(o.strategy == strategy for o in account.open_of(symbol)):
            pursue(desk, account, strategy, symbol, kept.pop(strategy))
    if symbol in account.targets and not account.targets[symbol]:
        del account.targets[symbol]
    advance_flatten(desk, account, symbol)


# ---------------------------------------------------------------- the breaker's and the operator's way out


def cancel_growing(desk: Desk, account: Account, why: Why) -> None:
    """Cancel every order that could grow |net|; of the rest, stops are kept before other orders."""
    account.targets.clear()
    for symbol in sorted(account.open_orders):
        net = abs(account.net(symbol))
        long = account.net(symbol) > 0
        room = net
        orders = account.open_of(symbol)
        for order in sorted(orders, key=lambda o: (o.stop is None, o.seq)):
            reduces = bool(net) and (order.side == "sell") == long and order.status != "requested"
            if reduces and order.leaves <= room:
                room -= order.leaves
            else:
                cancel(desk, account, order, why, "breaker")


def begin_flatten(desk: Desk, account: Account, symbol: str, why: Why) -> None:
    """Cancel what is open in the symbol, then close its net position at the market."""
    account.targets.pop(symbol, None)
    account.flattening[symbol] = Flattening(why.cause, why.trace)
    for order in account.open_of(symbol):
        cancel(desk, account, order, why, "flatten")
    advance_flatten(desk, account, symbol)


def advance_flatten(desk: Desk, account: Account, symbol: str) -> None:
    """Take a flatten one step on: it waits for cancels, for the open and for the end of a halt."""
    plan = account.flattening.get(symbol)
    if plan is None or account.open_orders.get(symbol):
        return
    net, why = account.net(symbol), Why(plan.cause, plan.trace)
    if not net:
        del account.flattening[symbol]
        _even_books(desk, account, symbol, plan, why)
        return
    placed = account.orders.get(plan.order)
    if placed is not None and placed.status in ("rejected", "denied"):
        del account.flattening[symbol]
        detail = f"flatten of {symbol} was {placed.status}"
        desk.emit(account, Anomaly, why, kind="flatten-failed", order=placed.id, detail=detail)
        return
    if not desk.market.session.is_open or desk.market.symbol(symbol).halted:
        return
    side = "sell" if net > 0 else "buy"
    order = request(desk, account, Terms(OPERATOR_BOOK, symbol, side, abs(net)), why, operator=True)
    plan.order = order.id
    go(desk, account, order)


def _even_books(desk: Desk, account: Account, symbol: str, plan: Flattening, why: Why) -> None:
    """The net is flat: bring each strategy's book to zero against the operator's, at the price got."""
    holding = account.holdings.get(symbol)
    if holding is None:
        return
    order = account.orders.get(plan.order)
    price = quotient(order.notional, order.filled) if order is not None and order.filled else holding.mark
    if price is None:
        return
    for strategy in holding.ledger.strategies():
        quantity = holding.ledger.books[strategy].quantity
        if strategy == OPERATOR_BOOK or not quantity:
            continue
        giver, taker = (strategy, OPERATOR_BOOK) if quantity > 0 else (OPERATOR_BOOK, strategy)
        transfer(desk, account, symbol, giver, taker, abs(quantity), price, why)


def transfer(
    desk: Desk,
    account: Account,
    symbol: str,
    giver: str,
    taker: str,
    quantity: Decimal,
    price: Decimal,
    why: Why,
) -> None:
    """Move shares between two books at a price; the net position and cash do not change."""
    holding = account.holding(symbol)
    moved = desk.emit(
        account,
        InternalTransfer,
        why,
        symbol=symbol,
        giver=giver,
        taker=taker,
        quantity=quantity,
        price=price,
    )
    session = desk.market.session.count
    holding.ledger.add(Entry("transfer", session, giver, taker, quantity=quantity, price=price))
    for strategy in (giver, taker):
        position_changed(desk, account, symbol, strategy, desk.then(moved, why))


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
