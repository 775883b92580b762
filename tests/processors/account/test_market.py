"""What a position is worth: tiers, sessions, late and bad prices; profit and loss over the day."""

from __future__ import annotations

from decimal import Decimal
from itertools import pairwise

import pytest

from schemas import CommandRefused, DayOpened, PnL, ResolveUnread, Unread
from support.desk import LENGTH, SECOND, At


def mark(at: At, symbol: str = "X") -> tuple[Decimal, str] | None:
    holding = at.account.holdings[symbol]
    return None if holding.mark is None else (holding.mark, holding.tier)


def holding(side: str = "buy", **settings) -> At:
    """Ten shares, marked by a quote of 100.00/100.10."""
    at = At(**settings)
    at.quote("X", 100, "100.10")
    at.fill(at.order(side, 10), "100.05")
    return at


RULES = [
    # rule, side held, mark by a quote 101.00/101.10
    ("side", "buy", "101.00"),
    ("side", "sell", "101.10"),
    ("mid", "buy", "101.05"),
    ("mid", "sell", "101.05"),
]


@pytest.mark.parametrize(("rule", "side", "price"), RULES)
def test_rules(rule, side, price) -> None:
    at = holding(side, mark=rule)
    at.quote("X", 101, "101.10")
    assert mark(at) == (Decimal(price), "quote")


def test_rule_last_takes_the_last_trade_and_else_the_quote() -> None:
    at = holding(mark="last")
    assert mark(at) == (Decimal(100), "quote")
    at.trade("X", "100.07")
    assert mark(at) == (Decimal("100.07"), "trade")
    at.quote("X", 99, "99.02")
    assert mark(at) == (Decimal("100.07"), "trade")


BAD = [
    # a quote that does not mark
    ("101", "100"),
    ("0", "100"),
    (None, "100"),
    ("100", None),
    ("97", "102"),
]


@pytest.mark.parametrize(("bid", "ask"), BAD)
def test_a_quote_that_is_not_valid_leaves_the_mark_to_the_last_trade(bid, ask) -> None:
    at = holding()
    at.trade("X", "99.50")
    at.quote("X", bid, ask)
    assert mark(at) == (Decimal("99.50"), "trade")
    at.quote("X", 100, "100.1")
    assert mark(at) == (Decimal(100), "quote")


def test_spread_of_exactly_five_percent_of_mid_is_valid() -> None:
    at = holding()
    at.quote("X", "97.5", "102.5")
    assert mark(at) == (Decimal("97.5"), "quote")


def test_late_and_backfilled_quotes_never_mark() -> None:
    at = holding()
    at.quote("X", 90, "90.02", at=0.5)
    assert mark(at) == (Decimal(100), "quote")
    at.quote("X", 90, "90.02", backfilled=True)
    assert mark(at) == (Decimal(100), "quote")


def test_out_of_session_quotes_mark_only_if_so_set() -> None:
    for extended, expected in ((False, (Decimal(100), "close")), (True, (Decimal(90), "quote"))):
        at = holding(mark_extended=extended)
        at.close()
        at.quote("X", 90, "90.02", at=-3600)
        at.deposit(1)
        found = mark(at)
        assert found is not None
        assert found[0] == expected[0]


def test_after_the_close_yesterdays_price_is_the_prior_close() -> None:
    at = holding()
    at.close()
    at.open()
    state = at.accounts.desk.market.symbols["X"]
    found = at.accounts.desk.market.price(state, long=True)
    assert found is not None
    assert (found.price, found.tier) == (100, "close")
    at.trade("X", 99)
    assert mark(at) == (Decimal(99), "trade")


def test_symbol_without_quotes_is_marked_by_bars() -> None:
    at = At()
    at.bar("X", 100)
    at.fill(at.order("buy", 10), 100)
    at.bar("X", 101)
    assert mark(at) == (Decimal(101), "trade")


# ------------------------------------------------------------ profit and loss


