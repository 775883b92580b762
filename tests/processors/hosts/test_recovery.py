"""Stopped, killed, refused, out of room: the log stays whole, and what goes on comes to the same."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import pytest

from eventlog import EventLog, check_seals, fingerprint, open_log
from eventlog.errors import LogDamaged, LogError, LogFull, LogMismatch, WriterBusy, WriterFenced
from processors.hosts.inprocess import InProcessHost
from processors.hosts.recovery import recover
from processors.hosts.replay import Divergence, OrderBroken
from schemas import TOPICS, Batch, Record, Snapshot, decode, encode, evolve
from support.runs import (
    Change,
    all_records,
    busy_log,
    busy_settings,
    configured,
    host,
    kept,
    rewritten,
    run,
    run_cut,
    verified,
)
from tape.wiring import build


def finish(log: EventLog, **options: Any) -> str:
    """Run what is left of both partitions; the fingerprint."""
    for partition in (0, 1):
        run(log, busy_settings(**options), partition, batch=50)
    return fingerprint(log)


# ---------------------------------------------------------------- stopped and killed


@pytest.mark.parametrize(
    ("every", "snapshot_every", "stop"),
    [(1, 200, True), (2, 1, False), (3, 130, False), (4, 10**9, False), (4, 10**9, True)],
)
def test_cut_off_again_and_again(
    undisturbed: str, tmp_path: Path, every: int, snapshot_every: int, stop: bool
) -> None:
    with busy_log(tmp_path) as log:
        settings = busy_settings(snapshot_every=snapshot_every)
        assert run_cut(log, settings, every, stop=stop, batch=50) > 2
        assert finish(log, snapshot_every=snapshot_every) == undisturbed
        assert verified(log).difference is None


CORE = """
import sys
from support.runs import busy_settings, host
from eventlog import open_log

with open_log(sys.argv[1]) as log:
    host(log, busy_settings(snapshot_every=int(sys.argv[2])), batch=5, take_over=True).run(
        lambda progress: print(progress.taken, flush=True)
    )
print("done", flush=True)
"""


@pytest.mark.parametrize("snapshot_every", [60, 10**9])
def test_killed_at_any_moment(undisturbed: str, tmp_path: Path, snapshot_every: int) -> None:
    draw = Random(snapshot_every)
    paths = os.pathsep.join(p for p in (os.getcwd(), str(Path(__file__).parents[2]), *sys.path) if p)
    with busy_log(tmp_path) as log:
        for _ in range(3):
            process = subprocess.Popen(
                [sys.executable, "-c", CORE, log.url, str(snapshot_every)],
                stdout=subprocess.PIPE,
                text=True,
                env={**os.environ, "PYTHONPATH": paths},
            )
            assert process.stdout is not None
            for _ in range(draw.randint(1, 40)):
                assert process.stdout.readline().strip() not in ("", "done")
            time.sleep(draw.random() / 50)
            process.kill()
            process.wait()
            process.stdout.close()
        assert check_seals(log).faults == []
        ran = run(log, busy_settings(snapshot_every=snapshot_every), batch=50, take_over=True)
        assert ran.replayed < 70 or snapshot_every == 10**9
        assert finish(log, snapshot_every=snapshot_every) == undisturbed
        assert verified(log).difference is None


class Counting:
    """A log that counts the records it is asked for, by topic."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self.read_of: Counter[str] = Counter()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    def read(self, topic: str, partition: int, **bounds: Any) -> list[Record]:
        records = self._log.read(topic, partition, **bounds)
        self.read_of[topic] += len(records)
        return records


def test_reads_no_more_of_a_long_log_than_it_needs(tmp_path: Path) -> None:
    """Of batches and snapshots, some on the way to the newest snapshot; of inputs, none before it."""
    with busy_log(tmp_path) as log:
        settings = busy_settings(snapshot_every=30)
        taken = run(log, settings, batch=1).taken
        counting: Any = Counting(log)
        recover(counting, 0, configured(log, settings), build)
        assert log.bounds("batches", 0)[1] == taken > 500
        assert counting.read_of["batches"] < 100
        assert counting.read_of["snapshots"] < 20
        assert counting.read_of["market.quotes"] == 0


# ---------------------------------------------------------------- what recovery refuses


