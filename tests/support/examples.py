"""One realistic event of every type: what the golden files in tests/schemas/golden say.

`EXAMPLES` has what the current version of each type reads as; `OLDER` what a golden file of an older
version reads as today, after its upcasters. A file that is there never changes, so neither does its
example: only a new version brings a new one.
"""

from __future__ import annotations

from decimal import Decimal as D
from typing import Any

import schemas as s

TS = 1_704_205_800_000_000_000
"""2 January 2024, 09:30 in New York."""
MINUTE = 60_000_000_000
IMPORT = "9f2c4be0d7a1"


def _market(row: int, ts: int = TS, symbol: str = "SPY") -> dict[str, Any]:
    return {"symbol": symbol, "ts": ts, "source": IMPORT, "row": row}


def _command(number: int) -> dict[str, Any]:
    return {
        "id": f"cmd-{number:04}",
        "account": "main",
        "ts": TS,
        "who": "anna",
        "why": "as agreed on Monday",
    }


def _report(number: int) -> dict[str, Any]:
    return {"id": f"rep-{number:04}", "account": "main", "ts": TS + 250_000_000, "raw": '{"event":"x"}'}


def _decision(seq: int, prev: int = 0, cause: str = "market.quotes/2/17") -> dict[str, Any]:
    return {"account": "main", "seq": seq, "prev": prev, "cause": cause, "trace": "main:4", "ts": TS}


ORDER = "4f1a9c-main-5"
LIMITS = s.Limits(
    restricted=("GME",),
    tick_size=D("0.01"),
    max_notional=D(50000),
    collar_bps=D(500),
    max_quote_age_ms=5000,
    gross_exposure=D("1.5"),
    day_loss=D("0.03"),
    absolute_loss=None,
    drawdown=D("0.2"),
    rearm_next_session=True,
    on_trip="flatten",
)

_MARKET: tuple[s.Event, ...] = (
    s.Quote(
        **_market(17),
        bid=D("472.16"),
        bid_size=D(300),
        ask=D("472.18"),
        ask_size=D(500),
        feed="lean",
        bar=True,
    ),
    s.Trade(
        **_market(18), price=D("472.17"), size=D(100), feed="sip", id="52983", exchange="P", condition="@"
    ),
    s.TradeCorrection(**_market(19), id="52983", price=D("472.165"), size=D(100), feed="sip"),
    s.TradeCancel(**_market(20), id="52984", feed="sip"),
    s.Bar(
        **_market(21, TS + MINUTE),
        period=MINUTE,
        open=D("472.16"),
        high=D("472.6"),
        low=D("472.1"),
        close=D("472.55"),
        volume=D(1258471),
        bid_open=D("472.15"),
        bid_high=D("472.59"),
        bid_low=D("472.09"),
        bid_close=D("472.54"),
        feed="lean",
    ),
    s.SessionOpened(
        session="2024-01-02",
        ts=TS,
        close=TS + 390 * MINUTE,
        extended_open=TS - 330 * MINUTE,
        extended_close=TS + 630 * MINUTE,
        source=IMPORT,
        row=1,
    ),
    s.SessionClosed(session="2024-01-02", ts=TS + 390 * MINUTE, source=IMPORT, row=9),
    s.TradingHalt(**_market(2, symbol="AAPL"), reason="LUDP"),
    s.TradingResume(**_market(3, TS + 5 * MINUTE, "AAPL")),
    s.FeedGap(**_market(4, symbol="*"), since=TS - MINUTE, feed="sip", reason="socket closed"),
    s.FeedRecovered(**_market(5, symbol="*"), feed="sip"),
    s.Split(**_market(6, symbol="AAPL"), ex="2020-08-31", num=4, den=1),
    s.CashDividend(**_market(7), ex="2023-12-15", pay="2024-01-31", amount=D("1.906069")),
    s.Heartbeat(ts=TS, source=IMPORT, row=8),
    s.Mark(symbol="SPY", ts=TS, bid=D("472.16"), ask=D("472.18"), last=None, quote="market.quotes/2/17"),
)

