"""The alert rules: who is told of what, once."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from processors.alerts import RULES, BreakerRule, FeedRule, OrderRule, RoleRule
from processors.keyed import KeyedProcessor
from schemas import (
    TOPICS,
    Alert,
    Anomaly,
    BreakerCleared,
    BreakerHalted,
    Drift,
    Event,
    FeedGap,
    FeedRecovered,
    OrderDenied,
    Record,
    RoleHeartbeat,
    Unread,
)
from schemas.orders import Check
from support.market import SECOND, heartbeat

DECISION = {"account": "one", "seq": 7, "prev": 0, "cause": "c", "trace": "t", "ts": 5}


def told(rule: KeyedProcessor, *events: Event) -> list[Alert]:
    found: list[Any] = []
    for offset, event in enumerate(events):
        key = str(getattr(event, "account", "") or getattr(event, "role", "") or "*").encode()
        found += rule.apply(Record(event.topic, 0, offset, key, b"", 0, event))
    return found


def halted(**changes: Any) -> BreakerHalted:
    given: dict[str, Any] = {
        **DECISION,
        "reason": "day-loss",
        "session": "2024-01-02",
        "ordinal": 1,
        "detail": "equity fell",
        "reasons": ("day-loss",),
        **changes,
    }
    return BreakerHalted(**given)


def test_a_trip_and_its_end() -> None:
    cleared = BreakerCleared(
        **DECISION | {"seq": 9}, reason="day-loss", of="one:7", who="ann", why="", state="ACTIVE", reasons=()
    )
    trip, end = told(BreakerRule(), halted(), cleared)
    assert trip == Alert(
        id="breaker/one:7",
        rule="breaker",
        ts=5,
        cause="one:7",
        text="account one is HALTED: day-loss. equity fell",
    )
    assert end.text == "account one is ACTIVE: day-loss was cleared by ann"
    assert end.id == "breaker/one:9"


def test_orders_and_books() -> None:
    checks = (
        Check(name="quantity", ok=True, value="1", limit="2"),
        Check(name="gross", ok=False, value="3", limit="2"),
    )
    events = [
        OrderDenied(
            **DECISION,
            order="o",
            strategy="s",
            symbol="SPY",
            side="buy",
            quantity=Decimal(3),
            reduces=False,
            quote="",
            checks=checks,
        ),
        Anomaly(**DECISION | {"seq": 8}, kind="late-fill", order="o", detail="a fill after the end"),
        Drift(**DECISION | {"seq": 9}, what="position", symbol="SPY", ours="1", theirs="2"),
        Unread(**DECISION | {"seq": 10}, place="broker.reports/0/3", reason="not JSON"),
    ]
    assert [alert.text for alert in told(OrderRule(), *events)] == [
        "account one: buy 3 SPY was denied: gross",
        "account one: anomaly: a fill after the end",
        "account one: position of SPY is 1 in the books, 2 at the broker",
        "account one: broker.reports/0/3 cannot be read: not JSON",
    ]


def test_feeds() -> None:
    gap = FeedGap(symbol="SPY", ts=9, since=1, source="s", row=1, feed="iex", reason="reconnected")
    whole = FeedRecovered(symbol="SPY", ts=10, source="s", row=2, feed="iex")
    assert [(a.id, a.text) for a in told(FeedRule(), gap, heartbeat(9), whole)] == [
        ("feed/market.status/0/0", "feed iex: data of SPY are missing. reconnected"),
        ("feed/market.status/0/2", "feed iex: SPY is whole again"),
    ]


def beat(role: str, second: int, behind: int | None = 0, error: str = "") -> RoleHeartbeat:
    return RoleHeartbeat(role=role, instance="a", ts=second * SECOND, processed=1, behind=behind, error=error)


@pytest.mark.parametrize(
    ("beats", "wanted"),
    [
        ([beat("core", 0), beat("feed", 29)], []),
        ([beat("core", 0), beat("feed", 30), beat("feed", 31)], ["role core/a has been silent for 30 s"]),
        (
            [beat("core", 0), beat("feed", 30), beat("core", 31), beat("feed", 61)],
            ["role core/a has been silent for 30 s"] * 2,
        ),
        ([beat("core", n, 10_001) for n in range(30)], []),
        ([beat("core", n, 10_001) for n in range(40)], ["role core/a is 10,001 records behind"]),
        ([beat("core", n, 10_001 if n % 9 else 0) for n in range(60)], []),
        ([beat("core", 1, error="gone"), beat("core", 2, error="gone")], ["role core/a: gone"]),
        ([beat("core", n, error="" if n % 2 else "x") for n in range(4)], ["role core/a: x"] * 2),
    ],
)
def test_roles(beats: list[RoleHeartbeat], wanted: list[str]) -> None:
    alerts = told(RoleRule(), *beats)
    assert [alert.text for alert in alerts] == wanted
    assert len({alert.id for alert in alerts}) == len(alerts)


@pytest.mark.parametrize("name", RULES)
def test_each_rule_reads_one_topic_and_writes_alerts(name: str) -> None:
    rule = RULES[name]()
    assert rule.name == name
    assert len(rule.inputs) == 1
    assert rule.inputs[0] in TOPICS
    assert rule.outputs == ("alerts",)
