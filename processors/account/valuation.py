"""Marks to money: what positions are worth, profit and loss, and when the breaker trips.

A loss seen on quotes must hold on two successive valid marks: it is measured with the better of
each symbol's last two. A loss seen on a fill counts at once, and so does a bar where a symbol has
no quotes.
"""

from __future__ import annotations

from decimal import Decimal

from processors.account import breaker as br
from processors.account.account import Account, Holding
from processors.account.desk import Desk, Why
from processors.account.market import SymbolState
from processors.account.trading import begin_flatten, cancel_growing
from schemas import (
    ZERO,
    BreakerCleared,
    BreakerHalted,
    BreakerReducing,
    Evidence,
    LimitBreached,
    PnL,
)

FOREVER = 1 << 62


def on_mark(desk: Desk, state: SymbolState) -> None:
    """The symbol's mark may have changed: mark every holder anew and look at its breaker."""
    for name in desk.holders[state.symbol]:
        account = desk.accounts[name]
        holding = account.holdings[state.symbol]
        quantity = holding.ledger.net.quantity
        found = desk.market.price(state, quantity > 0)
        if found is None:
            continue
        price = found.price
        if holding.mark is None:
            mark(desk, account, holding)
        else:
            holding.before = holding.mark if state.has_quotes else price
            holding.tier, holding.source, holding.mark_ts = found.tier, found.source, found.ts
            if price != holding.mark:
                holding.mark = price
                value = quantity * price
                account.value += value - holding.value
                holding.value = value
                account.changed = True
        if br.STALE in account.breaker.reduces:
            check_stale(desk, account, desk.because())
        if account.baseline is not None:
            watch(desk, account, None)


def mark(desk: Desk, account: Account, holding: Holding) -> None:
    """Give a holding its current mark and settle the account's totals."""
    found = None
    if holding.quantity:
        found = desk.market.price(desk.market.symbol(holding.symbol), holding.quantity > 0)
    if found is None:
        holding.mark = holding.before = None
        holding.tier, holding.source, holding.mark_ts = "", "", 0
    else:
        holding.before = found.price if holding.mark is None else holding.mark
        holding.mark, holding.tier, holding.source, holding.mark_ts = found
    account.settle(holding)


def watch(desk: Desk, account: Account, fill: Why | None) -> None:
    """Keep the peak, and trip what is reached; `fill` is given where a fill showed the loss."""
    equity = account.equity
    if equity is None:
        return
    if account.peak is not None and equity > account.peak:
        account.peak = equity
        if account.limits.drawdown is not None:
            account.arm()
    if account.watch is None or equity > account.watch:
        return
    if fill is None:
        equity += _benefit_of_doubt(account)
        if equity > account.watch:
            return
    _trip(desk, account, equity, fill if fill is not None else desk.because())


def _benefit_of_doubt(account: Account) -> Decimal:
    """What equity would gain if each position stood at the better of its last two marks."""
    gain = ZERO
    for symbol in sorted(account.holdings):
        holding = account.holdings[symbol]
        if holding.mark is not None and holding.before is not None:
            gain += max(holding.quantity * (holding.before - holding.mark), ZERO)
    return gain


def _trip(desk: Desk, account: Account, equity: Decimal, why: Why) -> None:
    assert account.baseline is not None
    assert account.peak is not None
    for loss in br.losses(account.limits, equity, account.flows, account.baseline, account.peak):
        standing = account.breaker.halts if loss.halts else account.breaker.reduces
        if not loss.reached or loss.reason in standing or loss.reason in account.breaker.halts:
            continue
        breached = desk.emit(
            account,
            LimitBreached,
            why,
            limit=loss.reason if loss.halts else f"{loss.reason}-reduce",
            value=loss.value,
            threshold=loss.threshold,
            session=desk.market.session.name,
            evidence=evidence(account),
        )
        after = desk.then(breached, why)
        if loss.halts:
            halt(desk, account, loss.reason, loss.text, after)
        else:
            reduce(desk, account, loss.reason, loss.text, after)
    account.arm()
    write_pnl(desk, account, why)


def evidence(account: Account) -> tuple[Evidence, ...]:
    """The marks that the account's equity rests on."""
    return tuple(
        Evidence(symbol=symbol, quantity=h.quantity, price=h.mark, tier=h.tier, source=h.source, ts=h.mark_ts)
        for symbol, h in sorted(account.holdings.items())
        if h.quantity and h.mark is not None
    )


