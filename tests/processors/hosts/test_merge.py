"""The order of the inputs, held against its definition: the lowest key over the heads, one at a time."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventlog.errors import LogError
from processors.hosts.merge import START, Key, Merge, Stream, input_streams, key_of
from schemas import (
    CORE_ACCOUNT_INPUTS,
    CORE_MARKET_INPUTS,
    Deposit,
    Event,
    Record,
    decode,
    encode,
    evolve,
)
from support.market import bar, heartbeat, quote, session_closed, session_opened, split, trade

STREAMS: list[Stream] = [
    ("market.status", 0),
    ("market.quotes", 0),
    ("market.quotes", 1),
    ("market.trades", 0),
    ("operator.commands", 0),
]


class MemoryLog:
    """Partitions as lists; `holes` offsets between two records are not there."""

    url = "memory"

    def __init__(self, values: dict[Stream, list[bytes]], holes: int = 0) -> None:
        step = holes + 1
        self.rows = {s: [(n * step, v) for n, v in enumerate(rows)] for s, rows in values.items()}
        self.step = step

    def read(
        self, topic: str, partition: int, *, gte: int, lt: int | None = None, limit: int = 5000
    ) -> list[Record]:
        wanted = [row for row in self.rows[topic, partition] if gte <= row[0] and (lt is None or row[0] < lt)]
        return [Record(topic, partition, offset, b"", value) for offset, value in wanted[:limit]]

    def bounds(self, topic: str, partition: int) -> tuple[int, int]:
        return 0, len(self.rows[topic, partition]) * self.step

    def partitions(self, topic: str) -> int:
        return 2 if topic == "market.quotes" else 1


def merged(log: Any, start: dict[Stream, int], page: int = 5000) -> list[tuple[int, int]]:
    """Index of the stream and offset of each record, in order."""
    ends = {stream: log.bounds(*stream)[1] for stream in STREAMS}
    return [(index, record.offset) for index, record in Merge(log, STREAMS, dict(start), ends, page)]


def naive(log: MemoryLog) -> list[tuple[int, int]]:
    """The definition, as slow as it is short."""
    queues = [[(offset, decode(s[0], value)) for offset, value in log.rows[s]] for s in STREAMS]
    before: list[Key] = [START] * len(STREAMS)
    taken = []
    while any(queues):
        heads = []
        for index, queue in enumerate(queues):
            if queue:
                record = Record(STREAMS[index][0], 0, 0, b"", b"", event=queue[0][1])
                heads.append((key_of(record, before[index]), index))
        key, index = min(heads)
        before[index] = max(before[index], key)
        taken.append((index, queues[index].pop(0)[0]))
    return taken


BEGINNING = dict.fromkeys(STREAMS, 0)

ts = st.integers(0, 8)
symbol = st.sampled_from(["A", "B"])
row = st.integers(0, 3)


def rows_of(*events: st.SearchStrategy[Any]) -> st.SearchStrategy[list[bytes]]:
    """Bytes of up to 12 such events, some of them unreadable, in any order of time."""
    readable = st.builds(lambda event, n: encode(evolve(event, row=n)), st.one_of(*events), row)
    return st.lists(st.one_of(readable, readable, readable, st.just(b"{")), max_size=12)


def command(at: int) -> Event:
    return Deposit(id="d", account="a", ts=at, who="", why="", amount=Decimal(1))


quotes = rows_of(st.builds(lambda t, s: quote(t, 1, 2, symbol=s), ts, symbol))
trades = rows_of(st.builds(lambda t, s: trade(t, 1, symbol=s), ts, symbol))
status = rows_of(
    st.builds(lambda t: evolve(session_opened(), ts=t), ts),
    st.builds(lambda t: evolve(session_closed(), ts=t), ts),
    st.builds(lambda t, s: split(t, 2, 1, s), ts, symbol),
    st.builds(heartbeat, ts),
)
commands = st.lists(st.one_of(st.builds(lambda t: encode(command(t)), ts), st.just(b"?")), max_size=6)
everything = st.tuples(status, quotes, quotes, trades, commands)


@settings(max_examples=300, deadline=None)
@given(everything, st.integers(1, 5), st.integers(0, 2))
def test_takes_the_lowest_head(values: tuple[list[bytes], ...], page: int, holes: int) -> None:
    log = MemoryLog(dict(zip(STREAMS, values, strict=True)), holes)
    assert merged(log, BEGINNING, page) == naive(log)


@settings(max_examples=60, deadline=None)
@given(everything, st.integers(1, 5))
def test_goes_on_alike_from_anywhere(values: tuple[list[bytes], ...], page: int) -> None:
    log = MemoryLog(dict(zip(STREAMS, values, strict=True)))
    whole = merged(log, BEGINNING)
    position = dict(BEGINNING)
    for done, (index, offset) in enumerate(whole):
        assert merged(log, position, page) == whole[done:]
        position[STREAMS[index]] = offset + 1


@pytest.mark.parametrize(
    ("first", "then"),
    [
        (session_opened(), quote(session_opened().ts, 1, 2)),
        (split(5, 2, 1), quote(5, 1, 2, symbol="AAA")),
        (quote(5, 1, 2, symbol="Z"), trade(5, 1, symbol="A")),
        (trade(5, 1, symbol="Z"), bar(5, symbol="A")),
        (bar(5, symbol="Z"), heartbeat(5)),
        (bar(5, symbol="Z"), command(5)),
        (command(session_closed().ts), session_closed()),
        (quote(5, 1, 2, symbol="A"), quote(5, 1, 2, symbol="B")),
        (evolve(quote(5, 1, 2), row=1), evolve(quote(5, 1, 2), row=2)),
    ],
)
def test_rank_of_equal_times(first: Event, then: Event) -> None:
    one, other = (key_of(Record(e.topic, 0, 0, b"", b"", event=e), START) for e in (first, then))
    assert one < other


def test_late_records_do_not_pile_up() -> None:
    """A long backfill goes through page by page: it does not wait for the end of its partition."""
    late = [
        encode(evolve(quote(9, 1, 2), row=0)),
        *[encode(evolve(quote(1, 1, 2), row=n)) for n in range(99)],
    ]
    log: Any = MemoryLog({s: late if s == ("market.quotes", 0) else [] for s in STREAMS})
    ends = {stream: log.bounds(*stream)[1] for stream in STREAMS}
    merge = Merge(log, STREAMS, dict(BEGINNING), ends, page=5)
    most = max(len(merge._inputs[1].waiting) for _ in merge)
    assert most <= 5


class Wide:
    url = "wide"

    def partitions(self, topic: str) -> int:
        return 64


def test_more_inputs_than_a_byte_can_name_are_refused() -> None:
    wide: Any = Wide()
    with pytest.raises(LogError, match="258 input partitions"):
        input_streams(wide, 0, (*CORE_MARKET_INPUTS, *CORE_ACCOUNT_INPUTS[:2]))
