"""Random lives of an account: whatever comes, in whatever order, the money adds up, nothing is forgotten."""

from __future__ import annotations

from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st

from processors.account.account import Account
from processors.account.books import NET
from schemas import ZERO, DayOpened, Event, Fill, PnL, encode, exact
from support.desk import At, money

SYMBOLS, STRATEGIES = ("X", "Y"), ("s", "t")
WEEK = 6
LAST_DAY = f"2013-10-{7 + WEEK + 1:02d}"

symbols = st.sampled_from(SYMBOLS)
strategies = st.sampled_from(STRATEGIES)
sides = st.sampled_from(["buy", "sell"])
index = st.integers(0, 7)
cents = st.integers(500, 20_000).map(lambda c: Decimal(c) / 100)
shares = st.integers(1, 300)
fees = st.integers(0, 300).map(lambda c: Decimal(c) / 100)
ratios = st.sampled_from([(7, 1), (2, 1), (3, 2), (1, 10), (2, 3), (3, 7)])


def step(name: str, *parts: st.SearchStrategy) -> st.SearchStrategy:
    return st.tuples(st.just(name), *parts)


MARKET = [
    step("quote", symbols, cents, st.integers(-3, 300)),
    step("quote", symbols, cents, st.integers(0, 20)),
    step("trade", symbols, cents),
    step("bar", symbols, cents),
    step("withdraw_trade", symbols),
    step("wait", st.integers(1, 90)),
    step("night"),
    step("halt_trading", symbols),
    step("resume_trading", symbols),
]
MONEY = [
    step("fill", symbols, strategies, sides, shares, cents, fees),
    step("fill", symbols, strategies, sides, shares, cents, fees),
    step("stranger", symbols, sides, shares, cents, fees),
    step("split", symbols, ratios),
    step("dividend", symbols, st.integers(1, 400), st.sampled_from(["2013-10-07", "2013-10-09"])),
    step("flow", st.integers(-50_000, 50_000).filter(bool)),
    step("cash", st.sampled_from(["interest", "fee", "deposit"]), cents),
    step("bust", index),
    step("correct", index, shares, cents),
]
TRADING = [
    step("order", symbols, strategies, sides, shares, cents),
    step("target", symbols, strategies, st.integers(-300, 300)),
    step("ack", index),
    step("part", index, shares, cents),
    step("all", index, cents),
    step("ask cancel", index),
    step("cancelled", index),
    step("expired", index),
    step("rejected", index, st.sampled_from(["order", "cancel", "replace"])),
    step("ask replace", index, shares),
    step("replaced", index, shares, cents),
    step("halt"),
    step("flatten", symbols),
    step("rearm", st.sampled_from(["operator", "day-loss", "overfill", "integrity"])),
    step("place", sides, shares),
]


def perform(at: At, what: tuple) -> list[Event]:
    """One step of a random life."""
    name, *given_ = what
    executions = [e for e in sorted(at.account.executions) if not at.account.executions[e].is_busted]
    orders = sorted(at.account.orders, key=lambda o: at.account.orders[o].seq)[-8:]
    match name, given_:
        case "quote", [symbol, bid, spread]:
            return at.quote(symbol, bid, bid + Decimal(spread) / 100)
        case (("trade" | "bar"), [symbol, price]):
            return getattr(at, name)(symbol, price, **({"id": f"t{symbol}"} if name == "trade" else {}))
        case "withdraw_trade", [symbol]:
            return at.withdraw_trade(f"t{symbol}", symbol)
        case "night", []:
            return at.close() + at.open() if at.day < WEEK else []
        case "fill", [symbol, strategy, side, quantity, price, fee]:
            order = at.order(side, quantity, symbol, strategy=strategy)
            return at.fill(order, price, fee=fee)
        case "stranger", [symbol, side, quantity, price, fee]:
            return at.outside_fill(side, quantity, price, fee, symbol)
        case "split", [symbol, (num, den)]:
            return at.split(symbol, num, den)
        case "dividend", [symbol, amount, pay]:
            return at.dividend(symbol, Decimal(amount) / 100, ex="2013-10-07", pay=pay)
        case "flow", [amount]:
            return at.deposit(amount) if amount > 0 else at.withdraw(-amount)
        case "cash", [kind, amount]:
            return at.cash_activity(kind, -amount if kind == "fee" else amount)
        case "bust", [n] if executions:
            return at.bust(executions[n % len(executions)])
        case "correct", [n, quantity, price] if executions:
            return at.correct(executions[n % len(executions)], quantity, price)
        case "order", [symbol, strategy, side, quantity, limit]:
            terms = {"order_type": "limit", "limit": limit, "strategy": strategy}
            return at.propose("order", symbol, side=side, quantity=quantity, **terms)
        case "target", [symbol, strategy, wanted]:
            return at.target(symbol, shares=wanted, strategy=strategy)
        case (("bust" | "correct"), _):
            return []
        case (("halt" | "flatten" | "rearm" | "place" | "wait" | "halt_trading" | "resume_trading"), _):
            return getattr(at, name)(*given_)
    if not orders:
        return []
    order = orders[given_[0] % len(orders)]
    match name, given_[1:]:
        case "part", [quantity, price]:
            return at.fill(order, price, quantity)
        case "all", [price]:
            o = at.account.orders[order]
            return at.fill(order, price) if o.quantity > o.filled else []
        case "ask cancel", []:
            return at.cancel_order(order)
        case "ask replace", [quantity]:
            return at.replace_order(order, quantity=quantity)
        case (("ack" | "cancelled" | "expired"), []):
            return getattr(at, name)(order)
        case (("rejected" | "replaced"), rest):
            return getattr(at, name)(order, *rest)
    raise AssertionError(what)


