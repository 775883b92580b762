"""Snapshot and restore between any two inputs change nothing in what follows."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processors.pipeline import Pipeline
from schemas import Event, Record, exact
from support.runs import applied, busy_log, busy_settings, configured, inputs
from tape.wiring import build


@cache
def busy_inputs() -> list[Record]:
    """What partition 0 takes, in order."""
    with TemporaryDirectory() as folder, busy_log(Path(folder)) as log:
        return [record for _, record in inputs(log)]


def pipeline() -> Pipeline:
    """A new core of partition 0."""
    with TemporaryDirectory() as folder, busy_log(Path(folder)) as log:
        return build(configured(log, busy_settings()))


@cache
def straight() -> tuple[list[list[Event]], list[bytes]]:
    """The decisions of each input, and the state before each and after the last, without any restore."""
    core, decisions, states = pipeline(), [], []
    with exact():
        for record in busy_inputs():
            states.append(core.snapshot())
            decisions.append(list(core.apply(record)))
        states.append(core.snapshot())
    return decisions, states


def test_restored_before_every_input() -> None:
    """Two cores take turns: each is given the state that the other one left."""
    decisions, states = straight()
    one, other = pipeline(), pipeline()
    with exact():
        for n, record in enumerate(busy_inputs()):
            other.restore(one.snapshot())
            one, other = other, one
            assert one.snapshot() == states[n], n
            assert list(one.apply(record)) == decisions[n], n
    assert one.snapshot() == states[-1]


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_goes_on_from_any_state(data: st.DataObject) -> None:
    """A state restored into a new core, or into one that has been somewhere else, leads to the same."""
    decisions, states = straight()
    records = busy_inputs()
    core = pipeline()
    at = data.draw(st.integers(0, len(records) - 1), label="restored before input")
    elsewhere = data.draw(st.sampled_from(states), label="after")
    core.restore(elsewhere)
    core.restore(states[at])
    assert core.snapshot() == states[at]
    assert applied(core, records[at : at + 300]) == decisions[at : at + 300]
    assert core.snapshot() == states[min(at + 300, len(records))]


def test_restoring_with_a_snapshot_taken_and_dropped_changes_nothing() -> None:
    """Taking a snapshot does not touch the state: `straight` took one before each input."""
    decisions, states = straight()
    core = pipeline()
    assert applied(core, busy_inputs()) == decisions
    assert core.snapshot() == states[-1]


def test_is_canonical() -> None:
    """Keys are sorted wherever they are not in the order of events; no spaces; UTF-8."""
    state = straight()[1][-1]
    text = state.decode()
    assert json.dumps(json.loads(text), separators=(",", ":"), ensure_ascii=False) == text


@pytest.mark.parametrize("what", ["accounts", "symbols"])
def test_the_busy_run_leaves_much_to_restore(what: str) -> None:
    assert len(json.loads(straight()[1][-1])["account"][what]) == {"accounts": 2, "symbols": 3}[what]
