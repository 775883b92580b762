"""Updates on their way to whoever listens: in order, unless a fault says otherwise."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import defaultdict
from collections.abc import Sequence

from producers.brokers.sim.api import Update
from producers.brokers.sim.faults import Faults

HELD_BACK_S = 0.5
"""An update that waits for the next one to overtake it goes after this all the same."""

Subscription = asyncio.Queue[Update | None]
"""Updates of an account; None: the stream ends."""


class Updates:
    """Hands updates to the subscriptions of their account. Publishing is for any thread.

    While an account is held, because an answer that must come first is on its way, its updates wait.
    """

    def __init__(self, faults: Faults) -> None:
        self._faults = faults
        self._lock = threading.RLock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._subscriptions: dict[str, list[Subscription]] = defaultdict(list)
        self._holds: dict[str, int] = defaultdict(int)
        self._waiting: dict[str, list[Update]] = defaultdict(list)
        self._overtaken: dict[str, tuple[float, Update]] = {}
        self._later: list[tuple[float, Update]] = []

    def subscribe(self, account: str) -> Subscription:
        """Everything published from now on; called in the event loop."""
        queue: Subscription = asyncio.Queue()
        with self._lock:
            self._loop = asyncio.get_running_loop()
            self._subscriptions[account].append(queue)
        return queue

    def unsubscribe(self, account: str, queue: Subscription) -> None:
        """Nothing more for this one."""
        with self._lock:
            if queue in self._subscriptions[account]:
                self._subscriptions[account].remove(queue)

    def hold(self, account: str) -> None:
        """Let an account's updates wait until `release`."""
        with self._lock:
            self._holds[account] += 1

    def release(self, account: str) -> None:
        """Send what has waited, once nobody holds the account any more."""
        with self._lock:
            self._holds[account] -= 1
            if not self._holds[account]:
                del self._holds[account]
                for update in self._waiting.pop(account, ()):
                    self._send(update)

    def publish(self, updates: Sequence[Update], *, later_s: float = 0) -> None:
        """Send updates, in order; those that come late are for `tick`."""
        with self._lock:
            for update in updates:
                if later_s:
                    self._later.append((time.monotonic() + later_s, update))
                elif update.account in self._holds:
                    self._waiting[update.account].append(update)
                else:
                    self._send(update)

    def tick(self) -> None:
        """Send what has waited for long enough; to be called a few times a second."""
        now = time.monotonic()
        with self._lock:
            due = [update for at, update in self._later if at <= now]
            self._later = [(at, update) for at, update in self._later if at > now]
            self.publish(due)
            for account, (since, update) in list(self._overtaken.items()):
                if now - since >= HELD_BACK_S:
                    del self._overtaken[account]
                    self._deliver(update)

    def disconnect(self, account: str) -> None:
        """End the account's streams."""
        with self._lock:
            queues = self._subscriptions.pop(account, [])
            for queue in queues:
                self._put(queue, None)

    def close(self) -> None:
        """End all streams."""
        with self._lock:
            for account in list(self._subscriptions):
                self.disconnect(account)

    def _send(self, update: Update) -> None:
        faults, account = self._faults, update.account
        if faults.strikes("disconnect"):
            self.disconnect(account)
            return
        held = self._overtaken.pop(account, None)
        if held is None and faults.strikes("reorder_updates"):
            self._overtaken[account] = (time.monotonic(), update)
            return
        self._deliver(update)
        if faults.strikes("repeat_update"):
            self._deliver(update)
        if held is not None:
            self._deliver(held[1])

    def _deliver(self, update: Update) -> None:
        for queue in self._subscriptions.get(update.account, ()):
            self._put(queue, update)

    def _put(self, queue: Subscription, update: Update | None) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(queue.put_nowait, update)