@pytest.fixture(scope="module")
def half(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log in the middle of a run: its last snapshot is some batches back."""
    folder = tmp_path_factory.mktemp("half")
    with busy_log(folder) as log:
        stop_after(log, 11)
        return copy_without_last_snapshot(log, folder)


def stop_after(log: EventLog, batches: int) -> None:
    seen = 0

    def stop() -> bool:
        nonlocal seen
        seen += 1
        return seen >= batches

    host(log, busy_settings(), batch=50).run(stop=stop)


def copy_without_last_snapshot(log: EventLog, folder: Path) -> Path:
    """As if the run had been killed: a stopped one leaves a snapshot at its end."""
    last = all_records(log, "snapshots", 0)[-1]
    path = folder / "half"
    rewritten(
        log, path, lambda r: [] if r.topic == "snapshots" and r.offset == last.offset else kept(r)
    ).close()
    return path


def changed(half: Path, tmp_path: Path, change: Change) -> EventLog:
    """A copy of the half-run log with other records in it."""
    with open_log(f"sqlite:{half}", read_only=True) as log:
        return rewritten(log, tmp_path / "changed", change)


def go_on(log: EventLog) -> None:
    run(log, busy_settings(), batch=50)


def at(topic: str, offset: int, *values: bytes) -> Change:
    """Other values instead of one record of partition 0."""

    def change(record: Record) -> Sequence[tuple[bytes, bytes]]:
        if (record.topic, record.partition, record.offset) != (topic, 0, offset):
            return kept(record)
        return [(record.key, value) for value in values]

    return change


def last_of(half: Path, topic: str) -> tuple[int, Any]:
    """Offset and event of the last record of a topic."""
    with open_log(f"sqlite:{half}", read_only=True) as log:
        record = all_records(log, topic, 0)[-1]
        return record.offset, decode(topic, record.value)


def test_goes_on_from_half_way(undisturbed: str, half: Path, tmp_path: Path) -> None:
    with changed(half, tmp_path, kept) as log:
        assert recover(log, 0, configured(log, busy_settings()), build).replayed == 150
        assert finish(log) == undisturbed


def test_names_the_decision_that_was_altered(half: Path, tmp_path: Path) -> None:
    offset, pnl = last_of(half, "pnl")
    other = encode(evolve(pnl, cash=pnl.cash + 1))
    with changed(half, tmp_path, at("pnl", offset, other)) as log:
        with pytest.raises(Divergence, match=f"pnl/0/{offset} differs") as found:
            go_on(log)
        assert (found.value.topic, found.value.partition, found.value.offset) == ("pnl", 0, offset)
        assert (found.value.stored, found.value.derived) == (other, encode(pnl))
        assert f'"cash":"{pnl.cash}"' in str(found.value)


def test_names_the_decision_that_was_dropped(half: Path, tmp_path: Path) -> None:
    offset, fill = last_of(half, "fills")
    with changed(half, tmp_path, at("fills", offset)) as log:
        with pytest.raises(Divergence, match="fills/0 differs") as found:
            go_on(log)
        assert (found.value.offset, found.value.stored, found.value.derived) == (None, None, encode(fill))


def test_names_a_decision_that_cannot_be_read(half: Path, tmp_path: Path) -> None:
    offset, _ = last_of(half, "orders")
    with (
        changed(half, tmp_path, at("orders", offset, b"{}")) as log,
        pytest.raises((Divergence, LogDamaged), match=f"orders/0/{offset}"),
    ):
        go_on(log)


def test_a_decision_beyond_the_last_batch(half: Path, tmp_path: Path) -> None:
    offset, pnl = last_of(half, "pnl")
    beyond = encode(evolve(pnl, seq=pnl.seq + 1000))
    with changed(half, tmp_path, at("pnl", offset, encode(pnl), beyond)) as log:
        with pytest.raises(Divergence, match=f"pnl/0/{offset + 1} differs") as found:
            go_on(log)
        assert (found.value.stored, found.value.derived) == (beyond, None)


def test_decisions_without_any_epoch(half: Path, tmp_path: Path) -> None:
    journal = ("configuration", "batches", "snapshots")
    with (
        changed(half, tmp_path, lambda r: [] if r.topic in journal else kept(r)) as log,
        pytest.raises(Divergence, match="derived: nothing"),
    ):
        go_on(log)


def test_a_configuration_of_another_log_is_refused(half: Path, tmp_path: Path) -> None:
    """A host that has read it from the log that stood there before, and a log that says so itself."""
    offset, epoch = last_of(half, "configuration")
    other = evolve(epoch, log="f" * 16)
    with changed(half, tmp_path, kept) as log:
        ends = [log.bounds(topic, 0) for topic in TOPICS]
        with pytest.raises(LogMismatch, match="another log stands there now; start again"):
            InProcessHost(log, 0, other, build).run()
        assert [log.bounds(topic, 0) for topic in TOPICS] == ends
    (tmp_path / "again").mkdir()
    with (
        changed(half, tmp_path / "again", at("configuration", offset, encode(other))) as log,
        pytest.raises(LogMismatch, match=f"partition 0 is of log {other.log}"),
    ):
        go_on(log)


def last_batch(half: Path) -> tuple[int, Batch]:
    offset, batch = last_of(half, "batches")
    assert isinstance(batch, Batch)
    return offset, batch


def test_a_missing_batch(half: Path, tmp_path: Path) -> None:
    offset, _ = last_batch(half)
    with (
        changed(half, tmp_path, at("batches", offset - 1)) as log,
        pytest.raises(LogDamaged, match=f"batches/0/{offset - 1} is batch {offset}; {offset - 1} is missing"),
    ):
        go_on(log)


def test_batches_without_any_epoch(half: Path, tmp_path: Path) -> None:
    with (
        changed(half, tmp_path, lambda r: [] if r.topic == "configuration" else kept(r)) as log,
        pytest.raises(LogDamaged, match="batches and no configuration"),
    ):
        go_on(log)


def test_batches_cut_off_before_a_snapshot(half: Path, tmp_path: Path) -> None:
    _, snapshot = last_of(half, "snapshots")
    with (
        changed(
            half, tmp_path, lambda r: [] if r.topic == "batches" and r.offset >= snapshot.batch else kept(r)
        ) as log,
        pytest.raises(
            LogDamaged, match=f"a snapshot after batch {snapshot.batch}, and {snapshot.batch} batches"
        ),
    ):
        go_on(log)


def inputs_moved(batch: Batch, **moved: int) -> bytes:
    """A batch that says something else of the inputs it took the most of."""
    most = max(batch.inputs, key=lambda i: i.count)
    inputs = tuple(
        evolve(i, **{name: getattr(i, name) + by for name, by in moved.items()}) if i is most else i
        for i in batch.inputs
    )
    return encode(evolve(batch, inputs=inputs))


@pytest.mark.parametrize(
    ("moved", "said"),
    [
        ({"first": 10**6, "next": 10**6}, "begins market"),
        ({"first": 1}, "begins market"),
        ({"first": -1}, "begins market"),
        ({"next": -1}, "that is not in the log"),
        ({"next": 1}, "ends market"),
        ({"count": 1}, "does not fit its counts"),
    ],
)
def test_a_batch_whose_inputs_are_not_there(
    half: Path, tmp_path: Path, moved: dict[str, int], said: str
) -> None:
    offset, batch = last_batch(half)
    with (
        changed(half, tmp_path, at("batches", offset, inputs_moved(batch, **moved))) as log,
        pytest.raises((OrderBroken, LogDamaged), match=said),
    ):
        go_on(log)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"order": "AAAA"}, "cannot be unpacked"),
        ({"order": "%"}, "cannot be unpacked"),
        ({"now": 1}, "and now 1; derived are"),
        ({"seqs": {"acc0": 1}}, "seqs {'acc0': 1}"),
        ({"epoch": 7}, "of epoch 7 has no snapshot after it"),
    ],
)
def test_a_batch_that_says_something_else(
    half: Path, tmp_path: Path, fields: dict[str, Any], said: str
) -> None:
    offset, batch = last_batch(half)
    with (
        changed(half, tmp_path, at("batches", offset, encode(evolve(batch, **fields)))) as log,
        pytest.raises(LogError, match=said),
    ):
        go_on(log)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"digest": "0" * 64}, "does not fit its digest"),
        ({"data": "AAAA"}, "cannot be unpacked"),
        ({"chunk": 1}, "chunk 0 was due"),
        ({"chunks": 2}, "lacks chunk 1"),
    ],
)
def test_a_damaged_snapshot(half: Path, tmp_path: Path, fields: dict[str, Any], said: str) -> None:
    offset, snapshot = last_of(half, "snapshots")
    assert isinstance(snapshot, Snapshot)
    with (
        changed(half, tmp_path, at("snapshots", offset, encode(evolve(snapshot, **fields)))) as log,
        pytest.raises(LogDamaged, match=said),
    ):
        go_on(log)


# ---------------------------------------------------------------- one host at a time


def test_a_second_host_is_refused(half: Path, tmp_path: Path) -> None:
    with changed(half, tmp_path, kept) as log, log.writer("core-0"):
        with pytest.raises(WriterBusy, match="core-0 is held"):
            go_on(log)
        run(log, busy_settings(), 1)


def test_a_host_that_was_taken_over_writes_nothing_more(undisturbed: str, half: Path, tmp_path: Path) -> None:
    """The older host fails at its next commit; the newer one has gone on from the older one's last."""
    with changed(half, tmp_path, kept) as log:
        ends: list[tuple[int, int]] = []

        def taken_over() -> bool:
            if not ends:
                with open_log(log.url) as other:
                    run(other, busy_settings(), batch=50, take_over=True)
                ends.append(log.bounds("batches", 0))
            return False

        with pytest.raises(WriterFenced):
            host(log, busy_settings(), batch=50).run(stop=taken_over)
        assert log.bounds("batches", 0) == ends[0]
        assert finish(log) == undisturbed
        assert verified(log).difference is None


# ---------------------------------------------------------------- no room


class Full:
    """A log whose disk has room for a while: every writer fails from its `appends`-th append on."""

    def __init__(self, log: EventLog, appends: int) -> None:
        self._log, self._appends = log, appends

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    def writer(self, id: str, *, take_over: bool = False) -> Any:
        writer: Any = self._log.writer(id, take_over=take_over)
        append, left = writer.append, iter(range(self._appends))

        def limited(records: Any) -> None:
            if next(left, None) is None:
                writer.limit_pages(1)
            append(records)

        writer.append = limited
        return writer


def test_a_full_disk_stops_the_run_and_loses_nothing(undisturbed: str, tmp_path: Path) -> None:
    with busy_log(tmp_path) as log:
        for appends in (0, 1, 2, 7):
            full: Any = Full(log, appends)
            with pytest.raises(LogFull):
                host(full, busy_settings(), batch=50).run()
            assert check_seals(log).faults == []
            assert verified(log).difference is None
        assert finish(log) == undisturbed