# ------------------------------------------------------------ what always holds


def books_add_up(account: Account) -> None:
    """Of each symbol: the strategies' books are the net position, share by share and cent by cent."""
    for holding in account.holdings.values():
        net = holding.ledger.net
        books = [b for name, b in holding.ledger.books.items() if name != NET]
        assert sum((b.quantity for b in books), ZERO) == net.quantity
        assert sum((b.cost - b.realized for b in books), ZERO) == net.cost - net.realized
        assert sum((b.fees for b in books), ZERO) == net.fees
        assert sum((b.income for b in books), ZERO) == net.income
        assert net.quantity or not net.cost


def money_adds_up(account: Account) -> None:
    """equity = cash + receivables + value = starting + deposits + realised - fees + income + unrealised."""
    held = [h for h in account.holdings.values() if h.quantity]
    assert account.unpriced == tuple(sorted(h.symbol for h in held if h.mark is None))
    assert account.receivables == sum((p.amount for p in account.payments), ZERO)
    if account.unpriced:
        assert account.equity is None
        return
    value = sum((h.quantity * money(h.mark) for h in held), ZERO)
    made = account.realized - account.fees + account.income + money(account.unrealized)
    assert account.equity == account.cash + account.receivables + value
    assert account.equity == account.starting + account.deposits + made


def crossing_explains(at: At, pnl: PnL) -> None:
    """realised + unrealised of the books, each at its own mark, is the net's less `crossing`."""
    market, total = at.accounts.desk.market, ZERO
    for holding in at.account.holdings.values():
        for name, book in holding.ledger.books.items():
            found = market.price(market.symbol(holding.symbol), book.quantity > 0)
            if name != NET:
                total += book.realized - book.cost
                total += book.quantity * found.price if found is not None and book.quantity else ZERO
    if pnl.crossing is not None and pnl.unrealized is not None:
        net = sum((h.ledger.net.realized for h in at.account.holdings.values()), ZERO) + pnl.unrealized
        assert net - pnl.crossing == total


def waits_for_something(at: At) -> None:
    """No order and no target is left behind: what waits has something open, or a shut market, to wait for."""
    account = at.account
    for symbol in account.open_orders:
        for order in account.open_of(symbol):
            if order.status == "requested":
                against = any(o.side != order.side for o in account.working_of(symbol))
                after = account.orders.get(order.after)
                shut = order.operator and at.accounts.desk.market.is_halted(symbol)
                assert against or shut or (after is not None and not after.ended)
    for kept in account.targets.values():
        for target in kept.values():
            assert any(o in account.orders and not account.orders[o].ended for o in target.after)


def log_is_whole(events: list[Event]) -> None:
    """`seq` without gaps, `prev` by topic, and everything can be written."""
    last: dict[str, int] = {}
    for seq, event in enumerate(events, 1):
        assert (event.seq, event.prev) == (seq, last.get(event.topic, 0))
        last[event.topic] = seq
        encode(event)


def begin(limits: dict | None, *, priced: bool = True, **more) -> At:
    at = At(cash=10_000_000, multiplier=1000, limits=limits, **more)
    for symbol in SYMBOLS if priced else ():
        at.quote(symbol, 100, "100.02")
    return at


@settings(max_examples=300, deadline=None)
@given(st.lists(st.one_of(MARKET + MONEY + TRADING), max_size=40), st.booleans(), st.booleans())
def test_what_holds_after_every_event(steps, fractions, priced) -> None:
    at = begin({"day_loss": None}, fractions=fractions, priced=priced)
    for what in steps:
        before = at.equity
        made = perform(at, what)
        with exact():
            books_add_up(at.account)
            money_adds_up(at.account)
            if made and type(made[-1]) is PnL:
                crossing_explains(at, made[-1])
        waits_for_something(at)
        if what[0] == "split" and before is not None:
            assert at.equity is not None
            assert abs(at.equity - before) < Decimal("1e-12")
    log_is_whole(at.all)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.one_of(MARKET + MONEY + TRADING), max_size=25), st.sampled_from(["cancel", "flatten"]))
def test_a_restart_between_any_two_inputs_changes_nothing(steps, on_trip) -> None:
    limits = {"drawdown": "0.2", "on_trip": on_trip, "rearm_next_session": True}
    undisturbed, restarted = begin(limits), begin(limits)
    for what in steps:
        one = perform(undisturbed, what)
        restarted.restart()
        two = perform(restarted, what)
        assert [encode(e) for e in one] == [encode(e) for e in two]
        assert undisturbed.accounts.snapshot() == restarted.accounts.snapshot()


@settings(max_examples=150, deadline=None)
@given(st.lists(st.one_of(MARKET + MONEY), max_size=30))
def test_cash_is_what_the_decisions_say(steps) -> None:
    """The cash is what fills, flows and dividends moved, to the last digit but those a ratio rounded."""
    at = begin({"day_loss": None})
    flows = ZERO
    for what in steps:
        before = at.account.cash
        made = perform(at, what)
        fills = [e for e in made if type(e) is Fill]
        traded = sum((e.price * e.quantity * (-1 if e.side == "buy" else 1) - e.fee for e in fills), ZERO)
        if what[0] in ("fill", "stranger", "split", "quote", "trade", "bar"):
            assert abs(at.account.cash - before - traded) < Decimal("1e-15")
        flows += at.account.cash - before
    assert at.account.cash == 10_000_000 + flows
    assert all(d.baseline is None or d.baseline for d in at.of(DayOpened))
