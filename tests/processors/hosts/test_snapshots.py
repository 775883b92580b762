"""Snapshot and restore between any two inputs change nothing in what follows."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processors.pipeline import Pipeline
from schemas import Event, Record, digest, exact
from support.runs import applied, busy_log, busy_settings, configured, inputs
from tape.wiring import build

KEEP = 7
"""Every which state is kept whole."""


@cache
def busy_inputs() -> list[Record]:
    """What partition 0 takes, in order."""
    with TemporaryDirectory() as folder, busy_log(Path(folder)) as log:
        return [record for _, record in inputs(log)]


def pipeline() -> Pipeline:
    """A new core of partition 0."""
    with TemporaryDirectory() as folder, busy_log(Path(folder)) as log:
        return build(configured(log, busy_settings()))


class Straight(NamedTuple):
    """What a core does that is never restored."""

    decisions: list[list[Event]]
    """Of each input."""
    states: list[str]
    """Digests of the state before each input, and after the last."""
    kept: dict[int, bytes]
    """Some of the states, by the input they stand before."""


@cache
def straight() -> Straight:
    """All inputs in a row; a snapshot is taken before each."""
    core, found = pipeline(), Straight([], [], {})
    with exact():
        for n, record in enumerate(busy_inputs()):
            state = core.snapshot()
            found.states.append(digest(state))
            if n % KEEP == 0:
                found.kept[n] = state
            found.decisions.append(list(core.apply(record)))
        found.states.append(digest(core.snapshot()))
    return found


def test_restored_before_every_input() -> None:
    """Two cores take turns: each is given the state that the other one left."""
    decisions, states, _ = straight()
    one, other = pipeline(), pipeline()
    with exact():
        for n, record in enumerate(busy_inputs()):
            other.restore(one.snapshot())
            one, other = other, one
            assert digest(one.snapshot()) == states[n], n
            assert list(one.apply(record)) == decisions[n], n
    assert digest(one.snapshot()) == states[-1]


@settings(max_examples=20, deadline=None)
@given(st.data())
def test_goes_on_from_any_state(data: st.DataObject) -> None:
    """A state restored into a core that has been somewhere else leads to the same as ever."""
    decisions, states, kept = straight()
    records, core = busy_inputs(), pipeline()
    elsewhere, at = (data.draw(st.sampled_from(sorted(kept)), label=label) for label in ("from", "to"))
    end = data.draw(st.integers(at, len(records)), label="until")
    core.restore(kept[elsewhere])
    core.restore(kept[at])
    assert applied(core, records[at:end]) == decisions[at:end]
    assert digest(core.snapshot()) == states[end]


def test_taking_a_snapshot_changes_nothing() -> None:
    decisions, states, _ = straight()
    core = pipeline()
    assert applied(core, busy_inputs()) == decisions
    assert digest(core.snapshot()) == states[-1]


def last_state() -> bytes:
    """The busiest of the states kept."""
    return straight().kept[max(straight().kept)]


def test_is_canonical() -> None:
    """Keys are sorted wherever they are not in the order of events; no spaces; UTF-8."""
    text = last_state().decode()
    assert json.dumps(json.loads(text), separators=(",", ":"), ensure_ascii=False) == text


@pytest.mark.parametrize("what", ["accounts", "symbols"])
def test_the_busy_run_leaves_much_to_restore(what: str) -> None:
    assert len(json.loads(last_state())["account"][what]) == {"accounts": 2, "symbols": 3}[what]
