"""The simulated broker over HTTP, and what goes wrong on the way to it and back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from typing import Annotated, Any, Literal

from fastapi import FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, StreamingResponse
from uvicorn.protocols.http.h11_impl import H11Protocol

from producers.brokers.sim.api import (
    Account,
    Activity,
    BrokerBooks,
    Bust,
    CashMovement,
    Code,
    Correction,
    FaultSettings,
    Health,
    NewAccount,
    Newest,
    NewOrder,
    NewTerms,
    Order,
    Position,
    Refusal,
    Snapshot,
    Update,
    utc,
)
from producers.brokers.sim.broker import Broker, Refused
from producers.brokers.sim.faults import BadFault, Faults
from producers.brokers.sim.updates import Updates

HEARTBEAT_S = 1.0
EARLY_S = 0.1
"""How much later than its updates the answer to an order comes, where a fault says so."""
PAGE_MAX = 10_000
UNRELIABLE = frozenset({"account", "orders", "newest-order", "positions", "activities", "snapshot"})
"""What a gateway asks for: the faults of requests and answers strike these."""
STATUS: dict[Code, int] = {
    "duplicate_client_order_id": 422,
    "order_not_open": 422,
    "invalid": 422,
    "unknown_account": 404,
    "unknown_order": 404,
    "unknown_execution": 404,
    "account_exists": 409,
    "starting": 503,
}

Limit = Annotated[int, Query(ge=1, le=PAGE_MAX)]
After = Annotated[int, Query(ge=0)]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Asgi = Callable[[Message, Receive, Send], Awaitable[None]]


def make_app(broker: Broker, faults: Faults, updates: Updates, log: str) -> Asgi:
    """The application, its faults around it."""
    app = FastAPI(title="Tape's simulated broker", docs_url=None, redoc_url=None)
    app.add_exception_handler(Refused, _refused)
    app.add_exception_handler(RequestValidationError, _invalid)
    _add_accounts(app, broker)
    _add_orders(app, broker)
    _add_updates(app, broker, updates)
    _add_administration(app, broker, faults, log)
    return _Unreliable(app, faults, updates)


def _refused(_: Request, problem: Exception) -> Response:
    assert isinstance(problem, Refused)
    refusal = Refusal(code=problem.code, message=str(problem))
    return JSONResponse(refusal.model_dump(), STATUS[problem.code])


def _invalid(_: Request, problem: Exception) -> Response:
    assert isinstance(problem, RequestValidationError)
    first = problem.errors()[0]
    where = ".".join(str(part) for part in first["loc"][1:])
    return _refused(_, Refused("invalid", f"{where or 'the request'}: {first['msg']}"))


def _add_accounts(app: FastAPI, broker: Broker) -> None:
    @app.post("/v1/accounts", status_code=201)
    def open_account(new: NewAccount) -> Account:
        return broker.open_account(new.id, new.cash)

    @app.get("/v1/accounts/{account}/account")
    def account(account: str) -> Account:
        return broker.account(account)

    @app.get("/v1/accounts/{account}/positions")
    def positions(account: str) -> list[Position]:
        return broker.snapshot(account).positions

    @app.get("/v1/accounts/{account}/snapshot")
    def snapshot(account: str) -> Snapshot:
        return broker.snapshot(account)

    @app.get("/v1/accounts/{account}/books")
    def books(account: str) -> BrokerBooks:
        return broker.books(account)

    @app.get("/v1/accounts/{account}/activities")
    def activities(account: str, after: After = 0, limit: Limit = 1000) -> list[Activity]:
        return broker.activities(account, after, limit)


def _add_orders(app: FastAPI, broker: Broker) -> None:
    @app.post("/v1/accounts/{account}/orders", status_code=201)
    def submit(account: str, new: NewOrder) -> Order:
        return broker.submit(account, new)

    @app.get("/v1/accounts/{account}/orders")
    def orders(
        account: str, status: Literal["open", "all"] = "open", after: After = 0, limit: Limit = 1000
    ) -> list[Order]:
        return broker.orders(account, only_open=status == "open", after=after, limit=limit)

    @app.get("/v1/accounts/{account}/orders/{client_id}")
    def order(account: str, client_id: str) -> Order:
        return broker.order(account, client_id)

    @app.delete("/v1/accounts/{account}/orders/{client_id}", status_code=202)
    def cancel(account: str, client_id: str) -> Order:
        return broker.cancel(account, client_id)

    @app.patch("/v1/accounts/{account}/orders/{client_id}", status_code=202)
    def replace(account: str, client_id: str, terms: NewTerms) -> Order:
        return broker.replace(account, client_id, terms)

    @app.get("/v1/accounts/{account}/newest-order")
    def newest_order(account: str, prefix: str = "") -> Newest:
        return Newest(client_order_id=broker.newest_order(account, prefix))


def _add_updates(app: FastAPI, broker: Broker, updates: Updates) -> None:
    @app.get("/v1/accounts/{account}/updates")
    async def listen(account: str) -> StreamingResponse:
        await asyncio.to_thread(broker.account, account)
        lines = _lines(account, updates, lambda: utc(broker.now))
        return StreamingResponse(lines, media_type="application/x-ndjson")

    @app.post("/v1/accounts/{account}/disconnect", status_code=204)
    def disconnect(account: str) -> None:
        broker.account(account)
        updates.disconnect(account)


async def _lines(account: str, updates: Updates, now: Callable[[], str]) -> AsyncIterator[str]:
    """What is published for the account, a line each, and a heartbeat while there is nothing."""
    queue = updates.subscribe(account)
    try:
        yield _line(Update(event="connected", account=account, at=now()))
        while True:
            try:
                update = await asyncio.wait_for(queue.get(), HEARTBEAT_S)
            except TimeoutError:
                update = Update(event="heartbeat", account=account, at=now())
            if update is None:
                return
            yield _line(update)
    finally:
        updates.unsubscribe(account, queue)


def _line(update: Update) -> str:
    return update.model_dump_json() + "\n"


def _add_administration(app: FastAPI, broker: Broker, faults: Faults, log: str) -> None:
    @app.get("/health")
    def health() -> Health:
        return Health(ready=broker.is_ready, log=log, at=utc(broker.now), open_orders=broker.count_open())

    @app.get("/v1/faults")
    def get_faults() -> FaultSettings:
        return faults.settings

    @app.post("/v1/faults")
    def set_faults(settings: FaultSettings) -> FaultSettings:
        try:
            faults.set(settings)
        except BadFault as problem:
            raise Refused("invalid", str(problem)) from None
        return faults.settings

    @app.post("/v1/accounts/{account}/bust")
    def bust(account: str, wanted: Bust) -> Activity:
        return broker.bust(account, wanted)

    @app.post("/v1/accounts/{account}/correct")
    def correct(account: str, wanted: Correction) -> Activity:
        return broker.correct(account, wanted)

    @app.post("/v1/accounts/{account}/cash")
    def move_cash(account: str, wanted: CashMovement) -> Activity:
        return broker.move_cash(account, wanted)


# ------------------------------------------------------------ the way there and back


class _Unreliable:
    """Passes requests on, and loses or delays some. What a request leads to is told after its answer."""

    def __init__(self, app: Asgi, faults: Faults, updates: Updates) -> None:
        self._app, self._faults, self._updates = app, faults, updates

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        path = str(scope.get("path", "")).split("/")
        if scope["type"] != "http" or path[1:3] != ["v1", "accounts"] or not UNRELIABLE & set(path[4:5]):
            await self._app(scope, receive, send)
            return
        if self._faults.strikes("lose_request"):
            await _abort(scope, receive)
            return
        is_new = scope["method"] == "POST"
        early = is_new and self._faults.strikes("early_fill")
        if early or scope["method"] == "GET":
            await self._pass(scope, receive, send, early=early)
            return
        account = path[3]
        self._updates.hold(account)
        try:
            await self._pass(scope, receive, send, early=False)
        finally:
            self._updates.release(account)

    async def _pass(self, scope: Message, receive: Receive, send: Send, *, early: bool) -> None:
        """Have the request done, and send the answer, unless it is lost."""
        answer: list[Message] = []

        async def collect(message: Message) -> None:
            answer.append(message)

        await self._app(scope, receive, collect)
        if early:
            await asyncio.sleep(EARLY_S)
        if self._faults.strikes("delay"):
            await asyncio.sleep(self._faults.delay_s)
        if self._faults.strikes("lose_answer"):
            await _abort(scope, receive)
            return
        for message in answer:
            await send(message)


async def _abort(scope: Message, receive: Receive) -> None:
    """Close the connection without a word."""
    scope["extensions"]["tape.abort"]()
    while (await receive())["type"] != "http.disconnect":
        pass


class Http(H11Protocol):
    """HTTP on a connection that the application can break off."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        app: Any = self.app

        async def with_abort(scope: Message, receive: Receive, send: Send) -> None:
            scope.setdefault("extensions", {})["tape.abort"] = transport.abort
            await app(scope, receive, send)

        self.app = with_abort
