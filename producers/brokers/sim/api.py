"""What the simulated broker understands and answers, over HTTP.

    POST   /v1/accounts                            NewAccount       201 Account
    GET    /v1/accounts/{a}/account                                 200 Account
    POST   /v1/accounts/{a}/orders                 NewOrder         201 Order
    GET    /v1/accounts/{a}/orders/{client_id}                      200 Order
    DELETE /v1/accounts/{a}/orders/{client_id}                      202 Order
    PATCH  /v1/accounts/{a}/orders/{client_id}     NewTerms         202 Order
    GET    /v1/accounts/{a}/orders?status=open|all&after=N&limit=L  200 [Order], ascending by `number`
    GET    /v1/accounts/{a}/newest-order?prefix=P                   200 Newest
    GET    /v1/accounts/{a}/positions                               200 [Position]
    GET    /v1/accounts/{a}/activities?after=N&limit=L              200 [Activity], ascending by `number`
    GET    /v1/accounts/{a}/snapshot                                200 Snapshot, all of one moment
    GET    /v1/accounts/{a}/updates                                 200 Update a line, until either side ends
    GET    /v1/accounts/{a}/books                                   200 BrokerBooks
    GET    /health                                                  200 Health

    POST   /v1/accounts/{a}/bust                   Bust             200 Activity
    POST   /v1/accounts/{a}/correct                Correction       200 Activity
    POST   /v1/accounts/{a}/cash                   CashMovement     200 Activity
    POST   /v1/accounts/{a}/disconnect                              204, its update streams are closed
    GET, POST /v1/faults                           FaultSettings    200 FaultSettings

Numbers are decimal strings, times ISO 8601 in UTC with nanoseconds. Prices are dollars a share,
quantities shares. Times are the market's (of the log that the broker follows).

**Refusals** are a `Refusal` with a code, and nothing has happened: 422 `duplicate_client_order_id` (the
id was used before, whatever became of the order: look it up), 422 `order_not_open` (of a cancel or a
replacement), 422 `invalid` (the request is not as it must be), 404 `unknown_account`, `unknown_order`,
`unknown_execution`, 409 `account_exists` (opened before with other cash), 503 `starting` (the broker has
not read the market to its end yet; try again).

**An order** that is taken is answered with 201, also when it is rejected at once: its `status` says so.
The answer shows the order as it stands when it is answered: one that fills on arrival is `filled`. Its
client id stays the same over replacements, its `id` does not.

**Cancel and replace** are answered with 202 when the order is open; what becomes of them comes as an
update: `canceled` or `cancel_rejected`, `replaced` or `replace_rejected`. A quantity in NewTerms is that
of the whole order, what is filled included; what is left out stays.

**The updates** are JSON lines. The first is `connected`, and everything that happens after it follows;
a `heartbeat` comes every second. Nothing is repeated after a reconnect: ask `activities` for executions
after the last number seen, and look orders up for the rest.

**Activities** are all that moved cash or shares, numbered from 1 in each account without holes, and never
changed: `opening_cash` and every `cash_change` add up to the account's cash, `qty_change` (of `symbol`) to
its positions. A `corporate_action` is a split or dividend that stands in the market data too: who reads
those books it from there, and must not report it as a movement of cash.
"""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer

from schemas import plain

SECOND_NS = 1_000_000_000


def utc(ns: int) -> str:
    """UTC nanoseconds as ISO 8601, all nine digits."""
    seconds, rest = divmod(ns, SECOND_NS)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:09d}Z"


def nanoseconds(text: str) -> int:
    """What `utc` wrote. Raises `ValueError`."""
    head, _, rest = text.removesuffix("Z").partition(".")
    seconds = int(datetime.fromisoformat(head).replace(tzinfo=UTC).timestamp())
    return seconds * SECOND_NS + int(f"{rest or 0:0<9}"[:9])


def _not_a_float(value: Any) -> Any:
    if isinstance(value, float):
        raise ValueError("write numbers as text: a float is not exact")
    return value


Number = Annotated[Decimal, BeforeValidator(_not_a_float), PlainSerializer(plain, when_used="json")]
Quantity = Annotated[Number, Field(gt=0, max_digits=18, decimal_places=9)]
Price = Annotated[Number, Field(gt=0, max_digits=20, decimal_places=12)]
Money = Annotated[Number, Field(max_digits=18, decimal_places=9)]
AccountId = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,23}$")]
ClientId = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.:-]{1,48}$")]

OrderType = Literal["market", "limit", "stop", "stop_limit"]
Status = Literal["new", "partially_filled", "filled", "canceled", "expired", "rejected"]
OPEN: tuple[str, ...] = ("new", "partially_filled")

Code = Literal[
    "duplicate_client_order_id",
    "order_not_open",
    "invalid",
    "unknown_account",
    "unknown_order",
    "unknown_execution",
    "account_exists",
    "starting",
]


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Refusal(_Message):
    """Why a request was refused."""

    code: Code
    message: str


