"""An account at a desk of its own: short words for what happens to it, and its decisions in order.

Times are seconds after the open of 2013-10-07; prices and quantities are text or numbers.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any, TypeVar

from processors.account.account import Account
from processors.account.processor import Accounts
from schemas import (
    Acknowledged,
    Bar,
    Busted,
    Cancelled,
    CancelOrder,
    CashActivity,
    CashDividend,
    CoreSettings,
    Corrected,
    Deposit,
    Event,
    Expired,
    Filled,
    Flatten,
    HaltAccount,
    Heartbeat,
    Limits,
    OpenAccount,
    OrderAccepted,
    OrderRequested,
    PlaceOrder,
    Proposal,
    Quote,
    Rearm,
    Record,
    Rejected,
    Replaced,
    ReplaceOrder,
    SessionClosed,
    SessionOpened,
    SetLimits,
    Split,
    Trade,
    TradeCancel,
    TradingHalt,
    TradingResume,
    Unreadable,
    Withdraw,
    exact,
    validate,
)

OPEN = 1_381_152_600_000_000_000
"""2013-10-07 09:30 New York, UTC ns."""
SECOND = 1_000_000_000
DAY = 86_400 * SECOND
LENGTH = 23_400 * SECOND
ME = "me"
E = TypeVar("E", bound=Event)


def money(value: Any) -> Decimal:
    """A decimal from text, a whole number or a decimal."""
    return value if isinstance(value, Decimal) else Decimal(str(value))


def some(value: Any) -> Decimal | None:
    return None if value is None else money(value)


class At:
    """An account processor with one account; every method applies an event and gives its decisions."""

    def __init__(
        self,
        cash: Any = 100_000,
        *,
        kind: str = "margin",
        multiplier: Any = 4,
        shorting: bool = True,
        fractions: bool = False,
        session: bool = True,
        limits: dict[str, Any] | None = None,
        **settings: Any,
    ) -> None:
        self.settings = CoreSettings(log_prefix="logid0", simulated=False, **settings)
        self.accounts = Accounts(self.settings)
        self.all: list[Event] = []
        self.offsets: dict[str, int] = {}
        self.row = 0
        self.day = 0
        self.count = 0
        self.now = OPEN - 3600 * SECOND
        self.open_account(ME, cash, kind, multiplier, shorting, fractions, limits)
        if session:
            self.open()

    def open_account(
        self, name, cash, kind="margin", multiplier=4, shorting=True, fractions=False, limits=None
    ):
        return self.command(
            OpenAccount,
            account=name,
            cash=money(cash),
            kind=kind,
            multiplier=money(multiplier),
            shorting=shorting,
            fractions=fractions,
            limits=validate(Limits, limits or {}),
        )

    # ------------------------------------------------------------ what it is now

    @property
    def account(self) -> Account:
        return self.accounts.desk.accounts[ME]

    @property
    def state(self) -> str:
        return self.account.state

    @property
    def equity(self) -> Decimal | None:
        return self.account.equity

    def of(self, kind: type[E], events: list[Event] | None = None) -> list[E]:
        return [e for e in (self.all if events is None else events) if type(e) is kind]

    def last(self, kind: type[E]) -> E:
        return self.of(kind)[-1]

    def status(self, order: str) -> str:
        return self.account.orders[order].status

    def book(self, strategy: str, symbol: str = "X") -> Decimal:
        return self.account.holdings[symbol].ledger.books[strategy].quantity

    def restart(self) -> None:
        """Go on with another processor, from what this one remembers."""
        kept = self.accounts.snapshot()
        self.accounts = Accounts(self.settings)
        self.accounts.restore(kept)
        assert self.accounts.snapshot() == kept

    # ------------------------------------------------------------ records

    def apply(
        self, event: Any, topic: str | None = None, inside: bool = False, key: bytes = b""
    ) -> list[Event]:
        topic = topic or event.topic
        offset = -1 if inside else self.offsets.get(topic, 0)
        self.offsets[topic] = offset + 1
        with exact():
            made = list(self.accounts.apply(Record(topic, 0, offset, key, b"", 0, event)))
        self.all += made
        return made

    def _market(self, event: Any, at: float | None, /, **fields: Any) -> list[Event]:
        self.row += 1
        if at is not None:
            self.now = OPEN + self.day * DAY + int(at * SECOND)
        return self.apply(event(ts=self.now, source="s", row=self.row, **fields))

    def open(self) -> list[Event]:
        self.now = start = OPEN + self.day * DAY
        return self._market(
            SessionOpened,
            None,
            session=f"2013-10-{7 + self.day:02d}",
            close=start + LENGTH,
            extended_open=start - 19_800 * SECOND,
            extended_close=start + LENGTH + 14_400 * SECOND,
        )

    def close(self) -> list[Event]:
        made = self._market(SessionClosed, LENGTH / SECOND, session=f"2013-10-{7 + self.day:02d}")
        self.day += 1
        return made

    def quote(self, symbol="X", bid=None, ask=None, at=None, **more) -> list[Event]:
        """A quote a second after the last event, unless `at` says when."""
        self.now += SECOND if at is None else 0
        sizes = {"bid_size": Decimal(100), "ask_size": Decimal(100)}
        return self._market(Quote, at, symbol=symbol, bid=some(bid), ask=some(ask), **sizes, **more)

    def trade(self, symbol="X", price=0, at=None, **more) -> list[Event]:
        self.now += SECOND if at is None else 0
        return self._market(Trade, at, symbol=symbol, price=money(price), size=Decimal(100), **more)

    def bar(self, symbol="X", close=0, at=None, low=None, high=None, volume=1000, period=60) -> list[Event]:
        self.now += SECOND * period if at is None else 0
        price = money(close)
        prices = {"open": price, "high": money(high or close), "low": money(low or close), "close": price}
        return self._market(Bar, at, symbol=symbol, period=period * SECOND, volume=money(volume), **prices)

    def withdraw_trade(self, trade, symbol="X") -> list[Event]:
        return self._market(TradeCancel, None, symbol=symbol, id=trade)

    def wait(self, seconds) -> list[Event]:
        """Nothing happens for a while."""
        self.now += int(seconds * SECOND)
        return self._market(Heartbeat, None)

    def split(self, symbol="X", num=7, den=1) -> list[Event]:
        return self._market(Split, None, symbol=symbol, ex="2013-10-08", num=num, den=den)

    def dividend(self, symbol="X", amount="0.5", ex="2013-10-08", pay="2013-10-08") -> list[Event]:
        return self._market(CashDividend, None, symbol=symbol, ex=ex, pay=pay, amount=money(amount))

    def halt_trading(self, symbol="X") -> list[Event]:
        return self._market(TradingHalt, None, symbol=symbol)

    def resume_trading(self, symbol="X") -> list[Event]:
        return self._market(TradingResume, None, symbol=symbol)

    def unreadable(self, topic: str, key: str = ME) -> list[Event]:
        return self.apply(Unreadable("broken"), topic=topic, key=key.encode())

    # ------------------------------------------------------------ commands

    def command(self, command: Any, /, **fields: Any) -> list[Event]:
        self.count += 1
        given = {"id": f"c{self.count}", "account": ME, "ts": self.now, "who": "ann", "why": "test"}
        return self.apply(command(**{**given, **fields}))

    def deposit(self, amount) -> list[Event]:
        return self.command(Deposit, amount=money(amount))

    def withdraw(self, amount) -> list[Event]:
        return self.command(Withdraw, amount=money(amount))

    def set_limits(self, **limits) -> list[Event]:
        return self.command(SetLimits, limits=validate(Limits, limits))

    def halt(self) -> list[Event]:
        return self.command(HaltAccount)

    def rearm(self, reason, **limits) -> list[Event]:
        return self.command(Rearm, reason=reason, limits=validate(Limits, limits) if limits else None)

    def place(self, side="buy", quantity=1, symbol="X", **more) -> list[Event]:
        for name in ("limit", "stop"):
            if name in more:
                more[name] = money(more[name])
        return self.command(PlaceOrder, symbol=symbol, side=side, quantity=money(quantity), **more)

    def replace_order(self, order, **more) -> list[Event]:
        return self.command(ReplaceOrder, order=order, **{k: money(v) for k, v in more.items()})

    def cancel_order(self, order) -> list[Event]:
        return self.command(CancelOrder, order=order)

    def flatten(self, symbol=None) -> list[Event]:
        return self.command(Flatten, symbol=symbol)

    # ------------------------------------------------------------ strategies

    def propose(self, intent="target", symbol="X", strategy="s", **more) -> list[Event]:
        self.count += 1
        for name in ("weight", "shares", "quantity", "limit", "stop"):
            if more.get(name) is not None:
                more[name] = money(more[name])
        proposal = Proposal(
            id=f"p{self.count}",
            account=ME,
            ts=self.now,
            strategy=strategy,
            version="1",
            cause=f"market.quotes/0/{self.count}",
            source=more.pop("source", "market.quotes/0"),
            position=more.pop("position", self.count),
            ordinal=more.pop("ordinal", 0),
            intent=intent,
            symbol=symbol,
            **more,
        )
        return self.apply(proposal, inside=True)

    def target(self, symbol="X", **more) -> list[Event]:
        return self.propose("target", symbol, **more)

    def order(self, side="buy", quantity=1, symbol="X", **more) -> str:
        """Propose an order; the id of the order requested."""
        made = self.propose("order", symbol, side=side, quantity=quantity, **more)
        return self.of(OrderRequested, made)[0].order

    def accepted(self, events: list[Event] | None = None) -> list[OrderAccepted]:
        return self.of(OrderAccepted, events)

    # ------------------------------------------------------------ the broker

    def report(self, report: Any, /, **fields: Any) -> list[Event]:
        self.count += 1
        given = {"id": f"r{self.count}", "account": ME, "ts": self.now}
        return self.apply(report(**{**given, **fields}))

    def ack(self, order) -> list[Event]:
        return self.report(Acknowledged, order=order)

    def cancelled(self, order) -> list[Event]:
        return self.report(Cancelled, order=order)

    def expired(self, order) -> list[Event]:
        return self.report(Expired, order=order)

    def rejected(self, order, what="order") -> list[Event]:
        return self.report(Rejected, order=order, what=what, reason="no")

    def replaced(self, order, quantity, limit=None, stop=None) -> list[Event]:
        return self.report(
            Replaced, order=order, quantity=money(quantity), limit=some(limit), stop=some(stop)
        )

    def fill(self, order, price, quantity=None, fee=0, execution=None, cumulative=None) -> list[Event]:
        """An execution of an order of ours, for all that is left of it unless `quantity` says."""
        o = self.account.orders[order]
        self.count += 1
        return self.report(
            Filled,
            order=order,
            execution=execution or f"e{self.count}",
            symbol=o.symbol,
            side=o.side,
            quantity=money(quantity if quantity is not None else o.quantity - o.filled),
            price=money(price),
            fee=money(fee),
            cumulative=some(cumulative),
        )

    def outside_fill(
        self, side="buy", quantity=1, price=100, fee=0, symbol="X", order="other", execution=None
    ):
        """An execution of an order that is not ours."""
        self.count += 1
        return self.report(
            Filled,
            order=order,
            execution=execution or f"e{self.count}",
            symbol=symbol,
            side=side,
            quantity=money(quantity),
            price=money(price),
            fee=money(fee),
        )

    def cash_activity(self, kind, amount, **more) -> list[Event]:
        return self.report(CashActivity, kind=kind, amount=money(amount), **more)

    def bust(self, execution) -> list[Event]:
        return self.report(Busted, execution=execution)

    def correct(self, execution, quantity, price, fee=0) -> list[Event]:
        return self.report(
            Corrected, execution=execution, quantity=money(quantity), price=money(price), fee=money(fee)
        )

    def bought(self, quantity=100, price=100, symbol="X", strategy="s", spread="0.02", fee=0) -> str:
        """A position: quoted around `price`, ordered at market, filled at `price`; the order's id."""
        half = money(spread) / 2
        self.quote(symbol, money(price) - half, money(price) + half)
        order = self.order("buy", quantity, symbol, strategy=strategy)
        self.fill(order, price, fee=fee)
        return order