_COMMANDS: tuple[s.Event, ...] = (
    s.OpenAccount(
        **_command(1),
        cash=D(100000),
        kind="margin",
        multiplier=D(2),
        shorting=True,
        fractions=False,
        limits=LIMITS,
    ),
    s.Deposit(**_command(2), amount=D("2500.5")),
    s.Withdraw(**_command(3), amount=D("0.01")),
    s.SetLimits(**_command(4), limits=s.Limits()),
    s.HaltAccount(**_command(5)),
    s.Rearm(**_command(6), reason="day-loss", limits=LIMITS),
    s.PlaceOrder(
        **_command(7),
        symbol="BRK.B",
        side="sell",
        quantity=D("0.25"),
        order_type="stop_limit",
        limit=D("355.5"),
        stop=D(356),
        tif="gtc",
        extended=True,
    ),
    s.ReplaceOrder(**_command(8), order=ORDER, quantity=D(40), limit=D("472.1")),
    s.CancelOrder(**_command(9), order=ORDER),
    s.Flatten(**_command(10), symbol="SPY"),
    s.ResolveUnread(**_command(11), place="broker.reports/1/204", action="drop"),
)

_REPORTS: tuple[s.Event, ...] = (
    s.OrderSending(**_report(1), order=ORDER),
    s.Acknowledged(**_report(2), order=ORDER, broker_id="61e69015-8549"),
    s.Filled(
        **_report(3),
        order=ORDER,
        execution="20240102-77",
        symbol="SPY",
        side="buy",
        quantity=D(40),
        price=D("472.1825"),
        fee=D("0.0348"),
        cumulative=D(60),
    ),
    s.Busted(**_report(4), execution="20240102-77", reason="clearly erroneous"),
    s.Corrected(
        **_report(5), execution="20240102-77", quantity=D(40), price=D("472.18"), fee=D(0), reason="price"
    ),
    s.Cancelled(**_report(6), order=ORDER, reason="by us"),
    s.Replaced(**_report(7), order=ORDER, quantity=D(50), limit=D("472.1"), stop=None, broker_id="61e69016"),
    s.Expired(**_report(8), order=ORDER),
    s.Rejected(**_report(9), order=ORDER, what="cancel", reason="already filled"),
    s.NotSent(**_report(10), order=ORDER, reason="the account is blocked"),
    s.Unknown(**_report(11), order=ORDER, reason="timed out after 10 s"),
    s.CashActivity(**_report(12), kind="dividend", amount=D("-47.65"), symbol="SPY"),
    s.BrokerSnapshot(
        **_report(13),
        cash=D("98113.42"),
        positions=(
            s.BrokerPosition(symbol="AAPL", quantity=D("-12.5")),
            s.BrokerPosition(symbol="SPY", quantity=D(100)),
        ),
        orders=(s.BrokerOrder(order=ORDER, symbol="SPY", side="buy", quantity=D(100), filled=D(60)),),
    ),
)

_INTENT: dict[str, Any] = {
    "strategy": "cross",
    "version": "3",
    "intent": "target",
    "symbol": "SPY",
    "weight": D("0.25"),
    "shares": None,
    "side": None,
    "quantity": None,
    "order_type": "limit",
    "limit": D("472.2"),
    "stop": None,
    "tif": "ioc",
    "extended": False,
    "order": "",
    "confidence": D("0.82"),
    "features": {"fast": "472.31", "slow": "471.98"},
}
_TERMS: dict[str, Any] = {
    "order": ORDER,
    "strategy": "cross",
    "symbol": "SPY",
    "side": "buy",
    "quantity": D(100),
}
_ORDER: dict[str, Any] = {
    **_TERMS,
    "order_type": "limit",
    "limit": D("472.2"),
    "stop": None,
    "tif": "ioc",
    "extended": False,
}
_CHECKS = (
    s.Check(name="max_notional", ok=True, value="47218", limit="50000"),
    s.Check(name="collar", ok=False, value="", limit="500"),
)

