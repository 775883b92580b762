"""The same facts give the same decisions, however they are read, batched and appended."""

from __future__ import annotations

from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from eventlog import EventLog, check_seals, create_log, fingerprint
from processors.hosts import inprocess
from processors.hosts.merge import Merge
from schemas import DECISIONS, TOPICS, decode
from support.market import at
from support.runs import (
    ELSEWHERE,
    ONE,
    SPEC,
    TWO,
    all_records,
    busy_commands,
    busy_log,
    busy_market,
    busy_settings,
    run,
    verified,
    write_facts,
)

HAPPENS = (
    *("Signal", "OrderRequested", "OrderAccepted", "OrderDenied", "OrderChanged", "Fill", "PositionChanged"),
    *("PnL", "DayOpened", "CommandApplied", "LimitBreached", "BreakerReducing", "BreakerHalted"),
    *("BreakerCleared", "InternalTransfer"),
)
"""What a busy run must have in it, or the tests of this folder show little."""


def decisions(log: EventLog) -> dict[tuple[str, int], list[tuple[bytes, bytes]]]:
    """Keys and values of all decision topics."""
    return {
        (topic, p): [(r.key, r.value) for r in all_records(log, topic, p)]
        for topic in DECISIONS
        for p in range(log.partitions(topic))
    }


def test_the_busy_run_is_busy(finished: EventLog) -> None:
    counts = Counter(
        type(decode(topic, value)).__name__
        for (topic, _), rows in decisions(finished).items()
        for _, value in rows
    )
    assert [name for name in HAPPENS if not counts[name]] == []
    assert counts["Fill"] > 200
    texts = b"".join(value for rows in decisions(finished).values() for _, value in rows)
    for said in (b'"partial"', b'"expired"', b'"cancelled"', b'"replace"', b'"crossing-zero"', b'"flatten"'):
        assert said in texts


def test_holds(finished: EventLog) -> None:
    found = verified(finished)
    assert (found.difference, found.not_derived, found.partitions) == (None, [], 2)
    assert found.snapshots >= 6
    assert found.decisions == sum(len(rows) for rows in decisions(finished).values())
    assert check_seals(finished).faults == []


@pytest.mark.parametrize(("batch", "page"), [(1, 5000), (7, 3), (100, 64), (5000, 5000), (5000, 1)])
def test_any_batching_and_any_pages(
    finished: EventLog,
    undisturbed: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    batch: int,
    page: int,
) -> None:
    monkeypatch.setattr(inprocess, "Merge", partial(Merge, page=page))
    with busy_log(tmp_path) as log:
        for partition in (0, 1):
            run(log, busy_settings(), partition, batch=batch)
        assert decisions(log) == decisions(finished)
        assert fingerprint(log) == fingerprint(finished)
        assert verified(log).difference is None


def test_two_runs_write_the_same_log(finished: EventLog, tmp_path: Path) -> None:
    with busy_log(tmp_path) as log:
        for partition in (0, 1):
            run(log, busy_settings(), partition, batch=50)
        for topic in TOPICS:
            for partition in range(log.partitions(topic)):
                one, other = (all_records(each, topic, partition) for each in (log, finished))
                assert [(r.key, r.value) for r in one] == [(r.key, r.value) for r in other], topic


@pytest.mark.parametrize("batch", [1, 13])
def test_facts_may_be_appended_in_any_portions(undisturbed: str, tmp_path: Path, batch: int) -> None:
    with busy_log(tmp_path, batch=batch) as log:
        for partition in (0, 1):
            run(log, busy_settings(), partition)
        assert fingerprint(log) == undisturbed


def test_facts_may_come_between_runs(tmp_path: Path) -> None:
    """Each run takes what there is, and goes on where the one before ended."""
    market = busy_market()
    with create_log(f"sqlite:{tmp_path / 'log'}", SPEC) as log:
        write_facts(log, (), busy_commands())
        for start in range(0, len(market), 150):
            write_facts(log, market[start : start + 150])
            run(log, busy_settings())
            assert run(log, busy_settings()).taken == 0
        run(log, busy_settings(), 1)
        found = verified(log)
    assert found.difference is None
    assert found.inputs == 2 * len(market) + len(busy_commands())


def test_repeated_market_records_change_nothing(undisturbed: str, tmp_path: Path) -> None:
    """An import that was not sure wrote everything twice, and the second half three times."""
    market = busy_market()
    with busy_log(tmp_path) as log:
        write_facts(log, market[len(market) // 2 :])
        write_facts(log, market)
        ran = run(log, busy_settings())
        assert ran.taken > 2 * len(market)
        run(log, busy_settings(), 1)
        assert fingerprint(log) == undisturbed
        assert verified(log).difference is None


def first_decision(log: EventLog, account: str) -> Any:
    """The decision with seq 1."""
    rows = [row for rows in decisions(log).values() for row in rows]
    events = (decode("orders", value) for key, value in rows if key == account.encode())
    return next(e for e in events if getattr(e, "seq", 0) == 1)


def test_accounts_share_a_partition_or_have_one_of_their_own(finished: EventLog) -> None:
    places = {key: p for (_, p), rows in decisions(finished).items() for key, _ in rows}
    assert places == {ONE.encode(): 0, TWO.encode(): 0, ELSEWHERE.encode(): 1}


def test_an_account_opened_in_the_session_begins_there(finished: EventLog) -> None:
    """Its first decision is the opening, at the market's time, and its strategy trades from then on."""
    opened = first_decision(finished, TWO)
    assert (type(opened).__name__, opened.kind) == ("CommandApplied", "OpenAccount")
    assert at("09:30") < opened.ts <= at("10:00")
    fills = [decode("fills", r.value) for r in all_records(finished, "fills", 0) if r.key == TWO.encode()]
    assert len(fills) > 30
