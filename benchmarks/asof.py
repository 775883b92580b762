"""`asof` at random points of a long log: the state of an account, from the nearest snapshot."""

from __future__ import annotations

import time
from random import Random

from benchmarks.core import ACCOUNT, Figure, a_log, configured, fill
from processors.hosts.inprocess import InProcessHost
from processors.hosts.journal import last
from schemas import Batch
from tape.asking import as_of
from tape.wiring import build

POINTS = 20


def run(events: int = 5_000_000) -> list[Figure]:
    """The median and the slowest of random moments (ms); they take minutes to write."""
    with a_log("asof.sqlite") as log:
        fill(log, events)
        made = configured(log)
        InProcessHost(log, made.partition, made, build).run()
        end = last(log, "batches", made.partition, Batch)
        assert end is not None
        draw, took = Random(1), []
        first = end.now - 6 * 3600 * 1_000_000_000
        for _ in range(POINTS):
            moment = draw.randrange(first, end.now)
            started = time.perf_counter()
            as_of(log, ACCOUNT, time=moment)
            took.append(time.perf_counter() - started)
    took.sort()
    return [
        (f"asof at random points of {events:,} events, median", 1000 * took[POINTS // 2], "ms"),
        (f"asof at random points of {events:,} events, slowest", 1000 * took[-1], "ms"),
    ]