def test_pnl_at_most_every_100_ms_of_event_time() -> None:
    at = holding()
    first = len(at.of(PnL))
    for n in range(1, 101):
        at.quote("X", 100 + n, f"{100 + n}.05", at=10 + n * 0.01)
    written = at.of(PnL)[first:]
    assert 9 <= len(written) <= 11
    assert all(b.ts - a.ts >= 100_000_000 for a, b in pairwise(written))


def test_no_pnl_while_nothing_changes() -> None:
    at = holding()
    at.quote("X", 100, "100.10", at=10)
    before = len(at.of(PnL))
    for n in range(20):
        at.quote("X", 100, "100.20", at=20 + n)
    assert len(at.of(PnL)) == before


def test_day_baseline_and_what_trades_before_the_open() -> None:
    at = holding()
    at.quote("X", 110, "110.10")
    at.close()
    assert at.account.baseline == at.equity
    at.outside_fill("sell", 10, 105)
    assert at.account.day == -50
    opened = at.open()
    day = at.of(DayOpened, opened)[0]
    assert (day.session, day.baseline) == ("2013-10-08", 100_000 - Decimal("1000.5") + 1100)
    assert at.account.day == -50


def test_flows_are_not_profit() -> None:
    at = holding()
    day = at.account.day
    at.deposit(5000)
    at.withdraw(1000)
    assert at.account.day == day
    assert at.last(PnL).deposits == 4000


def test_withdrawal_beyond_the_cash_is_refused() -> None:
    at = At(cash=100)
    at.withdraw(101)
    assert "101 is more than the cash, 100" in at.last(CommandRefused).reason


def test_a_repeated_command_does_nothing() -> None:
    at = At()
    at.deposit(5)
    at.count -= 1
    assert at.deposit(5) == []
    assert at.account.cash == 100_005


# ------------------------------------------------------------ records that cannot be read


@pytest.mark.parametrize("topic", ["operator.commands", "strategy.proposals", "broker.reports"])
def test_unreadable_fact_halts_its_account(topic) -> None:
    at = At()
    at.open_account("other", 100)
    made = at.unreadable(topic)
    assert [e.account for e in at.of(Unread, made)] == ["me"]
    assert at.state == "HALTED"
    assert at.accounts.desk.accounts["other"].state == "ACTIVE"


def test_unreadable_fact_of_nobody_halts_all() -> None:
    at = At()
    at.open_account("other", 100)
    made = at.unreadable("broker.reports", key="nobody")
    assert [e.account for e in at.of(Unread, made)] == ["me", "other"]
    assert at.accounts.desk.accounts["other"].state == "HALTED"


def test_unreadable_market_record_makes_its_symbol_stale_until_a_good_quote() -> None:
    at = holding()
    made = at.unreadable("market.quotes", key="X")
    assert [e.account for e in at.of(Unread, made)] == ["me"]
    assert at.state == "REDUCING"
    at.quote("X", 100, "100.10")
    assert at.state == "ACTIVE"


def test_integrity_is_rearmed_only_after_the_record_is_resolved() -> None:
    at = At()
    at.unreadable("broker.reports")
    place = at.last(Unread).place
    at.rearm("integrity")
    assert "not resolved" in at.last(CommandRefused).reason
    at.command(ResolveUnread, place=place, action="drop")
    at.rearm("integrity")
    assert at.state == "ACTIVE"


def test_session_bounds_are_those_of_the_event() -> None:
    at = At()
    session = at.accounts.desk.market.session
    assert (session.close - session.opened) == LENGTH
    assert session.opened % SECOND == 0


@pytest.mark.parametrize("amount", ["1E-40", "0.0000000001", "10000000000"])
def test_a_number_too_long_to_be_booked_halts_and_books_nothing(amount) -> None:
    at = At()
    at.deposit(amount)
    assert at.account.cash == 100_000
    assert at.state == "HALTED"
    assert "digits" in at.last(Unread).reason


def test_an_account_whose_name_is_too_long_for_order_ids_is_not_opened() -> None:
    at = At()
    assert at.open_account("a" * 30, 100) == []
    assert at.open_account("a" * 20, 100) != []