_INTENTS: tuple[s.Event, ...] = (
    s.Proposal(
        **_INTENT,
        id="cross/3/market.bars/2/5/0",
        account="main",
        ts=TS,
        cause="market.bars/2/5",
        source="faust-1",
        position=5,
        ordinal=0,
    ),
    s.Signal(**_INTENT, **_decision(4), proposal="cross/3/market.bars/2/5/0"),
)

_ORDERS: tuple[s.Event, ...] = (
    s.OrderRequested(**_decision(5, 2), **_ORDER),
    s.OrderAccepted(
        **_decision(6, 5), **_ORDER, reduces=False, quote="market.quotes/2/17", checks=_CHECKS[:1]
    ),
    s.OrderDenied(**_decision(7, 6), **_TERMS, reduces=True, quote="market.quotes/2/17", checks=_CHECKS),
    s.OrderChanged(
        **_decision(8, 7, "rep-0003"),
        **_TERMS,
        status="partial",
        pending="replace",
        fix="1",
        filled=D(60),
        leaves=D(40),
        limit=D("472.2"),
        stop=None,
        new_limit=D("472.1"),
        reason="partly filled",
    ),
    s.CommandApplied(
        **_decision(9, 8, "cmd-0002"), command="cmd-0002", kind="Deposit", who="anna", why="as agreed"
    ),
    s.CommandRefused(
        **_decision(10, 9, "cmd-0003"),
        command="cmd-0003",
        kind="Withdraw",
        who="anna",
        reason="not enough cash",
    ),
    s.Anomaly(**_decision(11, 10), kind="unknown-order", order="4f1a9c-main-99", detail="filled at 472.18"),
    s.Drift(**_decision(12, 11), what="position", symbol="SPY", ours="100", theirs="60"),
    s.Unread(**_decision(13, 12), place="broker.reports/1/204", reason="unknown type 'Allocated'"),
)

_BREACHES: tuple[s.Event, ...] = (
    s.LimitBreached(
        **_decision(14),
        limit="day_loss",
        value=D("-0.0312"),
        threshold=D("-0.03"),
        session="2024-01-02",
        evidence=(
            s.Evidence(
                symbol="SPY",
                quantity=D(100),
                price=D("457.5"),
                tier="quote",
                source="market.quotes/2/17",
                ts=TS,
            ),
        ),
    ),
    s.BreakerReducing(
        **_decision(15, 14),
        reason="day-loss-reduce",
        session="2024-01-02",
        ordinal=1,
        detail="-0.0251 <= -0.025",
        reasons=("day-loss-reduce",),
    ),
    s.BreakerHalted(
        **_decision(16, 15),
        reason="day-loss",
        session="2024-01-02",
        ordinal=1,
        detail="-0.0312 <= -0.03",
        reasons=("day-loss", "day-loss-reduce"),
    ),
    s.BreakerCleared(
        **_decision(17, 16, "cmd-0006"),
        reason="day-loss",
        of="main:16",
        who="anna",
        why="reviewed",
        state="REDUCING",
        reasons=("day-loss-reduce",),
    ),
)

