"""The role `alerts`: rules over a log, and the delivery of what they tell."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from eventlog import open_log
from eventlog.roles import Beat, Beats, Stop
from eventlog.urls import is_kafka
from processors.alerts import RULES
from processors.alerts.rules import RoleRule
from processors.keyed import KeyedProcessor
from producers.alerts import FileSink, Sink, WebhookSink, run_delivery
from tape.errors import WrongInput

TOKEN = "TAPE_ALERTS_TOKEN"
"""The variable that holds the webhook's token; it stands nowhere else."""

Host = Literal["faust", "transactional"]


class AlertsError(WrongInput):
    """Alerts cannot be run as asked; the message says why, and what to do."""


def rules_named(
    names: Sequence[str], *, silent_s: int = 30, behind: int = 10_000, behind_s: int = 30
) -> list[KeyedProcessor]:
    """The rules of these names, all where none is named; the rest is of `RoleRule`. Raises `AlertsError`."""
    for name in names:
        if name not in RULES:
            raise AlertsError(f"there is no alert rule {name}; there are {', '.join(RULES)}")
    roles = RoleRule(silent_s=silent_s, behind=behind, behind_s=behind_s)
    return [roles if name == roles.name else RULES[name]() for name in names or RULES]


def sinks_of(webhook: str | None, file: Path | None) -> list[Sink]:
    """Where alerts go: a webhook, its token from the environment, and a file."""
    if webhook is not None and not webhook.startswith(("http://", "https://")):
        raise AlertsError("alerts.webhook is no URL; give one that begins with https:// or http://")
    sinks: list[Sink] = [] if webhook is None else [WebhookSink(webhook, os.environ.get(TOKEN, ""))]
    return sinks if file is None else [*sinks, FileSink(file)]


def run_alerts(
    url: str,
    rules: Sequence[KeyedProcessor],
    sinks: Sequence[Sink],
    *,
    host: Host,
    places: Path,
    beats: Beats,
    stop: Stop,
) -> None:
    """Run the rules on a host, and deliver what stands in topic `alerts`, until `stop`.

    `places` is the folder in which the sinks' places are kept. Raises whatever goes wrong.
    """
    if host == "faust" and not is_kafka(url):
        raise AlertsError(
            f'Faust takes Kafka, and the log is {url}: set host = "transactional" under [alerts]'
        )
    delivery = _Delivering(url, sinks, places, stop)
    delivery.start()
    try:
        _run_rules(url, rules, host, delivery.told(beats), lambda: stop() or delivery.failure is not None)
    finally:
        delivery.end()
    if delivery.failure is not None:
        raise delivery.failure


def _run_rules(url: str, rules: Sequence[KeyedProcessor], host: Host, beats: Beats, stop: Stop) -> None:
    if host == "faust":
        from processors.hosts.faust import run_faust

        run_faust(url, rules, name="alerts", beats=beats, stop=stop)
        return
    from processors.hosts.keyed import run_keyed

    with open_log(url) as log:
        run_keyed(log, rules, name="alerts", writer_id="alerts-all", beats=beats, stop=stop)


class _Delivering(threading.Thread):
    """Delivery beside the rules, in a thread of its own."""

    def __init__(self, url: str, sinks: Sequence[Sink], places: Path, stop: Stop) -> None:
        super().__init__(daemon=True, name="alerts")
        self._url, self._sinks, self._places, self._asked = url, sinks, places, stop
        self._ending = threading.Event()
        self._beat = Beat(0)
        self.failure: Exception | None = None

    def run(self) -> None:
        try:
            run_delivery(
                lambda: open_log(self._url, read_only=True),
                self._sinks,
                self._places,
                beats=self._keep,
                stop=lambda: self._asked() or self._ending.is_set(),
            )
        except Exception as problem:
            self.failure = problem

    def _keep(self, beat: Beat) -> None:
        self._beat = beat

    def told(self, beats: Beats) -> Beats:
        """Beats of the rules, with the delivery's position and error."""

        def both(beat: Beat) -> None:
            own = self._beat
            beats(Beat(beat.processed, {**beat.positions, **own.positions}, beat.error or own.error))

        return both

    def end(self) -> None:
        """Let the delivery end."""
        self._ending.set()
        self.join()
