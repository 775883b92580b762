"""Forgeries whose seals hold: deriving names the first decision that does not follow from the facts."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

import pytest

from eventlog import EventLog, check_seals
from processors.hosts.journal import make_snapshot, order_of
from processors.hosts.replay import Divergence, OrderBroken
from processors.hosts.verify import Derived
from schemas import DECISIONS, Batch, Quote, Record, Snapshot, decode, encode, evolve
from support.runs import ONE, Change, all_records, busy_log, core, kept, rewritten, run, strategy, verified

Forge = Callable[[Callable[[Record], Sequence[tuple[bytes, bytes]]]], Derived]


@pytest.fixture
def forge(finished: EventLog, tmp_path: Path) -> Forge:
    """Verify a copy of the finished log with a change in it; its structure holds."""

    def forged(change: Change) -> Derived:
        with rewritten(finished, tmp_path / "forged", change) as log:
            assert check_seals(log).faults == []
            return verified(log)

    return forged


def instead(record: Record, *values: bytes) -> Change:
    """These values in place of a record."""
    place = (record.topic, record.partition, record.offset)

    def change(each: Record) -> Sequence[tuple[bytes, bytes]]:
        found = (each.topic, each.partition, each.offset) == place
        return [(each.key, value) for value in values] if found else kept(each)

    return change


def some(finished: EventLog, topic: str, where: float) -> tuple[Record, Record]:
    """A record of partition 0, somewhere in its topic (0 to 1), and the next one."""
    records = all_records(finished, topic, 0)
    n = int(where * (len(records) - 2))
    return records[n], records[n + 1]


def altered(topic: str, value: bytes) -> bytes:
    """The same decision at another time."""
    event: Any = decode(topic, value)
    return encode(evolve(event, ts=event.ts + 1))


def assert_named(found: Derived, record: Record, stored: bytes | None, derived: bytes | None) -> None:
    """The difference is at the record's place, with both versions."""
    assert isinstance(found.difference, Divergence)
    place = (found.difference.topic, found.difference.partition, found.difference.offset)
    assert place == (record.topic, record.partition, record.offset)
    assert (found.difference.stored, found.difference.derived) == (stored, derived)
    assert f"{record.place} differs" in str(found.difference)


WHERE = [0.0, 0.37, 1.0]


@pytest.mark.parametrize("where", WHERE)
@pytest.mark.parametrize("topic", DECISIONS)
def test_a_changed_decision(finished: EventLog, forge: Forge, topic: str, where: float) -> None:
    record, _ = some(finished, topic, where)
    value = altered(topic, record.value)
    assert_named(forge(instead(record, value)), record, value, record.value)


@pytest.mark.parametrize("topic", DECISIONS)
def test_a_dropped_decision(finished: EventLog, forge: Forge, topic: str) -> None:
    record, following = some(finished, topic, 0.6)
    assert_named(forge(instead(record)), record, following.value, record.value)


@pytest.mark.parametrize("topic", DECISIONS)
def test_an_inserted_decision(finished: EventLog, forge: Forge, topic: str) -> None:
    record, _ = some(finished, topic, 0.2)
    value = altered(topic, record.value)
    assert_named(forge(instead(record, value, record.value)), record, value, record.value)


@pytest.mark.parametrize("topic", DECISIONS)
def test_swapped_decisions(finished: EventLog, forge: Forge, topic: str) -> None:
    record, following = some(finished, topic, 0.8)

    def swapped(each: Record) -> Sequence[tuple[bytes, bytes]]:
        once = instead(record, following.value)(each)
        return once if once != kept(each) else instead(following, record.value)(each)

    assert_named(forge(swapped), record, following.value, record.value)


def test_a_decision_behind_the_last(finished: EventLog, forge: Forge) -> None:
    record = all_records(finished, "fills", 0)[-1]
    found = forge(instead(record, record.value, record.value))
    assert isinstance(found.difference, Divergence)
    assert (found.difference.offset, found.difference.derived) == (record.offset + 1, None)


def test_a_dropped_last_decision(finished: EventLog, forge: Forge) -> None:
    record = all_records(finished, "fills", 0)[-1]
    found = forge(instead(record))
    assert isinstance(found.difference, Divergence)
    assert (found.difference.stored, found.difference.derived) == (None, record.value)


def test_a_decision_under_another_key(finished: EventLog, forge: Forge) -> None:
    record, _ = some(finished, "fills", 0.5)
    found = forge(lambda r: [(b"other", r.value)] if r.place == record.place else kept(r))
    assert f"{record.place} differs" in str(found.difference)


def test_an_account_moved_to_another_partition(finished: EventLog, forge: Forge) -> None:
    """Everything that partition 1 derived is claimed to have come of other facts."""
    found = forge(lambda r: [] if r.topic == "operator.commands" and r.partition == 1 else kept(r))
    assert isinstance(found.difference, OrderBroken | Divergence)
    assert "/1" in str(found.difference) or "partition 1" in str(found.difference)


# ---------------------------------------------------------------- facts, order, state


def test_a_changed_fact(finished: EventLog, forge: Forge) -> None:
    """A price: the first decision that hangs on it is named, and none before it."""
    fill: Any = decode("fills", all_records(finished, "fills", 0)[20].value)
    _, partition, offset = fill.cause.split("/")
    place = all_records(finished, "market.quotes", int(partition))[int(offset)]
    quote = decode("market.quotes", place.value)
    assert isinstance(quote, Quote)
    assert quote.bid is not None
    assert quote.ask is not None
    other = encode(evolve(quote, bid=quote.bid + 1, ask=quote.ask + 1))
    found = forge(instead(place, other))
    assert isinstance(found.difference, Divergence)
    assert found.difference.stored is not None
    stored: Any = decode(found.difference.topic, found.difference.stored)
    assert stored.ts >= quote.ts
    assert stored.ts <= fill.ts


