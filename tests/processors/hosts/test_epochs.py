"""Other settings or code: a new epoch where the old one has ended well, else a refusal that says why."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from eventlog import EventLog
from processors.hosts.inprocess import Progress
from processors.hosts.journal import batches, configurations
from processors.hosts.recovery import ConfigurationChanged, difference, same_configuration
from processors.hosts.replay import NotRestored
from processors.hosts.verify import Derived, derive
from processors.strategies.processor import StrategyError
from schemas import Configured, CoreSettings, Deposit
from support.market import at
from support.runs import (
    NOISY,
    ONE,
    all_records,
    busy_commands,
    busy_log,
    busy_settings,
    configured,
    core,
    host,
    kept,
    noisy,
    rewritten,
    run,
    strategy,
    verified,
    write_facts,
)
from tape.wiring import build, installed


def stopped(log: EventLog, settings: CoreSettings, batches: int = 8) -> None:
    """Run some batches, to a clean end."""
    left = iter(range(batches - 1))
    host(log, settings, batch=50).run(stop=lambda: next(left, None) is None)


def killed(log: EventLog, settings: CoreSettings, path: Path) -> EventLog:
    """Run some batches; the log as it would be had the run been killed."""
    stopped(log, settings)
    last = all_records(log, "snapshots", 0)[-1]
    return rewritten(
        log, path, lambda r: [] if (r.topic, r.offset) == ("snapshots", last.offset) else kept(r)
    )


OTHERS = {
    "latency": busy_settings(latency=0),
    "parameter": core(noisy("first", ONE, every=2), *busy_settings().strategies[1:]),
    "one gone": core(*busy_settings().strategies[1:]),
    "one added": core(*busy_settings().strategies, noisy("fifth", ONE, seed=9)),
}


@pytest.mark.parametrize("name", sorted(OTHERS))
def test_another_setting_begins_another_epoch(tmp_path: Path, name: str) -> None:
    with busy_log(tmp_path) as log:
        stopped(log, busy_settings())
        before = {topic: all_records(log, topic, 0) for topic in ("orders", "pnl", "fills")}
        run(log, OTHERS[name], batch=50)
        epochs = configurations(log, 0)
        assert [c.epoch for c in epochs] == [1, 2]
        assert epochs[1].settings == configured(log, OTHERS[name]).settings
        for topic, records in before.items():
            assert all_records(log, topic, 0)[: len(records)] == records
        numbered = [b.epoch for b in batches(log, 0)]
        assert numbered[:8] == [1] * 8
        assert set(numbered[8:]) == {2}
        found = verified(log)
        assert (found.difference, found.not_derived) == (None, [])
        assert found.inputs == sum(b.records for b in batches(log, 0))


def test_the_second_epoch_is_recovered_on_its_own(tmp_path: Path) -> None:
    """Stopped in the second epoch before its first snapshot, and once more."""
    other = OTHERS["latency"]
    with busy_log(tmp_path / "plain") as log, busy_log(tmp_path / "stopped") as again:
        for each in (log, again):
            stopped(each, busy_settings())
        run(log, other, batch=50)
        with killed(again, other, tmp_path / "killed") as cut:
            assert [c.epoch for c in configurations(cut, 0)] == [1, 2]
            ran = run(cut, other, batch=50)
            assert ran.replayed > 0
            assert verified(cut).difference is None
            assert all_records_of(cut) == all_records_of(log)


def all_records_of(log: EventLog) -> list[bytes]:
    return [r.value for topic in ("orders", "fills", "pnl") for r in all_records(log, topic, 0)]


def test_the_end_of_the_inputs_is_a_clean_end_whatever_the_batch(tmp_path: Path) -> None:
    """Also where the last batch is a full one, and nothing is left to commit."""
    with busy_log(tmp_path) as log:
        taken = run(log, busy_settings()).taken
    with busy_log(tmp_path, "again") as log:
        size = next(n for n in range(2, taken) if taken % n == 0)
        run(log, busy_settings(), batch=size)
        run(log, OTHERS["latency"])
        assert [c.epoch for c in configurations(log, 0)] == [1, 2]


def test_after_an_unclean_end_it_is_refused_and_said_why(tmp_path: Path) -> None:
    with busy_log(tmp_path) as log, killed(log, busy_settings(), tmp_path / "killed") as cut:
        with pytest.raises(ConfigurationChanged, match=r"latency 2000 -> 0.*no snapshot at its end"):
            run(cut, OTHERS["latency"])
        with pytest.raises(ConfigurationChanged, match=r"strategy first: params .*'every': '2'"):
            run(cut, OTHERS["parameter"])
        with pytest.raises(ConfigurationChanged, match="strategy first gone"):
            run(cut, OTHERS["one gone"])
        run(cut, busy_settings(), batch=50)
        run(cut, OTHERS["latency"])
        assert verified(cut).difference is None


def test_a_strategy_with_other_parameters_starts_anew(tmp_path: Path) -> None:
    """The state it had belongs to the old parameters; the other strategies go on with theirs."""
    with busy_log(tmp_path) as log:
        run(log, busy_settings())
        before = run(log, busy_settings()).pipeline.strategies._members
        after = run(log, OTHERS["parameter"]).pipeline.strategies._members
        assert vars(before[0].strategy)["seen"] > 0
        assert vars(after[0].strategy)["seen"] == 0
        assert vars(after[1].strategy) == vars(before[1].strategy)


def test_same_code_in_another_folder_is_the_same_configuration(tmp_path: Path) -> None:
    moved = tmp_path / "noisy.py"
    moved.write_bytes(Path(NOISY.rpartition(":")[0]).read_bytes())
    with busy_log(tmp_path) as log:
        one = configured(log, core(noisy("first", ONE)))
        other = configured(log, core(strategy(f"{moved}:Noisy", "first", ONE, ("AAA", "BBB", "CCC"))))
        assert same_configuration(one, other)
        assert difference(one, other) == "nothing"
        stopped(log, core(noisy("first", ONE)))
        run(log, other.settings)
        assert len(configurations(log, 0)) == 1


# ---------------------------------------------------------------- code that is not installed


def other_account(configured: Configured) -> str:
    """As `installed`, but the first epoch is said to have run with other code."""
    return "it ran with other code (account)" if configured.epoch == 1 else installed(configured)


def test_an_epoch_of_other_code_is_not_derived_but_the_next_is(tmp_path: Path) -> None:
    with busy_log(tmp_path) as log:
        stopped(log, busy_settings())
        run(log, OTHERS["latency"], batch=50)
        whole, part = verified(log), derive(log, build, other_account)
        second = sum(b.records for b in batches(log, 0) if b.epoch == 2)
        assert part.not_derived == ["partition 0, epoch 1: it ran with other code (account)"]
        assert (part.difference, part.inputs) == (None, second)
        assert 0 < part.decisions < whole.decisions


def test_a_change_in_an_epoch_that_is_derived_is_found_behind_one_that_is_not(tmp_path: Path) -> None:
    with busy_log(tmp_path) as log:
        stopped(log, busy_settings())
        run(log, OTHERS["latency"], batch=50)
        last = all_records(log, "pnl", 0)[-1]
        value = last.value.replace(b'"cash":"', b'"cash":"1')
        changed = rewritten(
            log,
            tmp_path / "changed",
            lambda r: [(r.key, value)] if (r.topic, r.offset) == ("pnl", last.offset) else kept(r),
        )
        with changed:
            found = derive(changed, build, other_account)
            assert f"pnl/0/{last.offset}" in str(found.difference)


def test_nothing_is_derived_where_no_code_is_installed(finished: EventLog) -> None:
    found = derive(finished, build, lambda configured: "it ran with other libraries")
    assert (found.inputs, found.decisions, found.difference) == (0, 0, None)
    assert len(found.not_derived) == 2


def test_an_epoch_needs_the_snapshot_it_began_with(tmp_path: Path) -> None:
    with busy_log(tmp_path) as log:
        stopped(log, busy_settings(snapshot_every=10**9))
        run(log, OTHERS["latency"], batch=50)
        with rewritten(
            log, tmp_path / "changed", lambda r: [] if r.topic == "snapshots" and r.offset == 0 else kept(r)
        ) as cut:
            assert "epoch 2 of partition 0 has no snapshot to begin from" in str(verified(cut).difference)


# ---------------------------------------------------------------- a strategy that raises


BUGGY = """
from tape import Context, Decimal, Quote, Strategy

