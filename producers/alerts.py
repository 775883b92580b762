"""Alerts are delivered: to a webhook, to a file. At least once, each repeat under its id.

What is to be told stands in topic `alerts`; how far a sink has come stands in a file of its own, which is
written after each alert that the sink took. A sink that takes none delays its alerts and loses none.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import time as clock
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from eventlog.contract import EventLog, Stream
from eventlog.roles import Beat, Beats, Stop
from schemas import Alert, Record, decode

TOPIC: Stream = ("alerts", 0)
BACKOFF_S = (1.0, 2.0, 5.0, 15.0, 60.0)
TIMEOUT_S = 5.0
POLL_S = 0.2
PAGE = 1000


class NotDelivered(Exception):
    """A sink took an alert not; the message says why, without secrets."""


class Sink(Protocol):
    """Where alerts go. `name` names its place in the alerts, too."""

    name: str

    def deliver(self, alert: Alert) -> None:
        """Hand an alert over for good. Raises `NotDelivered`."""
        ...


class FileSink:
    """Appends alerts to a file, a JSON object a line, flushed to disk."""

    name = "file"

    def __init__(self, path: Path) -> None:
        self._path = path

    def deliver(self, alert: Alert) -> None:
        """A line that a kill cut off is ended first."""
        try:
            with self._path.open("ab+") as file:
                if file.tell():
                    file.seek(-1, os.SEEK_END)
                    if file.read(1) != b"\n":
                        file.write(b"\n")
                file.write(json.dumps(_told(alert)).encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as problem:
            raise NotDelivered(f"{self._path}: {problem.strerror}") from problem


class WebhookSink:
    """Posts alerts to a URL as JSON, with `token`, where there is one, as bearer."""

    name = "webhook"

    def __init__(self, url: str, token: str = "") -> None:
        self._url, self._token = url, token

    def deliver(self, alert: Alert) -> None:
        """Any answer but 2xx is a failure."""
        import httpx

        logging.getLogger("httpx").setLevel(
            logging.WARNING
        )  # below, it tells the URL, which may hold a token
        headers = {"Idempotency-Key": alert.id}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        try:
            answer = httpx.post(self._url, json=_told(alert), headers=headers, timeout=TIMEOUT_S)
        except (httpx.HTTPError, httpx.InvalidURL) as problem:
            raise NotDelivered(f"the webhook did not answer ({type(problem).__name__})") from None
        if not answer.is_success:
            raise NotDelivered(f"the webhook answered {answer.status_code}")


def _told(alert: Alert) -> dict[str, str]:
    """An alert for its readers: the time in ISO 8601, UTC."""
    time = datetime.fromtimestamp(alert.ts / 1e9, UTC).isoformat(timespec="milliseconds")
    return {"id": alert.id, "rule": alert.rule, "time": time, "text": alert.text, "cause": alert.cause}


def run_delivery(
    open_reader: Callable[[], EventLog],
    sinks: Sequence[Sink],
    folder: Path,
    *,
    beats: Beats,
    stop: Stop,
    backoff_s: Sequence[float] = BACKOFF_S,
) -> None:
    """Deliver what topic `alerts` holds to every sink, until `stop`. Each has its place in `folder`.

    A sink without a place begins at the first alert. Raises what goes wrong but for `NotDelivered`,
    which is told in the beats and tried again.
    """
    folder.mkdir(parents=True, exist_ok=True)
    deliveries = [_Delivery(open_reader, sink, folder, stop, backoff_s) for sink in sinks]
    for delivery in deliveries:
        delivery.start()
    while not stop():
        clock.sleep(POLL_S)
        for delivery in deliveries:
            if delivery.failure is not None:
                raise delivery.failure
        positions = [d.position for d in deliveries if d.position is not None]
        errors = [d.error for d in deliveries if d.error]
        at: Mapping[Stream, int] = {TOPIC: min(positions)} if positions else {}
        beats(Beat(sum(d.delivered for d in deliveries), at, "; ".join(errors)))
    for delivery in deliveries:
        delivery.join(2 * TIMEOUT_S)


class _Delivery(threading.Thread):
    """Delivers to one sink, in order, one alert after the other; a log of its own."""

    def __init__(
        self,
        open_reader: Callable[[], EventLog],
        sink: Sink,
        folder: Path,
        stop: Stop,
        backoff_s: Sequence[float],
    ) -> None:
        super().__init__(daemon=True, name=f"alerts to {sink.name}")
        self._open_reader, self._sink, self._stop, self._backoff_s = open_reader, sink, stop, backoff_s
        self._place = folder / f"{sink.name}.json"
        self.position: int | None = None
        self.delivered, self.error = 0, ""
        self.failure: Exception | None = None

    def run(self) -> None:
        try:
            self._run()
        except Exception as problem:
            self.failure = problem

    def _run(self) -> None:
        """Alerts before the place are read for their ids: a repeat is delivered once."""
        with self._open_reader() as log:
            place = self._read_place(log.id)
            seen: set[str] = set()
            with log.follow({TOPIC: log.bounds(*TOPIC)[0]}) as follower:
                while not self._stop():
                    for record in follower.take(PAGE, POLL_S):
                        alert = decode(record.topic, record.value)
                        if isinstance(alert, Alert) and alert.id not in seen:
                            seen.add(alert.id)
                            if record.offset >= place and not self._deliver(alert, record, log.id):
                                return
                    self.position = follower.positions[TOPIC]

    def _deliver(self, alert: Alert, record: Record, log: str) -> bool:
        """Until the sink has taken it; False where it was asked to stop before."""
        failures = 0
        self.position = record.offset
        while True:
            try:
                self._sink.deliver(alert)
                break
            except NotDelivered as problem:
                self.error = f"{alert.id} is not delivered yet: {problem}"
                until = clock.monotonic() + self._backoff_s[min(failures, len(self._backoff_s) - 1)]
                failures += 1
            while clock.monotonic() < until:
                if self._stop():
                    return False
                clock.sleep(min(POLL_S, self._backoff_s[0]))
        self.error = ""
        self._write_place(log, record.offset + 1)
        self.delivered += 1
        return True

    def _read_place(self, log: str) -> int:
        """The next offset to deliver; the beginning where there is none, or it is another log's."""
        if not self._place.exists():
            return 0
        kept = json.loads(self._place.read_text())
        return int(kept["next"]) if kept["log"] == log else 0

    def _write_place(self, log: str, next: int) -> None:
        new = self._place.with_suffix(".new")
        with new.open("w") as file:
            json.dump({"log": log, "next": next}, file)
            file.flush()
            os.fsync(file.fileno())
        new.replace(self._place)
