"""The role broker-sim: the simulated broker, its market and its web server, in one process."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from decimal import Decimal
from pathlib import Path

import uvicorn

from eventlog import LogReader
from eventlog.roles import Beat, Beats, Stop
from producers.brokers.sim.api import FaultSettings
from producers.brokers.sim.broker import Broker, Venue
from producers.brokers.sim.faults import Faults
from producers.brokers.sim.http import Http, make_app
from producers.brokers.sim.market import Market
from producers.brokers.sim.store import Store
from producers.brokers.sim.updates import Updates

PAGE = 500
WAIT_S = 0.1
KEEP_EVERY = 250_000
"""Market records after which the broker puts down how far it is, if nothing else made it."""
END_S = 5.0


class ServiceError(Exception):
    """The broker cannot listen where it should; the message says why, and what to do."""


def serve_broker(
    log: LogReader,
    exchange: Venue,
    folder: Path,
    *,
    host: str = "127.0.0.1",
    port: int = 9160,
    accounts: Mapping[str, Decimal],
    faults: FaultSettings | None = None,
    beats: Beats,
    stop: Stop,
) -> None:
    """Be the broker of a log's market until `stop`.

    `exchange` is a fresh one; it is brought to where it stood. The books are kept in `folder`.
    `accounts` are opened with their cash, where they are not open. Raises `StoreError`, `ServiceError`,
    `BadFault`, `Refused` for an account that was opened with other cash, `LogError`.
    """
    chance = Faults(faults)
    updates = Updates(chance)
    with closing(Store(folder, log.id)) as store:
        broker = Broker(exchange, store, chance, updates)
        for account, cash in accounts.items():
            broker.open_account(account, cash)
        app = make_app(broker, chance, updates, log.id)
        with closing(Market(log, broker.positions)) as market, _serving(app, host, port, updates):
            _follow(broker, market, updates, beats, stop)
            broker.keep()


def _follow(broker: Broker, market: Market, updates: Updates, beats: Beats, stop: Stop) -> None:
    """Let the broker see the market as it goes on."""
    processed = kept = 0
    while not stop():
        records = market.take(PAGE, WAIT_S)
        if records:
            broker.see(records, market.positions)
            processed += len(records)
            if processed - kept >= KEEP_EVERY:
                broker.keep()
                kept = processed
        if broker.failure is not None:
            raise broker.failure
        if not broker.is_ready:
            broker.is_ready = market.is_ready()
        updates.tick()
        beats(Beat(processed, market.positions))


@contextmanager
def _serving(app: object, host: str, port: int, updates: Updates) -> Iterator[None]:
    """Answer requests, in a thread of its own. Raises `ServiceError`."""
    config = uvicorn.Config(
        app,  # type: ignore[arg-type]
        host=host,
        port=port,
        http=Http,
        loop="asyncio",
        lifespan="off",
        ws="none",
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=2,
    )
    server = uvicorn.Server(config)
    try:
        socket = config.bind_socket()
    except (OSError, SystemExit) as problem:
        raise ServiceError(
            f"nothing can listen on {host}:{port}: is it in use? Name another port"
        ) from problem
    thread = threading.Thread(
        target=server.run, kwargs={"sockets": [socket]}, name="broker-sim http", daemon=True
    )
    thread.start()
    try:
        while not server.started and thread.is_alive():
            time.sleep(0.01)
        yield
    finally:
        server.should_exit = True
        updates.close()
        thread.join(END_S)
        socket.close()
