"""A simulated broker under test: a log with a market that the test writes, the service beside it.

with desk(folder) as d:
    d.see(quote(at("09:31"), 10, "10.02"))
    d.order("a", "buy 100 market")
"""

from __future__ import annotations

import json
import queue
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx

from eventlog import EventLog, LogSpec, create_log, open_log
from producers.brokers.sim.api import Activity, BrokerBooks, FaultSettings, Order, Snapshot, Update, utc
from schemas import CoreSettings, Event, new_record, partition_of
from support.market import at, session_opened
from tape.brokersim import run_broker_sim

WAIT_S = 60.0
CASH = Decimal(100_000)


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def until(found: Any, what: str) -> Any:
    """What `found` gives, once it is true."""
    end = time.monotonic() + WAIT_S
    while time.monotonic() < end:
        if result := found():
            return result
        time.sleep(0.02)
    raise AssertionError(f"not within {WAIT_S} s: {what}")


class Listener:
    """An update stream, read in a thread."""

    def __init__(self, url: str) -> None:
        self._queue: queue.Queue[Update | None] = queue.Queue()
        self.came = 0.0
        """When the last update that is no heartbeat came, by the monotonic clock."""
        self._thread = threading.Thread(target=self._listen, args=(url,), daemon=True)
        self._thread.start()
        assert self.next().event == "connected"

    def _listen(self, url: str) -> None:
        try:
            with httpx.stream("GET", url, timeout=WAIT_S) as answer:
                for line in answer.iter_lines():
                    update = Update.model_validate_json(line)
                    if update.event != "heartbeat":
                        self.came = time.monotonic()
                    self._queue.put(update)
        except httpx.HTTPError:
            pass
        self._queue.put(None)

    def next(self) -> Update:
        """The next update that is no heartbeat."""
        found = self.next_or_end()
        assert found is not None, "the stream has ended"
        return found

    def next_or_end(self) -> Update | None:
        while True:
            update = self._queue.get(timeout=WAIT_S)
            if update is None or update.event != "heartbeat":
                return update

    def events(self, count: int) -> list[str]:
        return [self.next().event for _ in range(count)]


class Desk:
    """A client of the broker's account A, and the feed of its market."""

    def __init__(self, log: EventLog, port: int) -> None:
        self.log, self.url = log, f"http://127.0.0.1:{port}"
        self.http = httpx.Client(base_url=self.url, timeout=WAIT_S, trust_env=False)
        self._writer = log.writer("feed")
        self.now = 0

    def see(self, *events: Event) -> None:
        """The market goes on, and the broker has seen it."""
        self.write(*events)
        until(lambda: self.health().get("at") == utc(self.now), "the broker sees the market")

    def write(self, *events: Event) -> None:
        made = [(str(getattr(event, "symbol", "*")), event) for event in events]
        count = self.log.partitions("market.quotes")
        self._writer.append([new_record(e, partition_of(s, count), s) for s, e in made])
        self.now = max(self.now, *(e.ts for e in events))  # type: ignore[attr-defined]

    def health(self) -> dict[str, Any]:
        try:
            return dict(self.http.get("/health").json())
        except httpx.HTTPError:
            return {}

    def wait_ready(self) -> None:
        until(lambda: self.health().get("ready"), "the broker is ready")

    def send(self, client_id: str, text: str, symbol: str = "SPY", account: str = "A") -> httpx.Response:
        """SIDE QUANTITY TYPE [STOP] [LIMIT] [TIF]"""
        side, qty, kind, *rest = text.split()
        body = {"client_order_id": client_id, "symbol": symbol, "side": side, "qty": qty, "type": kind}
        body["time_in_force"] = "day"
        if "stop" in kind:
            body["stop_price"] = rest.pop(0)
        if "limit" in kind:
            body["limit_price"] = rest.pop(0)
        if rest:
            body["time_in_force"] = rest.pop(0)
        return self.http.post(f"/v1/accounts/{account}/orders", json=body)

    def order(self, client_id: str, text: str, **kwargs: Any) -> Order:
        answer = self.send(client_id, text, **kwargs)
        assert answer.status_code == 201, answer.text
        return Order.model_validate_json(answer.content)

    def cancel(self, client_id: str) -> httpx.Response:
        return self.http.delete(f"/v1/accounts/A/orders/{client_id}")

    def replace(self, client_id: str, **terms: str) -> httpx.Response:
        return self.http.patch(f"/v1/accounts/A/orders/{client_id}", json=terms)

    def look_up(self, client_id: str) -> Order:
        return Order.model_validate_json(self.http.get(f"/v1/accounts/A/orders/{client_id}").content)

    def activities(self, after: int = 0) -> list[Activity]:
        found = self.http.get("/v1/accounts/A/activities", params={"after": after, "limit": 10_000}).json()
        return [Activity.model_validate(item) for item in found]

    def snapshot(self) -> Snapshot:
        return Snapshot.model_validate_json(self.http.get("/v1/accounts/A/snapshot").content)

    def books(self) -> BrokerBooks:
        return BrokerBooks.model_validate_json(self.http.get("/v1/accounts/A/books").content)

    def admin(self, what: str, **body: str) -> httpx.Response:
        return self.http.post(f"/v1/accounts/A/{what}", json=body)

    def faults(self, **faults: str) -> None:
        answer = self.http.post("/v1/faults", json={"faults": faults, "late_ms": 200, "delay_ms": [300, 300]})
        assert answer.status_code == 200, answer.text

    def listen(self) -> Listener:
        return Listener(f"{self.url}/v1/accounts/A/updates")

    def check_books(self) -> None:
        """Cash, positions and sums are what the activities say, by their own numbers."""
        check_fold(self.snapshot(), self.activities(), self.books())

    def close(self) -> None:
        self.http.close()
        self._writer.close()


