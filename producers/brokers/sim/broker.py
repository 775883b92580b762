"""The simulated broker: takes orders to the exchange, books what comes of them, and tells it.

Everything goes through one lock. A request or a page of the market changes the exchange and then, in one
transaction of the file, orders, executions, activities, cash, positions and the exchange's snapshot;
only then is anybody told. What fails in between leaves the broker unusable: it starts again from the file.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from decimal import Decimal
from typing import Any, Protocol

from eventlog.contract import Stream
from producers.brokers.sim import corporate
from producers.brokers.sim.api import (
    OPEN,
    Account,
    Activity,
    BrokerBooks,
    Bust,
    CashMovement,
    Code,
    Correction,
    NewOrder,
    NewTerms,
    Order,
    Position,
    Snapshot,
    Update,
    UpdateEvent,
    utc,
)
from producers.brokers.sim.faults import Faults
from producers.brokers.sim.store import Execution, Held, Store
from producers.brokers.sim.updates import Updates
from schemas import (
    ZERO,
    Acknowledged,
    Cancelled,
    Event,
    Expired,
    Filled,
    OrderAccepted,
    OrderChanged,
    Record,
    Rejected,
    Replaced,
    exact,
    truncate,
)

HALF = Decimal("0.5")
CENT = Decimal("0.01")
WITHDRAWN = "an execution was withdrawn, and the order is worked no more"
ENDS: dict[type, tuple[UpdateEvent, str]] = {
    Cancelled: ("canceled", "canceled"),
    Expired: ("expired", "expired"),
    Rejected: ("rejected", "rejected"),
}


class Refused(Exception):
    """A request that changes nothing, and why."""

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code = code


class Venue(Protocol):
    """The exchange: a processor that takes market events and orders, and gives reports."""

    def apply(self, record: Record) -> Sequence[Event]: ...

    def snapshot(self) -> bytes: ...

    def restore(self, snapshot: bytes) -> None: ...


class Broker:
    """Accounts at one exchange. May be used from several threads."""

    def __init__(self, exchange: Venue, store: Store, faults: Faults, updates: Updates) -> None:
        self._exchange, self._store, self._faults, self._updates = exchange, store, faults, updates
        self._lock = threading.RLock()
        self._out: list[Update] = []
        self._later: list[Update] = []
        snapshot, self.positions, self.now = store.venue()
        if snapshot is not None:
            exchange.restore(snapshot)
        self.is_ready = False
        """Whether the market has been read to its end: before that, orders are refused."""
        self.failure: BaseException | None = None
        """What went wrong: nothing can be done any more."""

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """One transaction; what is to be told is told after it."""
        with self._lock, exact():
            if self.failure is not None:
                raise RuntimeError("the simulated broker has failed") from self.failure
            try:
                with self._store.transaction():
                    yield
                    self._store.keep_venue(self._exchange.snapshot(), self.positions, self.now)
            except BaseException as failure:
                self.failure = failure
                raise
            out, later = self._out, self._later
            self._out, self._later = [], []
            self._updates.publish(out)
            self._updates.publish(later, later_s=self._faults.late_s)

    # ------------------------------------------------------------ the market

    def see(self, records: Sequence[Record], positions: Mapping[Stream, int]) -> None:
        """Take market records; `positions` are those after them."""
        work: list[Event] = []
        with self._lock, exact():
            apply = self._exchange.apply
            for record in records:
                event: Any = record.event
                reports = apply(record)
                if reports:
                    work += reports
                if type(event) in corporate.EVENTS:
                    work.append(event)
            self.now = max(self.now, max((getattr(r.event, "ts", 0) for r in records), default=0))
            self.positions = dict(positions)
            if work:
                with self._changing():
                    for event in work:
                        self._book(event)

    def keep(self) -> None:
        """Put down how far the market has been read."""
        with self._changing():
            pass

    # ------------------------------------------------------------ requests

    def open_account(self, account: str, cash: Decimal) -> Account:
        """Open an account, or find it open with that cash. Raises `Refused`."""
        with self._lock:
            found = self._store.account(account)
            if found is None:
                with self._changing():
                    self._store.open_account(account, cash)
            elif found[0] != cash:
                raise Refused("account_exists", f"account {account} was opened with other cash")
            return self.account(account)

    def submit(self, account: str, new: NewOrder) -> Order:
        """Take an order. Raises `Refused`."""
        with self._lock:
            self._require(account)
            if not self.is_ready:
                raise Refused("starting", "the market has not been read to its end yet: try again")
            if self._store.order_of(account, new.client_order_id) is not None:
                raise Refused(
                    "duplicate_client_order_id", f"{new.client_order_id} was used before: look it up"
                )
            with self._changing():
                order = self._taken(account, new)
                if self._faults.strikes("reject"):
                    self._end(Held(account, order), Rejected, "rejected by chance", self.now)
                else:
                    self._ask(_accepted(account, order))
            return self._store.order(order.number).order

    def cancel(self, account: str, client_id: str) -> Order:
        """Ask for an order's end. Raises `Refused`."""
        with self._lock:
            order = self._open_order(account, client_id)
            with self._changing():
                self._cancel(Held(account, order))
            return self._store.order(order.number).order

    def replace(self, account: str, client_id: str, terms: NewTerms) -> Order:
        """Ask for new terms of an order. Raises `Refused`."""
        with self._lock:
            order = self._open_order(account, client_id)
            if terms == NewTerms():
                raise Refused("invalid", "name at least one of qty, limit_price and stop_price")
            with self._changing():
                self._ask(_request(account, order, "replace", terms))
            return self._store.order(order.number).order

    def bust(self, account: str, wanted: Bust) -> Activity:
        """Withdraw an execution. Raises `Refused`."""
        with self._lock:
            execution = self._execution(account, wanted.execution_id)
            with self._changing():
                return self._bust(execution, wanted.reason, self.now)

    def correct(self, account: str, wanted: Correction) -> Activity:
        """Give an execution other terms. Raises `Refused`."""
        with self._lock:
            before = self._execution(account, wanted.execution_id)
            after = replace(
                before,
                qty=before.qty if wanted.qty is None else wanted.qty,
                price=before.price if wanted.price is None else wanted.price,
                fee=before.fee if wanted.fee is None else wanted.fee,
            )
            with self._changing():
                return self._correct(before, after, wanted.reason, self.now)

    def move_cash(self, account: str, wanted: CashMovement) -> Activity:
        """Move cash without a trade. Raises `Refused`."""
        with self._lock:
            self._require(account)
            with self._changing():
                activity = self._activity(
                    account,
                    wanted.type,
                    self.now,
                    wanted.amount,
                    symbol=wanted.symbol,
                    reason=wanted.reason,
                )
                self._tell("cash", account, self.now, activity=activity)
            return activity

    # ------------------------------------------------------------ questions

    def account(self, account: str) -> Account:
        """The account and its cash. Raises `Refused`."""
        with self._lock:
            opening, cash, _ = self._require(account)
            return Account(id=account, opening_cash=opening, cash=cash)

    def order(self, account: str, client_id: str) -> Order:
        """An order, open or not. Raises `Refused`."""
        with self._lock:
            self._require(account)
            order = self._store.order_of(account, client_id)
            if order is None:
                raise Refused("unknown_order", f"account {account} has no order {client_id}")
            return order

    def orders(self, account: str, *, only_open: bool, after: int, limit: int) -> list[Order]:
        """Orders by number. Raises `Refused`."""
        with self._lock:
            self._require(account)
            return self._store.orders(account, only_open=only_open, after=after, limit=limit)

    def newest_order(self, account: str, prefix: str) -> str:
        """The client id of the last order taken that begins so, or "". Raises `Refused`."""
        with self._lock:
            self._require(account)
            return self._store.newest_order(account, prefix)

    def activities(self, account: str, after: int, limit: int) -> list[Activity]:
        """Activities by number. Raises `Refused`."""
        with self._lock:
            self._require(account)
            return self._store.activities(account, after, limit)

    def snapshot(self, account: str) -> Snapshot:
        """All of one moment. Raises `Refused`."""
        with self._lock:
            _, cash, last = self._require(account)
            held = self._store.positions(account)
            return Snapshot(
                account=account,
                at=utc(self.now),
                cash=cash,
                positions=[Position(symbol=symbol, qty=qty) for symbol, qty in held.items()],
                orders=self._store.orders(account, only_open=True, after=0, limit=-1),
                activity=last,
            )

    def books(self, account: str) -> BrokerBooks:
        """The account as sums. Raises `Refused`."""
        with self._lock, exact():
            _, cash, last = self._require(account)
            standing = [e for e in self._store.executions(account) if e.stands]
            sums: dict[str, dict[str, Decimal]] = {"buy": {}, "sell": {}}
            for one in standing:
                side = sums[one.side]
                side[one.symbol] = side.get(one.symbol, ZERO) + one.qty
            return BrokerBooks(
                account=account,
                at=utc(self.now),
                activity=last,
                cash=cash,
                fees=sum((e.fee for e in standing), ZERO),
                executions=len(standing),
                bought=dict(sorted(sums["buy"].items())),
                sold=dict(sorted(sums["sell"].items())),
                positions=self._store.positions(account),
            )

    def count_open(self) -> int:
        """Open orders of all accounts."""
        with self._lock:
            return self._store.count_open()

    def _require(self, account: str) -> tuple[Decimal, Decimal, int]:
        found = self._store.account(account)
        if found is None:
            raise Refused("unknown_account", f"there is no account {account}: open it with POST /v1/accounts")
        return found

    def _open_order(self, account: str, client_id: str) -> Order:
        order = self.order(account, client_id)
        if order.status not in OPEN:
            raise Refused("order_not_open", f"order {client_id} is {order.status}")
        return order

    def _execution(self, account: str, id: str) -> Execution:
        self._require(account)
        found = self._store.execution(account, id)
        if found is None or not found.stands:
            raise Refused("unknown_execution", f"account {account} has no execution {id} that stands")
        return found

    # ------------------------------------------------------------ orders and the exchange

    def _taken(self, account: str, new: NewOrder) -> Order:
        """The order, with the broker's number, put down."""
        number, at = self._store.next_number(), utc(self.now)
        order = Order(
            **new.model_dump(),
            id=f"{self._store.prefix}-{number}",
            number=number,
            status="new",
            filled_qty=ZERO,
            filled_notional=ZERO,
            replacements=0,
            reason="",
            created_at=at,
            updated_at=at,
        )
        self._store.keep_order(Held(account, order))
        return order

    def _ask(self, event: Event) -> None:
        """Give the exchange an order or a request, and book what it says."""
        for report in self._exchange.apply(_record(event)):
            self._book(report)

    def _cancel(self, held: Held) -> None:
        """Take an order to its end, or, by a fault, to a fill before or after it."""
        account, order = held.account, held.order
        reports = self._exchange.apply(_record(_request(account, order, "cancel", NewTerms())))
        price = order.limit_price or order.stop_price
        leaves = order.qty - order.filled_qty
        cancelled = price is not None and any(isinstance(report, Cancelled) for report in reports)
        if cancelled and self._faults.strikes("fill_on_cancel"):
            assert price is not None
            self._fill(order.number, f"{order.id}/x", (leaves, price, ZERO), self.now, ends=True)
            now = self._store.order(order.number)
            self._tell("cancel_rejected", account, self.now, now.order, reason="the order has filled")
            return
        for report in reports:
            self._book(report)
        if cancelled and self._faults.strikes("late_fill"):
            assert price is not None
            before, self._out = self._out, []
            part = truncate(leaves * HALF) or leaves
            self._fill(order.number, f"{order.id}/x", (part, price, ZERO), self.now)
            self._later, self._out = self._out, before

    # ------------------------------------------------------------ what is booked

    def _book(self, event: Any) -> None:
        """Put down what the exchange says, or what a corporate action does."""
        kind = type(event)
        if kind in corporate.EVENTS:
            for movement in corporate.movements(event, self._store):
                self._corporate(movement)
            return
        number = int(event.order.rpartition("-")[2])
        if kind is Filled:
            terms = (event.quantity, event.price, event.fee)
            self._fill(number, event.execution, terms, event.ts)
            self._go_wrong(self._store.order(number).account, event.execution, event.ts)
        elif kind is Replaced:
            self._replaced(number, event)
        elif kind is Acknowledged:
            held = self._store.order(number)
            self._tell("new", held.account, event.ts, held.order)
        elif kind is Rejected and event.what != "order":
            held = self._store.order(number)
            self._answered(held)
            name: UpdateEvent = "cancel_rejected" if event.what == "cancel" else "replace_rejected"
            self._tell(name, held.account, event.ts, held.order, reason=event.reason)
        else:
            self._end(self._store.order(number), kind, getattr(event, "reason", ""), event.ts)

    def _fill(
        self,
        number: int,
        id: str,
        terms: tuple[Decimal, Decimal, Decimal],
        ts: int,
        *,
        ends: bool = False,
    ) -> None:
        """Book an execution: quantity, price and fee. It `ends` an order for good, or by filling it."""
        held = self._store.order(number)
        qty, price, fee = terms
        order = held.order
        one = Execution(held.account, id, number, order.symbol, order.side, qty, price, fee)
        held = held.now(
            executed=held.executed + qty,
            filled_qty=order.filled_qty + qty,
            filled_notional=order.filled_notional + qty * price,
            updated_at=utc(ts),
        )
        over = order.status in OPEN and (ends or held.executed >= order.qty)
        is_whole = held.order.filled_qty >= order.qty
        if order.status in OPEN:
            held = held.now(status="filled" if over and is_whole else "partially_filled")
        self._store.keep_order(held)
        self._store.keep_execution(one)
        activity = self._execution_activity("fill", one, held, ts, (one.shares, one.cash), "")
        name: UpdateEvent = "fill" if held.order.status == "filled" else "partial_fill"
        self._tell(name, held.account, ts, held.order, activity)
        if over and not is_whole:
            self._end(held, Cancelled, WITHDRAWN, ts)

    def _go_wrong(self, account: str, id: str, ts: int) -> None:
        """Bust or correct a fresh execution, where a fault says so."""
        execution = self._store.execution(account, id)
        assert execution is not None
        if self._faults.strikes("correct"):
            after = replace(execution, price=execution.price + CENT)
            self._correct(execution, after, "corrected by chance", ts)
            execution = after
        if self._faults.strikes("bust"):
            self._bust(execution, "busted by chance", ts)

    def _bust(self, before: Execution, reason: str, ts: int) -> Activity:
        after = replace(before, stands=False)
        moved = (-before.shares, -before.cash)
        return self._restated(
            "bust", before, after, (-before.qty, -before.qty * before.price), moved, reason, ts
        )

    def _correct(self, before: Execution, after: Execution, reason: str, ts: int) -> Activity:
        filled = (after.qty - before.qty, after.qty * after.price - before.qty * before.price)
        moved = (after.shares - before.shares, after.cash - before.cash)
        return self._restated("correction", before, after, filled, moved, reason, ts)

    def _restated(
        self,
        what: str,
        before: Execution,
        after: Execution,
        filled: tuple[Decimal, Decimal],
        moved: tuple[Decimal, Decimal],
        reason: str,
        ts: int,
    ) -> Activity:
        """An execution is not what it was: its order's quantity and notional, shares and cash move by that.

        An order that was filled and is not any more has ended: the exchange does not work it again.
        """
        held = self._store.order(before.number)
        held = held.now(
            filled_qty=held.order.filled_qty + filled[0],
            filled_notional=held.order.filled_notional + filled[1],
            updated_at=utc(ts),
        )
        order = held.order
        if order.status in OPEN:
            held = held.now(status="partially_filled" if order.filled_qty else "new")
        self._store.keep_order(held)
        self._store.keep_execution(after)
        activity = self._execution_activity(what, after, held, ts, moved, reason)
        name: UpdateEvent = "trade_bust" if what == "bust" else "trade_correct"
        self._tell(name, held.account, ts, held.order, activity, reason)
        if order.status == "filled" and order.filled_qty < order.qty:
            self._end(held, Cancelled, WITHDRAWN, ts)
        return activity

    def _replaced(self, number: int, event: Replaced) -> None:
        held = self._store.order(number)
        count = held.order.replacements + 1
        held = held.now(
            id=f"{event.order}.{count}",
            replacements=count,
            qty=event.quantity,
            limit_price=event.limit,
            stop_price=event.stop,
            updated_at=utc(event.ts),
        )
        is_over = held.executed >= event.quantity
        if is_over and held.order.filled_qty >= event.quantity:
            held = held.now(status="filled")
        self._store.keep_order(held)
        self._answered(held)
        self._tell("replaced", held.account, event.ts, held.order)
        if is_over and held.order.status != "filled":
            self._end(held, Cancelled, WITHDRAWN, event.ts)

    def _answered(self, held: Held) -> None:
        """Tell the exchange that its answer has arrived: the same request may be made again."""
        self._exchange.apply(_record(_request(held.account, held.order, "none", NewTerms())))

    def _end(self, held: Held, kind: type, reason: str, ts: int) -> None:
        name, status = ENDS[kind]
        held = held.now(status=status, reason=reason, updated_at=utc(ts))
        self._store.keep_order(held)
        self._tell(name, held.account, ts, held.order, reason=reason)

    def _corporate(self, movement: corporate.Movement) -> None:
        activity = self._activity(
            movement.account,
            "corporate_action",
            self.now,
            movement.cash,
            symbol=movement.symbol,
            qty_change=movement.shares,
            reason=movement.reason,
        )
        self._tell("cash", movement.account, self.now, activity=activity)

    def _execution_activity(
        self, what: str, one: Execution, held: Held, ts: int, moved: tuple[Decimal, Decimal], reason: str
    ) -> Activity:
        return self._activity(
            one.account,
            what,
            ts,
            moved[1],
            symbol=one.symbol,
            qty_change=moved[0],
            execution_id=one.id,
            client_order_id=held.order.client_order_id,
            side=one.side,
            qty=one.qty,
            price=one.price,
            fee=one.fee,
            cumulative_qty=held.order.filled_qty,
            reason=reason,
        )

    def _activity(self, account: str, what: str, ts: int, cash_change: Decimal, **fields: Any) -> Activity:
        found = self._store.account(account)
        assert found is not None
        fields |= {"account": account, "type": what, "at": utc(ts), "cash_change": cash_change}
        activity = Activity(number=found[2] + 1, **fields)
        self._store.add_activity(activity)
        return activity

    def _tell(
        self,
        event: UpdateEvent,
        account: str,
        ts: int,
        order: Order | None = None,
        activity: Activity | None = None,
        reason: str = "",
    ) -> None:
        """To be published once the transaction is on the disk."""
        update = Update(
            event=event, account=account, at=utc(ts), order=order, activity=activity, reason=reason
        )
        self._out.append(update)


