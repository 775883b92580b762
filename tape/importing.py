"""`tape import`: market data of any kind into a log, each event once, through the quality gate."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from eventlog import EventLog, LogReader, LogSpec, Writer, create_log, open_log
from eventlog.errors import LogNotFound, WriterBusy
from producers.contract import Reader
from producers.importer import Imported, import_events, rows_done
from producers.marketdata.errors import BadRequest
from producers.marketdata.lean import LeanReader
from producers.marketdata.leanfeeds import RESOLUTIONS
from producers.marketdata.quality import Gate, QualitySettings, gap_max
from producers.marketdata.recorded import RecordedReader
from producers.marketdata.tablefiles import CSV, PARQUET
from producers.marketdata.tables import TableFormat, TableReader
from producers.sessions import SECOND_NS, Hours
from schemas import TOPICS, Event, decode, digest
from tape.errors import Stopped, WrongInput
from tape.logs import head_beside, is_log, url_of, write_heads
from tape.progress import Report, Stage

LOOK_EVERY = 5000
"""Events between two looks at whether to stop."""


class ImportRefused(WrongInput):
    """An import that would spoil the log it goes to; nothing was written."""


@dataclass(frozen=True)
class DataWanted:
    """What data a user asked for: a LEAN folder, CSV and Parquet files (or folders of them), or a log.

    `table` says what is in files; a LEAN folder needs symbols and both days. Days are inclusive.
    """

    data: tuple[Path | str, ...]
    symbols: tuple[str, ...] = ()
    first: date | None = None
    last: date | None = None
    resolution: str = "minute"
    adjusted: bool = False
    hours: Hours = "regular"
    allow_missing: bool = False
    table: TableFormat | None = None


def open_reader(wanted: DataWanted) -> Reader:
    """The reader of the data that was asked for. Raises a `DataError` if that cannot be."""
    if len(wanted.data) == 1 and is_log(wanted.data[0]):
        return RecordedReader(url_of(str(wanted.data[0])), wanted.symbols, wanted.first, wanted.last)
    files = [file for path in wanted.data for file in _tables(Path(path))]
    if wanted.table is not None:
        if not files:
            raise BadRequest(f"no CSV or Parquet files in {', '.join(map(str, wanted.data))}: name others")
        tables = [(file, wanted.table) for file in files]
        return TableReader(tables, wanted.symbols, wanted.hours, wanted.first, wanted.last)
    if files or len(wanted.data) != 1:
        raise BadRequest("data are one LEAN folder, or files: say what is in these with --kind")
    if wanted.first is None or wanted.last is None:
        raise BadRequest("a LEAN folder is read from a day to a day: name both (--from, --to)")
    return LeanReader(
        wanted.data[0],
        wanted.symbols,
        wanted.first,
        wanted.last,
        resolution=wanted.resolution,
        adjusted=wanted.adjusted,
        hours=wanted.hours,
        allow_missing=wanted.allow_missing,
    )


def resolution_of(wanted: DataWanted, reader: Reader) -> int:
    """How far apart the events of the data are expected (ns); 0: as they come."""
    if isinstance(reader, RecordedReader):
        return reader.period
    table = wanted.table
    if table is None:
        return RESOLUTIONS[wanted.resolution]
    return RESOLUTIONS["daily"] if table.time == "date" else table.period or 0


def quality_for(wanted: DataWanted, **settings: Any) -> QualitySettings:
    """The gate's settings for the data: silences are reported by how far apart their events should be."""
    table = wanted.table
    resolution = RESOLUTIONS.get(wanted.resolution, 0)
    if table is not None:
        resolution = RESOLUTIONS["daily"] if table.time == "date" else table.period or 0
    return QualitySettings(**{"gap_max": gap_max(resolution), **settings})


