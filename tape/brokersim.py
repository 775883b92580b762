"""The simulated broker put together: the exchange of the simulation behind an HTTP service."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

from eventlog import LogReader
from eventlog.roles import Beats, Stop
from processors.exchange import Exchange
from schemas import CoreSettings
from tape.errors import WrongInput

if TYPE_CHECKING:
    from producers.brokers.sim.api import FaultSettings

HOST, PORT = "127.0.0.1", 9160


class BrokerSimError(WrongInput):
    """The simulated broker cannot be run as asked; the message says why, and what to do."""


def run_broker_sim(
    log: LogReader,
    settings: CoreSettings,
    folder: Path,
    *,
    host: str = HOST,
    port: int = PORT,
    accounts: Mapping[str, Decimal] | None = None,
    faults: FaultSettings | None = None,
    beats: Beats,
    stop: Stop,
) -> None:
    """Be the broker of the log's market, with its books in `folder`, until `stop`.

    `settings` say how the exchange fills: fee, slippage, size, stop trigger, latency. `accounts` are
    opened with their cash where they are not open. Raises `BrokerSimError`, `LogError`.
    """
    from producers.brokers.sim.broker import Refused
    from producers.brokers.sim.faults import BadFault
    from producers.brokers.sim.service import ServiceError, serve_broker
    from producers.brokers.sim.store import StoreError

    try:
        serve_broker(
            log,
            Exchange(settings),
            folder,
            host=host,
            port=port,
            accounts=accounts or {},
            faults=faults,
            beats=beats,
            stop=stop,
        )
    except (BadFault, Refused, ServiceError, StoreError) as problem:
        raise BrokerSimError(str(problem)) from problem


def faults_of(given: list[str], *, seed: int = 0) -> FaultSettings | None:
    """The faults of options NAME=PROBABILITY or NAME=COUNTx; None without any. Raises `BrokerSimError`."""
    from producers.brokers.sim.api import FaultSettings
    from producers.brokers.sim.faults import BadFault, Faults

    pairs = [text.partition("=") for text in given]
    settings = FaultSettings(faults={name: chance for name, _, chance in pairs}, seed=seed)
    try:
        Faults(settings)
    except BadFault as problem:
        raise BrokerSimError(f"--fault: {problem}") from None
    return settings if given else None
