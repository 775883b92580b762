"""What a strategy is handed with every event: what it may see, and how it says what it wants."""

from __future__ import annotations

import decimal
from collections.abc import Callable, Mapping, Sequence
from decimal import ROUND_HALF_EVEN, Decimal
from numbers import Real
from typing import Any, Literal, TypeVar, get_args

from processors.strategies.view import AccountView, WorkingOrder
from schemas import EXACT, Event, Proposal, Record, StrategySetting, canonical, decision_id
from schemas.decimals import WIDE
from schemas.orders import OrderType, Side, TimeInForce

T = TypeVar("T")
Number = Decimal | int | float

DIGITS_MAX = 18
"""The most digits a number may have before the point, and after it."""
SMALLEST = Decimal(1).scaleb(-DIGITS_MAX)
WEIGHT_STEP = Decimal("0.000001")
SYMBOLS_SHOWN = 10

USER_DECIMALS = decimal.Context(
    prec=28,
    rounding=ROUND_HALF_EVEN,
    Emin=-999999,
    Emax=999999,
    capitals=1,
    clamp=0,
    flags=[],
    traps=[decimal.DivisionByZero, decimal.InvalidOperation, decimal.Overflow],
)
"""The decimal arithmetic that a strategy's code starts with: Python's usual one."""


class Moment:
    """The record the strategies are being told of, the market's time, and what they have emitted."""

    __slots__ = ("now", "out", "record")

    def __init__(self) -> None:
        self.now = 0
        self.out: list[Event] = []
        self.record: Record | None = None


class Context:
    """A strategy's view of its account, and its voice.

    Everything it shows is as of the event being handled. What it emits becomes a signal; the
    account then sizes it, checks it against the limits, and sends an order or says why not.
    Numbers may be `Decimal`, int or float; a float counts as the shortest text that names it
    (0.1 is one tenth). What cannot be meant (NaN, an unknown symbol, a limit order without a
    limit) raises `ValueError`.
    """

    __slots__ = (
        "_account",
        "_cold",
        "_decimals",
        "_moment",
        "_name",
        "_ordinal",
        "_version",
        "_view",
        "_wanted",
        "symbols",
    )

    symbols: tuple[str, ...]
    """The symbols this strategy is configured with."""

    def __init__(self, setting: StrategySetting, view: AccountView, moment: Moment) -> None:
        self.symbols = setting.symbols
        self._wanted = frozenset(setting.symbols)
        self._account = setting.account
        self._name = setting.name
        self._version = setting.version
        self._view = view
        self._moment = moment
        self._ordinal = 0
        self._cold: dict[str, int] = {}
        self._decimals = USER_DECIMALS.copy()

    # What it shows

    @property
    def now(self) -> int:
        """The market's time: UTC nanoseconds, the greatest seen so far."""
        return self._moment.now

    @property
    def state(self) -> str:
        """The account's breaker: "ACTIVE", "REDUCING" (only reductions pass) or "HALTED"."""
        return self._view.state(self._account)

    @property
    def equity(self) -> Decimal | None:
        """The account's equity in dollars; None while a position has no price."""
        return _exactly(self._view.equity, self._account)

    @property
    def cash(self) -> Decimal:
        """The account's cash in dollars."""
        return _exactly(self._view.cash, self._account)

    def position(self, symbol: str) -> Decimal:
        """This strategy's own shares of `symbol`: negative when short, zero when flat."""
        return self._view.position(self._account, self._name, symbol)

    def working(self, symbol: str) -> Sequence[WorkingOrder]:
        """This strategy's orders in `symbol` that have not ended, oldest first."""
        return _exactly(self._view.working, self._account, self._name, symbol)

    # What it says

    def target(
        self,
        symbol: str,
        *,
        weight: Number | None = None,
        shares: Number | None = None,
        why: Mapping[str, str | Number] | None = None,
        confidence: Number | None = None,
    ) -> None:
        """Ask for a position: `weight` of the account's equity (0.25 is a quarter, -0.25 short), or `shares`.

        The account works out the order: target less what it holds and what already works. A
        target is one-shot: it is not sized again as prices move, nor sent again when refused.
        Weights are rounded to 6 places. `why` (features by name) and `confidence` are kept with
        the signal, so that the decision can be explained later.
        """
        if (weight is None) == (shares is None):
            raise ValueError(
                "a target needs either weight= or shares=" + (", not both" if weight is not None else "")
            )
        self._emit(
            "target",
            self._own(symbol),
            weight=None if weight is None else _rounded(weight, "weight"),
            shares=None if shares is None else _number(shares, "shares"),
            confidence=None if confidence is None else _rounded(confidence, "confidence"),
            features={str(name): _feature(name, value) for name, value in (why or {}).items()},
        )

    def order(
        self,
        symbol: str,
        side: Side,
        quantity: Number,
        order_type: OrderType = "market",
        *,
        limit: Number | None = None,
        stop: Number | None = None,
        tif: TimeInForce = "day",
        extended: bool = False,
    ) -> None:
        """Ask for an order of `quantity` shares, "buy" or "sell".

        `order_type` is "market", "limit", "stop" or "stop_limit"; `tif` (how long it stands) is
        "day", "gtc", "ioc" or "fok"; `extended` lets it trade outside regular hours.
        """
        _one_of(side, Side, "side")
        _one_of(order_type, OrderType, "order_type")
        _one_of(tif, TimeInForce, "tif")
        _prices_fit(order_type, limit, stop)
        self._emit(
            "order",
            self._own(symbol),
            side=side,
            quantity=_positive(quantity, "quantity"),
            order_type=order_type,
            limit=None if limit is None else _positive(limit, "limit"),
            stop=None if stop is None else _positive(stop, "stop"),
            tif=tif,
            extended=bool(extended),
        )

    def cancel(self, order: str) -> bool:
        """Ask to cancel a working order of this strategy; False if it no longer works."""
        found = self._working_order(order)
        if found is None:
            return False
        self._emit("cancel", found[0], order=order)
        return True

    def replace(
        self,
        order: str,
        *,
        quantity: Number | None = None,
        limit: Number | None = None,
        stop: Number | None = None,
    ) -> bool:
        """Ask to change a working order of this strategy; False if it no longer works.

        `quantity` is the whole order's, with what has filled already.
        """
        if quantity is None and limit is None and stop is None:
            raise ValueError("a replacement needs quantity=, limit= or stop=")
        found = self._working_order(order)
        if found is None:
            return False
        symbol, before = found
        _prices_fit(
            before.order_type,
            before.limit if limit is None else limit,
            before.stop if stop is None else stop,
        )
        self._emit(
            "replace",
            symbol,
            order=order,
            side=before.side,
            order_type=before.order_type,
            quantity=None if quantity is None else _positive(quantity, "quantity"),
            limit=None if limit is None else _positive(limit, "limit"),
            stop=None if stop is None else _positive(stop, "stop"),
        )
        return True

    def _own(self, symbol: str) -> str:
        if symbol in self._wanted:
            return symbol
        shown = ", ".join(self.symbols[:SYMBOLS_SHOWN])
        more = ", ..." if len(self.symbols) > SYMBOLS_SHOWN else ""
        raise ValueError(f"{symbol!r} is not one of this strategy's symbols ({shown}{more})")

    def _working_order(self, order: str) -> tuple[str, WorkingOrder] | None:
        for symbol in self.symbols:
            for found in self.working(symbol):
                if found.order == order:
                    return symbol, found
        return None

    def _emit(
        self, intent: Literal["target", "order", "cancel", "replace"], symbol: str, **fields: Any
    ) -> None:
        record = self._moment.record
        if record is None:
            raise ValueError("a strategy can emit only while it handles an event, inside an on_... method")
        if symbol in self._cold:
            return
        cause, source, position = root_of(record)
        ordinal, self._ordinal = self._ordinal, self._ordinal + 1
        event: Any = record.event
        self._moment.out.append(
            Proposal(
                id=f"{self._name}/{self._version}/{cause}/{ordinal}",
                account=self._account,
                ts=event.ts,
                strategy=self._name,
                version=self._version,
                cause=cause,
                source=source,
                position=position,
                ordinal=ordinal,
                intent=intent,
                symbol=symbol,
                **fields,
            )
        )


