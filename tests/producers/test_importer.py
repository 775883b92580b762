from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producers.importer import Imported, import_events
from producers.marketdata.synthetic import Synthetic
from producers.operator import command_record
from schemas import ONE, Deposit, NewRecord, Quote, decode, partition_of

MARKET = Synthetic(("SPY", "IBM", "BAC", "AIG"), seed=3, quotes=300, start=0)


class FakeLog:
    """A log and its writer; loses power after `power` records."""

    def __init__(self, partitions: int = 4, power: int = 10**9) -> None:
        self.records: list[NewRecord] = []
        self.appends = 0
        self.power = power
        self._partitions = partitions

    def partitions(self, topic: str) -> int:
        return self._partitions

    def append(self, records: Sequence[NewRecord]) -> None:
        self.appends += 1
        if len(self.records) + len(records) > self.power:
            # Market topics are written without transactions: a part may have arrived.
            self.records += records[: self.power - len(self.records)]
            raise OSError("power cut")
        self.records += records

    def last_rows(self) -> dict[tuple[str, int], int]:
        rows: dict[tuple[str, int], int] = defaultdict(int)
        for record in self.records:
            event = decode(record.topic, record.value)
            rows[record.topic, record.partition] = event.row  # type: ignore[union-attr]
        return dict(rows)

    def by_partition(self) -> dict[tuple[str, int], list[NewRecord]]:
        kept: dict[tuple[str, int], list[NewRecord]] = defaultdict(list)
        for record in self.records:
            kept[record.topic, record.partition].append(record)
        return dict(kept)


def imported(log: FakeLog, batch: int = 5000) -> Imported:
    return import_events(MARKET.events(), log, log, source=MARKET.source, done=log.last_rows(), batch=batch)


def test_events_go_to_the_partition_of_their_symbol() -> None:
    log = FakeLog()
    counts = imported(log)
    assert (counts.written, counts.skipped) == ({"market.quotes": 300, "market.status": 2}, 0)
    for record in log.records:
        assert record.partition == partition_of(record.key.decode(), 4)
    assert [r.key for r in log.records if r.topic == "market.status"] == [b"*", b"*"]


@given(batch=st.integers(1, 400))
def test_batch_boundaries_do_not_matter(batch: int) -> None:
    whole, split = FakeLog(), FakeLog()
    imported(whole)
    imported(split, batch)
    assert split.records == whole.records
    assert split.appends == -(-302 // batch)


@given(power=st.integers(0, 301), batch=st.integers(1, 400), again=st.integers(1, 400))
def test_an_interrupted_import_repeated_writes_nothing_twice(power: int, batch: int, again: int) -> None:
    whole, cut = FakeLog(), FakeLog(power=power)
    imported(whole)
    with pytest.raises(OSError, match="power cut"):
        imported(cut, batch)
    cut.power = 10**9
    counts = imported(cut, again)
    assert counts.skipped == power
    assert counts.total == 302
    assert cut.by_partition() == whole.by_partition()


def test_a_repeated_import_writes_nothing() -> None:
    log = FakeLog()
    imported(log)
    before = list(log.records)
    assert imported(log).skipped == 302
    assert log.records == before


def test_progress_is_told_after_each_append() -> None:
    log, told = FakeLog(), []
    import_events(
        MARKET.events(),
        log,
        log,
        source=MARKET.source,
        done={},
        batch=100,
        progress=lambda counts: told.append(counts.total),
    )
    assert told == [100, 200, 300, 302]


def test_another_source_is_refused() -> None:
    log = FakeLog()
    with pytest.raises(ValueError, match="is not of source other"):
        import_events(MARKET.events(), log, log, source="other", done={})
    assert not log.records


def test_rows_out_of_order_are_refused() -> None:
    log = FakeLog()
    events = list(islice(MARKET.events(), 3))
    with pytest.raises(ValueError, match="row 2 after row 3"):
        import_events([events[0], events[2], events[1]], log, log, source=MARKET.source, done={})


def test_a_command_goes_to_its_accounts_partition() -> None:
    log = FakeLog(partitions=7)
    deposit = Deposit(id="c1", account="alpha", ts=1, amount=ONE, who="me", why="test")
    record = command_record(deposit, log)
    assert (record.topic, record.partition, record.key) == (
        "operator.commands",
        partition_of("alpha", 7),
        b"alpha",
    )
    assert decode(record.topic, record.value) == deposit


def test_only_commands_are_commands() -> None:
    quote = next(e for e in MARKET.events() if isinstance(e, Quote))
    with pytest.raises(ValueError, match="Quote is not an operator command"):
        command_record(quote, FakeLog())
