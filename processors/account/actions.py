"""Sessions and corporate actions: what happens to every account at once."""

from __future__ import annotations

from decimal import Decimal

from processors.account import breaker as br
from processors.account.account import Account, Payment
from processors.account.books import NET, Entry, scaled
from processors.account.desk import Desk, Why
from processors.account.operator import check_baseline
from processors.account.trading import advance_flatten, position_changed
from processors.account.valuation import check_stale, clear, halt, watch, write_pnl
from schemas import (
    ZERO,
    CashDividend,
    DayOpened,
    Record,
    SessionClosed,
    SessionOpened,
    Split,
    TradingHalt,
    TradingResume,
    Unread,
    Unreadable,
    ratio,
)


def on_opened(desk: Desk, record: Record) -> None:
    """A day begins: its baseline is written, yesterday's day-loss may be re-armed, dividends are paid."""
    event = record.event
    assert isinstance(event, SessionOpened)
    market = desk.market
    missed_close = market.session.is_open
    market.open_session(event.session, event.ts, event.close, event.extended_open, event.extended_close)
    why = desk.because()
    for account in desk.each_account():
        if missed_close:
            _end_day(desk, account, why)
        _forget(account, market.session.count - desk.settings.retain_sessions)
        account.orders_today, account.notional_today, account.broker_errors = 0, ZERO, 0
        if account.limits.rearm_next_session:
            clear(desk, account, br.DAY_LOSS, "halt", "tape", "next session", why)
        _pay(account, event.session)
        desk.emit(
            account, DayOpened, why, session=event.session, baseline=account.baseline, peak=account.peak
        )
        check_baseline(desk, account, why)
        account.arm()
        write_pnl(desk, account, why)
        for symbol in sorted(account.flattening):
            advance_flatten(desk, account, symbol)


def on_closed(desk: Desk, record: Record) -> None:
    """A day ends: equity at the regular close is the next day's baseline."""
    event = record.event
    assert isinstance(event, SessionClosed)
    if not desk.market.session.is_open:
        return
    why = desk.because()
    for account in desk.each_account():
        write_pnl(desk, account, why)
    desk.market.close_session(event.ts)
    for account in desk.each_account():
        _end_day(desk, account, why)


def _end_day(desk: Desk, account: Account, why: Why) -> None:
    account.baseline = account.equity
    account.flows = ZERO
    clear(desk, account, br.DAY_LOSS, "reduce", "tape", "the session ended", why)
    clear(desk, account, br.STALE, "reduce", "tape", "the session ended", why)
    account.arm()


def _forget(account: Account, before: int) -> None:
    """Closed orders, their executions and old commands leave the state after some sessions."""
    old = [o.id for o in account.orders.values() if o.ended and o.ended_session < before]
    for order in old:
        del account.orders[order]
    account.executions = {k: e for k, e in account.executions.items() if e.session >= before}
    account.commands = {k: session for k, session in account.commands.items() if session >= before}
    for holding in account.holdings.values():
        holding.ledger.forget(before)


def on_split(desk: Desk, record: Record) -> None:
    """Quantities, prices and marks scale, cost stays; a fraction of a share becomes cash at the mark."""
    event = record.event
    assert isinstance(event, Split)
    desk.market.symbol(event.symbol).scale(event.num, event.den)
    why = desk.because()
    for account in desk.each_account():
        holding = account.holdings.get(event.symbol)
        if holding is None or not any(book.quantity for book in holding.ledger.books.values()):
            continue
        ledger, session = holding.ledger, desk.market.session.count
        ledger.add(Entry("split", session, num=event.num, den=event.den))
        for name in ("mark", "before"):
            price = getattr(holding, name)
            if price is not None:
                setattr(holding, name, ratio(price, Decimal(event.den), Decimal(event.num)))
        fraction = ZERO if account.fractions else ledger.net.quantity % 1
        if fraction and holding.mark is not None:
            _cash_in_lieu(account, holding.mark, fraction, event.symbol, session, record.place)
        account.settle(holding)
        desk.holds(account, event.symbol)
        for strategy in ledger.strategies():
            position_changed(desk, account, event.symbol, strategy, why)
        _scale_waiting(account, event)
        account.arm()
        write_pnl(desk, account, why)


def _cash_in_lieu(
    account: Account, price: Decimal, fraction: Decimal, symbol: str, session: int, place: str
) -> None:
    """The fraction (signed) is sold, or bought back, out of the last strategy's book."""
    ledger = account.holding(symbol).ledger
    last = [name for name in ledger.strategies() if ledger.books[name].quantity][-1]
    ledger.add(
        Entry("trade", session, last, execution=f"cash-in-lieu {place}", quantity=-fraction, price=price)
    )
    account.cash += fraction * price


def _scale_waiting(account: Account, event: Split) -> None:
    """Orders that wait here scale; those at the broker are scaled by it, and reported."""
    for order in account.open_of(event.symbol):
        if order.status == "requested":
            order.quantity = scaled(order.quantity, event.num, event.den)


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
        for name, base in ledger.base.items():
            base.income = ledger.books[name].income
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


def _pay(account: Account, session: str) -> None:
    """Receivables whose day has come become cash."""
    due = [p for p in account.payments if p.pay <= session]
    for payment in due:
        account.receivables -= payment.amount
        account.cash += payment.amount
    account.payments = [p for p in account.payments if p.pay > session]


def on_trading_halt(desk: Desk, record: Record) -> None:
    """The exchange halts a symbol."""
    event = record.event
    assert isinstance(event, TradingHalt)
    desk.market.symbol(event.symbol).halted = True


def on_trading_resume(desk: Desk, record: Record) -> None:
    """The exchange resumes a symbol; a flatten that waited goes on."""
    event = record.event
    assert isinstance(event, TradingResume)
    desk.market.symbol(event.symbol).halted = False
    for account in desk.each_account():
        advance_flatten(desk, account, event.symbol)


def on_unreadable(desk: Desk, record: Record) -> None:
    """A record that cannot be read: facts about an account halt it, market records make symbols stale."""
    event = record.event
    assert isinstance(event, Unreadable)
    why = desk.because()
    of_market = record.topic.startswith("market.")
    key = record.key.decode("utf-8", "replace")
    if of_market:
        _unread_market(desk, record, key)
    named = None if of_market else desk.account(key)
    for account in desk.each_account() if named is None else [named]:
        made = desk.emit(account, Unread, why, place=record.place, reason=event.reason)
        after = desk.then(made, why)
        if of_market:
            check_stale(desk, account, after)
        else:
            account.unread[record.place] = event.reason
            halt(desk, account, br.INTEGRITY, f"{record.place}: {event.reason}", after)


def _unread_market(desk: Desk, record: Record, key: str) -> None:
    every = key in ("", "*") or key not in desk.market.symbols
    symbols = list(desk.market.symbols.values()) if every else [desk.market.symbols[key]]
    for state in symbols:
        if record.topic == "market.status":
            state.unread_status = (*state.unread_status, record.place)
        else:
            state.unread = True
