"""`tape dead-letters` as a user runs it, over records that cannot be read in each way there is."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from eventlog import EventLog, create_log, open_log
from eventlog.roles import Beat
from processors.account.unread import KEPT_RECORD_MAX
from processors.alerts import RULES
from processors.hosts.keyed import run_keyed
from processors.hosts.outputs import COPIED_MAX
from schemas import CoreSettings, Deposit, Event, NewRecord, codec, decode, encode, evolve, partition_of
from support.cli import Ran, here, tape
from support.lean import SAMPLE
from support.market import at, quote, session_opened
from support.runs import ELSEWHERE, ONE, SOURCE, SPEC, TWO, core, opening, run, verified, write_facts

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


def decided(log: EventLog, settings: CoreSettings = SETTINGS) -> None:
    """All there is, by the core of either partition."""
    for partition in range(2):
        run(log, settings, partition)


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


# ------------------------------------------------------------ retry, drop


@contextmanager
def deciding(folder: Path, settings: CoreSettings = SETTINGS) -> Iterator[None]:
    """A core beside the command: it decides what comes, until the end."""
    ending = threading.Event()

    def work() -> None:
        with open_log(f"sqlite:{folder / 'log'}") as log:
            while not ending.wait(0.02):
                decided(log, settings)

    with ThreadPoolExecutor(1) as pool:
        core = pool.submit(work)
        try:
            yield
        finally:
            ending.set()
        core.result()


def resolved(folder: Path, action: str, place: str, *more: str) -> Ran:
    said = ("--why", f"a test of {action}", "--who", "ann", "--wait", "120")
    return here("dead-letters", action, folder / "log", place, *said, *more)


def test_retried_in_vain_then_dropped_and_no_byte_is_lost(tmp_path: Path) -> None:
    with bad_log(tmp_path, [(topic, value) for topic, value, _ in WAYS.values()]) as log:
        decided(log)
        places = {place_of(log, topic, value): value for topic, value, _ in WAYS.values()}
        before = letters(tmp_path)
        with deciding(tmp_path):
            for place, value in places.items():
                again = resolved(tmp_path, "retry", place, "--json")
                assert again.code == 1
                assert {answer["outcome"] for answer in again.json["answers"]} == {"refused"}
                kept = len(value) <= KEPT_RECORD_MAX
                reason = before[place]["reason"] if kept else "its bytes are not kept"
                assert all(reason in answer["reason"] for answer in again.json["answers"])
            assert letters(tmp_path) == before, "nothing has changed"
            for place in places:
                dropped = resolved(tmp_path, "drop", place)
                assert (dropped.code, dropped.err) == (0, "")
                assert dropped.out.count(": ResolveUnread applied\n") == len(before[place]["open_in"])
        for place, letter in letters(tmp_path).items():
            assert (letter["status"], letter["open_in"]) == ("dropped", [])
            by = {(r["partition"], r["action"], r["who"], r["why"]) for r in letter["resolved"]}
            assert by == {(p, "drop", "ann", "a test of drop") for p in before[place]["open_in"]}
            shown = here("dead-letters", "show", tmp_path / "log", place, "--json").json
            assert bytes.fromhex(shown["hex"]) == places[place]
            kinds = {d["event"]["type"] for d in shown["decisions"]}
            assert kinds == {"Unread", "CommandRefused", "CommandApplied"}
        ran = run(log, SETTINGS)
        assert [a.unread for a in ran.pipeline.accounts.desk.accounts.values()] == [{}, {}]
        assert verified(log).difference is None
        end = log.bounds(COMMANDS, 0)[1]
        for action in ("retry", "drop"):
            again = resolved(tmp_path, action, place)
            assert again.code == 2
            assert re.search(rf"{place} is dropped already, by ann at \S+Z: a test of drop$", again.said)
        assert log.bounds(COMMANDS, 0)[1] == end, "nothing was written"


def test_retried_when_the_code_can_read_it_it_acts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command, price = (COMMANDS, changed(DEPOSIT, v=2)), (QUOTES, changed(QUOTE, v=2))
    with bad_log(tmp_path, [command, price]) as log:
        decided(log)
        monkeypatch.setattr(
            codec, "_decode_other", lambda topic, value, _: decode(topic, value.replace(b'"v":2', b'"v":1'))
        )
        later = evolve(SETTINGS, pnl_interval=1)
        with deciding(tmp_path, later):
            for record in (command, price):
                assert resolved(tmp_path, "retry", place_of(log, *record)).code == 0
        assert {letter["status"] for letter in letters(tmp_path).values()} == {"retried"}
        text = here("dead-letters", "list", tmp_path / "log").out
        assert text.count("; retried by ann: a test of retry\n") == 2
        account = run(log, later).pipeline.accounts.desk.accounts[ONE]
        assert (account.deposits, account.unread) == (Decimal("777.25"), {})


def test_without_a_core_the_command_waits_in_the_log(tmp_path: Path) -> None:
    with bad_log(tmp_path, [WAYS["no JSON"][:2]]) as log:
        decided(log)
        (place,) = letters(tmp_path)
        asked = resolved(tmp_path, "drop", place, "--wait", "0")
        assert asked.code == 1
        assert asked.out.startswith(f"{ONE}: ResolveUnread not answered yet; it stands in the log")
        assert letters(tmp_path)[place]["status"] == "open"
        decided(log)
        assert letters(tmp_path)[place]["status"] == "dropped"


def test_what_came_before_any_account_is_resolved_by_one_that_has_come(tmp_path: Path) -> None:
    with create_log(f"sqlite:{tmp_path / 'log'}", SPEC) as log:
        put(log, [(QUOTES, b"{")])
        decided(log)
        (place,) = letters(tmp_path)
        early = resolved(tmp_path, "drop", place)
        assert (early.code, early.said) == (
            2,
            f"no account is open in partition 0 or 1, so that nobody waits for {place} there so far",
        )
        write_facts(log, (), [opening(name) for name in (ONE, TWO, ELSEWHERE)])
        decided(log)
        with deciding(tmp_path):
            assert resolved(tmp_path, "drop", place).code == 0
        found = letters(tmp_path)[place]
        assert (found["accounts"], found["status"]) == ([], "dropped")
        assert [r["account"] for r in found["resolved"]] == [min(ONE, TWO), ELSEWHERE]


def test_what_an_import_has_set_aside_is_not_to_be_resolved(tmp_path: Path) -> None:
    range_ = ("--from", "2014-06-05", "--to", "2014-06-09", "--hours", "extended")
    log = tmp_path / "log"
    brought = here("import", "--data", SAMPLE, "--symbols", "AAPL", *range_, "--log", log, "--json")
    told = [first["place"] for first in brought.json["quality"]["first"]["move"]]
    found = letters(tmp_path)
    assert len(found) == len(told) == 2
    for letter, place in zip(found.values(), told, strict=True):
        assert (letter["status"], letter["key"], letter["letters"]) == ("set aside", "AAPL", [place])
        shown = here("dead-letters", "show", log, place, "--json").json
        assert decode("market.bars", bytes.fromhex(shown["hex"])) is not None
        assert json.loads(shown["text"])["symbol"] == "AAPL"
        for action in ("retry", "drop"):
            refused = resolved(tmp_path, action, letter["place"])
            assert refused.code == 2
            assert "was set aside before it came into the log, and cannot be" in refused.said
            assert letter["reason"] in refused.said
    assert here("dead-letters", "list", log).out.endswith("\n\n2 set aside\n")


def test_what_only_a_rule_could_not_read_blocks_nothing(tmp_path: Path) -> None:
    rule = RULES["breaker"]()
    with bad_log(tmp_path, []) as log:
        with log.writer("producer") as writer:
            writer.append([NewRecord(rule.inputs[0], 0, ONE.encode(), b"{")])
        beats: list[Beat] = []
        run_keyed(log, rule, name="alerts", beats=beats.append, stop=lambda: len(beats) > 1)
    ((place, letter),) = letters(tmp_path).items()
    assert (place, letter["status"]) == (f"{rule.inputs[0]}/0/0", "outside")
    refused = resolved(tmp_path, "drop", place)
    assert refused.code == 2
    assert "only a strategy or rule outside the core could not read" in refused.said


def test_a_reason_is_asked_for(tmp_path: Path) -> None:
    with bad_log(tmp_path, [WAYS["no JSON"][:2]]) as log:
        decided(log)
        (place,) = letters(tmp_path)
    assert "Missing option '--why'" in here("dead-letters", "drop", tmp_path / "log", place).said
    blank = here("dead-letters", "drop", tmp_path / "log", place, "--why", " ")
    assert (blank.code, "Invalid value for --why: say why" in blank.said) == (2, True)


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
    why = ("--why", "test")
    for command in (("show",), ("retry", *why), ("drop", *why)):
        ran = here("dead-letters", command[0], tmp_path / "log", place, *command[1:])
        assert ran.code == 2
        assert said in ran.said