def import_data(
    reader: Reader,
    url: str,
    *,
    quality: QualitySettings | None,
    report: Report = lambda stage: None,
    stop: Callable[[], bool] = lambda: False,
    take_over: bool = False,
) -> dict[str, Any]:
    """Check all of the data, then write it to the log, which is made if there is none; what was written.

    `quality` None lets everything through. Killed and repeated with the same data and settings it
    writes nothing twice, and the log is as after an undisturbed import.

    Raises a `DataError` before anything is written, `ImportRefused` for a log on wall time or one
    whose data do not end before these begin, `WriterBusy` while another import runs, `LogError`,
    and `Stopped` when `stop` says so.
    """
    started = time.perf_counter()

    def checking(done: int, total: int) -> None:
        report(Stage("check", done, total))
        if stop():
            raise Stopped("stopped while checking the data; nothing was written")

    events = reader.check(checking)
    checked = time.perf_counter()
    source = _source(reader, quality)
    gate = Gate(quality) if quality is not None else None
    with _open(url, source) as log:
        try:
            writer = log.writer("import", take_over=take_over)
        except WriterBusy as busy:
            raise ImportRefused(f"{busy} (--take-over)") from busy
        with writer:
            watched = _watched(reader.events(source), events, report, stop, url)
            imported = _write(log, writer, watched, source, gate)
        if url.startswith("sqlite:"):
            write_heads(log, head_beside(Path(url.removeprefix("sqlite:"))))
    seconds = time.perf_counter() - checked
    return {
        "log": url,
        "source": source,
        "events": events,
        "written": dict(sorted(imported.written.items())),
        "skipped": imported.skipped,
        "left_out": dict(getattr(reader, "left_out", {})),
        "quality": None if gate is None else {"settings": _shown(quality), **gate.report.as_dict()},
        "check_s": round(checked - started, 3),
        "import_s": round(seconds, 3),
        "events_per_s": round(imported.written.total() / seconds),
    }


def _write(
    log: EventLog, writer: Writer, events: Iterator[Event], source: str, gate: Gate | None
) -> Imported:
    done = rows_done(log, source)
    if not done:
        first = next(events)
        _require_order(log, first)
        events = _with_first(first, events)
    passed = events if gate is None else gate.filter(events)
    return import_events(passed, log, writer, source=source, done=done)


def _with_first(first: Event, rest: Iterator[Event]) -> Iterator[Event]:
    yield first
    yield from rest


def _watched(
    events: Iterator[Event], total: int, report: Report, stop: Callable[[], bool], url: str
) -> Iterator[Event]:
    for done, event in enumerate(events):
        if done % LOOK_EVERY == 0:
            report(Stage("import", done, total, event.ts))  # type: ignore[attr-defined]  # all have one
            if stop():
                raise Stopped(f"{url}: stopped while importing; repeat the command to go on")
        yield event
    report(Stage("import", total, total))


def _source(reader: Reader, quality: QualitySettings | None) -> str:
    """The identity of an import: other settings of the gate make other events."""
    return digest(reader.source.encode(), repr(quality).encode())[:12]


def _open(url: str, source: str) -> EventLog:
    try:
        log = open_log(url)
    except LogNotFound:
        if url.startswith("sqlite:"):
            Path(url.removeprefix("sqlite:")).parent.mkdir(parents=True, exist_ok=True)
        return create_log(url, LogSpec(id=digest(b"import", source.encode())[:32], time="data"))
    if log.time != "data":
        log.close()
        raise ImportRefused(
            f"{url} is a log on wall time, in which the past has no place: import into a log of its own"
        )
    return log


def _require_order(log: LogReader, first: Any) -> None:
    """Raise `ImportRefused` unless all market data in the log are older than the `first` event to come."""
    for topic in TOPICS.values():
        if topic.kind != "market":
            continue
        for partition in range(log.partitions(topic.name)):
            _, end = log.bounds(topic.name, partition)
            for record in log.read(topic.name, partition, gte=max(0, end - 1), limit=1):
                last = _ts(record.topic, record.value)
                if last >= first.ts:
                    raise ImportRefused(
                        f"{log.url} has data up to {_shown_time(last)}, and these begin on "
                        f"{_shown_time(first.ts)}: import in the order of time, what overlaps all at once, "
                        "or into another log"
                    )


def _ts(topic: str, value: bytes) -> int:
    return int(getattr(decode(topic, value), "ts", 0))


def _tables(path: Path) -> list[Path]:
    """The path if it is a CSV or Parquet file, those in it if it is a folder."""
    endings = (CSV, *PARQUET)
    if path.suffix in endings:
        return [path]
    return sorted(p for p in path.iterdir() if p.suffix in endings) if path.is_dir() else []


def _shown(quality: QualitySettings | None) -> dict[str, Any]:
    given = asdict(quality or QualitySettings())
    return {name: str(value) if name != "gap_max" else value / SECOND_NS for name, value in given.items()}


def _shown_time(ts: int) -> str:
    return datetime.fromtimestamp(ts // SECOND_NS, UTC).isoformat()
