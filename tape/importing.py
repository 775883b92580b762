"""`tape import`: market data of any kind into a log, each event once, through the quality gate."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime
from operator import itemgetter
from pathlib import Path
from typing import Any

from eventlog import EventLog, LogReader, LogSpec, Writer, create_log, open_log
from eventlog.errors import LogError, LogFull, LogNotFound, LogUnreachable, WriterBusy
from eventlog.sealing import seal
from eventlog.verify import RollsAlong
from producers.contract import Reader
from producers.importer import Imported, import_events, rows_done
from producers.marketdata.errors import BadRequest
from producers.marketdata.lean import LeanReader
from producers.marketdata.leanfeeds import RESOLUTIONS
from producers.marketdata.quality import Gate, QualitySettings, gap_max, imported_row
from producers.marketdata.recorded import RecordedReader
from producers.marketdata.synthetic import SyntheticMarket
from producers.marketdata.tablefiles import CSV, PARQUET
from producers.marketdata.tables import TableFormat, TableReader
from producers.sessions import SECOND_NS, Hours
from schemas import TOPICS, DeadLetter, Event, Record, decode, digest, plain
from tape.errors import Stopped, WrongInput
from tape.logs import file_of, head_beside, is_log, url_of, write_heads
from tape.progress import Report, Stage

LETTERS = 3
"""Events set aside that a report shows, of each reason."""
LOOK_EVERY = 5000
"""Events between two looks at whether to stop."""


_GATE = "gate 1"


class ImportRefused(WrongInput):
    """An import that would spoil the log it goes to; nothing was written."""


@dataclass(frozen=True)
class SyntheticWanted:
    """A market to be made instead of read; see `SyntheticMarket`."""

    seed: int = 1
    rate_per_s: float = 1.0
    volatility: float = 0.2
    spread_bps: float = 2.0


@dataclass(frozen=True)
class DataWanted:
    """What data a user asked for: a LEAN folder, CSV and Parquet files (or folders of them), or a log.

    `table` says what is in files; a LEAN folder needs symbols and both days. Days are inclusive.
    With `synthetic`, which needs them too, there are no `data`.
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
    synthetic: SyntheticWanted | None = None


def open_reader(wanted: DataWanted, *, gated: bool = False) -> Reader:
    """The reader of the data that was asked for. Raises a `DataError` if that cannot be.

    `gated`: the quality gate looks at the events, so that some wrong prices and times need not be refused.
    """
    if wanted.synthetic is not None:
        first, last = _days(wanted, "a synthetic market is made")
        return SyntheticMarket(wanted.symbols, first=first, last=last, **asdict(wanted.synthetic))
    if len(wanted.data) == 1 and is_log(wanted.data[0]):
        return RecordedReader(url_of(str(wanted.data[0])), wanted.symbols, wanted.first, wanted.last)
    files = [file for path in wanted.data for file in _tables(Path(path))]
    if wanted.table is not None:
        if not files:
            raise BadRequest(f"no CSV or Parquet files in {', '.join(map(str, wanted.data))}: name others")
        tables = [(file, wanted.table) for file in files]
        return TableReader(tables, wanted.symbols, wanted.hours, wanted.first, wanted.last, gated)
    if files or len(wanted.data) != 1:
        raise BadRequest("data are one LEAN folder, or files: say what is in these with --kind")
    first, last = _days(wanted, "a LEAN folder is read")
    return LeanReader(
        wanted.data[0],
        wanted.symbols,
        first,
        last,
        resolution=wanted.resolution,
        adjusted=wanted.adjusted,
        hours=wanted.hours,
        allow_missing=wanted.allow_missing,
    )


def _days(wanted: DataWanted, what: str) -> tuple[date, date]:
    if wanted.first is None or wanted.last is None:
        raise BadRequest(f"{what} from a day to a day: name both (--from, --to)")
    return wanted.first, wanted.last


def resolution_of(wanted: DataWanted, reader: Reader) -> int:
    """How far apart the events of the data are expected (ns); 0: as they come."""
    if isinstance(reader, RecordedReader):
        return reader.period
    return _resolution(wanted)


def _resolution(wanted: DataWanted) -> int:
    table = wanted.table
    if wanted.synthetic is not None:
        return 0
    if table is None:
        return RESOLUTIONS[wanted.resolution]
    return RESOLUTIONS["daily"] if table.time == "date" else table.period or 0


def quality_for(wanted: DataWanted, **settings: Any) -> QualitySettings:
    """The gate's settings for the data: silences are reported by how far apart their events should be."""
    return QualitySettings(**{"gap_max": gap_max(_resolution(wanted)), **settings})


