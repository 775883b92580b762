"""Books against published examples; splits, dividends, busts and corrections of positions."""

from __future__ import annotations

from decimal import Decimal

import pytest

from processors.account.books import Book
from schemas import PositionChanged, exact
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
