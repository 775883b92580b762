"""The way out: what a trip cancels, and how a position is closed.

A flatten cancels what is open in a symbol, waits for the cancels, for the open and for the end of a
trading halt, sends one order for the net position, and when that is flat evens the strategies' books
against the operator's.
"""

from __future__ import annotations

from decimal import Decimal

from processors.account.account import Account, Flattening
from processors.account.books import Entry
from processors.account.desk import Desk, Why
from processors.account.trading import Terms, cancel, go, position_changed, request
from schemas import ONE, Anomaly, InternalTransfer, quotient, ratio

OPERATOR_BOOK = "operator"


def cancel_growing(desk: Desk, account: Account, why: Why) -> None:
    """Cancel every order that could grow |net|; of the rest, stops are kept before other orders."""
    account.targets.clear()
    for symbol in sorted(account.open_orders):
        net = account.net(symbol)
        room = abs(net)
        for order in sorted(account.open_of(symbol), key=lambda o: (o.stop is None, o.seq)):
            reduces = bool(net) and (order.side == "sell") == (net > 0) and order.status != "requested"
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
    desk.revisit(account, symbol)


def resume(desk: Desk, account: Account, symbol: str) -> None:
    """Take a flatten one step on, if it need not wait."""
    plan = account.flattening.get(symbol)
    if plan is None or account.open_orders.get(symbol):
        return
    net, why = account.net(symbol), Why(plan.cause, plan.trace)
    placed = account.orders.get(plan.order)
    if not net:
        _even_books(desk, account, symbol, plan, why)
    elif placed is not None and placed.status in ("rejected", "denied", "cancelled"):
        _give_up(desk, account, symbol, plan, f"its order was {placed.status}")
    elif desk.market.session.is_open and not desk.market.is_halted(symbol):
        side = "sell" if net > 0 else "buy"
        terms = Terms(OPERATOR_BOOK, symbol, side, abs(net))
        order = request(desk, account, terms, why, desk.ts, operator=True)
        plan.order = order.id
        go(desk, account, order)


def _give_up(desk: Desk, account: Account, symbol: str, plan: Flattening, what: str) -> None:
    del account.flattening[symbol]
    why = Why(plan.cause, plan.trace)
    detail = f"flatten of {symbol}: {what}"
    desk.emit(account, Anomaly, why, kind="flatten-failed", order=plan.order, detail=detail)


def _even_books(desk: Desk, account: Account, symbol: str, plan: Flattening, why: Why) -> None:
    """The net is flat: bring each strategy's book to zero against the operator's, at the price got."""
    books = account.holding(symbol).ledger.books
    uneven = [s for s in account.holding(symbol).ledger.strategies() if books[s].quantity]
    price = _price_got(desk, account, symbol, plan)
    if uneven and price is None:
        _give_up(desk, account, symbol, plan, "no price to even the books at")
        return
    del account.flattening[symbol]
    for strategy in uneven:
        if strategy != OPERATOR_BOOK and price is not None:
            transfer(desk, account, symbol, (strategy, OPERATOR_BOOK), books[strategy].quantity, price, why)


def _price_got(desk: Desk, account: Account, symbol: str, plan: Flattening) -> Decimal | None:
    """What the flatten's order filled at; the long side's mark where none was needed."""
    order = account.orders.get(plan.order)
    if order is not None and order.filled:
        return quotient(order.notional, order.filled)
    found = desk.market.price(desk.market.symbol(symbol), long=True)
    return found.price if found is not None else None


def transfer(
    desk: Desk,
    account: Account,
    symbol: str,
    books: tuple[str, str],
    quantity: Decimal,
    price: Decimal,
    why: Why,
) -> None:
    """Move shares (signed) from the first to the second book at a price; net position and cash stay."""
    giver, taker = books if quantity > 0 else (books[1], books[0])
    quantity = abs(quantity)
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
    entry = Entry("transfer", desk.market.session.count, giver, taker, quantity=quantity, price=price)
    entry.amount = ratio(price, quantity, ONE)
    account.holding(symbol).ledger.add(entry)
    for strategy in (giver, taker):
        position_changed(desk, account, symbol, strategy, desk.then(moved, why))
