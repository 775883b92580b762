"""The live host: one core partition on a log that goes on, in one process, until it is asked to end.

1. It takes the writer's id of the partition, which fences whoever had it, and recovers from the log.
2. It reads on from the positions of the last batch: commands, proposals and reports first, the market
   in order.
3. It commits by time: what was decided on, with the order of its inputs, in one append; on Kafka that is
   one transaction, which never spans a wait for input. Meanwhile it decides on the next inputs.
4. Whatever goes wrong ends it; it is started again from the log. No append is tried twice.
"""

from __future__ import annotations

import time as clock
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice

from eventlog import open_log
from eventlog.contract import EventLog, Follower, Stream
from eventlog.roles import Beat, Beats, Stop
from processors.hosts.background import BackgroundWriter
from processors.hosts.livemerge import LiveMerge
from processors.hosts.merge import MARKET, input_streams
from processors.hosts.recovery import Installed, recover
from processors.hosts.replay import Build
from processors.hosts.worker import Worker, open_epoch, rare_collections
from schemas import Configured, exact

PAGE = 5000
FULL = 50_000
"""Inputs after which a batch is committed, and not before, while there is more to read than one page."""
POLL_S = 0.005
"""How long a look at the market may last: a command that comes meanwhile waits so long at most."""
BEAT_S = 0.2
UNDECIDED = 10
"""Inputs that led to no decision may wait so many commit intervals for their batch: nothing hangs on it."""


@dataclass(frozen=True)
class Cadence:
    """How often decisions are committed, and how long a silent input is waited for (seconds)."""

    commit_s: float = 0.01
    wait_s: float = 0.05


class LiveHost:
    """Runs a core partition as a service: `LiveHost(log, partition, configured, build).run(beats, stop)`."""

    def __init__(
        self,
        log: EventLog,
        partition: int,
        configured: Configured,
        build: Build,
        *,
        installed: Installed | None = None,
        cadence: Cadence = Cadence(),
        take_over: bool = True,
    ) -> None:
        """`installed` says whether the code of an earlier epoch is still there: see `recover`."""
        self.log, self.partition = log, partition
        self._configured, self._build, self._installed = configured, build, installed
        self._cadence, self._take_over = cadence, take_over

    def run(self, beats: Beats, stop: Stop) -> int:
        """Decide on what comes until `stop`, then leave a snapshot; how many inputs were taken.

        Raises whatever goes wrong: the log then stands at its last batch.
        """
        with (
            exact(),
            rare_collections(),
            open_log(self.log.url) as writing,
            writing.writer(f"core-{self.partition}", take_over=self._take_over) as holder,
            BackgroundWriter(holder) as writer,
        ):
            worker = self._worker(writer, beats)
            market, facts = _split(worker.positions)
            ends = {stream: self.log.bounds(*stream)[1] for stream in worker.positions}
            with self.log.follow(market) as ticks, self.log.follow(facts) as orders:
                _Loop(worker, writer, ticks, orders, self._cadence, ends, beats).run(stop)
            worker.finish()
            return worker.taken

    def _worker(self, writer: BackgroundWriter, beats: Beats) -> Worker:
        core = recover(
            self.log,
            self.partition,
            self._configured,
            self._build,
            installed=self._installed,
            progress=lambda replayed: beats(Beat(replayed)),
        )
        open_epoch(writer, core, self._configured)
        writer.wait()
        streams = input_streams(self.log, self.partition, core.pipeline.inputs)
        firsts = {stream: self.log.bounds(*stream)[0] for stream in streams}
        return Worker(writer, core, self.partition, self._configured.settings.snapshot_every, firsts)


def _split(streams: Mapping[Stream, int]) -> tuple[dict[Stream, int], dict[Stream, int]]:
    """Those of the market topics, and all others."""
    market = {stream: n for stream, n in streams.items() if stream[0] in MARKET}
    return market, {stream: n for stream, n in streams.items() if stream not in market}


class _Loop:
    """Read, decide, commit."""

    def __init__(
        self,
        worker: Worker,
        writer: BackgroundWriter,
        ticks: Follower,
        orders: Follower,
        cadence: Cadence,
        ends: Mapping[Stream, int],
        beats: Beats,
    ) -> None:
        self._worker, self._writer = worker, writer
        self._ticks, self._orders, self._beats = ticks, orders, beats
        self._commit_s = cadence.commit_s
        index = {stream: i for i, stream in enumerate(worker.streams)}
        market, facts = _split(index)
        self._first, self._then = (LiveMerge(some, cadence.wait_s, ends) for some in (facts, market))
        self._since = 0.0
        """When the oldest input that is not committed was taken."""
        self._beaten = 0.0
        self._behind = False
        """Whether the last page was a full one: there is more."""

    def run(self, stop: Stop) -> None:
        while not stop():
            now = clock.monotonic()
            self._take(now)
            self._commit_when_due(clock.monotonic())
            self._beat_when_due(now)

    def _beat_when_due(self, now: float) -> None:
        if now - self._beaten >= BEAT_S:
            self._beaten = now
            self._beats(Beat(self._worker.taken, self._worker.positions))

    def _take(self, now: float) -> None:
        """What there is: first of commands, proposals and reports, then of the market."""
        had = len(self._worker.order)
        self._first.add(self._orders.take(PAGE, 0), now)
        self._apply(self._first, self._orders)
        came = self._ticks.take(PAGE, POLL_S)
        self._behind = len(came) == PAGE
        self._then.add(came, clock.monotonic())
        self._apply(self._then, self._ticks)
        if not had and self._worker.order:
            self._since = now

    def _apply(self, merge: LiveMerge, follower: Follower) -> None:
        """Decide on what is in order now: much, where one partition has waited for another."""
        if merge.is_empty:
            return
        worker = self._worker
        ready = iter(merge.ready(follower.is_at_end, clock.monotonic()))
        while page := list(islice(ready, PAGE)):
            for source, record in page:
                worker.take(source, record)
            if len(worker.order) >= FULL:
                worker.commit()
            self._beat_when_due(clock.monotonic())

    def _commit_when_due(self, now: float) -> None:
        worker = self._worker
        if not self._writer.is_busy:
            self._writer.wait()  # raises what it has failed of
        if worker.order and not (self._behind or self._writer.is_busy):
            patience = self._commit_s * (1 if worker.has_decided else UNDECIDED)
            if now - self._since >= patience:
                worker.commit()
