"""The state at any decision and at any instant is the one the core had when it went through."""

from __future__ import annotations

import re
from typing import Any

import pytest

from eventlog import EventLog, create_log
from processors.hosts.state import NoSuchMoment, _utc, state_at
from schemas import exact
from support.runs import (
    ONE,
    SPEC,
    TWO,
    busy_log,
    busy_settings,
    configured,
    host,
    inputs,
    run,
    verified,
)
from tape.wiring import build


class Recorded:
    """States noted while a core went through all inputs: by seq of each account, and by market time."""

    def __init__(self, log: EventLog) -> None:
        core = build(configured(log, busy_settings()))
        self.by_seq: dict[tuple[str, int], bytes] = {}
        self.by_time: list[tuple[int, bytes]] = []
        """The market time after each input, and the state; ascending."""
        seqs: dict[str, int] = {}
        with exact():
            for _, record in inputs(log):
                core.apply(record)
                state = core.snapshot()
                for account, seq in core.seqs.items():
                    for each in range(seqs.get(account, 0) + 1, seq + 1):
                        self.by_seq[account, each] = state
                seqs = core.seqs
                self.by_time.append((core.now, state))

    def at(self, time: int) -> bytes:
        """The last state whose market time is not after `time`."""
        return [state for now, state in self.by_time if now <= time][-1]


@pytest.fixture(scope="module")
def recorded(finished: EventLog) -> Recorded:
    return Recorded(finished)


def test_at_every_seq(finished: EventLog, recorded: Recorded) -> None:
    for account in (ONE, TWO):
        last = max(seq for name, seq in recorded.by_seq if name == account)
        for seq in {1, 2, 3, last - 1, last, *range(7, last, last // 12)}:
            found = state_at(finished, 0, build, account=account, seq=seq)
            assert found.snapshot() == recorded.by_seq[account, seq], (account, seq)


def test_at_instants_on_and_between_the_inputs(finished: EventLog, recorded: Recorded) -> None:
    times = sorted({now for now, _ in recorded.by_time if now})
    for now in times[:: len(times) // 12]:
        for time in (now, now + 1):
            assert state_at(finished, 0, build, time=time).snapshot() == recorded.at(time), time


def test_at_the_end(finished: EventLog, recorded: Recorded) -> None:
    now, state = recorded.by_time[-1]
    assert state_at(finished, 0, build).snapshot() == state
    assert state_at(finished, 0, build, time=now).snapshot() == state


@pytest.mark.parametrize("seq", [0, -1, 10**6])
def test_a_seq_that_is_not_there(finished: EventLog, seq: int) -> None:
    with pytest.raises(NoSuchMoment, match=f"account {ONE} has decisions 1 to .*; {seq} was asked for"):
        state_at(finished, 0, build, account=ONE, seq=seq)


def test_an_account_that_is_not_there(finished: EventLog) -> None:
    with pytest.raises(NoSuchMoment, match="no account nobody in partition 0"):
        state_at(finished, 0, build, account="nobody", seq=1)
    with pytest.raises(ValueError, match="needs its account"):
        state_at(finished, 0, build, seq=1)


def test_an_instant_before_the_market_or_after_it(finished: EventLog, recorded: Recorded) -> None:
    first = next(now for now, _ in recorded.by_time if now)
    last = recorded.by_time[-1][0]
    before = f"no market event at or before {_utc(first - 1)}"
    with pytest.raises(NoSuchMoment, match=re.escape(before)):
        state_at(finished, 0, build, time=first - 1)
    beyond = f"decided up to {_utc(last)}; {_utc(last + 1)} was asked for"
    with pytest.raises(NoSuchMoment, match=re.escape(beyond)):
        state_at(finished, 0, build, time=last + 1)


def test_a_log_without_decisions(tmp_path: Any) -> None:
    with (
        create_log(f"sqlite:{tmp_path / 'empty'}", SPEC) as log,
        pytest.raises(NoSuchMoment, match="nothing has been decided"),
    ):
        state_at(log, 0, build)


def test_across_epochs_each_has_its_own_settings(tmp_path: Any) -> None:
    with busy_log(tmp_path) as log:
        left = iter(range(7))
        host(log, busy_settings(), batch=50).run(stop=lambda: next(left, None) is None)
        middle = state_at(log, 0, build)
        run(log, busy_settings(latency=0), batch=50)
        assert verified(log).difference is None
        for account, seq in middle.seqs.items():
            before, after = (state_at(log, 0, build, account=account, seq=n) for n in (seq, seq + 1))
            assert before.accounts.desk.settings.latency == 2000
            assert after.accounts.desk.settings.latency == 0
        assert state_at(log, 0, build, time=middle.now).snapshot() == middle.snapshot()
