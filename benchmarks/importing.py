"""Events a second of an import: a day of IBM's ticks from the sample into the embedded log.

The rows of tick files are mostly merged, so that there are more rows than events: both are counted.
"""

from __future__ import annotations

import tempfile
import time
from datetime import date
from pathlib import Path

from producers.marketdata.lean import LeanReader
from producers.marketdata.quality import Gate, QualitySettings
from tape.importing import import_data

SAMPLE = Path(__file__).parents[1] / "data" / "sample"
DAY = date(2013, 10, 7)

Figure = tuple[str, float, str]


def ticks() -> LeanReader:
    """The ticks of a day, regular hours."""
    return LeanReader(SAMPLE, ["IBM"], DAY, DAY, resolution="tick")


def run() -> list[Figure]:
    """Rates of checking, of reading, of the gate on top, and of the whole import without its check."""
    reader = ticks()
    started = time.perf_counter()
    events = reader.check()
    checked = time.perf_counter() - started
    rows = events + sum(reader.left_out.values())

    started = time.perf_counter()
    for _ in reader.events():
        pass
    read = time.perf_counter() - started

    started = time.perf_counter()
    for _ in Gate(ordered=True).filter(reader.events()):
        pass
    gated = time.perf_counter() - started

    with tempfile.TemporaryDirectory() as folder:
        told = import_data(ticks(), f"sqlite:{folder}/log.sqlite", quality=QualitySettings())
    return [
        ("import: rows of ticks checked", rows / checked, "rows/s"),
        ("import: ticks read", events / read, "events/s"),
        ("import: ticks read, through the gate", events / gated, "events/s"),
        ("import: ticks into the log, sealed", told["events_per_s"], "events/s"),
        ("into the log / read", told["events_per_s"] * read / events, "ratio"),
    ]
