"""Every number has a reason: fills end at quotes that exist, and profits add up."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from eventlog import EventLog, create_log
from eventlog.errors import NotInLog
from schemas import (
    BreakerCleared,
    BreakerHalted,
    BreakerReducing,
    Fill,
    LimitBreached,
    PnL,
    PositionChanged,
    read_into,
)
from support.runs import SPEC, all_records, busy_commands, busy_market, busy_settings, run, write_facts
from tape.tracing import Index, Tree, causes, consequences
from tape.tracing_sums import with_sums

FACTS = ("market.quotes", "market.trades", "market.bars", "market.status", "operator.commands")


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EventLog]:
    folder: Path = tmp_path_factory.mktemp("tracing")
    with create_log(f"sqlite:{folder / 'log'}", SPEC) as made:
        write_facts(made, busy_market(quotes=60), busy_commands())
        run(made, busy_settings(), batch=40)
        yield made


def decisions(log: EventLog, topic: str, kind: type) -> list[Any]:
    found = [read_into(r).event for r in all_records(log, topic, 0)]
    return [event for event in found if type(event) is kind]


def nodes(tree: Tree, branch: str = "causes") -> Iterator[Tree]:
    yield tree
    for child in tree.get(branch, ()):
        yield from nodes(child, branch)


def test_every_fill_ends_at_quotes_that_exist(log: EventLog) -> None:
    index, fills = Index(log), decisions(log, "fills", Fill)
    assert len(fills) > 50
    for fill in fills:
        found = list(nodes(causes(index, f"{fill.account}:{fill.seq}")))
        assert [n["missing"] for n in found if n["missing"]] == []
        types = {n["type"] for n in found}
        assert {"OrderRequested", "OrderAccepted"} <= types
        assert types & {"Signal", "PlaceOrder", "Flatten", "BreakerHalted"}
        prices = [n for n in found if n["type"] in ("Quote", "Bar", "Trade")]
        assert any(n["values"]["symbol"] == fill.symbol for n in prices)
        for price in prices:
            topic, partition, offset = price["id"].split("/")
            (stored,) = log.read(topic, int(partition), gte=int(offset), limit=1)
            assert price["id"] == stored.place


def test_every_position_is_the_sum_of_its_fills(log: EventLog) -> None:
    index = Index(log)
    last = {(e.account, e.strategy, e.symbol): e for e in decisions(log, "positions", PositionChanged)}
    assert len(last) > 5
    booked = decisions(log, "fills", Fill)
    for (account, strategy, symbol), event in last.items():
        sums = with_sums(index, causes(index, f"{account}:{event.seq}"))["sums"]
        assert sums["adds_up"]
        assert Decimal(sums["totals"]["realized"]) == event.realized
        mine = [f for f in booked if (f.account, f.strategy, f.symbol) == (account, strategy, symbol)]
        assert sum(part["fill"] is not None for part in sums["parts"]) == len(mine)


def test_every_profit_adds_up(log: EventLog) -> None:
    index, profits = Index(log), decisions(log, "pnl", PnL)
    for profit in profits[:: max(1, len(profits) // 15)]:
        sums = with_sums(index, causes(index, f"{profit.account}:{profit.seq}"))["sums"]
        assert sums["adds_up"]
        assert Decimal(sums["totals"]["realized"]) == profit.realized


def test_a_signal_leads_to_its_fills_and_any_name_finds_the_record(log: EventLog) -> None:
    index = Index(log)
    fill = next(f for f in decisions(log, "fills", Fill) if f.strategy == "first")
    found = list(nodes(consequences(index, fill.trace), "consequences"))
    assert f"{fill.account}:{fill.seq}" in [n["id"] for n in found]
    assert causes(index, fill.execution)["id"] == f"{fill.account}:{fill.seq}"
    assert causes(index, fill.order)["values"]["order"] == fill.order
    assert causes(index, fill.cause)["id"] == fill.cause
    assert causes(index, "deposit")["type"] == "Deposit"


@pytest.mark.parametrize("name", ["nothing", "acc0:999999", "market.quotes/0/999999", "a-b-1", "fills"])
def test_what_is_no_record(log: EventLog, name: str) -> None:
    with pytest.raises(NotInLog):
        causes(Index(log), name)


def test_every_breach_rests_on_prices_that_exist(log: EventLog) -> None:
    index, breaches = Index(log), decisions(log, "risk.breaches", LimitBreached)
    assert len(breaches) >= 2
    for breach in breaches:
        assert breach.evidence
        found = {n["id"]: n for n in nodes(causes(index, f"{breach.account}:{breach.seq}"))}
        assert [n["missing"] for n in found.values() if n["missing"]] == []
        for held in breach.evidence:
            values = found[held.source]["values"]
            assert values["symbol"] == held.symbol
            if held.tier == "quote":
                assert Decimal(values["bid" if held.quantity > 0 else "ask"]) == held.price


@pytest.mark.parametrize("kind", [BreakerHalted, BreakerReducing, BreakerCleared])
def test_every_change_of_the_breaker_ends_at_a_fact(log: EventLog, kind: type) -> None:
    index, changes = Index(log), decisions(log, "risk.breaches", kind)
    assert changes
    for change in changes:
        found = list(nodes(causes(index, f"{change.account}:{change.seq}")))
        assert [n["missing"] for n in found if n["missing"]] == []
        roots = [n for n in found if not n["causes"]]
        assert all(n["place"].split("/")[0] in FACTS for n in roots)
