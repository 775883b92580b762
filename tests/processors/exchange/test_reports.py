"""What a report carries: identity, cause, time, fee, cumulative quantity."""

from __future__ import annotations

from decimal import Decimal

import msgspec

from schemas import Acknowledged, Cancelled, Filled, Unreadable
from schemas.record import Record
from support.market import at, quote
from support.venue import Venue, accepted

T = at("10:00")


def test_identities_causes_and_times() -> None:
    venue = Venue(size="displayed")
    venue.see(quote(T, "10.00", "10.02", (100, 60)))
    venue.order("buy 100 market")
    venue.see(quote(T + 5, "10.00", "10.03", (100, 10)))
    venue.cancel("a")
    acknowledged, first, second, cancelled = venue.reports
    assert acknowledged == Acknowledged(id="a/1", account="A", ts=T, order="a", cause="A:1")
    assert first == Filled(
        id="a/2",
        account="A",
        ts=T,
        order="a",
        execution="a/2",
        symbol="SPY",
        side="buy",
        quantity=Decimal(60),
        price=Decimal("10.02"),
        fee=Decimal(0),
        cumulative=Decimal(60),
        cause="market.quotes/0/0",
    )
    assert (second.id, second.execution, second.cumulative) == ("a/3", "a/3", Decimal(70))
    assert (second.ts, second.cause) == (T + 5, "market.quotes/0/1")
    assert cancelled == Cancelled(id="a/4", account="A", ts=T + 5, order="a", cause="A:2")


def test_fees_of_an_orders_fills_add_up_to_the_orders_fee() -> None:
    venue = Venue(size="displayed", fee="per-share:0.005:1")
    venue.see(quote(T, "10.00", "10.02", (0, 50)))
    venue.order("buy 688 limit 10.02")
    venue.see(quote(T + 1, "10.00", "10.02", (0, 250)), quote(T + 2, "10.00", "10.02", (0, 1000)))
    assert [str(report.fee) for report in venue.reports[1:]] == ["1.00", "0.50", "1.94"]


def test_other_records_say_nothing() -> None:
    venue = Venue()
    unread = Record("market.quotes", 0, 9, b"", b"", event=Unreadable("x"))
    assert venue.exchange.apply(unread) == ()


def test_an_order_without_its_price_is_rejected() -> None:
    for text, terms in (("limit 10", {"limit": None}), ("stop 10", {"stop": None})):
        venue = Venue()
        order = msgspec.structs.replace(accepted(1, "a", f"buy 1 {text}"), **terms)
        assert venue.see(order) == ["rejected order a"]
        assert venue.reports[-1].reason == f"a {text.split()[0]} order needs a {text.split()[0]}"
