"""The rolled digest depends on the records alone; seals say it at block ends and clean closes."""

from __future__ import annotations

import tempfile
from itertools import cycle, pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventlog import EventLog, LogSpec, check_heads, check_seals, create_log, fingerprint, heads, open_log
from eventlog.seals import BLOCK, SEALS, Chain
from schemas import TOPICS, NewRecord, Seal, decode
from support.log_suite import numbers, read_all, rolled_digest

COMMANDS = ("operator.commands", 0)
ORDERS = ("orders", 0)
QUOTES = ("market.quotes", 0)
SPEC = LogSpec("seals", "data", 1, 1)


def seals_of(log: EventLog, stream: tuple[str, int]) -> list[Seal]:
    """The seals of a partition, in their order."""
    found = (decode("seals", r.value) for r in read_all(log, SEALS))
    return [s for s in found if isinstance(s, Seal) and (s.sealed, s.partition) == stream]


# The digest

record_lists = st.lists(st.tuples(st.binary(max_size=5), st.binary(max_size=9)), max_size=30)


@settings(deadline=None)
@given(record_lists, st.lists(st.integers(1, 3000), min_size=1, max_size=5))
def test_chain_is_the_definition_however_records_are_added(
    some: list[tuple[bytes, bytes]], sizes: list[int]
) -> None:
    # the end of one block and the beginning of another: where most can go wrong
    everything = [(b"k", b"%d" % n) for n in range(BLOCK - 15)] + some
    records = [NewRecord(*QUOTES, key, value) for key, value in everything]
    chain, start, turn = Chain(), 0, cycle(sizes)
    while start < len(records):
        part = records[start : start + min(next(turn), chain.room())]
        start += len(part)
        assert chain.add(part, start) == (start % BLOCK == 0)
        assert (chain.count, chain.next) == (start, start)
    assert chain.digest.hex() == rolled_digest(everything)


@pytest.mark.parametrize("count", [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, 2 * BLOCK + 7])
def test_digest_at_the_edges_of_blocks(count: int) -> None:
    chain, records = Chain(), numbers(QUOTES, range(count))
    for start in range(0, count, BLOCK):
        part = records[start : start + BLOCK]
        chain.add(part, start + len(part))
    assert chain.digest.hex() == rolled_digest([(r.key, r.value) for r in records])


def test_lengths_are_part_of_the_digest() -> None:
    assert rolled_digest([(b"ab", b"c")]) != rolled_digest([(b"a", b"bc")])
    assert rolled_digest([(b"", b"a"), (b"", b"")]) != rolled_digest([(b"", b""), (b"", b"a")])


# In a log

steps = st.lists(
    st.tuples(st.integers(400, 5000), st.sampled_from(["go on", "close", "drop", "other"])),
    min_size=1,
    max_size=6,
)


@settings(max_examples=20, deadline=None)
@given(steps)
def test_digest_and_seals_of_blocks_do_not_depend_on_appends_closes_or_writers(
    some: list[tuple[int, str]],
) -> None:
    total = 2 * BLOCK + 100
    with tempfile.TemporaryDirectory() as folder, create_log(f"sqlite:{folder}/log", SPEC) as log:
        writer, other = log.writer("w"), log.writer("other")
        position = turn = 0
        while position < total:
            size, then = some[turn % len(some)]
            batch = numbers(QUOTES, range(position, min(position + size, total)))
            (other if then == "other" else writer).append(batch + numbers(COMMANDS, [turn]))
            position, turn = position + size, turn + 1
            if then == "close":
                writer.close()
            if then in ("close", "drop"):
                # a writer that is dropped has not sealed; the one that takes over does not know its chains
                writer = log.writer("w", take_over=True)
        writer.close()
        other.close()

        expected = numbers(QUOTES, range(total))
        for seal in seals_of(log, QUOTES):
            assert seal.digest == rolled_digest([(r.key, r.value) for r in expected[: seal.count]])
        counts = [seal.count for seal in seals_of(log, QUOTES)]
        assert {BLOCK, 2 * BLOCK, total} <= set(counts)
        assert counts == sorted(set(counts))
        kept = heads(log)["heads"]["market.quotes/0"]
        assert kept == {"next": total, "count": total, "digest": seals_of(log, QUOTES)[-1].digest}
        report = check_seals(log)
        assert (report.faults, report.unsealed) == ([], 0)


