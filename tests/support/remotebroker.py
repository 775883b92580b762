"""The broker in memory for gateways in other processes: served here over TCP, an adapter there."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from itertools import count
from multiprocessing.managers import BaseManager
from typing import Any

from producers.brokers.contract import BrokerUnreachable, NoAnswer
from schemas import Event
from support.fakebroker import FakeBroker

KEY = b"test"
SETTLING_S = 0.5


class Desk:
    """What is served: the broker's methods by name, and its streams in pieces."""

    def __init__(self, broker: FakeBroker) -> None:
        self._broker = broker
        self._streams: dict[int, Any] = {}
        self._ids = count()

    def ask(self, method: str, *args: Any) -> Any:
        return getattr(self._broker, method)(*args)

    def listen(self) -> int:
        id = next(self._ids)
        self._streams[id] = queue.SimpleQueue()
        self._broker.streams.append(self._streams[id])
        return id

    def take(self, id: int) -> Event | str | None:
        try:
            said: Event | str = self._streams[id].get(timeout=0.2)
        except queue.Empty:
            return None
        return said


def serve(broker: FakeBroker) -> str:
    """Serve it from a thread of this process; the address."""
    desk = Desk(broker)
    manager = type("Manager", (BaseManager,), {})
    manager.register("desk", callable=lambda: desk)
    server = manager(("127.0.0.1", 0), KEY).get_server()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"{server.address[0]}:{server.address[1]}"


class RemoteBroker:
    """The adapter of a broker that is served elsewhere."""

    simulated = True
    enforces_unique_ids = True
    settling_s = SETTLING_S

    def __init__(self, address: str) -> None:
        host, _, port = address.partition(":")
        manager = type("Manager", (BaseManager,), {})
        manager.register("desk")
        remote = manager((host, int(port)), KEY)
        remote.connect()
        self._desk = remote.desk()
        for name in ("look_up", "open_orders", "newest_order", "activities", "snapshot"):
            setattr(self, name, partial(self._ask, name))

    def _ask(self, method: str, *args: Any) -> Any:
        try:
            return self._desk.ask(method, *args)
        except (EOFError, OSError) as problem:
            raise BrokerUnreachable(repr(problem)) from problem

    def __getattr__(self, name: str) -> Any:
        if name not in ("submit", "cancel", "replace"):
            raise AttributeError(name)
        return partial(self._request, name)

    def _request(self, method: str, *args: Any) -> Any:
        try:
            return self._desk.ask(method, *args)
        except (EOFError, OSError) as problem:
            return NoAnswer(repr(problem))

    @contextmanager
    def updates(self) -> Iterator[Iterator[Event | None]]:
        yield self._told(self._desk.listen())

    def _told(self, id: int) -> Iterator[Event | None]:
        while True:
            said = self._desk.take(id)
            if isinstance(said, str):
                return
            yield said

    def close(self) -> None:
        """The connection ends with the process."""
