"""A broker in memory that fulfils the adapter's contract and can misbehave; it outlives the gateway.

broker.fill("id-1", 5, "10.00")      an execution, told on the stream and in the activities
broker.next["submit"] = ["lose answer"]   what the next requests meet
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from decimal import Decimal
from typing import Any

from producers.brokers.contract import (
    Activity,
    Answer,
    BrokerUnreachable,
    Found,
    Holdings,
    NoAnswer,
    Order,
    Refused,
    Taken,
    Terms,
    execution_report,
    order_report,
)
from schemas import (
    Acknowledged,
    BrokerOrder,
    BrokerPosition,
    Busted,
    Cancelled,
    CashActivity,
    Corrected,
    Event,
    Filled,
    Replaced,
)


class FakeBroker:
    """One account. `calls` is every request that reached it; `hooks` run before the next of a kind."""

    simulated = True
    enforces_unique_ids = True
    settling_s = 0.05

    def __init__(self, account: str, cash: Any = 100_000) -> None:
        self.account, self.cash = account, Decimal(cash)
        self.orders: dict[str, Found] = {}
        self.positions: dict[str, Decimal] = {}
        self.movements: list[Activity] = []
        self.calls: list[tuple[str, str]] = []
        self.next: dict[str, list[str]] = {}
        self.hooks: dict[str, Callable[[], None]] = {}
        self.is_silent = False
        self.replaces_silently = False
        """Whether replacements are not told on the stream."""
        self.streams: list[queue.SimpleQueue[Event | str]] = []
        self._lock = threading.RLock()
        self._executions = 0

    # ------------------------------------------------------------ what happens there

    def fill(self, client_id: str, quantity: Any, price: Any, *, told: bool = True, fee: Any = 0) -> Filled:
        """An execution. `told`: on the stream too."""
        with self._lock:
            found, quantity, price, fee = (
                self.orders[client_id],
                Decimal(quantity),
                Decimal(price),
                Decimal(fee),
            )
            filled = found.filled + quantity
            standing = found.standing
            if standing == "open" and filled >= found.order.quantity:
                standing = "filled"
            self.orders[client_id] = replace(found, filled=filled, standing=standing)
            self._executions += 1
            signed = quantity if found.order.side == "buy" else -quantity
            self._move(found.order.symbol, signed, -signed * price - fee)
            name = f"x{self._executions}"
            report = Filled(
                id=execution_report(name, "filled"),
                order=client_id,
                execution=name,
                symbol=found.order.symbol,
                side=found.order.side,  # type: ignore[arg-type]
                quantity=quantity,
                price=price,
                fee=fee,
                **self._about(),
            )
            self._happened(report, told)
            return report

    def bust(self, fill: Filled, *, told: bool = True) -> None:
        with self._lock:
            signed = fill.quantity if fill.side == "buy" else -fill.quantity
            self._move(fill.symbol, -signed, signed * fill.price + fill.fee)
            found = self.orders[fill.order]
            self.orders[fill.order] = replace(found, filled=found.filled - fill.quantity)
            id = execution_report(fill.execution, "busted")
            self._happened(Busted(id=id, execution=fill.execution, reason="error", **self._about()), told)

    def correct(self, fill: Filled, price: Any, *, told: bool = True) -> None:
        with self._lock:
            signed = fill.quantity if fill.side == "buy" else -fill.quantity
            self._move(fill.symbol, Decimal(0), signed * (fill.price - Decimal(price)))
            report = Corrected(
                id=execution_report(fill.execution, "corrected", str(len(self.movements))),
                execution=fill.execution,
                quantity=fill.quantity,
                price=Decimal(price),
                fee=fill.fee,
                **self._about(),
            )
            self._happened(report, told)

    def pay(self, kind: Any, amount: Any) -> None:
        with self._lock:
            self.cash += Decimal(amount)
            id = f"cash:{len(self.movements)}"
            self._happened(CashActivity(id=id, kind=kind, amount=Decimal(amount), **self._about()), True)

    def ends(self, client_id: str, *, told: bool = True) -> None:
        """The order is cancelled."""
        with self._lock:
            self.orders[client_id] = replace(self.orders[client_id], standing="cancelled")
            if told:
                id = order_report(client_id, "cancelled")
                self.tell(Cancelled(id=id, order=client_id, **self._about()))

    def tell(self, report: Event) -> None:
        for stream in self.streams:
            stream.put(report)

    def disconnect(self) -> None:
        for stream in self.streams:
            stream.put("end")

    def _move(self, symbol: str, shares: Decimal, cash: Decimal) -> None:
        self.cash += cash
        self.positions[symbol] = self.positions.get(symbol, Decimal(0)) + shares

    def _happened(self, report: Event, told: bool) -> None:
        self.movements.append(Activity(str(len(self.movements) + 1), report))
        if told:
            self.tell(report)

    def _about(self) -> dict[str, Any]:
        return {"account": self.account, "ts": time.time_ns(), "raw": "said so"}

    def sent(self) -> list[str]:
        """Client ids of the orders that arrived, in order."""
        return [id for what, id in self.calls if what == "submit"]

    # ------------------------------------------------------------ the contract

    def submit(self, order: Order) -> Answer:
        return self._request("submit", order.client_id, lambda: self._take(order))

    def _take(self, order: Order) -> Answer:
        if order.client_id in self.orders:
            return Refused("the id is in use", "", is_known=True)
        self.orders[order.client_id] = Found(
            order, f"b-{order.client_id}", "open", Decimal(0), 1, "", "found"
        )
        return Taken(f"b-{order.client_id}", "taken")

    def cancel(self, client_id: str) -> Answer:
        return self._request("cancel", client_id, lambda: self._end(client_id))

    def _end(self, client_id: str) -> Answer:
        if self.orders[client_id].standing != "open":
            return Refused("it is not open", "")
        self.ends(client_id)
        return Taken("", "")

    def replace(self, client_id: str, terms: Terms) -> Answer:
        return self._request("replace", client_id, lambda: self._change(client_id, terms))

    def _change(self, client_id: str, terms: Terms) -> Answer:
        found = self.orders[client_id]
        if found.standing != "open":
            return Refused("it is not open", "")
        order = replace(found.order, quantity=terms.quantity, limit=terms.limit, stop=terms.stop)
        revision = str(int(found.revision or 0) + 1)
        self.orders[client_id] = replace(found, order=order, revision=revision)
        report = Replaced(
            id=order_report(client_id, "replaced", revision),
            order=client_id,
            quantity=terms.quantity,
            limit=terms.limit,
            stop=terms.stop,
            **self._about(),
        )
        if not self.replaces_silently:
            self.tell(report)
        return Taken("", "")

    def _request(self, what: str, client_id: str, do: Callable[[], Answer]) -> Answer:
        waiting = self.next.get(what, [])
        fault = waiting.pop(0) if waiting else ""
        self._meet(f"before {what}")
        hook = self.hooks.pop(what, None)
        if fault == "lose request":
            return NoAnswer("nobody answers")
        if fault == "refuse":
            self.calls.append((what, client_id))
            return Refused("not today", "no")
        with self._lock:
            self.calls.append((what, client_id))
            answer = do()
        if hook is not None:
            hook()
        return NoAnswer("no answer came") if fault == "lose answer" else answer

    def _meet(self, moment: str) -> None:
        hook = self.hooks.pop(moment, None)
        if hook is not None:
            hook()

    def look_up(self, client_id: str) -> Found | None:
        self._listen()
        self.calls.append(("look up", client_id))
        self._meet("look up")
        return self.orders.get(client_id)

    def _listen(self) -> None:
        if self.is_silent:
            raise BrokerUnreachable("the broker is silent")

    def open_orders(self) -> Sequence[Found]:
        self._listen()
        return [found for found in self.orders.values() if found.standing == "open"]

    def newest_order(self, prefix: str) -> str:
        self._listen()
        return next((id for id in reversed(self.orders) if id.startswith(prefix)), "")

    def activities(self, after: str) -> Sequence[Activity]:
        self._listen()
        return self.movements[int(after or 0) :]

    def snapshot(self) -> Holdings:
        self._listen()
        self._meet("snapshot")
        with self._lock:
            held = sorted(self.positions.items())
            orders = (
                BrokerOrder(
                    order=id,
                    symbol=o.order.symbol,
                    side=o.order.side,
                    quantity=o.order.quantity,
                    filled=o.filled,
                )  # type: ignore[arg-type]
                for id, o in self.orders.items()
                if o.standing == "open"
            )
            self.calls.append(("snapshot", ""))
            return Holdings(
                ts=time.time_ns(),
                cash=self.cash,
                positions=tuple(BrokerPosition(symbol=s, quantity=q) for s, q in held if q),
                orders=tuple(orders),
                activity=str(len(self.movements) or ""),
                raw="all of it",
            )

    @contextmanager
    def updates(self) -> Iterator[Iterator[Event | None]]:
        self._listen()
        stream: queue.SimpleQueue[Event | str] = queue.SimpleQueue()
        self.streams.append(stream)
        try:
            yield self._told(stream)
        finally:
            self.streams.remove(stream)

    def _told(self, stream: queue.SimpleQueue[Event | str]) -> Iterator[Event | None]:
        while True:
            try:
                said = stream.get(timeout=0.1)
            except queue.Empty:
                yield None
                continue
            if isinstance(said, str):
                return
            yield said

    def acknowledge(self, client_id: str) -> None:
        """Tell on the stream that the order is worked."""
        self.tell(Acknowledged(id=order_report(client_id, "acknowledged"), order=client_id, **self._about()))

    def close(self) -> None:
        """Nothing is held."""
