"""Risk checks: every one is evaluated, and every one that fails is named with value and limit.

A reduction (an order after which |net| cannot grow, whatever else on its side fills) skips what
limits positions, exposure, buying power and the restricted list, and what is not known: that counts
against an order that adds risk. An operator's reduction is also free of every limit on size, price
and pace; it is not free of the tick size.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import NamedTuple

from processors.account.account import Account
from processors.account.breaker import ACTIVE, HALTED, REDUCING
from processors.account.desk import Desk
from processors.account.market import MarkPrice, SymbolState
from processors.account.orders import Order
from schemas import ZERO, Check, Limits, plain, quotient
from schemas.decimals import WIDE

PRICES = {
    "market": (False, False),
    "limit": (True, False),
    "stop": (False, True),
    "stop_limit": (True, True),
}
"""Whether an order of a type has a limit and a stop price."""
TIMES_IN_FORCE = ("day", "gtc", "ioc", "fok")
SHORT_MARGIN = Decimal("1.03")
BPS = Decimal(10_000)
SECOND = 1_000_000_000
MS = 1_000_000


class Candidate(NamedTuple):
    """An order that asks to be accepted, and all that it is held against."""

    desk: Desk
    account: Account
    order: Order
    state: SymbolState
    taker: MarkPrice | None
    """What a taker would pay or get now."""
    price: Decimal | None
    """What a share may cost: the limit, or the ask (1.03 x ask for an opening short)."""
    equity: Decimal | None

    @property
    def limits(self) -> Limits:
        return self.account.limits

    @property
    def buying(self) -> bool:
        return self.order.side == "buy"

    @property
    def notional(self) -> Decimal | None:
        return None if self.price is None else self.price * self.order.leaves


def evaluate(desk: Desk, account: Account, order: Order) -> tuple[bool, tuple[Check, ...], MarkPrice | None]:
    """Whether the order may go, every check that applied, and the price it was held against."""
    state = desk.market.symbol(order.symbol)
    order.reduces = is_reduction(account, order)
    taker = desk.market.taker_price(state, order.side)
    candidate = Candidate(desk, account, order, state, taker, order_price(desk, order, state), account.equity)
    order.price = candidate.price or ZERO
    checks = tuple(
        check
        for rule in RULES
        if not (rule.adds_risk and order.reduces)
        and not (rule.operator_free and order.operator and order.reduces)
        if (check := rule.test(candidate)) is not None
    )
    return all(c.ok for c in checks), checks, taker


def is_reduction(account: Account, order: Order) -> bool:
    """Whether |net| cannot grow by it, whatever else on its side fills."""
    net = account.net(order.symbol)
    if not net or (net > 0) == (order.side == "buy"):
        return False
    others = (o.leaves for o in account.working_of(order.symbol) if o.side == order.side and o.id != order.id)
    return order.leaves + sum(others, ZERO) <= abs(net)


def order_price(desk: Desk, order: Order, state: SymbolState) -> Decimal | None:
    """What a share of it may cost, in dollars; None where no price is known."""
    ask = desk.market.taker_price(state, "buy")
    if order.side == "buy":
        if order.limit is not None:
            return order.limit
        if ask is None:
            return order.stop
        return ask.price if order.stop is None else max(order.stop, ask.price)
    if ask is None:
        return order.limit
    margin = ask.price * SHORT_MARGIN
    return margin if order.limit is None else max(order.limit, margin)


def reprice(desk: Desk, order: Order) -> None:
    """Its terms or its symbol's prices are others: so is what a share of it may cost."""
    price = order_price(desk, order, desk.market.symbol(order.symbol))
    order.price = order.price if price is None else price


def _check(name: str, ok: bool, value: object, limit: object) -> Check:
    return Check(name=name, ok=ok, value=_text(value), limit=_text(limit))


def _text(value: object) -> str:
    if value is None:
        return ""
    return plain(value) if isinstance(value, Decimal) else str(value)


def _at_most(name: str, value: Decimal | int | None, limit: Decimal | int | None) -> Check | None:
    """A check of value <= limit; no limit: no check; an unknown value fails."""
    if limit is None:
        return None
    return _check(name, value is not None and value <= limit, value, limit)


def _unknown(c: Candidate, name: str, limit: object) -> Check | None:
    """What is not known counts against an order that adds risk, and only against that."""
    return None if c.order.reduces else _check(name, False, None, limit)