def import_data(
    reader: Reader,
    url: str,
    *,
    quality: QualitySettings | None,
    report: Report = lambda stage: None,
    stop: Callable[[], bool] = lambda: False,
    take_over: bool = False,
    head: Path | None = None,
) -> dict[str, Any]:
    """Check all of the data, then write it to the log, which is made if there is none; what was written.

    `quality` None lets everything through; `head` is where the log's head goes. Killed and repeated
    with the same data and settings it writes nothing twice, and the log is as after an undisturbed
    import.

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
    symbols = getattr(reader, "symbols", ())
    gate = None if quality is None else Gate(quality, ordered=True, symbols=symbols)
    with _open(url, source) as log, _says_how_to_go_on(url):
        try:
            writer = log.writer("import", take_over=take_over)
        except WriterBusy as busy:
            raise ImportRefused(f"{busy} (--take-over)") from busy
        sealed = None
        with writer:
            watched = _watched(reader.events(source), events, report, stop, url)
            imported = _write(log, writer, watched, source, gate)
            if not isinstance(log, RollsAlong):
                sealed = seal(log, writer)
        head = head or head_for(url)
        write_heads(log, head, sealed)
        letters = first_letters(log, source) if gate is not None and gate.report.quarantined else {}
    seconds = time.perf_counter() - checked
    quality_report = None
    if gate is not None:
        quality_report = {"settings": _shown(quality), **gate.report.as_dict(), "first": letters}
    return {
        "log": url,
        "head": str(head.resolve()),
        "source": source,
        "events": events,
        "written": dict(sorted(imported.written.items())),
        "skipped": imported.skipped,
        "left_out": dict(sorted(getattr(reader, "left_out", {}).items())),
        "quality": quality_report,
        "check_s": round(checked - started, 3),
        "import_s": round(seconds, 3),
        "events_per_s": round(imported.written.total() / seconds),
    }


@contextmanager
def _says_how_to_go_on(url: str) -> Iterator[None]:
    """Where the store fails under an import: what was written stands."""
    try:
        yield
    except LogFull as full:
        raise LogFull(
            f"{url} has no room left; what was written stands: make room, and repeat the command to go on"
        ) from full
    except LogError as problem:
        if type(problem) not in (LogError, LogUnreachable):
            raise
        raise LogError(f"{problem}; what was written stands: repeat the command to go on") from problem


def _write(
    log: EventLog, writer: Writer, events: Iterator[Event], source: str, gate: Gate | None
) -> Imported:
    passed = events if gate is None else gate.filter(events)
    return import_events(
        passed,
        log,
        writer,
        source=source,
        done=rows_done(log, source),
        before_first=lambda event: _require_order(log, source, event),
    )


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
    """The identity of an import: other settings of the gate make other events, but for what it reports."""
    bounds = "none"
    if quality is not None:
        bounds = " ".join(plain(b) for b in (quality.move_max, quality.crossed_max, quality.spread_max))
    return digest(reader.source.encode(), _GATE.encode(), bounds.encode())[:12]


def _open(url: str, source: str) -> EventLog:
    try:
        log = open_log(url)
    except LogUnreachable:
        raise
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


def _require_order(log: LogReader, source: str, first: Any) -> None:
    """Raise `ImportRefused` unless all that others have written is older than the `first` event to come."""
    for topic in TOPICS.values():
        if topic.kind != "market":
            continue
        for partition in range(log.partitions(topic.name)):
            _, end = log.bounds(topic.name, partition)
            for record in log.read(topic.name, partition, gte=max(0, end - 1), limit=1):
                last, origin = _ts_and_source(record)
                if origin != source and last >= first.ts:
                    raise ImportRefused(
                        f"{log.url} has data up to {_shown_time(last)}, and these begin on "
                        f"{_shown_time(first.ts)}: import in the order of time, what overlaps all at once, "
                        "or into another log"
                    )


def _ts_and_source(record: Record) -> tuple[int, str]:
    event = decode(record.topic, record.value)
    return getattr(event, "ts", 0), getattr(event, "source", "")


def head_for(url: str) -> Path:
    """Where the head of a log goes: beside its file, or for one on Kafka into the folder of runs."""
    file = file_of(url)
    return head_beside(file if file is not None else Path("runs") / url.rpartition("/")[2])


def first_letters(log: LogReader, source: str) -> dict[str, list[dict[str, Any]]]:
    """By reason, the first few events of `source` that the gate has set aside, and where they stand."""
    first: dict[str, list[tuple[int, Record, DeadLetter]]] = {}
    for partition in range(log.partitions(DeadLetter.topic)):
        position = log.bounds(DeadLetter.topic, partition)[0]
        while records := log.read(DeadLetter.topic, partition, gte=position):
            position = records[-1].offset + 1
            for record in records:
                letter = decode(record.topic, record.value)
                if not isinstance(letter, DeadLetter):
                    continue
                where = imported_row(letter)
                if where is not None and where[0] == source:
                    found = first.setdefault(letter.reason.partition(":")[0], [])
                    found.append((where[1], record, letter))
                    found.sort(key=itemgetter(0))
                    del found[LETTERS:]
    return {reason: [_letter(*one) for one in found] for reason, found in sorted(first.items())}


def _letter(row: int, record: Record, letter: DeadLetter) -> dict[str, Any]:
    ts = json.loads(base64.b64decode(letter.bytes)).get("ts", 0)
    details = letter.reason.partition(": ")[2]
    return {
        "place": record.place,
        "row": row,
        "symbol": letter.key,
        "time": _shown_time(ts),
        "details": details,
    }


def _tables(path: Path) -> list[Path]:
    """The path if it is a CSV or Parquet file, those in it if it is a folder."""
    endings = (CSV, *PARQUET)
    if path.suffix.lower() in endings:
        return [path]
    return sorted(p for p in path.iterdir() if p.suffix.lower() in endings) if path.is_dir() else []


def _shown(quality: QualitySettings | None) -> dict[str, Any]:
    given = asdict(quality or QualitySettings())
    gap = given.pop("gap_max") / SECOND_NS
    return {**{name: str(bound) for name, bound in given.items()}, "gap_max_s": gap}


def _shown_time(ts: int) -> str:
    return datetime.fromtimestamp(ts // SECOND_NS, UTC).isoformat()