class NewAccount(_Message):
    """An account to be opened. To open it again with the same cash changes nothing."""

    id: AccountId
    cash: Money


class Account(_Message):
    """An account and its cash."""

    id: str
    opening_cash: Number
    cash: Number


class NewOrder(_Message):
    """An order. Which prices it needs is its type's matter."""

    client_order_id: ClientId
    symbol: Annotated[str, Field(min_length=1, max_length=32)]
    side: Literal["buy", "sell"]
    qty: Quantity
    type: OrderType
    time_in_force: Literal["day", "gtc", "ioc", "fok"]
    limit_price: Price | None = None
    stop_price: Price | None = None
    extended_hours: bool = False


class NewTerms(_Message):
    """New terms of an open order; what is None stays. `qty` is that of the whole order."""

    qty: Quantity | None = None
    limit_price: Price | None = None
    stop_price: Price | None = None


class Order(_Message):
    """An order as it stands.

    `number` ascends as orders are taken; `replacements` counts those that took place. `filled_notional` is
    the sum of price x quantity of what stands of its executions, `reason` why it ended or was rejected.
    """

    id: str
    number: int
    client_order_id: str
    symbol: str
    side: Literal["buy", "sell"]
    qty: Number
    type: OrderType
    time_in_force: Literal["day", "gtc", "ioc", "fok"]
    limit_price: Number | None
    stop_price: Number | None
    extended_hours: bool
    status: Status
    filled_qty: Number
    filled_notional: Number
    replacements: int
    reason: str
    created_at: str
    updated_at: str


class Newest(_Message):
    """The last order taken under a prefix; "" where there is none."""

    client_order_id: str


class Position(_Message):
    """Shares held; negative: sold short."""

    symbol: str
    qty: Number


ActivityType = Literal[
    "fill", "bust", "correction", "deposit", "withdrawal", "dividend", "interest", "fee", "corporate_action"
]


class Activity(_Message):
    """Something that moved cash or shares.

    A fill, a bust and a correction name `execution_id`; `qty`, `price` and `fee` are the execution's: of a
    correction the new ones, of a bust those that are withdrawn. `cumulative_qty` is what stands of the
    order's executions after it.
    """

    number: int
    account: str
    type: ActivityType
    at: str
    cash_change: Number
    symbol: str = ""
    qty_change: Number = Decimal(0)
    execution_id: str = ""
    client_order_id: str = ""
    side: Literal["buy", "sell", ""] = ""
    qty: Number | None = None
    price: Number | None = None
    fee: Number | None = None
    cumulative_qty: Number | None = None
    reason: str = ""


class Snapshot(_Message):
    """All that the account holds at one moment. `activity`: the number of the last one in it; 0: none."""

    account: str
    at: str
    cash: Number
    positions: list[Position]
    orders: list[Order]
    activity: int


UpdateEvent = Literal[
    "connected",
    "heartbeat",
    "new",
    "fill",
    "partial_fill",
    "canceled",
    "expired",
    "rejected",
    "replaced",
    "cancel_rejected",
    "replace_rejected",
    "trade_bust",
    "trade_correct",
    "cash",
]


class Update(_Message):
    """A line of the update stream: what happened, the order after it, and what it moved, if anything."""

    event: UpdateEvent
    account: str
    at: str
    order: Order | None = None
    activity: Activity | None = None
    reason: str = ""


class Bust(_Message):
    """An execution to be withdrawn."""

    execution_id: str
    reason: str = ""


class Correction(_Message):
    """New terms of an execution; what is None stays."""

    execution_id: str
    qty: Quantity | None = None
    price: Price | None = None
    fee: Money | None = None
    reason: str = ""


class CashMovement(_Message):
    """Cash that moves without a trade. Negative: it leaves the account."""

    type: Literal["deposit", "withdrawal", "dividend", "interest", "fee"]
    amount: Money
    symbol: str = ""
    reason: str = ""


class BrokerBooks(_Message):
    """An account's books as sums, to be held against others': executions count once, without the busted."""

    account: str
    at: str
    activity: int
    cash: Number
    fees: Number
    executions: int
    bought: dict[str, Number]
    sold: dict[str, Number]
    positions: dict[str, Number]


class FaultSettings(_Message):
    """Faults by name: a probability ("0.05") or so many of the next occasions ("2x"); see `faults`."""

    faults: dict[str, str] = {}
    seed: int | None = None
    delay_ms: tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(le=60_000)]] = (50, 500)
    late_ms: Annotated[int, Field(ge=0, le=60_000)] = 1000


class Health(_Message):
    """Whether the broker has read the market to its end, and how far it is."""

    ready: bool
    log: str
    at: str
    open_orders: int
