"""What `tape topics` shows: objects for programs, text for people."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec

from eventlog import EventLog, LogReader, inspect, open_log
from eventlog.errors import LogError
from eventlog.inspect import Contents, Times
from eventlog.urls import is_kafka
from schemas import TOPICS, Record, Topic, Unreadable
from schemas.declare import VERSIONS
from tape.errors import WrongInput
from tape.logs import url_of
from tape.progress import Report, Stage

SECOND_NS = 1_000_000_000
VALUE_MAX = 60
"""Characters of a member's value in a line of text."""
HEX_WIDTH = 16
TAILED = tuple(t.name for t in TOPICS.values() if t.kind != "journal")
"""What is shown where no topic is named: facts and decisions."""
WRITTEN_BY = {"market": "facts", "fact": "facts", "decision": "decisions", "journal": "about the log"}


def opened(name: str) -> EventLog:
    """The log of a URL or a path, for reading only. Raises `WrongInput` for what is no name of a log."""
    url = url_of(name)
    if is_kafka(url):
        from eventlog.kafka.store import split_url

        try:
            split_url(url)
        except LogError as problem:
            raise WrongInput(str(problem)) from problem
    return open_log(url, read_only=True)


# ------------------------------------------------------------ objects


def listing(log: LogReader, counted: bool, report: Report) -> dict[str, Any]:
    """Every topic; times are UTC ns. `records` is null where only counting tells (`counted`)."""
    streams = [(topic, p) for topic in TOPICS for p in range(log.partitions(topic))]
    seen = _counts(log, streams, report) if counted else [inspect.glance(log, *s) for s in streams]
    topics = [_listed(topic, [s for s in seen if s.topic == topic.name]) for topic in TOPICS.values()]
    return {"log": log.url, "id": log.id, "time": log.time, "topics": topics}


def _counts(log: LogReader, streams: list[tuple[str, int]], report: Report) -> list[Contents]:
    seals = inspect.last_seals(log)
    sizes = [end - first for first, end in (log.bounds(*stream) for stream in streams)]
    before, found = 0, []
    for stream, size in zip(streams, sizes, strict=True):
        found.append(inspect.count(log, *stream, seals, _reporting(report, before, sum(sizes))))
        before += size
    return found


def _reporting(report: Report, before: int, total: int) -> Callable[[int], None]:
    return lambda offsets: report(Stage("reading", before + offsets, total))


def _listed(topic: Topic, seen: list[Contents]) -> dict[str, Any]:
    return {
        "topic": topic.name,
        "kind": topic.kind,
        "partitions": len(seen),
        "offsets": sum(s.next - s.first for s in seen),
        "records": _sum([s.records for s in seen]),
        "unreadable": _sum([s.unreadable for s in seen]),
        **_times(inspect.span(s.times for s in seen)),
    }


def _sum(counts: list[int | None]) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) if len(known) == len(counts) else None


def _times(times: Times | None) -> dict[str, Any]:
    if times is None:
        return {"first": None, "last": None, "time_of": None}
    return {"first": times.first, "last": times.last, "time_of": times.of}


def description(log: LogReader, name: str, report: Report) -> dict[str, Any]:
    """One topic, by reading all of it. Raises `NotInLog`."""
    topic = inspect.topic_named(name)
    streams = [(topic.name, p) for p in range(log.partitions(topic.name))]
    seen = _counts(log, streams, report)
    types = sum((s.types for s in seen), start=type(seen[0].types)())
    bad = next((s.first_unreadable for s in seen if s.first_unreadable is not None), None)
    return {
        "log": log.url,
        **_listed(topic, seen),
        "key": topic.key,
        "written_by": list(topic.roles),
        "transactions": topic.transactional,
        "types": dict(sorted(types.items())),
        "first_unreadable": None if bad is None else {"place": bad.place, "reason": _reason(bad)},
        "by_partition": [_partition(s) for s in seen],
    }


def _partition(seen: Contents) -> dict[str, Any]:
    return {
        "partition": seen.partition,
        "first_offset": seen.first,
        "next_offset": seen.next,
        "records": seen.records,
        "unreadable": seen.unreadable,
        "sealed_to": seen.sealed,
        "unsealed": seen.unsealed,
        **_times(seen.times),
    }


def record_json(record: Record, indent: int = -1) -> str:
    """A record as JSON, its event as it is stored; one line, or indented."""
    found: dict[str, Any] = {
        "place": record.place,
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "key": record.key.decode(errors="backslashreplace"),
        "written": record.timestamp,
        "id": inspect.identity(record),
        "ts": inspect.event_time(record),
    }
    if isinstance(record.event, Unreadable):
        found |= {"unreadable": record.event.reason, "hex": record.value.hex()}
    else:
        found["event"] = msgspec.Raw(record.value)
    return msgspec.json.format(msgspec.json.encode(found), indent=indent).decode(errors="replace")


def _reason(record: Record) -> str:
    return record.event.reason if isinstance(record.event, Unreadable) else ""


# ------------------------------------------------------------ text


def iso(ns: int | None) -> str:
    """A time (UTC ns) in ISO 8601, with as many digits as it has."""
    if ns is None:
        return "-"
    seconds, rest = divmod(ns, SECOND_NS)
    try:
        text = datetime.fromtimestamp(seconds, UTC).isoformat()[:19]
    except (OverflowError, ValueError, OSError):
        return f"{ns} ns after 1970-01-01T00:00:00Z"
    digits = f"{rest:09}"
    while digits.endswith("000"):
        digits = digits[:-3]
    return f"{text}.{digits}Z" if digits else f"{text}Z"