def test_seals_adjoin(tmp_path: Path) -> None:
    with create_log(f"sqlite:{tmp_path / 'log'}", SPEC) as log:
        for size in (10, 5000, 1, 9000):
            with log.writer("w") as writer:
                writer.append(numbers(QUOTES, range(size)))
        seals = seals_of(log, QUOTES)
        assert seals[0].first == 0
        assert all(before.next == after.first for before, after in pairwise(seals))
        assert [s.next for s in seals] == [10, 4096, 5010, 5011, 8192, 12288, 14011]


def test_blocks_are_sealed_in_the_append_that_fills_them(tmp_path: Path) -> None:
    with create_log(f"sqlite:{tmp_path / 'log'}", SPEC) as log, log.writer("w") as writer:
        writer.append(numbers(QUOTES, range(BLOCK - 1)))
        assert seals_of(log, QUOTES) == []
        writer.append(numbers(QUOTES, [BLOCK - 1]))
        assert [s.count for s in seals_of(log, QUOTES)] == [BLOCK]
        writer.append(numbers(QUOTES, range(3 * BLOCK + 5)))
        assert [s.count for s in seals_of(log, QUOTES)] == [BLOCK, 2 * BLOCK, 3 * BLOCK, 4 * BLOCK]
        report = check_seals(log)
        assert (report.faults, report.unsealed_at["market.quotes/0"]) == ([], 5)


def test_what_a_killed_writer_left_unsealed_is_sealed_by_the_next(tmp_path: Path) -> None:
    with create_log(f"sqlite:{tmp_path / 'log'}", SPEC) as log:
        log.writer("w").append(numbers(QUOTES, range(10)) + numbers(ORDERS, range(3)))
        assert check_seals(log).unsealed_at == {"market.quotes/0": 10, "orders/0": 3}
        log.writer("w", take_over=True).close()
        assert check_seals(log).unsealed == 0
        assert [(s.first, s.next) for s in seals_of(log, QUOTES)] == [(0, 10)]


def test_close_without_anything_new_writes_no_seal(tmp_path: Path) -> None:
    with create_log(f"sqlite:{tmp_path / 'log'}", SPEC) as log:
        with log.writer("w") as writer:
            writer.append(numbers(QUOTES, range(10)))
        end = log.bounds(*SEALS)
        for _ in range(3):
            log.writer("w").close()
        assert log.bounds(*SEALS) == end


def test_more_seals_than_a_block(tmp_path: Path) -> None:
    spec = LogSpec("seals", "data", account_partitions=350, market_partitions=1)
    streams = [(t, p) for t in TOPICS if TOPICS[t].spread == "account" for p in range(350)]
    assert len(streams) > BLOCK
    with create_log(f"sqlite:{tmp_path / 'log'}", spec) as log:
        for _ in range(2):
            with log.writer("w") as writer:
                writer.append([record for stream in streams for record in numbers(stream, [1])])
        stored = read_all(log, SEALS)
        assert len(stored) > 2 * BLOCK
        kept = heads(log)
        assert kept["heads"]["seals/0"]["count"] == len(stored)
        assert kept["heads"]["seals/0"]["digest"] == rolled_digest([(r.key, r.value) for r in stored])
        # what cannot be read is no fault in a fact, and these are decisions
        assert not [f for f in check_seals(log).faults if "cannot be read" not in f.reason]
        assert check_heads(log, kept) == []


def test_fingerprint_follows_every_decision_topic_and_partition(tmp_path: Path) -> None:
    prints = set()
    for n, stream in enumerate(
        [("orders", 0), ("orders", 1), ("fills", 0), ("pnl", 0), ("market.quotes", 0)]
    ):
        with create_log(f"sqlite:{tmp_path / str(n)}", LogSpec("seals", "data", 2, 2)) as log:
            nothing = fingerprint(log)
            with log.writer("w") as writer:
                writer.append(numbers(stream, [1]))
            prints.add(fingerprint(log))
        with open_log(f"sqlite:{tmp_path / str(n)}", read_only=True) as again:
            assert fingerprint(again) in prints
    assert len(prints) == 5
    assert nothing in prints  # quotes are no decision