def check_fold(snapshot: Snapshot, activities: list[Activity], books: BrokerBooks) -> None:
    """The fold of the activities, from quantities, prices and fees, is the books."""
    cash, held = CASH, dict[str, Decimal]()
    standing: dict[str, tuple[str, Decimal, Decimal, Decimal]] = {}
    for number, activity in enumerate(activities, 1):
        assert activity.number == number
        if activity.execution_id:
            assert activity.qty is not None
            assert activity.price is not None
            assert activity.fee is not None
            signed = activity.qty if activity.side == "buy" else -activity.qty
            assert (activity.execution_id in standing) == (activity.type != "fill")
            standing[activity.execution_id] = (activity.symbol, signed, activity.price, activity.fee)
            if activity.type == "bust":
                del standing[activity.execution_id]
        else:
            cash += activity.cash_change
            held[activity.symbol] = held.get(activity.symbol, Decimal(0)) + activity.qty_change
    for symbol, signed, price, fee in standing.values():
        cash -= signed * price + fee
        held[symbol] = held.get(symbol, Decimal(0)) + signed
    held = {symbol: qty for symbol, qty in held.items() if qty}
    assert snapshot.cash == books.cash == cash
    assert {p.symbol: p.qty for p in snapshot.positions} == books.positions == held
    assert snapshot.activity == books.activity == len(activities)
    assert books.executions == len(standing)
    assert books.fees == sum(fee for *_, fee in standing.values())


def make_log(folder: Path, *, id: str = "1" * 32) -> str:
    """A log whose first session is open."""
    url = f"sqlite:{folder / 'log.tape'}"
    with create_log(url, LogSpec(id, "data", 1, 2)) as log:
        desk = Desk(log, 1)
        desk.write(session_opened())
        desk.close()
    return url


@contextmanager
def desk(
    folder: Path, *, url: str | None = None, faults: FaultSettings | None = None, **settings: Any
) -> Iterator[Desk]:
    """A broker in a thread of this process, and its desk; account A has $100,000."""
    url = url or make_log(folder)
    port, stop, errors = free_port(), threading.Event(), list[BaseException]()

    def run() -> None:
        try:
            with open_log(url, read_only=True) as log:
                run_broker_sim(
                    log,
                    CoreSettings(log_prefix="x", simulated=False, **settings),
                    folder / "broker",
                    port=port,
                    accounts={"A": CASH},
                    faults=faults,
                    beats=lambda beat: None,
                    stop=stop.is_set,
                )
        except BaseException as problem:
            errors.append(problem)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    with open_log(url) as log:
        made = Desk(log, port)
        made.now = at("09:30")
        try:
            until(lambda: errors or made.health().get("ready"), "the broker is ready")
            assert not errors
            yield made
        finally:
            made.close()
            stop.set()
            thread.join(WAIT_S)
    assert not errors, errors


def start_process(url: str, folder: Path, port: int, faults: dict[str, str]) -> subprocess.Popen[bytes]:
    """A broker in a process of its own."""
    given = json.dumps({"url": url, "folder": str(folder), "port": port, "faults": faults})
    return subprocess.Popen([sys.executable, "-c", PROGRAM, given])


PROGRAM = """
import json, sys
from decimal import Decimal
from pathlib import Path
from eventlog import open_log
from producers.brokers.sim.api import FaultSettings
from schemas import CoreSettings
from tape.brokersim import run_broker_sim

given = json.loads(sys.argv[1])
with open_log(given["url"], read_only=True) as log:
    run_broker_sim(
        log,
        CoreSettings(log_prefix="x", simulated=False, fee="per-share:0.005:1"),
        Path(given["folder"]),
        port=given["port"],
        accounts={"A": Decimal(100000)},
        faults=FaultSettings(faults=given["faults"]),
        beats=lambda beat: None,
        stop=lambda: False,
    )
"""