class Buggy(Strategy):
    def __init__(self) -> None:
        self.seen = 0

    def on_quote(self, quote: Quote, ctx: Context) -> None:
        self.seen += 1
        ctx.target(quote.symbol, weight=Decimal(self.seen % 7) / 20)
        {line}
"""


def buggy(file: Path, line: str) -> CoreSettings:
    """A strategy that has a line of its own, beside the noisy ones."""
    file.write_text(BUGGY.format(line=line))
    return core(strategy(f"{file}:Buggy", "buggy", ONE, ("AAA",)), *busy_settings().strategies)


@pytest.mark.parametrize("size", [7, 5000])
def test_what_came_before_the_failure_is_kept_and_the_fixed_strategy_goes_on(
    tmp_path: Path, size: int
) -> None:
    file = tmp_path / "buggy.py"
    with busy_log(tmp_path) as log:
        settings = buggy(file, "1 / (self.seen - 90)")
        with pytest.raises(StrategyError, match="division by zero") as found:
            run(log, settings, batch=size)
        done = list(batches(log, 0))
        place = found.value.identity
        _, partition, offset = place.split("/")
        (stood,) = (
            i.next for i in done[-1].inputs if (i.topic, i.partition) == ("market.quotes", int(partition))
        )
        assert stood == int(offset), "the log stands right before the input that it failed on"
        assert len(all_records(log, "snapshots", 0)) > 0
        assert (held := verified(log)).difference is None
        assert held.inputs == sum(b.records for b in done)

        with pytest.raises(StrategyError, match="division by zero"):
            run(log, settings, batch=size)
        assert list(batches(log, 0)) == done, "the same code fails at the same place, and writes nothing"

        fixed = buggy(file, "1 / max(self.seen - 90, 1)")
        ran = run(log, fixed, batch=size)
        assert [c.epoch for c in configurations(log, 0)] == [1, 2]
        assert vars(ran.pipeline.strategies._members[0].strategy)["seen"] > 90
        found_after: Derived = verified(log)
        assert found_after.difference is None
        assert found_after.not_derived == [
            f"partition 0, epoch 1: strategy buggy: the source of {file}:Buggy is another now"
        ]


def test_facts_that_came_meanwhile_do_not_change_what_is_kept(tmp_path: Path) -> None:
    """A command that belongs further back was appended after the run had begun."""
    file = tmp_path / "buggy.py"
    with busy_log(tmp_path) as log:
        deposit = Deposit(id="late", account=ONE, ts=at("09:31"), who="", why="", amount=Decimal(1))

        def append(_: Progress) -> None:
            if log.bounds("operator.commands", 0)[1] == len(busy_commands()) - 1:
                write_facts(log, (), [deposit])

        with pytest.raises(StrategyError) as found:
            host(log, buggy(file, "1 / (self.seen - 90)"), batch=50).run(append)
        *_, last = batches(log, 0)
        _, partition, offset = found.value.identity.split("/")
        assert int(offset) in [i.next for i in last.inputs if i.partition == int(partition)]
        ran = run(log, buggy(file, "pass"))
        assert ran.pipeline.accounts.desk.accounts[ONE].deposits == 5001
        assert verified(log).difference is None


def test_a_strategy_that_fails_on_its_first_event(tmp_path: Path) -> None:
    file = tmp_path / "buggy.py"
    with busy_log(tmp_path) as log:
        with pytest.raises(StrategyError):
            run(log, buggy(file, "raise ValueError"))
        fixed = buggy(file, "pass")
        run(log, fixed)
        assert verified(log).difference is None


COUNTING = """pass

    def load(self, state):
        self.seen, self.count = state["seen"], state["count"]

    count = 0

    def save(self):
        return {"seen": self.seen, "count": self.count}
"""


def test_a_state_that_the_fixed_strategy_cannot_take_is_said(tmp_path: Path) -> None:
    file = tmp_path / "buggy.py"
    with busy_log(tmp_path) as log:
        with pytest.raises(StrategyError):
            run(log, buggy(file, "1 / (self.seen - 9)"))
        with pytest.raises(NotRestored, match=r"snapshot after batch 0 .*strategy 'buggy'.*'count'"):
            run(log, buggy(file, COUNTING))