def root_of(record: Record) -> tuple[str, str, int]:
    """The identity of the record's event, the source it comes from and its position there."""
    if record.topic.startswith("market."):
        return record.place, f"{record.topic}/{record.partition}", record.offset
    event: Any = record.event
    return decision_id(event.account, event.seq), f"decisions/{event.account}", event.seq


def _exactly(call: Callable[..., T], *arguments: str) -> T:
    """Call under `EXACT`, whatever decimal context the strategy's code has at the moment."""
    before = decimal.getcontext()
    decimal.setcontext(EXACT)
    try:
        return call(*arguments)
    finally:
        decimal.setcontext(before)


def _finite(value: Number, what: str) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, Decimal | Real):
        raise ValueError(f"{what} is {value!r}; it must be a number")
    made = Decimal(str(value))
    if not made.is_finite():
        raise ValueError(f"{what} is {value}; it must be a finite number")
    if made and made.adjusted() >= DIGITS_MAX:
        raise ValueError(f"{what} is {value}; it has more than {DIGITS_MAX} digits before the point")
    return made


def _number(value: Number, what: str) -> Decimal:
    made = _finite(value, what)
    short = WIDE.quantize(made, SMALLEST)
    if short != made:
        raise ValueError(f"{what} is {value}; it has more than {DIGITS_MAX} digits after the point")
    return canonical(short)


def _positive(value: Number, what: str) -> Decimal:
    made = _number(value, what)
    if made <= 0:
        hint = "; the direction is said by side" if what == "quantity" else ""
        raise ValueError(f"{what} is {value}; it must be greater than zero{hint}")
    return made


def _rounded(value: Number, what: str) -> Decimal:
    return canonical(WIDE.quantize(_finite(value, what), WEIGHT_STEP))


def _feature(name: str, value: str | Number) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | Decimal | Real):
        return str(value)
    raise ValueError(f"the feature {name!r} is {value!r}; it must be a number or text")


def _one_of(value: str, kind: Any, what: str) -> None:
    allowed = get_args(kind)
    if value not in allowed:
        *most, last = (f"'{choice}'" for choice in allowed)
        raise ValueError(f"{what} is {value!r}; it must be {', '.join(most)} or {last}")


def _prices_fit(order_type: str, limit: Number | None, stop: Number | None) -> None:
    wanted = {"limit": order_type in ("limit", "stop_limit"), "stop": order_type in ("stop", "stop_limit")}
    for what, price in (("limit", limit), ("stop", stop)):
        if wanted[what] and price is None:
            raise ValueError(f"a {order_type} order needs {what}=")
        if price is not None and not wanted[what]:
            raise ValueError(
                f"a {order_type} order takes no {what}=; say order_type='{what}' or 'stop_limit'"
            )
