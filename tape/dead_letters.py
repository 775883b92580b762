"""What could not be read: the dead letters, what was decided about them, and how they are resolved.

A letter names a record by its place. Each core partition that took the record has its own letter, its own
Unread decisions, and its own resolution: the first command of its accounts that was applied. What an import
or a feed has set aside never was in a market topic; its letter is all there is of it.
"""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

from eventlog import LogReader, inspect
from processors.account.unread import problem
from processors.hosts.journal import last, read_all
from producers.marketdata.quality import imported_row
from schemas import (
    Batch,
    CommandApplied,
    CommandRefused,
    DeadLetter,
    Record,
    ResolveUnread,
    Unread,
    decode,
    read_into,
)
from tape.errors import WrongInput
from tape.operating import command, new_id
from tape.progress import Report, Stage
from tape.topics import hexdump, iso, print_table, printable, record_json

Action = Literal["retry", "drop"]

PAGE = 5000
ABOUT = (b'{"type":"Unread"', b'{"type":"CommandApplied"', b'{"type":"CommandRefused"')
OPEN, SET_ASIDE, OUTSIDE = "open", "set aside", "outside"
DONE = {"retry": "retried", "drop": "dropped"}
SHOWN_MAX = 4096
"""Bytes of a record that `show` prints for people."""


class DeadLetterError(WrongInput):
    """A dead letter that is not there, or cannot be resolved; the message says why, and what to do."""


@dataclass
class Concern:
    """A core partition that could not read the record: what it decided, and who has resolved it there."""

    partition: int
    decisions: list[tuple[Record, str]] = field(default_factory=list)
    """Unread, and what came of each ResolveUnread; with a few words."""
    accounts: list[str] = field(default_factory=list)
    """Those with an Unread of it."""
    opened: list[str] = field(default_factory=list)
    """All that were opened in the partition."""
    resolved: ResolveUnread | None = None


@dataclass
class Dead:
    """A record that could not be read, or an event that was set aside."""

    place: str
    key: bytes
    reason: str
    first: tuple[int, int, int]
    """Of its first letter, when it was written (UTC ns), partition and offset."""
    is_set_aside: bool
    letters: list[str] = field(default_factory=list)
    concerns: dict[int, Concern] = field(default_factory=dict)

    @property
    def open(self) -> list[Concern]:
        """The core partitions that it is not resolved in."""
        return [concern for concern in self.concerns.values() if concern.resolved is None]

    @property
    def status(self) -> str:
        """What became of it: open, retried, dropped; set aside by an import; outside of every core."""
        if self.is_set_aside or not self.concerns:
            return SET_ASIDE if self.is_set_aside else OUTSIDE
        done = {DONE[c.resolved.action] for c in self.concerns.values() if c.resolved is not None}
        return OPEN if self.open else " and ".join(sorted(done))

    @property
    def accounts(self) -> list[str]:
        """The accounts with an Unread of it."""
        return sorted({name for concern in self.concerns.values() for name in concern.accounts})


# ------------------------------------------------------------ reading


def dead_records(log: LogReader, report: Report) -> list[Dead]:
    """Every record that could not be read and every event set aside, the newest last."""
    found = _letters(log)
    concerned = sorted({partition for dead in found.values() for partition in dead.concerns})
    for n, partition in enumerate(concerned):
        report(Stage("reading decisions", n, len(concerned)))
        _join(log, partition, found)
    return sorted(found.values(), key=lambda dead: dead.first)


def dead_record(log: LogReader, place: str, report: Report) -> Dead:
    """The one at a place, or of the letter there. Raises `DeadLetterError`, `NotInLog`."""
    for dead in dead_records(log, report):
        if place == dead.place or place in dead.letters:
            return dead
    record = None if place.startswith("import/") else inspect.record_named(log, place)
    if record is None or record.topic == DeadLetter.topic or not problem(record):
        said = "" if record is None else f"; the record at {place} can be read"
        raise DeadLetterError(f"there is no dead letter of {place}{said}: see tape dead-letters list")
    raise DeadLetterError(
        f"the record at {place} cannot be read, and no core has come to it yet: nothing waits for it so far"
    )


def _letters(log: LogReader) -> dict[str, Dead]:
    """Dead letters by the place of what they are about, each with the core partitions concerned."""
    found: dict[str, Dead] = {}
    for partition in range(log.partitions(DeadLetter.topic)):
        taken = _taken(log, partition)
        for record, letter in read_all(log, DeadLetter.topic, partition, DeadLetter):
            dead = found.get(letter.place)
            if dead is None:
                dead = found[letter.place] = _first(record, letter)
            dead.letters.append(record.place)
            dead.first = min(dead.first, _order(record))
            topic, _, where = letter.place.partition("/")
            of, _, offset = where.partition("/")
            if not dead.is_set_aside and int(offset) < taken.get((topic, int(of)), 0):
                dead.concerns[partition] = Concern(partition)
    return found


