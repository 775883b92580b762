"""Records that cannot be read keep their place: an Unread decision, their bytes, the same in replay."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from eventlog import EventLog, create_log, fingerprint
from schemas import (
    CORE_ACCOUNT_INPUTS,
    CORE_MARKET_INPUTS,
    DeadLetter,
    NewRecord,
    Proposal,
    Unread,
    decode,
    exact,
    new_record,
)
from support.market import at
from support.runs import (
    ELSEWHERE,
    ONE,
    SPEC,
    TWO,
    all_records,
    applied,
    busy_commands,
    busy_market,
    busy_settings,
    configured,
    inputs,
    opening,
    run,
    run_cut,
    verified,
    write_facts,
)
from tape.wiring import build

BAD = (b"", b"{", b"\xff\xfe", b'{"type":"Quote","v":99}', b'{"type":"Nothing","v":1}')


PROPOSAL = Proposal(
    id="outside/1/1/0",
    account=ONE,
    ts=at("11:00"),
    strategy="outside",
    version="1",
    cause="1",
    source="outside",
    position=1,
    ordinal=0,
    intent="target",
    symbol="AAA",
    shares=Decimal(10),
)
"""From a strategy outside; what cannot be read goes right behind what its partition had before."""


def damaged_log(folder: Path, topic: str, keys: Sequence[bytes]) -> EventLog:
    """The busy market in two parts, with unreadable records of a topic between them."""
    market = busy_market()
    log = create_log(f"sqlite:{folder / 'log'}", SPEC)
    write_facts(log, market[: len(market) // 3], busy_commands())
    with log.writer("strategies") as writer:
        writer.append([new_record(PROPOSAL, 0, ONE)])
    for n, value in enumerate(BAD):
        with log.writer("import") as writer:
            writer.append([NewRecord(topic, 0, keys[n % len(keys)], value)])
    write_facts(log, market[len(market) // 3 :])
    return log


def decisions(log: EventLog, kind: type, partition: int) -> list[Any]:
    """Decisions of a kind in a partition's orders."""
    events = (decode("orders", record.value) for record in all_records(log, "orders", partition))
    return [event for event in events if isinstance(event, kind)]


def dead_letters(log: EventLog, partition: int) -> list[DeadLetter]:
    """What was kept of unreadable records."""
    events = [decode("dead-letters", r.value) for r in all_records(log, "dead-letters", partition)]
    assert all(isinstance(event, DeadLetter) for event in events)
    return events  # type: ignore[return-value]


@pytest.mark.parametrize("topic", CORE_MARKET_INPUTS)
def test_in_a_market_topic(tmp_path: Path, topic: str) -> None:
    """One Unread for each account of each core partition, in order of account."""
    with damaged_log(tmp_path, topic, [b"AAA", b""]) as log:
        places = [r.place for r in all_records(log, topic, 0) if r.value in BAD]
        assert len(places) == len(BAD)
        for partition, accounts in ((0, sorted((ONE, TWO))), (1, [ELSEWHERE])):
            run(log, busy_settings(), partition, batch=50)
            unread = decisions(log, Unread, partition)
            opened = [a for a in accounts if a in {u.account for u in unread}]
            assert [(u.place, u.account) for u in unread] == [(p, a) for p in places for a in opened]
            assert [letter.place for letter in dead_letters(log, partition)] == places
            assert [base64.b64decode(letter.bytes) for letter in dead_letters(log, partition)] == list(BAD)
            assert all(letter.reason for letter in dead_letters(log, partition))
        assert verified(log).difference is None


@pytest.mark.parametrize("topic", [t for t in CORE_ACCOUNT_INPUTS if t != "broker.reports"])
def test_in_a_topic_of_accounts(tmp_path: Path, topic: str) -> None:
    """It halts the account it names; where none can be told, all of the partition, and no other."""
    with damaged_log(tmp_path, topic, [ONE.encode(), b"\xff"]) as log:
        ran = run(log, busy_settings(), batch=50)
        assert any(decode("signals", r.value).proposal == PROPOSAL.id for r in all_records(log, "signals", 0))
        assert [base64.b64decode(letter.bytes) for letter in dead_letters(log, 0)] == list(BAD)
        halted = {u.account for u in decisions(log, Unread, 0)}
        assert ONE in halted
        accounts = ran.pipeline.accounts.desk.accounts
        assert {name for name, account in accounts.items() if "integrity" in account.breaker.halts} == halted
        assert run(log, busy_settings(), 1).decisions > 0
        assert decisions(log, Unread, 1) == []
        assert dead_letters(log, 1) == []
        assert verified(log).difference is None


def test_cut_off_and_run_again(tmp_path: Path) -> None:
    """The same decisions, and each record's bytes once, however often the run begins again."""
    topic = "market.quotes"
    (tmp_path / "again").mkdir()
    with (
        damaged_log(tmp_path, topic, [b"BBB"]) as log,
        damaged_log(tmp_path / "again", topic, [b"BBB"]) as two,
    ):
        run(log, busy_settings())
        run_cut(two, busy_settings(snapshot_every=10**9), 2, batch=60)
        assert fingerprint(two) == fingerprint(log)
        assert dead_letters(two, 0) == dead_letters(log, 0)


def test_before_the_market_has_begun(tmp_path: Path) -> None:
    """Time is the last command's until then, also after a restore."""
    with create_log(f"sqlite:{tmp_path / 'log'}", SPEC) as log:
        write_facts(log, (), [opening(ONE)])
        with log.writer("operator") as writer:
            writer.append([NewRecord("operator.commands", 0, ONE.encode(), b"{")])
        records = [record for _, record in inputs(log)]
        core, other = (build(configured(log, busy_settings())) for _ in range(2))
        applied(core, records[:1])
        with exact():
            other.restore(core.snapshot())
        assert applied(other, records[1:]) == applied(core, records[1:])
