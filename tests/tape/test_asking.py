"""As of any decision, an account is what the core had then."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from random import Random
from typing import Any

import pytest

from eventlog import EventLog, create_log
from processors.pipeline import Pipeline
from schemas import BreakerHalted, Event, Fill, OrderChanged, PositionChanged, Split, exact
from support.market import at
from support.much import many
from support.runs import (
    ONE,
    SPEC,
    TWO,
    busy_commands,
    busy_market,
    busy_settings,
    configured,
    inputs,
    run,
    write_facts,
)
from tape.asking import AskError, account_at, as_of, moment
from tape.topics import iso
from tape.wiring import build

State = dict[str, Any]


def busy(url: str) -> EventLog:
    log = create_log(url, SPEC)
    write_facts(log, busy_market(quotes=60), busy_commands())
    run(log, busy_settings(snapshot_every=30), batch=40)
    return log


def states(pipeline: Pipeline) -> dict[str, State]:
    accounts = pipeline.accounts.desk.accounts
    return {name: account_at(account, pipeline.now) for name, account in accounts.items()}


def recorded(log: EventLog) -> tuple[dict[tuple[str, int], State], dict[int, dict[str, State]], list[Event]]:
    """The state after each decision, by account and seq; at each market time; and all decisions."""
    pipeline = build(configured(log, busy_settings()))
    after: dict[tuple[str, int], State] = {}
    at_time: dict[int, dict[str, State]] = {}
    decisions: list[Any] = []
    with exact():
        for _, record in inputs(log):
            made: list[Any] = list(pipeline.apply(record))
            decisions += made
            now = states(pipeline)
            after |= {(d.account, d.seq): now[d.account] for d in made}
            at_time[pipeline.now] = now
    return after, at_time, decisions


def without_question(found: State) -> State:
    return {k: v for k, v in found.items() if k not in ("log", "asked", "other_code")}


def test_every_seq_is_what_the_core_had(tmp_path: Path) -> None:
    with busy(f"sqlite:{tmp_path / 'log'}") as log:
        after, _, decisions = recorded(log)
        check_what_happened(decisions)
        assert len(after) == len(decisions)
        for account, seq in Random(2).sample(list(after), many(len(after))):
            state = after[account, seq]
            found = as_of(log, account, seq=seq)
            assert without_question(found) == state
            assert found["other_code"] == []


def check_what_happened(decisions: list[Any]) -> None:
    """The run has what may go wrong: flips, partial fills, a split while something is held, trips."""
    assert any(type(d) is BreakerHalted and d.reason == "day-loss" for d in decisions)
    assert any(type(d) is OrderChanged and d.status == "partial" for d in decisions)
    books: dict[tuple[str, str, str], int] = {}
    flips = 0
    for d in decisions:
        if type(d) is PositionChanged:
            key, sign = (d.account, d.strategy, d.symbol), (d.quantity > 0) - (d.quantity < 0)
            flips += books.get(key, 0) * sign < 0
            books[key] = sign
    assert flips
    split = next(e.ts for e in busy_market(quotes=60) if isinstance(e, Split))
    assert any(type(d) is PositionChanged and d.ts == split and d.symbol == "AAA" for d in decisions)
    assert any(type(d) is Fill for d in decisions)


def test_every_time_is_what_the_core_had(tmp_path: Path) -> None:
    with busy(f"sqlite:{tmp_path / 'log'}") as log:
        _, at_time, _ = recorded(log)
        times = [t for t, found in at_time.items() if t and TWO in found]
        for time in Random(1).sample(times, 60):
            for account, state in at_time[time].items():
                assert without_question(as_of(log, account, time=time)) == state
        last = max(times)
        whole_day = as_of(log, ONE, time=last + 1, whole_day=True)
        assert without_question(whole_day) == at_time[last][ONE]


def test_what_the_log_does_not_hold(tmp_path: Path) -> None:
    with busy(f"sqlite:{tmp_path / 'log'}") as log:
        end = max(recorded(log)[1])
        for asked, said in [
            ({"name": "nobody", "seq": 1}, f"has no account nobody; there is {ONE}, {TWO}"),
            ({"name": ONE, "time": end + 1}, f"ends at {iso(end)}; {iso(end + 1)} is after it"),
            ({"name": ONE, "time": end + 86_400 * 10**9, "whole_day": True}, f"ends at {iso(end)}"),
            ({"name": ONE, "time": 1}, "has no market event at or before"),
            ({"name": TWO, "time": at("09:31")}, f"account {TWO} was not open yet"),
            ({"name": ONE, "seq": 10**6}, f"account {ONE} has decisions 1 to"),
        ]:
            with pytest.raises(AskError) as refused:
                as_of(log, **asked)  # type: ignore[arg-type]
            assert said in str(refused.value)


@pytest.mark.parametrize(
    ("text", "zone", "ns", "whole"),
    [
        ("2013-10-07T11:03-04:00", None, 1381158180 * 10**9, False),
        ("2013-10-07T15:03Z", "Asia/Tokyo", 1381158180 * 10**9, False),
        ("2013-10-07 11:03:00.123456789", "America/New_York", 1381158180 * 10**9 + 123456789, False),
        ("2013-10-07T15:03:00.5+00:00", None, 1381158180 * 10**9 + 500000000, False),
        ("2013-10-07", None, 1381204800 * 10**9 - 1, True),
        ("2013-10-07", "UTC", 1381190400 * 10**9 - 1, True),
        ("2013-11-03", None, 1383541200 * 10**9 - 1, True),
    ],
)
def test_moments(text: str, zone: str | None, ns: int, whole: bool) -> None:
    assert moment(text, zone) == (ns, whole)
    assert whole == (len(text) == len(date.min.isoformat()))


@pytest.mark.parametrize(
    ("text", "zone", "said"),
    [
        ("noon", None, "'noon' is not a time"),
        ("2013-10-07T11:03", None, "has no zone; add one, or say which with --tz"),
        ("2013-10-07", "Mars", "--tz Mars is not a time zone"),
        ("2013-10-07T11:03:00.1234567890Z", None, "is not a time"),
    ],
)
def test_what_is_no_moment(text: str, zone: str | None, said: str) -> None:
    with pytest.raises(AskError, match=said):
        moment(text, zone)