def halt(desk: Desk, account: Account, reason: str, detail: str, why: Why) -> None:
    """Set a halt, write it, and cancel (or flatten) as the limits say. Standing already: nothing."""
    session = desk.market.session.name
    ordinal = account.breaker.halt(reason, detail, session)
    if not ordinal:
        return
    made = desk.emit(
        account,
        BreakerHalted,
        why,
        reason=reason,
        session=session,
        ordinal=ordinal,
        detail=detail,
        reasons=account.breaker.reasons,
    )
    account.arm()
    after = desk.then(made, why)
    cancel_growing(desk, account, after)
    if account.limits.on_trip == "flatten" and reason in br.LOSSES:
        for symbol in sorted(account.holdings):
            if account.net(symbol):
                begin_flatten(desk, account, symbol, after)


def reduce(desk: Desk, account: Account, reason: str, detail: str, why: Why) -> None:
    """Set a reducing reason and write it. Standing already: nothing."""
    session = desk.market.session.name
    ordinal = account.breaker.reduce(reason, detail, session)
    if not ordinal:
        return
    desk.emit(
        account,
        BreakerReducing,
        why,
        reason=reason,
        session=session,
        ordinal=ordinal,
        detail=detail,
        reasons=account.breaker.reasons,
    )
    account.arm()


def clear(desk: Desk, account: Account, reason: str, of: str, who: str, text: str, why: Why) -> None:
    """Take back a halt (of = "halt") or a reducing reason (of = "reduce"), and write it."""
    standing = account.breaker.halts if of == "halt" else account.breaker.reduces
    if standing.pop(reason, None) is None:
        return
    desk.emit(
        account,
        BreakerCleared,
        why,
        reason=reason,
        of=of,
        who=who,
        why=text,
        state=account.state,
        reasons=account.breaker.reasons,
    )
    account.arm()


# ---------------------------------------------------------------- staleness


def check_stale(desk: Desk, account: Account, why: Why) -> None:
    """REDUCING while something held is stale or unpriced, in session only; it clears itself."""
    market = desk.market
    stale = [
        symbol
        for symbol in sorted(account.holdings)
        if account.net(symbol)
        and market.session.is_open
        and (market.stale_at(market.symbol(symbol)) <= market.now or symbol in account.unpriced)
    ]
    if stale:
        reduce(desk, account, br.STALE, f"no price of {', '.join(stale)}", why)
    else:
        clear(desk, account, br.STALE, "reduce", "tape", "prices are back", why)


def stale_deadline(desk: Desk) -> int:
    """The first moment at which something held that is not stale yet would be (UTC ns)."""
    if not desk.market.session.is_open:
        return FOREVER
    first = FOREVER
    for symbol, names in desk.holders.items():
        at = desk.market.stale_at(desk.market.symbol(symbol))
        if any(symbol in desk.accounts[n].unpriced for n in names):
            at = 0
        if at > desk.market.now or any(br.STALE not in desk.accounts[n].breaker.reduces for n in names):
            first = min(first, at)
    return first


# ---------------------------------------------------------------- profit and loss


def write_pnl(desk: Desk, account: Account, why: Why) -> None:
    """Write the account's money as it is now."""
    equity, priced = account.equity, not account.unpriced
    drawdown = None if equity is None or account.peak is None else account.peak - equity
    values = [h.value for h in account.holdings.values()]
    desk.emit(
        account,
        PnL,
        why,
        equity=equity,
        cash=account.cash,
        receivables=account.receivables,
        value=account.value if priced else None,
        realized=account.realized,
        unrealized=account.unrealized,
        fees=account.fees,
        income=account.income,
        deposits=account.deposits,
        day=account.day,
        drawdown=drawdown,
        long=sum((v for v in values if v > 0), ZERO) if priced else None,
        short=sum((-v for v in values if v < 0), ZERO) if priced else None,
        crossing=crossing(desk, account),
        unpriced=account.unpriced,
    )
    account.changed = False
    account.pnl_ts = desk.market.now


def crossing(desk: Desk, account: Account) -> Decimal | None:
    """The net valuation less the sum of the strategies' books, each at its own mark; None: unpriced."""
    total = ZERO
    for symbol in sorted(account.holdings):
        ledger = account.holdings[symbol].ledger
        names = ledger.strategies()
        if len(names) == 1:
            continue
        net = ledger.net
        total += account.holdings[symbol].value - net.cost + net.realized
        state = desk.market.symbol(symbol)
        for name in names:
            book = ledger.books[name]
            if book.quantity:
                found = desk.market.price(state, book.quantity > 0)
                if found is None:
                    return None
                total -= book.quantity * found.price
            total -= book.realized - book.cost
    return None if account.unpriced else total
