"""The simulated broker as the gateway sees it: the client of `producers.brokers.sim.api`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from producers.brokers.contract import (
    Activity,
    Answer,
    BrokerError,
    BrokerUnreachable,
    Found,
    Holdings,
    NoAnswer,
    Order,
    Refused,
    Standing,
    Taken,
    Terms,
    execution_report,
    order_report,
)
from producers.brokers.sim import api
from schemas import (
    Acknowledged,
    BrokerOrder,
    BrokerPosition,
    Busted,
    Cancelled,
    CashActivity,
    Corrected,
    Event,
    Expired,
    Filled,
    Rejected,
    Replaced,
)

ANSWER_S = 5.0
CONNECT_S = 2.0
SILENCE_S = 5.0
"""The stream of updates gives a sign of life every second; silent for so long, it is dead."""
PAGE = 1000

STANDINGS: dict[str, Standing] = {
    "new": "open",
    "partially_filled": "open",
    "filled": "filled",
    "canceled": "cancelled",
    "expired": "expired",
    "rejected": "rejected",
}
CASH = ("deposit", "withdrawal", "dividend", "interest", "fee")

M = TypeVar("M", bound=BaseModel)


class SimClient:
    """An account at the simulated broker; see `contract.BrokerAdapter`."""

    simulated = True
    enforces_unique_ids = True
    settling_s = 1.0

    def __init__(self, url: str, account: str) -> None:
        self._url, self._account = url.rstrip("/"), account
        timeout = httpx.Timeout(ANSWER_S, connect=CONNECT_S)
        self._http = httpx.Client(
            base_url=f"{self._url}/v1/accounts/{account}", timeout=timeout, trust_env=False
        )

    # ------------------------------------------------------------ requests

    def submit(self, order: Order) -> Answer:
        asked = api.NewOrder(
            client_order_id=order.client_id,
            symbol=order.symbol,
            side=order.side,  # type: ignore[arg-type]  # text in the fast codec
            qty=order.quantity,
            type=order.order_type,  # type: ignore[arg-type]
            time_in_force=order.tif,  # type: ignore[arg-type]
            limit_price=order.limit,
            stop_price=order.stop,
            extended_hours=order.extended,
        )
        return self._request("POST", "/orders", asked)

    def cancel(self, client_id: str) -> Answer:
        return self._request("DELETE", f"/orders/{client_id}")

    def replace(self, client_id: str, terms: Terms) -> Answer:
        asked = api.NewTerms(qty=terms.quantity, limit_price=terms.limit, stop_price=terms.stop)
        return self._request("PATCH", f"/orders/{client_id}", asked)

    def _request(self, method: str, path: str, body: BaseModel | None = None) -> Answer:
        content = None if body is None else body.model_dump_json()
        headers = {"content-type": "application/json"}
        try:
            answer = self._http.request(method, path, content=content, headers=headers)
        except httpx.HTTPError as problem:
            return NoAnswer(self._problem(problem))
        if answer.is_success:
            order = self._read(answer, api.Order)
            if order.status == "rejected":
                return Refused(order.reason or "rejected", answer.text)
            return Taken(order.id, answer.text)
        refusal = self._refusal(answer)
        if refusal is None or refusal.code == "starting":
            return NoAnswer(f"{self._url}: {answer.status_code} {answer.reason_phrase}")
        is_known = refusal.code == "duplicate_client_order_id"
        return Refused(f"{refusal.code}: {refusal.message}", answer.text, is_known)

    # ------------------------------------------------------------ questions

    def look_up(self, client_id: str) -> Found | None:
        answer = self._get(f"/orders/{client_id}")
        if answer.status_code == 404:
            return None
        return _found(self._read(answer, api.Order), answer.text)

    def open_orders(self) -> Sequence[Found]:
        pages = self._pages("/orders", api.Order, lambda order: order.number, status="open")
        return [_found(order, order.model_dump_json()) for order in pages]

    def newest_order(self, prefix: str) -> str:
        return self._read(self._get("/newest-order", prefix=prefix), api.Newest).client_order_id

    def activities(self, after: str) -> Sequence[Activity]:
        pages = self._pages("/activities", api.Activity, lambda activity: activity.number, int(after or 0))
        return [Activity(str(found.number), _movement(self._account, found)) for found in pages]

    def snapshot(self) -> Holdings:
        answer = self._get("/snapshot")
        found = self._read(answer, api.Snapshot)
        orders = (
            BrokerOrder(
                order=o.client_order_id, symbol=o.symbol, side=o.side, quantity=o.qty, filled=o.filled_qty
            )
            for o in found.orders
        )
        return Holdings(
            ts=api.nanoseconds(found.at),
            cash=found.cash,
            positions=tuple(BrokerPosition(symbol=p.symbol, quantity=p.qty) for p in found.positions),
            orders=tuple(orders),
            activity=str(found.activity) if found.activity else "",
            raw=answer.text,
        )

    @contextmanager
    def updates(self) -> Iterator[Iterator[Event | None]]:
        timeout = httpx.Timeout(SILENCE_S, connect=CONNECT_S)
        try:
            with self._http.stream("GET", "/updates", timeout=timeout) as answer:
                if not answer.is_success:
                    raise BrokerUnreachable(f"{self._url}: {answer.status_code} {answer.reason_phrase}")
                lines = answer.iter_lines()
                next(lines, None)  # "connected": from here on nothing is missed
                yield (self._update(line) for line in lines)
        except httpx.HTTPError as problem:
            raise BrokerUnreachable(self._problem(problem)) from problem

    def _update(self, line: str) -> Event | None:
        try:
            return _report(self._account, api.Update.model_validate_json(line), line)
        except ValidationError as problem:
            raise BrokerUnreachable(f"{self._url}: an update that cannot be read: {problem}") from problem

    def close(self) -> None:
        self._http.close()

    # ------------------------------------------------------------ HTTP

    def _pages(
        self, path: str, kind: type[M], number: Callable[[M], int], after: int = 0, **query: Any
    ) -> Iterator[M]:
        while True:
            answer = self._get(path, after=after, limit=PAGE, **query)
            page = [self._parse(answer, kind, item) for item in answer.json()]
            yield from page
            if not page:
                return
            after = number(page[-1])

    def _get(self, path: str, **query: Any) -> httpx.Response:
        try:
            answer = self._http.get(path, params=query)
        except httpx.HTTPError as problem:
            raise BrokerUnreachable(self._problem(problem)) from problem
        if answer.is_success:
            return answer
        refusal = self._refusal(answer)
        if refusal is not None and refusal.code == "unknown_account":
            raise BrokerError(f"{self._url} has no account {self._account}; open it there first")
        if refusal is not None and refusal.code == "unknown_order":
            return answer
        raise BrokerUnreachable(f"{self._url}: {answer.status_code} {answer.reason_phrase}")

    def _read(self, answer: httpx.Response, kind: type[M]) -> M:
        try:
            return kind.model_validate_json(answer.content)
        except ValidationError as problem:
            raise BrokerError(f"{self._url} answers otherwise than this Tape reads: {problem}") from problem

    def _parse(self, answer: httpx.Response, kind: type[M], item: Any) -> M:
        try:
            return kind.model_validate(item)
        except ValidationError as problem:
            raise BrokerError(f"{answer.url} answers otherwise than this Tape reads: {problem}") from problem

    def _refusal(self, answer: httpx.Response) -> api.Refusal | None:
        try:
            return api.Refusal.model_validate_json(answer.content)
        except ValidationError:
            return None

    def _problem(self, problem: httpx.HTTPError) -> str:
        return f"{self._url}: {type(problem).__name__}: {problem}"


def _found(order: api.Order, raw: str) -> Found:
    ours = Order(
        order.client_order_id,
        order.symbol,
        order.side,
        order.qty,
        order.type,
        order.limit_price,
        order.stop_price,
        order.time_in_force,
        order.extended_hours,
    )
    revision = str(order.replacements) if order.replacements else ""
    ts = api.nanoseconds(order.updated_at)
    return Found(ours, order.id, STANDINGS[order.status], order.filled_qty, ts, revision, raw, order.reason)


def _movement(account: str, found: api.Activity, raw: str = "") -> Event | None:
    """The report of an activity. Raises `BrokerError` for one that lacks what its kind must have."""
    about: dict[str, Any] = {
        "account": account,
        "ts": api.nanoseconds(found.at),
        "raw": raw or found.model_dump_json(),
    }
    if found.type in CASH:
        id = f"cash:{found.number}"
        return CashActivity(id=id, kind=found.type, amount=found.cash_change, symbol=found.symbol, **about)  # type: ignore[arg-type]
    if found.type == "corporate_action":
        return None
    execution, reason = found.execution_id, found.reason
    if found.type == "bust":
        return Busted(id=execution_report(execution, "busted"), execution=execution, reason=reason, **about)
    if found.qty is None or found.price is None or found.fee is None:
        raise BrokerError(f"activity {found.number} of account {account} has no quantity, price or fee")
    about |= {"execution": execution, "quantity": found.qty, "price": found.price, "fee": found.fee}
    if found.type == "correction":
        id = execution_report(execution, "corrected", str(found.number))
        return Corrected(id=id, reason=reason, **about)
    return Filled(
        id=execution_report(execution, "filled"),
        order=found.client_order_id,
        symbol=found.symbol,
        side=found.side,  # type: ignore[arg-type]
        **about,
    )


def _report(account: str, update: api.Update, raw: str) -> Event | None:
    """The report of an update; None for a sign of life, and for what is said elsewhere."""
    if update.activity is not None:
        return _movement(account, update.activity, raw)
    if update.order is None:
        return None
    return _of_order(account, update, update.order, raw)


def _of_order(account: str, update: api.Update, order: api.Order, raw: str) -> Event | None:
    id = order.client_order_id
    ts = api.nanoseconds(update.at)
    about: dict[str, Any] = {"account": account, "ts": ts, "order": id, "raw": raw}
    reason = update.reason or order.reason
    match update.event:
        case "new":
            return Acknowledged(id=order_report(id, "acknowledged"), broker_id=order.id, **about)
        case "canceled":
            return Cancelled(id=order_report(id, "cancelled"), reason=reason, **about)
        case "expired":
            return Expired(id=order_report(id, "expired"), **about)
        case "rejected":
            return Rejected(id=order_report(id, "rejected"), what="order", reason=reason, **about)
        case "cancel_rejected" | "replace_rejected":
            what: Any = update.event.removesuffix("_rejected")
            return Rejected(
                id=order_report(id, f"{what}-refused", f"at {ts}"), what=what, reason=reason, **about
            )
        case "replaced":
            return Replaced(
                id=order_report(id, "replaced", str(order.replacements)),
                quantity=order.qty,
                limit=order.limit_price,
                stop=order.stop_price,
                broker_id=order.id,
                **about,
            )
    return None
