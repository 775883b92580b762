"""Days and trading halts: baselines, what a new day clears, what leaves the state."""

from __future__ import annotations

from processors.account import breaker as br
from processors.account.account import Account
from processors.account.desk import Desk, Why
from processors.account.operator import check_baseline
from processors.account.valuation import clear, write_pnl
from schemas import (
    EVERY_SYMBOL,
    ZERO,
    DayOpened,
    Record,
    SessionClosed,
    SessionOpened,
    TradingHalt,
    TradingResume,
)


def on_opened(desk: Desk, record: Record) -> None:
    """A day begins: its baseline is written, yesterday's day-loss may be re-armed, dividends are paid."""
    event = record.event
    assert isinstance(event, SessionOpened)
    market = desk.market
    why = desk.because()
    if market.session.is_open:
        _close(desk, market.session.close, why)
    market.open_session(event.session, event.ts, event.close, event.extended_open, event.extended_close)
    for account in desk.each_account():
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
        _revisit(desk, account, EVERY_SYMBOL)


def on_closed(desk: Desk, record: Record) -> None:
    """A day ends: equity at the regular close is the next day's baseline."""
    event = record.event
    assert isinstance(event, SessionClosed)
    if not desk.market.session.is_open:
        return
    why = desk.because()
    for account in desk.each_account():
        write_pnl(desk, account, why)
    _close(desk, event.ts, why)


def _close(desk: Desk, ts: int, why: Why) -> None:
    desk.market.close_session(ts)
    for account in desk.each_account():
        account.baseline = account.equity
        account.flows = ZERO
        clear(desk, account, br.DAY_LOSS, "reduce", "tape", "the session ended", why)
        clear(desk, account, br.STALE, "reduce", "tape", "the session ended", why)
        account.arm()


def _forget(account: Account, before: int) -> None:
    """Closed orders, their executions, and ids seen leave the state after some sessions."""
    old = [o.id for o in account.orders.values() if o.ended and o.ended_session < before]
    for order in old:
        del account.orders[order]
    account.executions = {
        name: e for name, e in account.executions.items() if e.session >= before or e.order in account.orders
    }
    account.commands = {k: session for k, session in account.commands.items() if session >= before}
    account.cash_reports = {k: session for k, session in account.cash_reports.items() if session >= before}
    for holding in account.holdings.values():
        holding.ledger.forget(before)


def _pay(account: Account, session: str) -> None:
    """Receivables whose day has come become cash."""
    for payment in account.payments:
        if payment.pay <= session:
            account.receivables -= payment.amount
            account.cash += payment.amount
    account.payments = [p for p in account.payments if p.pay > session]


def on_trading_halt(desk: Desk, record: Record) -> None:
    """The exchange halts a symbol, or all of them."""
    event = record.event
    assert isinstance(event, TradingHalt)
    state = desk.market.symbol(event.symbol)
    state.halted, state.halt_ts = True, max(state.halt_ts, event.ts)


def on_trading_resume(desk: Desk, record: Record) -> None:
    """The exchange resumes a symbol, or all; what waited for it goes on."""
    event = record.event
    assert isinstance(event, TradingResume)
    state = desk.market.symbol(event.symbol)
    state.halted, state.halt_ts = False, max(state.halt_ts, event.ts)
    for account in desk.each_account():
        _revisit(desk, account, event.symbol)


def _revisit(desk: Desk, account: Account, symbol: str) -> None:
    every = {*account.flattening, *account.open_orders}
    for each in sorted(every if symbol == EVERY_SYMBOL else every & {symbol}):
        desk.revisit(account, each)