# ------------------------------------------------------------ what the exchange is given


def _record(event: Event) -> Record:
    return Record(event.topic, 0, -1, b"", b"", event=event)


def _name(order: Order) -> str:
    """What the exchange calls an order: its first id, whatever replaced it."""
    return order.id.partition(".")[0]


def _accepted(account: str, order: Order) -> OrderAccepted:
    return OrderAccepted(
        account=account,
        seq=order.number,
        prev=0,
        cause="",
        trace="",
        ts=0,
        order=_name(order),
        strategy="",
        symbol=order.symbol,
        side=order.side,
        quantity=order.qty,
        order_type=order.type,
        limit=order.limit_price,
        stop=order.stop_price,
        tif=order.time_in_force,
        extended=order.extended_hours,
        reduces=False,
        quote="",
        checks=(),
    )


def _request(account: str, order: Order, pending: str, terms: NewTerms) -> OrderChanged:
    return OrderChanged(
        account=account,
        seq=order.number,
        prev=0,
        cause="",
        trace="",
        ts=0,
        order=_name(order),
        strategy="",
        symbol=order.symbol,
        side=order.side,
        status="working",
        pending=pending,  # type: ignore[arg-type]  # text in the fast codec
        fix="",
        quantity=order.qty,
        filled=order.filled_qty,
        leaves=order.qty - order.filled_qty,
        limit=order.limit_price,
        stop=order.stop_price,
        new_quantity=terms.qty,
        new_limit=terms.limit_price,
        new_stop=terms.stop_price,
    )
