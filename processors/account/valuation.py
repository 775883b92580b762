"""Marks to money: what positions are worth, profit and loss, and when the breaker trips.

A loss seen on quotes must hold on two successive valid marks: it is measured with the better of
each symbol's last two, and a new peak with the worse. A loss seen on a fill counts at once, and so
does a bar.
"""

from __future__ import annotations

from decimal import Decimal

from processors.account import breaker as br
from processors.account.account import Account, Holding
from processors.account.desk import FOREVER, Desk, Why
from processors.account.flatten import begin_flatten, cancel_growing
from processors.account.market import MarkPrice, SymbolState
from schemas import (
    ZERO,
    BreakerCleared,
    BreakerHalted,
    BreakerReducing,
    DayOpened,
    Evidence,
    LimitBreached,
    PnL,
)


def on_mark(desk: Desk, state: SymbolState) -> None:
    """The symbol's mark may have changed: mark every holder anew and look at its breaker."""
    for name in desk.holders[state.symbol]:
        account = desk.accounts[name]
        holding = account.holdings[state.symbol]
        quantity = holding.ledger.net.quantity
        found = desk.market.price(state, quantity > 0)
        if found is None or holding.mark is None:
            _gain_or_lose_price(desk, account, holding, found)
        else:
            price, _, source, _ = found
            if source != holding.source:
                holding.before = price if _counts_at_once(state) else holding.mark
                _, holding.tier, holding.source, holding.mark_ts = found
            if price != holding.mark:
                holding.mark = price
                value = quantity * price
                account.value += value - holding.value
                holding.value = value
                account.changed = True
        if br.STALE in account.breaker.reduces:
            check_stale(desk, account, desk.because())
        watch(desk, account)


def _counts_at_once(state: SymbolState) -> bool:
    """Whether the symbol's marks come from bars: one of them is evidence enough."""
    return not state.has_quotes or (state.quote is not None and state.quote.bar)


def _gain_or_lose_price(desk: Desk, account: Account, holding: Holding, found: MarkPrice | None) -> None:
    """A holding without a price has one again, or the reverse; `before` is the last it had."""
    if holding.mark is not None:
        holding.before = holding.mark
    _set_mark(holding, found)
    account.settle(holding)
    if found is None:
        check_stale(desk, account, desk.because())
    elif _counts_at_once(desk.market.symbol(holding.symbol)):
        holding.before = found.price


def _set_mark(holding: Holding, found: MarkPrice | None) -> None:
    if found is None:
        holding.mark, holding.tier, holding.source, holding.mark_ts = None, "", "", 0
    else:
        holding.mark, holding.tier, holding.source, holding.mark_ts = found


def mark(desk: Desk, account: Account, holding: Holding) -> None:
    """After its books have changed: give a holding its current mark and settle the account's totals."""
    quantity, counted = holding.quantity, holding.counted.quantity
    found = desk.market.price(desk.market.symbol(holding.symbol), quantity > 0) if quantity else None
    if not quantity:
        holding.before = None
    elif not counted or (counted > 0) != (quantity > 0):
        holding.before = found.price if found is not None else None
    _set_mark(holding, found)
    account.settle(holding)


def watch(desk: Desk, account: Account, why: Why | None = None, traded: str = "") -> None:
    """Keep the peak, and trip what is reached. Without `why`, the market record at hand is the reason.

    What a fill in the symbol `traded` shows counts at once; elsewhere a loss, and a new peak, must hold
    on the last two marks of each holding.
    """
    equity = account.equity
    if equity is None:
        return
    if account.baseline is None:
        _find_baseline(desk, account, equity, why or desk.because())
    if account.peak is not None and equity > account.peak:
        _raise_peak(account, equity, traded)
    if account.watch is None or equity > account.watch:
        return
    doubt = _doubt(account, traded)
    if doubt is None or equity + doubt[0] > account.watch:
        return
    _trip(desk, account, equity + doubt[0], why or desk.because())


def _find_baseline(desk: Desk, account: Account, equity: Decimal, why: Why) -> None:
    """At the last close equity was not known: the day is measured from when it first is."""
    account.baseline = equity - account.flows
    session = desk.market.session.name
    desk.emit(account, DayOpened, why, session=session, baseline=account.baseline, peak=account.peak)
    account.arm()


def _raise_peak(account: Account, equity: Decimal, traded: str) -> None:
    doubt = _doubt(account, traded)
    if doubt is not None and account.peak is not None and equity - doubt[1] > account.peak:
        account.peak = equity - doubt[1]
        if account.limits.drawdown is not None:
            account.arm()


def _doubt(account: Account, traded: str) -> tuple[Decimal, Decimal] | None:
    """What equity would gain if each holding stood at the better of its last two marks, and lose at the
    worse; None where a holding has had one mark only.
    """
    gain = loss = ZERO
    for symbol, holding in account.holdings.items():
        if holding.mark is None or symbol == traded:
            continue
        if holding.before is None:
            return None
        change = holding.quantity * (holding.before - holding.mark)
        if change > 0:
            gain += change
        else:
            loss -= change
    return gain, loss


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
    if bool(stale) != (br.STALE in account.breaker.reduces):
        desk.stale_from = 0
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
    drawdown = None if equity is None or account.peak is None else max(account.peak - equity, ZERO)
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
