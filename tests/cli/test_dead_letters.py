"""`tape dead-letters` as a user runs it, over records that cannot be read in each way there is."""

from __future__ import annotations

import json
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from eventlog import EventLog, create_log
from processors.hosts.outputs import COPIED_MAX
from schemas import Deposit, Event, NewRecord, encode, evolve, partition_of
from support.cli import here, tape
from support.market import at, quote, session_opened
from support.runs import ELSEWHERE, ONE, SOURCE, SPEC, TWO, core, opening, run, write_facts

SETTINGS = core(latency=0, stale_after=7200 * 10**9)
QUOTE = quote(at("10:30"), "777.25", "777.30", symbol="AAA")
DEPOSIT = Deposit(id="bad", account=ONE, ts=at("10:30"), who="ann", why="test", amount=Decimal("777.25"))
COMMANDS, QUOTES = "operator.commands", "market.quotes"


def changed(event: Event, **members: Any) -> bytes:
    """The event's bytes with other members; None leaves one out."""
    given = json.loads(encode(event)) | members
    return json.dumps({k: v for k, v in given.items() if v is not None}, separators=(",", ":")).encode()


WAYS: dict[str, tuple[str, bytes, str]] = {
    "no JSON": (COMMANDS, b"buy 10 AAA\n", "not a JSON object: "),
    "cut off": (COMMANDS, encode(DEPOSIT)[:-1], "not a JSON object: "),
    "null, as Kafka has it": (COMMANDS, b"", "not a JSON object: "),
    "not UTF-8": (COMMANDS, encode(DEPOSIT).replace(b"ann", b"\xff\xfe"), "not a JSON object: "),
    "too deep": (COMMANDS, b"[" * 1000 + b"]" * 1000, "nested deeper than 300 levels"),
    "no object": (COMMANDS, b"[1]", "not a JSON object: "),
    "unknown type": (COMMANDS, changed(DEPOSIT, type="\x1b[31m"), r"unknown type '\x1b[31m'"),
    "of another topic": (COMMANDS, encode(QUOTE), "Quote does not belong in operator.commands"),
    "no version": (COMMANDS, changed(DEPOSIT, v=None), "Deposit has no schema version"),
    "from the future": (COMMANDS, changed(DEPOSIT, v=2), "Deposit version 2 is from the future"),
    "missing field": (COMMANDS, changed(DEPOSIT, amount=None), "missing required field `amount`"),
    "no number": (COMMANDS, changed(DEPOSIT, amount="NaN"), "NaN"),
    "too many digits": (COMMANDS, changed(DEPOSIT, amount="1." + "1" * 10), "a number has over 10 digits"),
    "too large": (COMMANDS, b"x" * (COPIED_MAX + 1), "not a JSON object: "),
    "of the market": (QUOTES, changed(QUOTE, ts="soon"), "Quote: Expected `int`, got `str`"),
    "too long for a price": (QUOTES, changed(QUOTE, bid="1." + "1" * 30), "over 10 digits before the point"),
}
"""Topic, bytes, and what the reason says."""


def bad_log(folder: Path, records: Sequence[tuple[str, bytes]]) -> EventLog:
    """Accounts in two partitions, a market, then the records: commands of ONE, quotes of AAA.

    What cannot be read has its place right behind what its partition had before.
    """
    log = create_log(f"sqlite:{folder / 'log'}", SPEC)
    market: list[Any] = [session_opened(), quote(at("10:00"), 100, "100.10", symbol="AAA")]
    numbered = [evolve(event, source=SOURCE, row=n) for n, event in enumerate(market, 1)]
    write_facts(log, numbered, [opening(name) for name in (ONE, TWO, ELSEWHERE)])
    put(log, records)
    return log


def put(log: EventLog, records: Sequence[tuple[str, bytes]]) -> None:
    """Append records one by one, as a producer of another make would."""
    with log.writer("producer") as writer:
        for topic, value in records:
            key, count = (ONE, 2) if topic == COMMANDS else ("AAA", 2)
            writer.append([NewRecord(topic, partition_of(key, count), key.encode(), value)])


def decided(log: EventLog) -> None:
    """All there is, by the core of either partition."""
    for partition in range(2):
        run(log, SETTINGS, partition)


def place_of(log: EventLog, topic: str, value: bytes) -> str:
    partition = partition_of(ONE if topic == COMMANDS else "AAA", 2)
    (place,) = [r.place for r in log.read(topic, partition, gte=0) if r.value == value]
    return place


