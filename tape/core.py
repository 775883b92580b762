"""The role `core`: a process for each partition that is ours, started, watched and ended.

On Kafka the group of core hosts says which partitions are ours; elsewhere all of them are. A partition
runs once it has something to decide on: a command. One whose process ends or hangs is started again from
the log, after a while that doubles; what cannot be mended by that ends the role.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time as clock
from collections.abc import Callable, Mapping
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

from eventlog import EventLog, open_log
from eventlog.contract import Stream
from eventlog.errors import LogError
from eventlog.roles import Beat, Beats, Stop
from processors.hosts.live import Cadence
from schemas import Configured, encode

Configure = Callable[[int], Configured]
"""The configuration of a partition."""

HUNG_S = 10.0
"""A process that says nothing for so long is killed."""
STARTING_S = 60.0
"""How long its first word may take."""
STOP_S = 20.0
"""How long it may take to end when asked to."""
BACKOFF_S = (0.2, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
SAID_S = 3.0
"""For so long after a new start its error is told, so that a heartbeat tells it."""
MENDED_S = 60.0
"""After so long without a failure, the next one is the first again."""
PASSING = frozenset({"LogError", "LogUnreachable", "LogFull", "WriterFenced", "WriterBusy", "OSError"})
"""Failures that may be gone at the next start; all others end the role."""
POLL_S = 0.1


class CoreFailed(LogError):
    """A core partition cannot go on; the message says why."""


def run_core(
    url: str,
    configure: Configure,
    *,
    cadence: Callable[[], Cadence] = Cadence,
    beats: Beats,
    stop: Stop,
    changed: Callable[[], bool] = lambda: False,
) -> None:
    """Run the partitions that are ours until `stop`. Raises `CoreFailed`, `LogError`.

    `configure` and `cadence` are asked at each start of a partition's process; when `changed` says so, all
    are ended well and started again: a changed configuration begins an epoch.
    """
    with (
        open_log(url, read_only=True) as log,
        _Partitions(log, configure, cadence) as partitions,
        _owner(log, partitions.release) as owner,
    ):
        try:
            while not stop():
                owned = owner.poll(POLL_S)
                if changed():
                    partitions.release(frozenset(partitions.running))
                partitions.keep(owned)
                beats(partitions.beat())
        finally:
            partitions.release(frozenset(partitions.running))  # before the group is left


class _All:
    """Owns every partition: in a store without groups, the writers' ids alone keep hosts apart."""

    def __init__(self, log: EventLog) -> None:
        self._all = frozenset(range(log.partitions("operator.commands")))

    def poll(self, timeout_s: float) -> frozenset[int]:
        clock.sleep(timeout_s)
        return self._all

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def _owner(log: EventLog, release: Callable[[frozenset[int]], None]) -> Any:
    if not log.url.startswith("kafka:"):
        return _All(log)
    from eventlog.kafka.ownership import Ownership
    from eventlog.kafka.store import KafkaLog

    assert isinstance(log, KafkaLog)
    return Ownership(log, release)


