"""What strategies want: a proposal becomes a signal, and a target is sized and ordered.

A target is one-shot: what lacks to it is ordered once. Where orders of the strategy stand against
it, they are cancelled, and the newest target is kept and sized again when they have ended.
"""

from __future__ import annotations

from decimal import Decimal

import msgspec

from processors.account.account import Account, Target
from processors.account.desk import Desk, Why
from processors.account.sizing import shares_of_weight
from processors.account.trading import Terms, asked_for, cancel, changed, replace, replace_refusal, submit
from schemas import ZERO, Anomaly, Proposal, Record, Signal, decision_id
from schemas.decimals import WIDE


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
    since = min(desk.ts, proposal.ts)
    if proposal.intent == "target":
        account.targets.get(proposal.symbol, {}).pop(proposal.strategy, None)
        target = Target(proposal.weight, proposal.shares, why.cause, why.trace, since)
        _pursue(desk, account, proposal.strategy, proposal.symbol, target)
    elif proposal.intent == "order" and proposal.side is not None and proposal.quantity is not None:
        submit(desk, account, _terms(proposal, proposal.side, proposal.quantity), why, since)
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


def _terms(p: Proposal, side: str, quantity: Decimal) -> Terms:
    return Terms(p.strategy, p.symbol, side, quantity, p.order_type, p.limit, p.stop, p.tif, p.extended)


def _change(desk: Desk, account: Account, p: Proposal, why: Why) -> None:
    """A strategy cancels or replaces an order of its own."""
    order = account.orders.get(p.order)
    if order is None or order.strategy != p.strategy:
        text = f"{p.intent} of an order that {p.strategy} does not have"
        desk.emit(account, Anomaly, why, kind="unknown-order", order=p.order, detail=text)
        return
    if p.intent == "cancel":
        cancel(desk, account, order, why, "strategy")
        return
    asked = asked_for(order, p.quantity, p.limit, p.stop)
    refusal = replace_refusal(desk, account, order, asked)
    if refusal:
        changed(desk, account, order, Why(why.cause, order.trace), f"replace denied: {refusal}")
    else:
        replace(desk, account, order, asked, why)


# ---------------------------------------------------------------- targets


def resume(desk: Desk, account: Account, symbol: str) -> None:
    """Size kept targets again whose orders have ended."""
    kept = account.targets.get(symbol, {})
    for strategy in sorted(kept):
        waits = (account.orders.get(order) for order in kept[strategy].after)
        if all(order is None or order.ended for order in waits):
            _pursue(desk, account, strategy, symbol, kept.pop(strategy))
    if not account.targets.get(symbol, True):
        del account.targets[symbol]


def _pursue(desk: Desk, account: Account, strategy: str, symbol: str, target: Target) -> None:
    """Order what lacks to the target; keep it while orders against it, or on their way out, are open."""
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
    side = "buy" if change > 0 else "sell"
    leaving = [o for o in mine if o.pending == "cancel" or (change and o.side != side)]
    if leaving:
        after = tuple(o.id for o in leaving)
        account.targets.setdefault(symbol, {})[strategy] = msgspec.structs.replace(target, after=after)
        for order in leaving:
            cancel(desk, account, order, why, "newer target")
    elif change and not _is_small(desk, account, wanted, change, price):
        submit(desk, account, Terms(strategy, symbol, side, abs(change)), why, target.since)


def _is_small(desk: Desk, account: Account, wanted: Decimal, change: Decimal, price: Decimal) -> bool:
    """A change under a share of equity makes no order; a target of zero always does."""
    equity = account.equity
    if not wanted or equity is None:
        return False
    return WIDE.multiply(abs(change), price) < WIDE.multiply(desk.settings.min_change, equity)


def _size(
    desk: Desk, account: Account, symbol: str, target: Target, current: Decimal
) -> tuple[Decimal, Decimal] | None:
    """The position wanted (signed shares) and the price it was sized at; None: no price, no order."""
    stated = target.weight if target.shares is None else target.shares
    if stated is None:
        return None
    if not stated:
        return ZERO, ZERO
    state = desk.market.symbol(symbol)
    wanted = current
    for side in ("buy", "sell"):
        price = desk.market.taker_price(state, side)
        if price is None:
            return None
        shares = _wanted(desk, account, target, side, price.price)
        if shares is None:
            return None
        if (shares > current) if side == "buy" else (shares < current):
            return shares, price.price
    return wanted, ZERO


def _wanted(desk: Desk, account: Account, target: Target, side: str, price: Decimal) -> Decimal | None:
    if target.shares is not None:
        return target.shares
    equity, weight = account.equity, target.weight
    if equity is None or weight is None:
        return None
    buffer, fees = desk.settings.buffer, desk.fees
    return shares_of_weight(weight, equity, buffer, side, price, fees, desk.ts, account.fractions)