def _first(record: Record, letter: DeadLetter) -> Dead:
    is_set_aside = imported_row(letter) is not None
    key = letter.key.encode() if is_set_aside else base64.b64decode(letter.key)
    return Dead(letter.place, key, letter.reason, _order(record), is_set_aside)


def _order(letter: Record) -> tuple[int, int, int]:
    return letter.timestamp, letter.partition, letter.offset


def _taken(log: LogReader, partition: int) -> dict[tuple[str, int], int]:
    """How far the core of a partition has come in each of its inputs."""
    batch = last(log, Batch.topic, partition, Batch)
    return {} if batch is None else {(i.topic, i.partition): i.next for i in batch.inputs}


def _join(log: LogReader, partition: int, found: dict[str, Dead]) -> None:
    """Add what the core of a partition has decided."""
    commands = _resolutions(log, partition)
    opened: list[str] = []
    for record in _about(log, partition):
        event = read_into(record).event
        if isinstance(event, CommandApplied) and event.kind == "OpenAccount":
            opened.append(event.account)
        command = None
        if isinstance(event, Unread):
            place = event.place
        elif isinstance(event, CommandApplied | CommandRefused):
            command = commands.get((event.account, event.command))
            place = "" if command is None else command.place
        else:
            continue
        concern = found[place].concerns.get(partition) if place in found else None
        if concern is not None:
            _add(concern, record, event, command)
    for dead in found.values():
        if partition in dead.concerns:
            dead.concerns[partition].opened = sorted(opened)


def _add(concern: Concern, record: Record, event: Any, command: ResolveUnread | None) -> None:
    if command is None:
        concern.accounts.append(event.account)
        concern.decisions.append((record, event.reason))
    elif isinstance(event, CommandRefused):
        concern.decisions.append((record, f"{command.who}: {command.action} refused: {event.reason}"))
    else:
        concern.resolved = concern.resolved or command
        concern.decisions.append((record, f"{DONE[command.action]} by {command.who}: {command.why}"))


def _resolutions(log: LogReader, partition: int) -> dict[tuple[str, str], ResolveUnread]:
    """By account and id, the first command of that id, where it resolves a record."""
    found: dict[tuple[str, str], Any] = {}
    for record in _pages(log, ResolveUnread.topic, partition):
        event: Any = decode(record.topic, record.value)
        if hasattr(event, "account"):
            found.setdefault((event.account, event.id), event)
    return {name: event for name, event in found.items() if isinstance(event, ResolveUnread)}


def _about(log: LogReader, partition: int) -> Iterator[Record]:
    """Decisions of a partition that may be about unreadable records; of a long log, few are."""
    return (r for r in _pages(log, Unread.topic, partition) if r.value.startswith(ABOUT))


def _pages(log: LogReader, topic: str, partition: int) -> Iterator[Record]:
    position, end = log.bounds(topic, partition)
    while position < end and (page := log.read(topic, partition, gte=position, lt=end, limit=PAGE)):
        yield from page
        position = page[-1].offset + 1


def bytes_of(log: LogReader, dead: Dead) -> bytes:
    """The record as it was written; of what was set aside, the event as it would have been."""
    if not dead.is_set_aside:
        return inspect.record_named(log, dead.place).value
    letter = inspect.record_named(log, dead.letters[0]).event
    return base64.b64decode(letter.bytes) if isinstance(letter, DeadLetter) else b""


# ------------------------------------------------------------ resolving


def resolutions(dead: Dead, action: Action, who: str, why: str) -> list[ResolveUnread]:
    """A command for each core partition that it is open in. Raises `DeadLetterError`.

    One holds for all accounts of its partition: it is given in the name of the first that is concerned, or
    where none was open when the record came, of the first there is now.
    """
    _check_open(dead, action)
    accounts = [(concern.accounts or concern.opened)[:1] for concern in dead.open]
    if not any(accounts):
        where = " or ".join(str(concern.partition) for concern in dead.open)
        raise DeadLetterError(
            f"no account is open in partition {where}, so that nobody waits for {dead.place} there so far"
        )
    said = {"who": who, "why": why, "place": dead.place, "action": action}
    return [command(ResolveUnread, id=new_id(), account=name, **said) for names in accounts for name in names]


