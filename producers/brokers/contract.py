"""What the order gateway asks of a broker, whichever it is.

An adapter serves one account. It speaks the broker's protocol and hands on what the broker says in the
vocabulary of `schemas.reports`, with the broker's own words in `raw` and an id that is of the event at
the broker and not of its delivery: the same execution bears the same id from the stream and from the
activities (`execution_report`), and so does the end of an order (`order_report`). Whoever reads may
therefore take everything twice.

Requests have time-outs of their own and are made from several threads at once. Money is Decimal, times
are UTC nanoseconds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal, Protocol

from schemas import BrokerOrder, BrokerPosition, Event

Standing = Literal["open", "filled", "cancelled", "expired", "rejected"]


class BrokerError(Exception):
    """A broker cannot be used as asked; the message names it and the remedy."""


class BrokerUnreachable(BrokerError):
    """The broker gave no answer, or none that tells what was asked. To be asked again."""


@dataclass(frozen=True)
class Order:
    """An order as it goes out. Quantities are shares, prices dollars."""

    client_id: str
    symbol: str
    side: str
    quantity: Decimal
    order_type: str
    limit: Decimal | None
    stop: Decimal | None
    tif: str
    extended: bool


@dataclass(frozen=True)
class Terms:
    """New terms of an order, whole: quantity is that of the order, what is filled included."""

    quantity: Decimal
    limit: Decimal | None
    stop: Decimal | None


@dataclass(frozen=True)
class Taken:
    """The broker has the request. A new order is at the broker; the outcome of others comes as an update."""

    broker_id: str
    raw: str


@dataclass(frozen=True)
class Refused:
    """The broker will not do it. `is_known`: it has the client id already; the order is to be looked up."""

    reason: str
    raw: str
    is_known: bool = False


@dataclass(frozen=True)
class NoAnswer:
    """Nobody knows whether the request arrived."""

    reason: str


Answer = Taken | Refused | NoAnswer


@dataclass(frozen=True)
class Found:
    """An order as it stands at the broker. `revision` is another after each replacement, "" before any."""

    order: Order
    broker_id: str
    standing: Standing
    filled: Decimal
    ts: int
    revision: str
    raw: str
    reason: str = ""


@dataclass(frozen=True)
class Activity:
    """A movement of cash or shares: Filled, Busted, Corrected or CashActivity; None: what is booked from
    the market's data already, as a split is.

    `number` is the broker's own, opaque: `activities` goes on after it.
    """

    number: str
    report: Event | None


@dataclass(frozen=True)
class Holdings:
    """What the broker holds at one moment. `activity`: the number of the last activity in it, or ""."""

    ts: int
    cash: Decimal
    positions: tuple[BrokerPosition, ...]
    orders: tuple[BrokerOrder, ...]
    activity: str
    raw: str


class BrokerAdapter(Protocol):
    """One account at a broker."""

    simulated: bool
    """Whether no real money moves: only such a broker may be connected to a log on data time."""
    enforces_unique_ids: bool
    """Whether a second order under a client id is refused, however late it comes."""
    settling_s: float
    """For so long after a request, an order that the broker took may still not be found."""

    def submit(self, order: Order) -> Answer:
        """Send an order."""
        ...

    def cancel(self, client_id: str) -> Answer:
        """Ask for the end of an order."""
        ...

    def replace(self, client_id: str, terms: Terms) -> Answer:
        """Ask for new terms. The order keeps its client id, whatever the broker calls it afterwards."""
        ...

    def look_up(self, client_id: str) -> Found | None:
        """The order, open or not; None: there is none. Raises `BrokerUnreachable`."""
        ...

    def open_orders(self) -> Sequence[Found]:
        """All open orders, also those of others. Raises `BrokerUnreachable`."""
        ...

    def newest_order(self, prefix: str) -> str:
        """The client id of the last order taken whose id begins so, or "". Raises `BrokerUnreachable`."""
        ...

    def activities(self, after: str) -> Sequence[Activity]:
        """Everything after an activity ("": from the beginning), ascending. Raises `BrokerUnreachable`."""
        ...

    def snapshot(self) -> Holdings:
        """All of one moment. Raises `BrokerUnreachable`."""
        ...

    def updates(self) -> AbstractContextManager[Iterator[Event | None]]:
        """Reports as they come, from now on, and None about once a second while there are none.

        Nothing is repeated after a reconnect. Ends, or raises `BrokerUnreachable`, when the stream does.
        """
        ...

    def close(self) -> None:
        """Let go; requests under way end soon."""
        ...


def order_report(order: str, kind: str, detail: str = "") -> str:
    """The id of a report about an order: ORDER:KIND, and where it may happen often, what tells it apart.

    Kinds: sending, acknowledged, cancelled, expired, rejected, not-sent, unknown, replaced (by revision),
    cancel-refused, replace-refused.
    """
    return f"{order}:{kind}:{detail}" if detail else f"{order}:{kind}"


def execution_report(execution: str, kind: str, detail: str = "") -> str:
    """The id of a report about an execution: filled, busted, corrected (by the number of the correction)."""
    return f"{execution}:{kind}:{detail}" if detail else f"{execution}:{kind}"
