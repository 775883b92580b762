"""An account made of dictionaries, and records to feed to strategies."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from processors.strategies.base import Strategy
from processors.strategies.processor import Strategies
from processors.strategies.view import WorkingOrder
from schemas import Bar, Event, Fill, OrderChanged, Quote, Record, StrategySetting, Trade

SECOND = 1_000_000_000
START = 1_381_152_600 * SECOND  # 2013-10-07 13:30 UTC


class FakeView:
    """What an account would show: set its attributes."""

    def __init__(self) -> None:
        self.open = True
        self.positions: dict[str, Decimal] = {}
        self.orders: dict[str, list[WorkingOrder]] = {}
        self.money: Decimal | None = Decimal(100_000)
        self.breaker = "ACTIVE"

    def is_open(self, account: str) -> bool:
        return self.open

    def position(self, account: str, strategy: str, symbol: str) -> Decimal:
        return self.positions.get(symbol, Decimal(0))

    def working(self, account: str, strategy: str, symbol: str) -> Sequence[WorkingOrder]:
        return self.orders.get(symbol, [])

    def equity(self, account: str) -> Decimal | None:
        return self.money

    def cash(self, account: str) -> Decimal:
        return Decimal(1000)

    def state(self, account: str) -> str:
        return self.breaker


def setting(name: str = "one", symbols: Sequence[str] = ("SPY",), **changes: Any) -> StrategySetting:
    fields = {"kind": "test", "version": "1", "digest": "", "account": "acc", "symbols": tuple(symbols)}
    return StrategySetting(name=name, **{**fields, **changes})


def alone(strategy: Strategy, view: FakeView | None = None, **changes: Any) -> Strategies:
    """A processor with one strategy."""
    return Strategies([(setting(**changes), strategy)], view or FakeView())


def working(order: str, **changes: Any) -> WorkingOrder:
    ten = Decimal(10)
    return WorkingOrder(order, "buy", ten, Decimal(0), ten, "limit", Decimal(100), None, "none")._replace(
        **changes
    )


def quote(offset: int, symbol: str = "SPY", *, at: int | None = None, **changes: Any) -> Record:
    ts = START + (offset if at is None else at) * SECOND
    fields = {"bid": Decimal(99), "bid_size": Decimal(1), "ask": Decimal(100), "ask_size": Decimal(1)}
    event = Quote(symbol=symbol, ts=ts, source="s", row=offset, **{**fields, **changes})
    return market("market.quotes", offset, event)


def bar(offset: int, close: Any, symbol: str = "SPY", **changes: Any) -> Record:
    price = None if close is None else Decimal(close)
    event = Bar(
        symbol=symbol,
        ts=START + offset * SECOND,
        period=SECOND,
        open=price,
        high=price,
        low=price,
        close=price,
        volume=None,
        source="s",
        row=offset,
        **changes,
    )
    return market("market.bars", offset, event)


def trade(offset: int, symbol: str = "SPY", **changes: Any) -> Record:
    ts = START + offset * SECOND
    one = Decimal(1)
    return market(
        "market.trades",
        offset,
        Trade(symbol=symbol, ts=ts, price=one, size=one, source="s", row=offset, **changes),
    )


def market(topic: str, offset: int, event: Event) -> Record:
    return Record(topic, 2, offset, b"", b"", 0, event)


def fill(seq: int, strategy: str = "one", account: str = "acc") -> Record:
    event = Fill(
        account=account,
        seq=seq,
        prev=0,
        cause="c",
        trace="t",
        ts=START,
        order="o",
        execution="e",
        strategy=strategy,
        symbol="SPY",
        side="buy",
        quantity=Decimal(1),
        price=Decimal(100),
        fee=Decimal(0),
    )
    return Record("fills", 0, -1, b"", b"", 0, event)


def order_changed(seq: int, strategy: str = "one") -> Record:
    event = OrderChanged(
        account="acc",
        seq=seq,
        prev=0,
        cause="c",
        trace="t",
        ts=START,
        order="o",
        strategy=strategy,
        symbol="SPY",
        side="buy",
        status="working",
        pending="none",
        fix="0",
        quantity=Decimal(1),
        filled=Decimal(0),
        leaves=Decimal(1),
        limit=None,
        stop=None,
    )
    return Record("orders", 0, -1, b"", b"", 0, event)