def show_list(found: dict[str, Any]) -> None:
    """Every topic that has records, and the names of the others."""
    print(f"{found['log']}  id {found['id'][:16]}, {found['time']} time\n")
    full = [t for t in found["topics"] if t["offsets"]]
    if not full:
        print("the log is empty")
        return
    counted = all(t["unreadable"] is not None for t in full)
    rows = [["topic", "partitions", "records", *(["unreadable"] if counted else []), "first", "last"]]
    for t in full:
        unreadable = [f"{t['unreadable']:,}"] if counted else []
        rows.append([t["topic"], str(t["partitions"]), _records(t), *unreadable, *_shown_times(t)])
    print_table(rows, right=range(1, 4 if counted else 3))
    if empty := [t["topic"] for t in found["topics"] if not t["offsets"]]:
        print(f"\nempty: {', '.join(empty)}")
    if any(t["time_of"] == "writing" for t in full):
        print("w: its events have no time of their own; this is when they were written")
    if any(t["records"] is None for t in full):
        print("<=: offsets, of which transactions take some; --count reads and counts the records")


def _records(t: dict[str, Any]) -> str:
    return f"<= {t['offsets']:,}" if t["records"] is None else f"{t['records']:,}"


def _shown_times(t: dict[str, Any]) -> list[str]:
    mark = " w" if t["time_of"] == "writing" else ""
    return [f"{iso(t[name])}{mark}" for name in ("first", "last")]


def show_description(d: dict[str, Any]) -> None:
    """One topic."""
    ways = "in transactions" if d["transactions"] else "without transactions"
    print(f"{d['topic']}: {WRITTEN_BY[d['kind']]}, written by {' or '.join(d['written_by'])} {ways}")
    print(f"key: {d['key']}\n")
    rows = [["partition", "offsets", "records", "first", "last", "sealed to", "not sealed"]]
    for p in d["by_partition"]:
        sealed = "-" if p["sealed_to"] is None else str(p["sealed_to"])
        offsets = f"[{p['first_offset']}, {p['next_offset']})"
        counts = f"{p['records']:,}", f"{p['unsealed']:,}"
        rows.append([str(p["partition"]), offsets, counts[0], *_shown_times(p), sealed, counts[1]])
    print_table(rows, right=(0, 2, 5, 6))
    print()
    print_table(
        [["event", "records"], *([name, f"{count:,}"] for name, count in d["types"].items())], right=(1,)
    )
    if (bad := d["first_unreadable"]) is not None:
        print(f"\ncannot be read: {d['unreadable']:,}; the first is {bad['place']}: {bad['reason']}")
    if any(p["time_of"] == "writing" for p in d["by_partition"]):
        print("\nw: its events have no time of their own; this is when they were written")
    print("\nseals are as they say; check them:  tape verify LOG")


def print_table(rows: list[list[str]], right: Any) -> None:
    """Rows of text in columns, those of the indices `right` aligned right; long lines are not broken."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [
            c.rjust(w) if i in right else c.ljust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))
        ]
        print("  ".join(cells).rstrip())


def line(record: Record) -> str:
    """A record in a line: its time, place, key and event."""
    time = inspect.event_time(record)
    shown = f"{iso(record.timestamp)} w" if time is None else iso(time)
    head = f"{shown}  {record.place}  {_key(record)}  "
    if isinstance(record.event, Unreadable):
        return f"{head}cannot be read: {printable(record.event.reason)}"
    stored = msgspec.json.decode(record.value)
    said = {"type", "v", "ts"}
    if str(stored.get(TOPICS[record.topic].key)).encode() == record.key:
        said.add(TOPICS[record.topic].key)
    members = [
        f"{printable(name)}={_short(value)}"
        for name, value in stored.items()
        if name not in said and value is not None
    ]
    return f"{head}{stored['type']}  {' '.join(members)}"


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode(errors="replace")
    return printable(text if len(text) <= VALUE_MAX else f"{text[:VALUE_MAX]}...")


def _key(record: Record) -> str:
    return printable(record.key.decode(errors="backslashreplace")) or "-"


def printable(text: str) -> str:
    """Text that a terminal only shows: what would steer it stands as an escape."""
    return "".join(c if c.isprintable() else _escaped(c) for c in text)


def _escaped(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{int.from_bytes(units[i : i + 2]):04x}" for i in range(0, len(units), 2))


def show_record(record: Record) -> None:
    """One record whole; where it cannot be read, why, and its bytes."""
    print(f"place    {record.place}")
    print(f"key      {_key(record)}")
    print(f"written  {iso(record.timestamp)} (the store's time)")
    if isinstance(record.event, Unreadable):
        print(f"cannot be read: {printable(record.event.reason)}; its {len(record.value):,} bytes:\n")
        print(hexdump(record.value))
        return
    stored = msgspec.json.decode(record.value)
    kind, version = stored["type"], stored["v"]
    read_as = "" if version == VERSIONS[kind] else f", read as version {VERSIONS[kind]}"
    print(f"time     {iso(inspect.event_time(record))}")
    print(f"id       {printable(inspect.identity(record))}")
    print(f"event    {kind}, version {version}{read_as}\n")
    text = msgspec.json.format(record.value, indent=2).decode(errors="replace")
    print("\n".join(map(printable, text.split("\n"))))


def hexdump(data: bytes) -> str:
    """Bytes in hexadecimal, sixteen a line, with their offset and what of them is printable ASCII."""
    lines = []
    for start in range(0, len(data), HEX_WIDTH):
        part = data[start : start + HEX_WIDTH]
        text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in part)
        lines.append(f"{start:08x}  {part.hex(' '):{HEX_WIDTH * 3 - 1}}  |{text}|")
    return "\n".join(lines)
