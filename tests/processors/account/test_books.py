"""Books against published examples, and the identity that nothing may break."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processors.account.books import NET, Book
from processors.account.processor import Accounts
from schemas import ZERO, PositionChanged, encode, exact
from support.desk import ME, At, money


def trades(*rows: tuple[str, str]) -> Book:
    book = Book()
    with exact():
        for quantity, price in rows:
            book.trade(Decimal(quantity), Decimal(price))
    return book


def test_trading_technologies_example() -> None:
    """Trading Technologies, "P&L calculation": average open price and realised profit."""
    first = trades(("12", "100"), ("17", "99"))
    assert float(first.average or 0) == pytest.approx(99.41379310344827, abs=1e-13)
    after = trades(("12", "100"), ("17", "99"), ("-9", "101"))
    assert float(after.realized) == pytest.approx(14.275862068965518, abs=1e-13)
    whole = trades(("12", "100"), ("17", "99"), ("-9", "101"), ("-4", "105"), ("3", "103"))
    assert float(whole.average or 0) == pytest.approx(99.98003629764065, abs=1e-13)
    assert float(whole.realized) == pytest.approx(36.62068965517241, abs=1e-13)


def test_barter_flip() -> None:
    """Barter-rs: long 1 at 100 (fee 10), then sell 2 at 150 (fee 20)."""
    book = Book()
    with exact():
        book.trade(Decimal(1), Decimal(100), Decimal(10))
        book.trade(Decimal(-2), Decimal(150), Decimal(20))
        assert book.closed_net == 30
    assert (book.quantity, book.average, book.open_fees) == (-1, 150, 10)


FLIPS = [
    # trades, then quantity, cost, realised
    ([("100", "10"), ("-100", "12")], ("0", "0", "200")),
    ([("100", "10"), ("-150", "12")], ("-50", "-600", "200")),
    ([("-100", "10"), ("150", "9")], ("50", "450", "100")),
    ([("-100", "10"), ("40", "12")], ("-60", "-600", "-80")),
    ([("3", "10"), ("-1", "11"), ("-1", "11"), ("-1", "11")], ("0", "0", "3")),
]


@pytest.mark.parametrize(("rows", "expected"), FLIPS)
def test_reductions_and_flips(rows, expected) -> None:
    book = trades(*rows)
    assert (book.quantity, book.cost, book.realized) == tuple(Decimal(x) for x in expected)


# ------------------------------------------------------------ the identity, after whatever happens

SYMBOLS, STRATEGIES = ("X", "Y"), ("s", "t")
cents = st.integers(500, 20_000).map(lambda c: Decimal(c) / 100)
shares = st.integers(1, 300)
STEPS = st.one_of(
    st.tuples(
        st.just("fill"),
        st.sampled_from(SYMBOLS),
        st.sampled_from(STRATEGIES),
        st.sampled_from(["buy", "sell"]),
        shares,
        cents,
        st.integers(0, 300).map(lambda c: Decimal(c) / 100),
    ),
    st.tuples(st.just("quote"), st.sampled_from(SYMBOLS), cents, st.integers(-3, 900)),
    st.tuples(st.just("trade"), st.sampled_from(SYMBOLS), cents),
    st.tuples(st.just("bar"), st.sampled_from(SYMBOLS), cents),
    st.tuples(
        st.just("split"), st.sampled_from(SYMBOLS), st.sampled_from([(7, 1), (2, 1), (3, 2), (1, 10), (2, 3)])
    ),
    st.tuples(
        st.just("dividend"),
        st.sampled_from(SYMBOLS),
        st.integers(1, 400),
        st.sampled_from(["2013-10-07", "2013-10-09"]),
    ),
    st.tuples(st.just("flow"), st.integers(-50_000, 50_000).filter(bool)),
    st.tuples(st.just("bust"), st.integers(0, 10)),
    st.tuples(st.just("correct"), st.integers(0, 10), shares, cents),
    st.tuples(st.just("night")),
)


def perform(at: At, step: tuple) -> None:
    """One step of a random life."""
    kind = step[0]
    executions = sorted(at.account.executions, key=lambda e: int(e[1:]))
    if kind == "fill":
        _, symbol, strategy, side, quantity, price, fee = step
        order = at.order(side, quantity, symbol, strategy=strategy)
        at.fill(order, price, fee=fee)
    elif kind == "quote":
        _, symbol, bid, spread = step
        at.quote(symbol, bid, bid + Decimal(spread) / 100)
    elif kind in ("trade", "bar"):
        getattr(at, kind)(step[1], step[2])
    elif kind == "split":
        at.split(step[1], *step[2])
    elif kind == "dividend":
        at.dividend(step[1], Decimal(step[2]) / 100, ex="2013-10-07", pay=step[3])
    elif kind == "flow":
        at.deposit(step[1]) if step[1] > 0 else at.withdraw(-step[1])
    elif kind == "bust" and executions:
        at.bust(executions[step[1] % len(executions)])
    elif kind == "correct" and executions:
        at.correct(executions[step[1] % len(executions)], step[2], step[3])
    elif kind == "night" and at.day < 6:
        at.close()
        at.open()


def check(at: At) -> None:
    """What holds after every event."""
    account = at.account
    holdings = account.holdings.values()
    with exact():
        for h in holdings:
            books = [b for name, b in h.ledger.books.items() if name != NET]
            net = h.ledger.net
            assert sum((b.quantity for b in books), ZERO) == net.quantity
            assert sum((b.cost - b.realized for b in books), ZERO) == net.cost - net.realized
            assert sum((b.fees for b in books), ZERO) == net.fees
            assert not net.quantity or net.cost or net.quantity * net.cost == 0
        assert account.realized == sum((h.ledger.net.realized for h in holdings), ZERO)
        assert account.cost == sum((h.ledger.net.cost for h in holdings), ZERO)
        unpriced = sorted(h.symbol for h in holdings if h.quantity and h.mark is None)
        assert list(account.unpriced) == unpriced
        if unpriced:
            assert account.equity is None
            return
        value = sum((h.quantity * h.mark for h in holdings if h.mark is not None), ZERO)
        made = account.realized - account.fees + account.income + account.unrealized
        assert account.equity == account.cash + account.receivables + value
        assert account.equity == account.starting + account.deposits + made


@settings(max_examples=150, deadline=None)
@given(st.lists(STEPS, max_size=30))
def test_identity_after_every_event(steps) -> None:
    at = At(cash=10_000_000, limits={"day_loss": None}, multiplier=1000)
    for symbol in SYMBOLS:
        at.quote(symbol, 100, "100.02")
    for step in steps:
        before = at.equity
        perform(at, step)
        check(at)
        if step[0] == "split" and before is not None and at.equity is not None:
            assert abs(at.equity - before) < Decimal("1e-12")
    assert [e.seq for e in at.all] == list(range(1, len(at.all) + 1))
    last: dict[str, int] = {}
    for e in at.all:
        assert e.prev == last.get(e.topic, 0)
        last[e.topic] = e.seq
        encode(e)


@settings(max_examples=60, deadline=None)
@given(st.lists(STEPS, max_size=14), st.data())
def test_snapshot_and_restore_change_nothing(steps, data) -> None:
    """A processor restored between any two inputs decides what the undisturbed one does."""
    cut = data.draw(st.integers(0, len(steps)))
    one, two = At(cash=1_000_000, multiplier=1000), At(cash=1_000_000, multiplier=1000)
    for n, step in enumerate(steps):
        if n == cut:
            kept = two.accounts.snapshot()
            two.accounts = Accounts(two.settings)
            two.accounts.restore(kept)
            assert two.accounts.snapshot() == kept
        perform(one, step)
        perform(two, step)
    assert [encode(e) for e in one.all] == [encode(e) for e in two.all]
    assert one.accounts.snapshot() == two.accounts.snapshot()


# ------------------------------------------------------------ what happens to a position


def test_split_scales_quantity_and_leaves_equity_and_cost() -> None:
    at = At()
    at.bought(100, 645)
    before, cost = at.equity, at.account.cost
    at.split(num=7, den=1)
    assert at.account.net("X") == 700
    assert at.account.cost == cost
    assert at.equity is not None
    assert before is not None
    assert abs(at.equity - before) < Decimal("1e-12")


def test_fraction_of_a_share_becomes_cash_at_the_mark() -> None:
    at = At()
    at.bought(15, 100)
    before = at.equity
    at.split(num=1, den=10)
    assert at.account.net("X") == 1
    assert at.equity is not None
    assert before is not None
    assert abs(at.equity - before) < Decimal("1e-12")
    assert at.account.cash == 100_000 - 1500 + money("0.5") * money("999.9")


def test_dividend_is_received_by_longs_and_owed_by_shorts() -> None:
    at = At()
    at.bought(100, 50, "X")
    at.quote("Y", 20, "20.02")
    at.fill(at.order("sell", 200, "Y"), 20)
    cash = at.account.cash
    at.dividend("X", "0.25", pay="2013-10-08")
    at.dividend("Y", "0.10", pay="2013-10-08")
    assert at.account.cash - cash == money("25") - money("20")
    assert at.account.income == 5


def test_dividend_paid_later_is_a_receivable_until_then() -> None:
    at = At()
    at.bought(100, 50)
    cash, equity = at.account.cash, at.equity
    at.dividend("X", "0.25", ex="2013-10-07", pay="2013-10-08")
    assert (at.account.cash, at.account.receivables) == (cash, 25)
    assert at.equity == equity + 25
    at.close()
    at.open()
    assert (at.account.cash, at.account.receivables) == (cash + 25, 0)


def test_bust_undoes_an_execution_as_if_it_had_never_been() -> None:
    with_bust, without = At(), At()
    for at in (with_bust, without):
        at.quote("X", 99, 101)
        at.fill(at.order("buy", 10), 100, execution="e1")
    with_bust.fill(with_bust.order("buy", 30), 110, execution="e2", fee=1)
    with_bust.fill(with_bust.order("sell", 5), 120, execution="e3")
    with_bust.bust("e2")
    without.fill(without.order("sell", 5), 120, execution="e3")
    one, two = with_bust.account, without.account
    assert (one.cash, one.realized, one.fees, one.cost) == (two.cash, two.realized, two.fees, two.cost)
    assert one.net("X") == 5


def test_correction_replaces_terms() -> None:
    at = At()
    at.quote("X", 99, 101)
    order = at.order("buy", 10)
    at.fill(order, 100, execution="e1")
    at.correct("e1", 10, 101)
    assert at.account.cash == 100_000 - 1010
    assert at.account.cost == 1010
    assert at.account.orders[order].notional == 1010


def test_books_of_two_strategies_differ_from_the_net_by_crossing() -> None:
    at = At()
    at.bought(100, 50, strategy="s")
    at.fill(at.order("sell", 100, strategy="t"), 50)
    at.quote("X", 40, 42)
    at.deposit(1)
    pnl = at.all[-1]
    ledger = at.account.holdings["X"].ledger
    assert ledger.net.quantity == 0
    assert (ledger.books["s"].quantity, ledger.books["t"].quantity) == (100, -100)
    assert pnl.crossing == 100 * (42 - 40)
    assert at.equity == 100_001


def test_position_changed_says_what_the_books_hold() -> None:
    at = At()
    at.bought(100, 50, fee="1.5")
    changed = at.last(PositionChanged)
    assert (changed.quantity, changed.cost, changed.average, changed.fees) == (100, 5000, 50, money("1.5"))
    assert changed.account == ME