FRAIL = """
from tape import Context, Strategy, Trade

class Frail(Strategy):
    def on_trade(self, trade: Trade, ctx: Context) -> None:
        ctx.target(trade.symbol, shares=int(1000 / trade.price))
"""


def test_a_fact_on_which_a_strategy_fails_is_a_difference(tmp_path: Path) -> None:
    """It is named and ends the search; it does not end the command."""
    file = tmp_path / "frail.py"
    file.write_text(FRAIL)
    with busy_log(tmp_path) as log:
        run(log, core(strategy(f"{file}:Frail", "frail", ONE, ("AAA", "BBB"))))
        place, _ = some(log, "market.trades", 0.5)
        trade: Any = decode("market.trades", place.value)
        other = encode(evolve(trade, price=trade.price * 0))
        with rewritten(log, tmp_path / "forged", instead(place, other)) as forged:
            found = verified(forged)
    assert isinstance(found.difference, OrderBroken)
    assert f"{place.place} cannot be applied again: strategy 'frail' failed" in str(found.difference)


def a_batch(finished: EventLog, number: int) -> tuple[Record, Batch]:
    record = all_records(finished, "batches", 0)[number]
    batch = decode("batches", record.value)
    assert isinstance(batch, Batch)
    return record, batch


def reordered(batch: Batch, order: bytes) -> bytes:
    return encode(evolve(batch, order=base64.b64encode(zlib.compress(order)).decode()))


def test_a_changed_order(finished: EventLog, forge: Forge) -> None:
    record, batch = a_batch(finished, 5)
    order = list(order_of(batch))
    Random(1).shuffle(order)
    found = forge(instead(record, reordered(batch, bytes(order))))
    assert isinstance(found.difference, Divergence)
    assert found.difference.stored is not None
    assert found.difference.derived is not None


def test_an_order_that_does_not_fit_its_counts(finished: EventLog, forge: Forge) -> None:
    record, batch = a_batch(finished, 5)
    found = forge(instead(record, reordered(batch, order_of(batch)[1:])))
    assert "the order of batch 5 does not fit its counts" in str(found.difference)


def test_a_skipped_fact(finished: EventLog, forge: Forge) -> None:
    """A batch that leaves out the input it would have begun with."""
    record, batch = a_batch(finished, 5)
    order = order_of(batch)
    first = batch.inputs[order[0]]
    inputs = tuple(evolve(i, first=i.first + 1, count=i.count - 1) if i is first else i for i in batch.inputs)
    shorter = evolve(batch, inputs=inputs, records=batch.records - 1)
    found = forge(instead(record, reordered(shorter, order[1:])))
    assert f"batch 5 of partition 0 begins {first.topic}/{first.partition}" in str(found.difference)


def test_a_dropped_batch(finished: EventLog, forge: Forge) -> None:
    record, _ = a_batch(finished, 5)
    assert "batches/0/5 is batch 6; 5 is missing" in str(forge(instead(record)).difference)


def test_dropped_last_batches_leave_decisions_without_one(finished: EventLog, forge: Forge) -> None:
    count = len(all_records(finished, "batches", 0))

    def cut(record: Record) -> Sequence[tuple[bytes, bytes]]:
        if record.partition or record.topic not in ("batches", "snapshots"):
            return kept(record)
        event: Any = decode(record.topic, record.value)
        number = event.number if record.topic == "batches" else event.batch
        return [] if number >= count - 2 else kept(record)

    found = forge(cut)
    assert isinstance(found.difference, Divergence)
    assert found.difference.derived is None


def test_a_changed_snapshot_with_a_digest_of_its_own(finished: EventLog, forge: Forge) -> None:
    record = all_records(finished, "snapshots", 0)[1]
    snapshot = decode("snapshots", record.value)
    assert isinstance(snapshot, Snapshot)
    state = zlib.decompress(base64.b64decode(snapshot.data))
    richer = state.replace(b'"starting":"100000"', b'"starting":"100001"', 1)
    assert richer != state
    (made,) = make_snapshot(0, snapshot.epoch, snapshot.batch, richer)
    found = forge(instead(record, encode(made)))
    assert isinstance(found.difference, Divergence)
    assert (found.difference.topic, found.difference.offset) == ("snapshots", record.offset)
    assert b'"starting":"100001"' in (found.difference.stored or b"")
    assert b'"starting":"100000"' in (found.difference.derived or b"")


def test_a_snapshot_after_a_batch_that_is_not_there(finished: EventLog, forge: Forge) -> None:
    record = all_records(finished, "snapshots", 0)[-1]
    snapshot: Any = decode("snapshots", record.value)
    beyond = encode(evolve(snapshot, batch=snapshot.batch + 1))
    found = forge(instead(record, beyond))
    assert f"a snapshot after batch {snapshot.batch + 1}, out of place" in str(found.difference)


def test_batches_of_an_epoch_that_was_never_opened(finished: EventLog, forge: Forge) -> None:
    record, batch = a_batch(finished, 7)
    found = forge(instead(record, encode(evolve(batch, epoch=3))))
    assert "batches of epoch 3, out of place" in str(found.difference)