def _check_open(dead: Dead, action: Action) -> None:
    if dead.is_set_aside:
        raise DeadLetterError(
            f"{dead.place} was set aside before it came into the log, and cannot be {DONE[action]}: nothing "
            f"waits for it ({dead.reason}); correct the data, and import or play them again"
        )
    if not dead.concerns:
        raise DeadLetterError(
            f"only a strategy or rule outside the core could not read {dead.place}: no core waits for it"
        )
    if not dead.open:
        by = next(c.resolved for c in dead.concerns.values() if c.resolved is not None)
        raise DeadLetterError(f"{dead.place} is {dead.status} already, by {by.who} at {iso(by.ts)}: {by.why}")


# ------------------------------------------------------------ objects


def list_json(found: list[Dead], url: str) -> dict[str, Any]:
    """Dead letters, as they are given."""
    return {"log": url, "dead_letters": [dead_json(dead) for dead in found]}


def dead_json(dead: Dead) -> dict[str, Any]:
    """A dead letter; times in ISO 8601."""
    return {
        "place": dead.place,
        "status": dead.status,
        "key": dead.key.decode(errors="backslashreplace"),
        "reason": dead.reason,
        "written": iso(dead.first[0]),
        "letters": dead.letters,
        "accounts": dead.accounts,
        "open_in": [concern.partition for concern in dead.open],
        "resolved": [_resolved_json(c.partition, c.resolved) for c in dead.concerns.values() if c.resolved],
    }


def _resolved_json(partition: int, by: ResolveUnread) -> dict[str, Any]:
    said = {"action": by.action, "who": by.who, "why": by.why, "time": iso(by.ts)}
    return {"partition": partition, "account": by.account, "command": by.id, **said}


def whole_json(dead: Dead, data: bytes) -> dict[str, Any]:
    """A dead letter with its bytes and the decisions about it."""
    decisions = [msgspec.json.decode(record_json(r)) for c in dead.concerns.values() for r, _ in c.decisions]
    return {
        **dead_json(dead),
        "bytes": len(data),
        "hex": data.hex(),
        "text": _text(data),
        "decisions": decisions,
    }


def _text(data: bytes) -> str | None:
    """The bytes as text; None where they are none."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return None


# ------------------------------------------------------------ text


def show_list(found: list[Dead], url: str) -> None:
    """Every dead letter in a line, and how many there are of each status."""
    if not found:
        print(f"{url} has no dead letters")
        return
    rows = [["place", "written", "status", "accounts", "reason"]]
    for dead in found:
        accounts = ", ".join(dead.accounts) or "-"
        reason = printable(dead.reason)
        rows.append([dead.place, iso(dead.first[0]), dead.status, accounts, f"{reason}{_by(dead)}"])
    print_table(rows, right=())
    counts = Counter(dead.status for dead in found)
    print("\n" + ", ".join(f"{count:,} {status}" for status, count in sorted(counts.items())))


def _by(dead: Dead) -> str:
    """Who has resolved it, and why."""
    said = {
        f"; {DONE[c.resolved.action]} by {c.resolved.who}: {c.resolved.why}"
        for c in dead.concerns.values()
        if c.resolved
    }
    return printable("".join(sorted(said)))


def show_whole(dead: Dead, data: bytes) -> None:
    """A dead letter with its bytes and the decisions about it."""
    print(f"place      {printable(dead.place)}")
    print(f"key        {printable(dead.key.decode(errors='backslashreplace')) or '-'}")
    print(f"written    {iso(dead.first[0])} (its letter: {', '.join(dead.letters)})")
    print(f"reason     {printable(dead.reason)}")
    print(f"status     {dead.status}")
    for concern in dead.concerns.values():
        for record, words in concern.decisions:
            time = iso(inspect.event_time(record))
            print(f"decision   {inspect.identity(record)} at {time}: {printable(words)}")
        if concern.resolved is None and not concern.accounts:
            print(f"partition  {concern.partition}: no account was open there when it came")
    print(f"\n{len(data):,} bytes{':' if data else ''}\n{_shown(data)}")


def _shown(data: bytes) -> str:
    """Bytes for people: JSON indented, other text as it is, the rest in hexadecimal."""
    if len(data) > SHOWN_MAX:
        return f"{hexdump(data[:SHOWN_MAX])}\n... and {len(data) - SHOWN_MAX:,} more; --raw prints them all"
    text = _indented(data) or _text(data)
    if text is None or not all(map(str.isprintable, text.split("\n"))):
        return hexdump(data)
    return text


def _indented(data: bytes) -> str | None:
    """JSON with a member a line; None where it is none."""
    try:
        return msgspec.json.format(data, indent=2).decode()
    except (ValueError, RecursionError):
        return None