_BOOKS: tuple[s.Event, ...] = (
    s.Fill(
        **_decision(18, 0, "rep-0003"),
        **{**_TERMS, "quantity": D(60)},
        execution="20240102-77",
        price=D("472.1825"),
        fee=D("0.0348"),
    ),
    s.FillBusted(
        **_decision(19, 18, "rep-0004"), fill="main:18", execution="20240102-77", reason="clearly erroneous"
    ),
    s.FillCorrected(
        **_decision(20, 19, "rep-0005"),
        fill="main:18",
        execution="20240102-77",
        quantity=D(60),
        price=D("472.18"),
        fee=D(0),
        reason="price",
    ),
    s.InternalTransfer(
        **_decision(21, 20), symbol="SPY", giver="cross", taker="operator", quantity=D(10), price=D("472.17")
    ),
    s.PositionChanged(
        **_decision(22),
        strategy="cross",
        symbol="SPY",
        quantity=D(-30),
        cost=D("-14165.475"),
        average=D("472.1825"),
        realized=D("-12.75"),
        fees=D("0.0348"),
        income=D(0),
        net_quantity=D(-20),
        net_cost=D("-9443.65"),
        net_realized=D("-12.75"),
    ),
    s.DayOpened(**_decision(23), session="2024-01-02", baseline=D("100000.000000000000000001"), peak=None),
    s.PnL(
        **_decision(24, 23),
        equity=None,
        cash=D("128330.95"),
        receivables=D("47.65"),
        value=None,
        realized=D("-12.75"),
        unrealized=None,
        fees=D("0.0348"),
        income=D(0),
        deposits=D(100000),
        day=None,
        drawdown=D("0.0001275"),
        long=D(0),
        short=D("9443.4"),
        crossing=D("-0.2"),
        unpriced=("GME",),
    ),
)

_JOURNAL: tuple[s.Event, ...] = (
    s.Configured(
        partition=1,
        epoch=2,
        log="4f1a9c0e5d7b",
        time="data",
        components=(s.Component(name="account", version="1", digest="ab12"),),
        dependencies="cd34",
        schemas="ef56",
        settings=s.CoreSettings(
            log_prefix="4f1a9c",
            simulated=True,
            mark="mid",
            fee="us_equity",
            latency=250_000_000,
            strategies=(
                s.StrategySetting(
                    name="cross",
                    kind="strategies/cross.py:Cross",
                    version="3",
                    digest="0a1b",
                    account="main",
                    symbols=("AAPL", "SPY"),
                    params={"fast": "10", "slow": "50"},
                ),
            ),
        ),
    ),
    s.Batch(
        partition=1,
        number=12,
        epoch=2,
        inputs=(
            s.BatchInput(topic="market.quotes", partition=2, first=17, count=3, next=20),
            s.BatchInput(topic="operator.commands", partition=1, first=4, count=1, next=6),
        ),
        order="eJxjYGAAAAADAAE=",
        records=4,
        seqs={"main": 24, "second": 3},
        now=TS,
    ),
    s.Folded(
        number=3,
        source="market-5a1b",
        settings="{}",
        inputs=(s.BatchInput(topic="market.quotes", partition=2, first=17, count=3, next=20),),
        order="eJxjYGAAAAADAAE=",
        records=3,
        written={"market.marks/2": 5},
        state="eJwDAAAAAAE=",
    ),
    s.Snapshot(partition=1, epoch=2, batch=12, chunk=0, chunks=1, digest="77aa", data="eJwDAAAAAAE="),
    s.Seal(sealed="market.quotes", partition=2, first=4096, next=8192, count=8192, digest="31ee"),
    s.DeadLetter(
        place="broker.reports/1/204", key="bWFpbg==", bytes="eyJ0eXBl", reason="unknown type 'Allocated'"
    ),
    s.RoleHeartbeat(
        role="gateway", instance="host-7", ts=TS, processed=1204, behind=None, error="broker is slow"
    ),
    s.Alert(id="spread/SPY/17", rule="spread", ts=TS, cause="market.marks/0/17", text="SPY: Spread über 5 ¢"),
)

EXAMPLES: dict[str, s.Event] = {
    type(event).__name__: event
    for event in (
        *_MARKET,
        *_COMMANDS,
        *_REPORTS,
        *_INTENTS,
        *_ORDERS,
        *_BREACHES,
        *_BOOKS,
        *_JOURNAL,
    )
}

OLDER: dict[tuple[str, int], s.Event] = {}