def _breaker(c: Candidate) -> Check:
    state = c.account.state
    may = state == ACTIVE or (c.order.reduces and (state == REDUCING or c.order.operator))
    return _check("breaker", may, state, HALTED if c.order.operator and c.order.reduces else ACTIVE)


def _session(c: Candidate) -> Check | None:
    session = c.desk.market.session
    if c.limits.outside_session == "wait":
        return None
    now = c.desk.market.now
    extended = c.order.extended and c.order.order_type == "limit"
    ok = session.is_open or (extended and session.extended_open <= now < session.extended_close)
    return _check("session", ok, "open" if session.is_open else "closed", "open")


def _trading_halt(c: Candidate) -> Check:
    halted = c.desk.market.is_halted(c.order.symbol)
    return _check("trading-halt", not halted, "halted" if halted else "trading", "trading")


def _flattening(c: Candidate) -> Check | None:
    """While the operator or the breaker closes a position, strategies leave it alone."""
    if c.order.operator or c.order.symbol not in c.account.flattening:
        return None
    return _check("flattening", False, c.order.symbol, "not being flattened")


def _terms(c: Candidate) -> Check | None:
    """Only what is wrong is named: prices that the type lacks or does not have, or no such word."""
    order = c.order
    known = order.order_type in PRICES and order.side in ("buy", "sell") and order.tif in TIMES_IN_FORCE
    has = (order.limit is not None, order.stop is not None)
    if known and has == PRICES[order.order_type] and order.quantity > 0:
        return None
    prices = " and ".join(n for n, given in zip(("limit", "stop"), has, strict=True) if given)
    value = f"{order.side} {plain(order.quantity)} {order.order_type} {order.tif}, {prices or 'no'} price"
    return _check("order-terms", False, value, "a side, a quantity, a type and its prices")


def _fractions(c: Candidate) -> Check | None:
    if c.account.fractions or not c.order.quantity % 1:
        return None
    return _check("fractions", False, c.order.quantity, "whole shares")


def _restricted(c: Candidate) -> Check | None:
    if not c.limits.restricted:
        return None
    ok = c.order.symbol not in c.limits.restricted
    return _check("restricted", ok, c.order.symbol, " ".join(sorted(c.limits.restricted)))


def _tier(c: Candidate) -> Check:
    tier = c.taker.tier if c.taker is not None else "none"
    return _check("price-tier", tier in ("quote", "trade"), tier, "quote or trade")


def _tick_size(c: Candidate) -> Check | None:
    tick = c.limits.tick_size
    prices = [p for p in (c.order.limit, c.order.stop) if p is not None]
    if tick is None or not prices:
        return None
    off = [p for p in prices if p % tick]
    return _check("tick-size", not off, off[0] if off else prices[0], tick)


def _quantity(c: Candidate) -> Check | None:
    return _at_most("quantity", c.order.leaves, c.limits.max_quantity)


def _notional(c: Candidate) -> Check | None:
    limit = c.limits.max_notional
    if c.notional is None and limit is not None:
        return _unknown(c, "notional", limit)
    return _at_most("notional", c.notional, limit)


def _collar(c: Candidate) -> Check | None:
    """How far a limit is through the quote, in basis points of the quote."""
    if c.limits.collar_bps is None or c.order.limit is None:
        return None
    if c.taker is None:
        return _unknown(c, "collar", c.limits.collar_bps)
    through = c.order.limit - c.taker.price if c.buying else c.taker.price - c.order.limit
    return _at_most("collar", quotient(max(through, ZERO) * BPS, c.taker.price), c.limits.collar_bps)


def _spread(c: Candidate) -> Check | None:
    """Spread in basis points of mid, for market orders in symbols that are quoted."""
    if c.limits.max_spread_bps is None or c.order.order_type != "market" or not c.state.has_quotes:
        return None
    quote = c.state.quote
    if quote is None or quote.bid is None or quote.ask is None or c.state.bad:
        return _unknown(c, "spread", c.limits.max_spread_bps)
    spread = quotient((quote.ask - quote.bid) * 2 * BPS, quote.ask + quote.bid)
    return _at_most("spread", spread, c.limits.max_spread_bps)


