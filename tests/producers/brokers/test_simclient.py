"""The adapter of the simulated broker, against the service itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from producers.brokers.contract import BrokerError, BrokerUnreachable, NoAnswer, Order, Refused, Taken, Terms
from producers.brokers.simclient import SimClient
from schemas import Acknowledged, Busted, Cancelled, CashActivity, Corrected, Filled, Rejected, Replaced
from support.market import at, quote
from support.simbroker import CASH, Desk, desk, free_port

MARKET = Order("one", "SPY", "buy", Decimal(100), "market", None, None, "day", False)
LIMIT = replace(MARKET, client_id="two", order_type="limit", limit=Decimal("9.9"))


@pytest.fixture
def d(tmp_path: Path) -> Iterator[Desk]:
    with desk(tmp_path) as made:
        made.see(quote(at("09:31"), 10, "10.02"))
        yield made


@pytest.fixture
def client(d: Desk) -> Iterator[SimClient]:
    made = SimClient(d.url, "A")
    yield made
    made.close()


def next_of(reports: Iterator[Any], count: int) -> list[Any]:
    """So many reports of a stream, without the signs of life."""
    found: list[Any] = []
    while len(found) < count:
        report = next(reports)
        found += [report] if report is not None else []
    return found


def test_order_from_request_to_books(client: SimClient) -> None:
    with client.updates() as reports:
        assert isinstance(client.submit(MARKET), Taken)
        acknowledged, filled = next_of(reports, 2)
    assert isinstance(acknowledged, Acknowledged)
    assert (filled.order, filled.quantity, filled.price) == ("one", 100, Decimal("10.02"))
    (activity,) = client.activities("")
    assert isinstance(activity.report, Filled)
    assert (activity.report.id, activity.report.execution) == (filled.id, filled.execution)
    assert activity.report.cumulative is None, "the execution tells: a bust would make two of one quantity"
    assert client.activities(activity.number) == []
    holdings = client.snapshot()
    assert (holdings.cash, holdings.activity) == (CASH - 1002, activity.number)
    assert [(p.symbol, p.quantity) for p in holdings.positions] == [("SPY", 100)]
    found = client.look_up("one")
    assert found is not None
    assert (found.order, found.standing, found.filled) == (MARKET, "filled", 100)


def test_change_and_end_of_an_order(client: SimClient) -> None:
    with client.updates() as reports:
        client.submit(LIMIT)
        assert isinstance(client.replace("two", Terms(Decimal(50), Decimal("9.8"), None)), Taken)
        assert isinstance(client.cancel("two"), Taken)
        _, changed, ended = next_of(reports, 3)
    assert isinstance(changed, Replaced)
    assert (changed.quantity, changed.limit) == (50, Decimal("9.8"))
    assert isinstance(ended, Cancelled)
    found = client.look_up("two")
    assert found is not None
    assert (found.standing, found.revision) == ("cancelled", changed.id.rpartition(":")[2])
    assert client.open_orders() == []
    assert isinstance(client.cancel("two"), Refused)


def test_what_the_broker_knows_of_ids(client: SimClient) -> None:
    assert (client.look_up("two"), client.newest_order("tw")) == (None, "")
    client.submit(LIMIT)
    assert [o.order for o in client.open_orders()] == [LIMIT]
    assert client.newest_order("tw") == "two"
    again = client.submit(LIMIT)
    assert isinstance(again, Refused)
    assert again.is_known


def test_bust_correction_cash_and_rejection(d: Desk, client: SimClient) -> None:
    client.submit(MARKET)
    execution = d.activities()[0].execution_id
    d.admin("correct", execution_id=execution, price="10")
    d.admin("bust", execution_id=execution)
    d.admin("cash", type="fee", amount="-1.5")
    corrected, busted, cash = [a.report for a in client.activities("1")]
    assert isinstance(corrected, Corrected)
    assert corrected.price == 10
    assert isinstance(busted, Busted)
    assert busted.execution == execution
    assert isinstance(cash, CashActivity)
    assert (cash.kind, cash.amount) == ("fee", Decimal("-1.5"))
    d.faults(reject="1x")
    with client.updates() as reports:
        refused = client.submit(LIMIT)
        assert isinstance(refused, Refused)
        (rejected,) = next_of(reports, 1)
    assert isinstance(rejected, Rejected)
    assert rejected.id == "two:rejected"


def test_no_answer(d: Desk, client: SimClient) -> None:
    d.faults(lose_answer="1x")
    assert isinstance(client.submit(LIMIT), NoAnswer)
    assert client.look_up("two") is not None
    with pytest.raises(BrokerError, match="no account B"):
        SimClient(d.url, "B").snapshot()
    with pytest.raises(BrokerUnreachable):
        SimClient(f"http://127.0.0.1:{free_port()}", "A").snapshot()