class _Partitions:
    """The processes of the partitions that run, and when those that failed may start again."""

    def __init__(self, log: EventLog, configure: Configure, cadence: Callable[[], Cadence]) -> None:
        self._log, self._configure, self._cadence = log, configure, cadence
        self.running: dict[int, _Process] = {}
        self._spare = _Process(log.url)
        self._failures: dict[int, int] = {}
        self._not_before: dict[int, float] = {}
        self._idle: dict[int, float] = {}
        self._errors: dict[int, str] = {}
        self._positions: dict[int, Mapping[Stream, int]] = {}
        """The last of each partition that is ours: one that is down or recovers is behind."""
        self._taken = 0
        """Inputs taken by processes that have ended."""

    def keep(self, owned: frozenset[int]) -> None:
        """Start what is ours and has something to decide on; look after what runs; end what is not ours."""
        self.release(frozenset(self.running) - owned)
        now = clock.monotonic()
        for partition in sorted(owned):
            process = self.running.get(partition)
            if process is not None:
                self._look_after(partition, process, now)
            elif now >= self._not_before.get(partition, 0) and self._has_commands(partition, now):
                self.running[partition] = self._started(partition)

    def _started(self, partition: int) -> _Process:
        """The spare process takes the partition, and another is made: to start one takes a second."""
        configured = self._configure(partition)
        process, self._spare = self._spare, _Process(self._log.url)
        process.run(partition, configured, self._cadence())
        return process

    def _has_commands(self, partition: int, now: float) -> bool:
        """Whether there ever was a command; asked once a second while there is none."""
        if now < self._idle.get(partition, 0):
            return False
        self._idle[partition] = now + 1
        return self._log.bounds("operator.commands", partition)[1] > 0

    def _look_after(self, partition: int, process: _Process, now: float) -> None:
        if process.is_alive and not process.is_hung(now):
            if process.beat.positions and now - process.started > SAID_S:
                self._errors.pop(partition, None)
            if now - process.started > MENDED_S:
                self._failures[partition] = 0
            return
        process.kill()
        del self.running[partition]
        self._taken += process.beat.processed
        self._errors[partition] = f"core partition {partition}: {process.failure}"
        if process.kind not in PASSING:
            raise CoreFailed(self._errors[partition])
        failures = self._failures.get(partition, 0)
        self._failures[partition] = failures + 1
        self._not_before[partition] = now + BACKOFF_S[min(failures, len(BACKOFF_S) - 1)]
        print(f"tape: {self._errors[partition]}; it starts again", file=sys.stderr)

    def release(self, partitions: frozenset[int]) -> None:
        """End the processes of these partitions well, all at once."""
        ending = [self.running.pop(p) for p in sorted(partitions) if p in self.running]
        for process in ending:
            process.ask_to_end()
        for process in ending:
            process.end()
            self._taken += process.beat.processed
        for partition in partitions:
            self._errors.pop(partition, None)
            self._positions.pop(partition, None)

    def beat(self) -> Beat:
        """Of all partitions together."""
        positions: dict[Stream, int] = {}
        processed = self._taken
        for partition, process in self.running.items():
            processed += process.beat.processed
            if process.beat.positions:
                self._positions[partition] = process.beat.positions
        for reached in self._positions.values():
            for stream, at in reached.items():
                positions[stream] = min(at, positions.get(stream, at))
        return Beat(processed, positions, "; ".join(self._errors.values()))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._spare.kill()


class _Process:
    """One partition's process: what it said last, and whether it lives. Until `run` it waits."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.beat = Beat(0)
        self.kind, self.failure = "OSError", "its process was killed"
        self.started = self._heard = clock.monotonic()
        self._has_spoken = False
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tape.coreworker", url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            start_new_session=True,  # Ctrl-C is for who started it, who then asks it to end
        )
        self._reader = threading.Thread(target=self._listen, daemon=True)
        self._reader.start()

    def run(self, partition: int, configured: Configured, cadence: Cadence) -> None:
        """Give it its partition."""
        self.started = self._heard = clock.monotonic()
        order = {
            "log": self._url,
            "partition": partition,
            "configured": encode(configured).decode(),
            "commit_s": cadence.commit_s,
            "wait_s": cadence.wait_s,
        }
        self._say(json.dumps(order))

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def is_hung(self, now: float) -> bool:
        """Whether it has said nothing for too long."""
        if now - self._heard <= (HUNG_S if self._has_spoken else STARTING_S):
            return False
        self.failure = f"its process gave no sign for {now - self._heard:.0f} s"
        return True

    def ask_to_end(self) -> None:
        self._say("stop")

    def end(self) -> None:
        """Wait until it has ended; kill it where that takes too long."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP_S)
        self.kill()

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        self._reader.join()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()

    def _say(self, line: str) -> None:
        assert self._process.stdin is not None
        with suppress(OSError):
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            told = json.loads(line)
            self._heard, self._has_spoken = clock.monotonic(), True
            if "error" in told:
                self.kind, self.failure = told["kind"], told["error"]
            else:
                positions = {(topic, partition): at for topic, partition, at in told["positions"]}
                self.beat = Beat(told["processed"], positions)
