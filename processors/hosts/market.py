"""The role market: marks, bars and gaps of feeds, derived of a log's market topics and written back to it."""

from __future__ import annotations

import msgspec

from eventlog.contract import EventLog, LogReader
from eventlog.roles import Beats, Stop
from processors.hosts.refold import Refold, last_folded
from processors.market.processor import MarketProcessor
from processors.market.settings import MarketSettings
from schemas import Bar, decode

WRITER = "market"
PAGE = 5000
OURS = "market-"
"""What sources of bars made here begin with."""


def run_market(log: EventLog, settings: MarketSettings, *, beats: Beats, stop: Stop) -> None:
    """Derive what the market topics lead to until `stop`.

    Symbols that have a vendor's bars when a log is first looked at get none from here, besides those of
    `settings.vendor_bars`. Raises `WriterBusy` while another market processor lives, `LogError`.
    """
    settings = msgspec.structs.replace(
        settings, vendor_bars=tuple(sorted({*settings.vendor_bars, *_vendor_bars(log)}))
    )
    Refold(log, WRITER, settings.text, build).run(beats, stop)


def build(text: str) -> MarketProcessor:
    """The processor of some settings. Raises `ValueError` for those of another version of the code."""
    try:
        settings = MarketSettings.of(text)
    except msgspec.MsgspecError as problem:
        raise ValueError(str(problem)) from problem
    if settings.version != MarketProcessor.version:
        raise ValueError(f"market {settings.version}; {MarketProcessor.version} is installed")
    return MarketProcessor(settings)


def _vendor_bars(log: LogReader) -> tuple[str, ...]:
    """Symbols with bars of another source: as they were recorded, else as they stand in the log now."""
    last = last_folded(log)
    if last is not None:
        try:
            return MarketSettings.of(last.settings).vendor_bars
        except msgspec.MsgspecError:
            pass  # settings of another version: look again
    found: set[str] = set()
    for partition in range(log.partitions(Bar.topic)):
        position, end = log.bounds(Bar.topic, partition)
        while records := log.read(Bar.topic, partition, gte=position, lt=end, limit=PAGE):
            events = [decode(record.topic, record.value) for record in records]
            found |= {e.symbol for e in events if isinstance(e, Bar) and not e.source.startswith(OURS)}
            position = records[-1].offset + 1
    return tuple(sorted(found))