def letters(folder: Path) -> dict[str, dict[str, Any]]:
    """What `list` says, by place; in its order."""
    listed = here("dead-letters", "list", folder / "log", "--json")
    assert listed.code == 0, listed.err
    return {letter["place"]: letter for letter in listed.json["dead_letters"]}


# ------------------------------------------------------------ list, show


def test_each_way_is_listed_with_its_reason_and_its_bytes(tmp_path: Path) -> None:
    """The newest last; what it concerns; whole, as it was written, also what is too large for a letter."""
    with bad_log(tmp_path, [(topic, value) for topic, value, _ in WAYS.values()]) as log:
        decided(log)
        places = {way: place_of(log, topic, value) for way, (topic, value, _) in WAYS.items()}
    found = letters(tmp_path)
    assert set(found) == set(places.values())
    for way, (topic, value, reason) in WAYS.items():
        letter = found[places[way]]
        assert reason in letter["reason"], way
        assert letter["status"] == "open"
        assert letter["accounts"] == ([ONE] if topic == COMMANDS else sorted((ONE, TWO, ELSEWHERE)))
        assert letter["open_in"] == ([0] if topic == COMMANDS else [0, 1])
        shown = here("dead-letters", "show", tmp_path / "log", places[way], "--json").json
        assert bytes.fromhex(shown["hex"]) == value
        unread = [d["event"] for d in shown["decisions"]]
        assert {(u["type"], u["place"]) for u in unread} == {("Unread", places[way])}
        assert sorted(u["account"] for u in unread) == letter["accounts"]
    commands = [place for place in found if place.startswith(COMMANDS)]
    assert commands == sorted(commands, key=lambda place: int(place.rpartition("/")[2]))


def test_the_list_for_people(tmp_path: Path) -> None:
    with bad_log(tmp_path, [WAYS["of the market"][:2], WAYS["unknown type"][:2]]) as log:
        assert here("dead-letters", "list", tmp_path / "log").out == f"{log.url} has no dead letters\n"
        decided(log)
        command, price = place_of(log, *WAYS["unknown type"][:2]), place_of(log, *WAYS["of the market"][:2])
    text = here("dead-letters", "list", tmp_path / "log").out
    rows = {line.split()[0]: line for line in text.splitlines() if "/" in line}
    assert list(rows) == [command, price]
    assert rows[command].endswith(f"  open    {ONE}              unknown type '\\x1b[31m'")
    assert "\x1b" not in text, "a record does not steer the terminal"
    assert text.endswith("\n\n2 open\n")


@pytest.mark.parametrize(
    ("way", "shown"),
    [
        ("from the future", '  "amount": "777.25"\n}\n'),
        ("no JSON", "\nbuy 10 AAA\n"),
        ("not UTF-8", "22 ff fe 22"),
        ("unknown type", '  "type": "\\u001b[31m",\n'),
        ("null, as Kafka has it", "\n0 bytes\n"),
        ("too large", "... and 1,044,481 more; --raw prints them all\n"),
    ],
)
def test_a_record_for_people_is_decoded_as_far_as_it_can_be(tmp_path: Path, way: str, shown: str) -> None:
    topic, value, _ = WAYS[way]
    with bad_log(tmp_path, [(topic, value)]) as log:
        decided(log)
        place = place_of(log, topic, value)
    text = here("dead-letters", "show", tmp_path / "log", place).out
    assert shown in text
    assert text.splitlines()[0] == f"place      {place}"
    assert f"\ndecision   {ONE}:" in text


def test_raw_bytes(tmp_path: Path) -> None:
    topic, value, _ = WAYS["not UTF-8"]
    with bad_log(tmp_path, [(topic, value)]) as log:
        decided(log)
        place = place_of(log, topic, value)
    assert tape("dead-letters", "show", tmp_path / "log", place, "--raw", text=False).out == value


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("operator.commands/0/99", "there is no record operator.commands/0/99: "),
        ("operator.commands/0/0", "the record at operator.commands/0/0 can be read"),
        ("import/none/1", "there is no dead letter of import/none/1"),
        ("nonsense", "'nonsense' is neither TOPIC/PARTITION/OFFSET"),
        ("quotes/0/1", "there is no topic 'quotes'; did you mean market.quotes?"),
        ("operator.commands/0/2", "no core has come to it yet"),
    ],
)
def test_what_is_no_dead_letter(tmp_path: Path, place: str, said: str) -> None:
    with bad_log(tmp_path, []) as log:
        decided(log)
        put(log, [(COMMANDS, b"{")])
    for command in ("show",):
        ran = here("dead-letters", command, tmp_path / "log", place)
        assert ran.code == 2
        assert said in ran.said