def _quote_age(c: Candidate) -> Check | None:
    limit = c.limits.max_quote_age_ms
    if c.taker is None:
        return _unknown(c, "quote-age", limit) if limit is not None else None
    return _at_most("quote-age", (c.desk.market.now - c.taker.ts) // MS, limit)


def _worst(c: Candidate, strategy: str | None) -> Decimal:
    """The largest |position| the symbol can reach: what is held, what works on this side, and this order."""
    held = c.account.holdings.get(c.order.symbol)
    position = ZERO
    if held is not None:
        book = held.ledger.net if strategy is None else held.ledger.books.get(strategy)
        position = book.quantity if book is not None else ZERO
    same = [
        o.signed_leaves
        for o in c.account.working_of(c.order.symbol)
        if o.side == c.order.side and o.id != c.order.id and strategy in (None, o.strategy)
    ]
    return abs(position + sum(same, ZERO) + c.order.signed_leaves)


def _share_of_equity(c: Candidate, shares: Decimal) -> Decimal | None:
    if c.price is None or c.equity is None or c.equity <= 0:
        return None
    return quotient(shares * c.price, c.equity)


def _position_shares(c: Candidate) -> Check | None:
    return _at_most("position-shares", _worst(c, None), c.limits.position_shares)


def _position_weight(c: Candidate) -> Check | None:
    if c.limits.position_weight is None:
        return None
    return _at_most("position-weight", _share_of_equity(c, _worst(c, None)), c.limits.position_weight)


def _strategy_shares(c: Candidate) -> Check | None:
    return _at_most("strategy-shares", _worst(c, c.order.strategy), c.limits.strategy_shares)


def _strategy_weight(c: Candidate) -> Check | None:
    if c.limits.strategy_weight is None:
        return None
    return _at_most(
        "strategy-weight", _share_of_equity(c, _worst(c, c.order.strategy)), c.limits.strategy_weight
    )


class Exposure(NamedTuple):
    """Dollars at the worst of what works: long, short, and gross (the worse side of each symbol)."""

    long: Decimal
    short: Decimal
    gross: Decimal


def exposure(
    account: Account, candidate: Order | None = None, price: Decimal | None = None
) -> Exposure | None:
    """The account's exposure with what works, and with `candidate`; None while something is unpriced."""
    if account.unpriced:
        return None
    long = short = gross = ZERO
    symbols = set(account.holdings) | set(account.open_orders)
    if candidate is not None:
        symbols.add(candidate.symbol)
    for symbol in sorted(symbols):
        held = account.holdings.get(symbol)
        value = held.value if held is not None else ZERO
        buys = sells = ZERO
        for order in account.working_of(symbol):
            if candidate is not None and order.id == candidate.id:
                continue
            if order.side == "buy":
                buys += order.leaves * order.price
            else:
                sells += order.leaves * order.price
        if candidate is not None and candidate.symbol == symbol and price is not None:
            if candidate.side == "buy":
                buys += candidate.leaves * price
            else:
                sells += candidate.leaves * price
        up, down = max(value + buys, ZERO), max(sells - value, ZERO)
        long, short, gross = long + up, short + down, gross + max(up, down)
    return Exposure(long, short, gross)


def _exposure_checks(name: str, part: Callable[[Exposure], Decimal]) -> Callable[[Candidate], Check | None]:
    def test(c: Candidate) -> Check | None:
        share = getattr(c.limits, f"{name}_exposure")
        limit = share if name != "gross" or share is not None else c.account.multiplier
        if limit is None:
            return None
        after = exposure(c.account, c.order, c.price) if c.price is not None else None
        allowed = WIDE.multiply(limit, c.equity) if c.equity is not None else None
        ok = after is not None and allowed is not None and part(after) <= allowed
        return _check(f"{name}-exposure", ok, part(after) if after is not None else None, allowed)

    return test


def _buying_power(c: Candidate) -> Check:
    """Cash not spoken for (cash account), or multiplier x equity less the worst exposure (margin)."""
    needed = None
    if c.notional is not None and c.price is not None:
        needed = c.notional + c.desk.fees.estimate(c.order.side, c.order.leaves, c.price, c.desk.ts)
    available: Decimal | None = None
    if c.account.kind == "cash":
        working = (o for s in sorted(c.account.open_orders) for o in c.account.working_of(s))
        buys = (o for o in working if o.side == "buy" and o.id != c.order.id)
        available = c.account.cash - sum((_cost(c.desk, o) for o in buys), ZERO)
    elif c.equity is not None and (before := exposure(c.account)) is not None:
        mine = c.order.leaves * c.order.price if c.order.status != "requested" else ZERO
        available = WIDE.add(WIDE.multiply(c.account.multiplier, c.equity), mine - before.gross)
    ok = needed is not None and available is not None and needed <= available
    return _check("buying-power", ok, needed, available)


def _cost(desk: Desk, order: Order) -> Decimal:
    """Dollars that an open buy may still take, with its fee."""
    return order.leaves * order.price + desk.fees.estimate(order.side, order.leaves, order.price, desk.ts)


def _short_permission(c: Candidate) -> Check | None:
    if c.buying or c.account.shorting:
        return None
    after = c.account.net(c.order.symbol) + sum(
        (
            o.signed_leaves
            for o in c.account.working_of(c.order.symbol)
            if o.side == "sell" and o.id != c.order.id
        ),
        c.order.signed_leaves,
    )
    return _check("short-permission", after >= 0, after, ZERO)


def _volume_share(c: Candidate) -> Check | None:
    if c.limits.max_volume_share is None:
        return None
    average = c.state.average_volume
    if not average:
        return _unknown(c, "volume-share", c.limits.max_volume_share)
    return _at_most("volume-share", quotient(c.order.leaves, average), c.limits.max_volume_share)


def _orders_per_day(c: Candidate) -> Check | None:
    return _at_most("orders-per-day", c.account.orders_today + 1, c.limits.orders_per_day)


def _notional_per_day(c: Candidate) -> Check | None:
    if c.limits.notional_per_day is None:
        return None
    if c.notional is None:
        return _unknown(c, "notional-per-day", c.limits.notional_per_day)
    return _at_most("notional-per-day", c.account.notional_today + c.notional, c.limits.notional_per_day)


def _order_rate(c: Candidate) -> Check | None:
    if c.limits.orders_per_second is None:
        return None
    since = c.desk.ts - SECOND
    return _at_most(
        "order-rate", 1 + sum(ts > since for ts, _ in c.account.recent), c.limits.orders_per_second
    )


def _duplicate(c: Candidate) -> Check | None:
    """The same order (strategy, symbol, side, quantity, type, prices) within the window."""
    window = c.limits.duplicate_window_ms
    if window is None:
        return None
    since = c.desk.ts - window * MS
    same = description(c.order)
    times = [ts for ts, text in c.account.recent if text == same and ts >= since]
    return _check("duplicate", not times, (c.desk.ts - times[-1]) // MS if times else "none", window)


def _broker_errors(c: Candidate) -> Check | None:
    limit = c.limits.max_broker_errors
    return _at_most("broker-errors", c.account.broker_errors, limit)


def description(order: Order) -> str:
    """What makes two orders duplicates of each other."""
    terms = (order.limit, order.stop)
    prices = " ".join("-" if p is None else plain(p) for p in terms)
    return f"{order.strategy} {order.symbol} {order.side} {plain(order.quantity)} {order.order_type} {prices}"


class Rule(NamedTuple):
    """A check; whether reductions skip it, and whether an operator's reductions do."""

    test: Callable[[Candidate], Check | None]
    adds_risk: bool = False
    operator_free: bool = False


RULES = (
    Rule(_breaker),
    Rule(_session),
    Rule(_trading_halt),
    Rule(_flattening),
    Rule(_terms),
    Rule(_fractions, operator_free=True),
    Rule(_restricted, adds_risk=True),
    Rule(_tier, adds_risk=True),
    Rule(_tick_size),
    Rule(_quantity, operator_free=True),
    Rule(_notional, operator_free=True),
    Rule(_collar, operator_free=True),
    Rule(_spread, operator_free=True),
    Rule(_quote_age, operator_free=True),
    Rule(_position_shares, adds_risk=True),
    Rule(_position_weight, adds_risk=True),
    Rule(_strategy_shares, adds_risk=True),
    Rule(_strategy_weight, adds_risk=True),
    Rule(_exposure_checks("gross", lambda e: e.gross), adds_risk=True),
    Rule(_exposure_checks("long", lambda e: e.long), adds_risk=True),
    Rule(_exposure_checks("short", lambda e: e.short), adds_risk=True),
    Rule(_buying_power, adds_risk=True),
    Rule(_short_permission, adds_risk=True),
    Rule(_volume_share, operator_free=True),
    Rule(_orders_per_day, operator_free=True),
    Rule(_notional_per_day, operator_free=True),
    Rule(_order_rate, operator_free=True),
    Rule(_duplicate, operator_free=True),
    Rule(_broker_errors, operator_free=True),
)
