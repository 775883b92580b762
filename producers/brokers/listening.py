"""A broker's stream of updates, read by a thread of its own, reconnected for as long as it takes."""

from __future__ import annotations

import threading
from collections.abc import Callable

from producers.brokers.contract import BrokerAdapter, BrokerUnreachable
from schemas import Event

PAUSE_S = (0.1, 0.5, 1.0, 2.0, 5.0)


class Listener:
    """Calls `on_report` for each update, from its thread; `on_connected` once the stream has begun, before
    any of its reports, and again after each reconnect; `on_lost` with the reason when it has ended;
    `on_failed` with what is no matter of the connection, and then it listens no more."""

    def __init__(
        self,
        adapter: BrokerAdapter,
        *,
        on_report: Callable[[Event], None],
        on_connected: Callable[[], None],
        on_lost: Callable[[str], None],
        on_failed: Callable[[BaseException], None],
    ) -> None:
        self._adapter, self._on_failed = adapter, on_failed
        self._on_report, self._on_connected, self._on_lost = on_report, on_connected, on_lost
        self._stop = threading.Event()
        self._tries = 0
        self._thread = threading.Thread(target=self._run, daemon=True, name="updates")

    def start(self) -> None:
        """Begin to listen."""
        self._thread.start()

    def stop(self) -> None:
        """Listen no more; the thread ends at the stream's next sign of life."""
        self._stop.set()

    def _run(self) -> None:
        while not self._stop.is_set():
            problem = "the stream of updates has ended"
            try:
                self._listen()
            except BrokerUnreachable as error:
                problem = str(error)
            except BaseException as error:
                self._on_failed(error)
                return
            if not self._stop.is_set():
                self._on_lost(problem)
                self._stop.wait(PAUSE_S[min(self._tries, len(PAUSE_S) - 1)])
                self._tries += 1

    def _listen(self) -> None:
        with self._adapter.updates() as reports:
            self._on_connected()
            for report in reports:
                self._tries = 0
                if self._stop.is_set():
                    return
                if report is not None:
                    self._on_report(report)
