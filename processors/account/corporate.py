"""Splits and dividends."""

from __future__ import annotations

from decimal import Decimal

import msgspec

from processors.account import risk
from processors.account.account import Account, Holding, Payment
from processors.account.books import NET, Entry, scaled
from processors.account.desk import Desk, Why
from processors.account.flatten import transfer
from processors.account.orders import Order
from processors.account.trading import cancel, position_changed
from processors.account.valuation import watch, write_pnl
from schemas import ONE, ZERO, CashDividend, Fill, Record, Split, canonical, ratio

SMALLEST_FRACTION = Decimal("0.000000001")
"""Of a share, in an account that allows fractions. Smaller ones could not be valued exactly."""


def on_split(desk: Desk, record: Record) -> None:
    """Quantities, prices and marks scale, cost stays; a fraction of a share becomes cash at the mark."""
    event = record.event
    assert isinstance(event, Split)
    desk.market.symbol(event.symbol).scale(event.num, event.den)
    why = desk.because()
    for account in desk.each_account():
        _scale_wishes(desk, account, event, why)
        holding = account.holdings.get(event.symbol)
        if holding is not None and any(book.quantity for book in holding.ledger.books.values()):
            _split_holding(desk, account, holding, event, why)


def _split_holding(desk: Desk, account: Account, holding: Holding, event: Split, why: Why) -> None:
    ledger = holding.ledger
    ledger.add(Entry("split", desk.market.session.count, num=event.num, den=event.den))
    for name in ("mark", "before"):
        price = getattr(holding, name)
        if price is not None:
            setattr(holding, name, ratio(price, Decimal(event.den), Decimal(event.num)))
    found = desk.market.price(desk.market.symbol(event.symbol), holding.quantity > 0)
    price = holding.mark if holding.mark is not None or found is None else found.price
    if price is not None:
        smallest = SMALLEST_FRACTION if account.fractions else ONE
        cash_in_lieu(desk, account, holding, price, smallest, why)
    account.settle(holding)
    desk.holds(account, event.symbol)
    for strategy in ledger.strategies():
        position_changed(desk, account, event.symbol, strategy, why)
    account.arm()
    write_pnl(desk, account, why)


def cash_in_lieu(
    desk: Desk, account: Account, holding: Holding, price: Decimal, smallest: Decimal, why: Why
) -> None:
    """Of each book, what is less than `smallest` shares gathers in the last one; what is left of it there
    is sold, or bought back.
    """
    ledger, symbol = holding.ledger, holding.symbol
    held = [name for name in ledger.strategies() if ledger.books[name].quantity]
    for name in held[:-1]:
        fraction = ledger.books[name].quantity % smallest
        if fraction:
            transfer(desk, account, symbol, (name, held[-1]), fraction, price, why)
    fraction = ledger.net.quantity % smallest
    if not fraction:
        return
    name = f"cash-in-lieu {why.cause}"
    desk.emit(
        account,
        Fill,
        why,
        order="",
        execution=name,
        strategy=held[-1],
        symbol=symbol,
        side="sell" if fraction > 0 else "buy",
        quantity=abs(fraction),
        price=price,
        fee=ZERO,
    )
    amount = ratio(price, fraction, ONE)
    entry = Entry("trade", desk.market.session.count, held[-1], "", name, -fraction, price)
    entry.amount = -amount
    ledger.add(entry)
    account.cash += amount


def _scale_wishes(desk: Desk, account: Account, event: Split, why: Why) -> None:
    """What waits here scales on a forward split and is cancelled on a reverse one; what is at the broker
    is scaled by it, and reported.
    """
    for order in account.open_of(event.symbol):
        if order.status != "requested":
            risk.reprice(desk, order)
        elif event.num < event.den:
            cancel(desk, account, order, why, "reverse split")
        else:
            _scale_order(account, order, event)
    kept = account.targets.get(event.symbol, {})
    for strategy, target in kept.items():
        if target.shares is not None:
            shares = canonical(scaled(target.shares, event.num, event.den))
            kept[strategy] = msgspec.structs.replace(target, shares=_in_lots(account, shares))


def _scale_order(account: Account, order: Order, event: Split) -> None:
    order.quantity = _in_lots(account, scaled(order.quantity, event.num, event.den))
    for name in ("limit", "stop"):
        price = getattr(order, name)
        if price is not None:
            setattr(order, name, canonical(ratio(price, Decimal(event.den), Decimal(event.num))))


def _in_lots(account: Account, shares: Decimal) -> Decimal:
    return shares - shares % (SMALLEST_FRACTION if account.fractions else ONE)


def on_dividend(desk: Desk, record: Record) -> None:
    """What was held before the ex-date earns (short: owes) the dividend; it is paid on `pay`."""
    event = record.event
    assert isinstance(event, CashDividend)
    why = desk.because()
    for account in desk.each_account():
        holding = account.holdings.get(event.symbol)
        if holding is None or not any(book.quantity for book in holding.ledger.books.values()):
            continue
        ledger = holding.ledger
        for book in ledger.books.values():
            book.income += book.quantity * event.amount
        amount = ledger.books[NET].quantity * event.amount
        if event.pay <= event.ex:
            account.cash += amount
        else:
            account.receivables += amount
            account.payments.append(Payment(event.symbol, event.pay, amount))
        account.settle(holding)
        for strategy in ledger.strategies():
            position_changed(desk, account, event.symbol, strategy, why)
        write_pnl(desk, account, why)
        watch(desk, account, why)
