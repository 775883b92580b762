"""The live host: facts that come in pieces while it runs, kills, a second host, settings that change."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from itertools import islice, pairwise
from pathlib import Path
from random import Random
from typing import Any

import pytest

from eventlog import EventLog, create_log, open_log
from eventlog.errors import WriterBusy, WriterFenced
from eventlog.roles import Beat
from processors.hosts.journal import batches, configurations, last, order_of
from processors.hosts.live import Cadence, LiveHost
from processors.hosts.livemerge import PATIENCE_S, LiveMerge
from processors.hosts.merge import input_streams
from processors.hosts.recovery import ConfigurationChanged
from processors.hosts.state import state_at
from producers.operator import command_record
from schemas import (
    DECISIONS,
    Batch,
    CoreSettings,
    HaltAccount,
    NewRecord,
    Record,
    decode,
    encode,
    evolve,
    new_record,
    partition_of,
)
from support.market import at, quote
from support.runs import (
    ONE,
    SPEC,
    Cut,
    all_records,
    busy_commands,
    busy_market,
    busy_settings,
    configured,
    core,
    inputs,
    noisy,
    verified,
)
from tape.wiring import build, installed

QUICK = Cadence(commit_s=0.0, wait_s=0.01)


def facts(log: EventLog) -> Iterator[list[NewRecord]]:
    """The busy market and its commands, in pieces as they might come."""
    draw = Random(7)
    commands = [command_record(command, log) for command in busy_commands()]
    market: list[NewRecord] = []
    for event in busy_market():
        symbol: str = event.symbol  # type: ignore[attr-defined]  # every market event has one
        market.append(new_record(event, partition_of(symbol, log.partitions(event.topic)), symbol))
    yield commands[:2]
    yield commands[2:3]
    left, rest = iter(market), iter(commands[3:])
    while piece := list(islice(left, draw.randrange(1, 120))):
        yield piece
        if draw.random() < 0.2:
            yield list(islice(rest, 1))


class Feeding:
    """A `Stop` that writes the next piece of the facts each time it is asked, and ends when all is taken."""

    def __init__(self, url: str, after: Callable[[int], None] = lambda asked: None) -> None:
        self.log = open_log(url)
        self.writer = self.log.writer("feed")
        self.pieces = facts(self.log)
        self.idle = 0
        self.asked = 0
        self.after = after

    def __call__(self) -> bool:
        self.asked += 1
        self.after(self.asked)
        piece = next(self.pieces, None)
        if piece is None:
            self.idle += 1
            return self.idle > 20
        if piece:
            self.writer.append(piece)
        return False


@pytest.fixture
def url(tmp_path: Path) -> str:
    name = f"sqlite:{tmp_path / 'live.sqlite'}"
    create_log(name, SPEC).close()
    return name


def host(log: EventLog, settings: CoreSettings, **options: Any) -> LiveHost:
    options = {"cadence": QUICK, "installed": installed, **options}
    return LiveHost(log, 0, configured(log, settings), build, **options)


def live(url: str, settings: CoreSettings, stop: Callable[[], bool], **options: Any) -> int:
    with open_log(url) as log:
        return host(log, settings, **options).run(lambda beat: None, stop)


def everything_taken(log: EventLog) -> bool:
    end = last(log, "batches", 0, Batch)
    return end is not None and all(i.next == log.bounds(i.topic, i.partition)[1] for i in end.inputs)


def decided(log: EventLog) -> dict[str, list[int]]:
    """The seqs of each account, over all topics, in order."""
    seqs: dict[str, list[int]] = {}
    for topic in DECISIONS:
        for record in all_records(log, topic, 0):
            event: Any = decode(topic, record.value)
            seqs.setdefault(event.account, []).append(event.seq)
    return {account: sorted(found) for account, found in seqs.items()}


def check(url: str) -> None:
    """All inputs are decided on, each account's seqs have no gap, and the log derives to itself."""
    with open_log(url, read_only=True) as log:
        assert everything_taken(log)
        found = decided(log)
        assert found
        assert all(seqs == list(range(1, len(seqs) + 1)) for seqs in found.values())
        assert verified(log).difference is None


def test_what_comes_in_pieces_is_decided_and_derives_again(url: str) -> None:
    taken = live(url, busy_settings(), Feeding(url))
    with open_log(url, read_only=True) as log:
        end = last(log, "batches", 0, Batch)
        assert end is not None
        assert taken == sum(log.bounds(i.topic, i.partition)[1] for i in end.inputs)
    check(url)


@pytest.mark.parametrize("seed", range(5))
def test_killed_anywhere_it_goes_on_from_the_log(url: str, seed: int) -> None:
    """A kill between two appends: what was taken and not committed is taken again, from the log."""
    draw, kills = Random(seed), 0

    def maybe_killed(asked: int) -> None:
        if draw.random() < 0.3:
            raise Cut

    feeding = Feeding(url, maybe_killed)
    while True:
        try:
            live(url, busy_settings(), feeding)
            break
        except Cut:
            kills += 1
    assert kills > 3
    check(url)


def test_state_is_as_of_any_seq(url: str) -> None:
    live(url, busy_settings(), Feeding(url))
    with open_log(url, read_only=True) as log:
        end = last(log, "batches", 0, Batch)
        assert end is not None
        for seq in range(1, end.seqs[ONE] + 1, 97):
            assert state_at(log, 0, build, account=ONE, seq=seq).seqs[ONE] >= seq


def test_much_that_waited_for_another_partition_goes_in_batches(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A day of one symbol lies behind all of the day before of another: it waits, and then comes at once."""
    for name, value in {"PAGE": 50, "FULL": 200, "BEAT_S": 0.0}.items():
        monkeypatch.setattr(f"processors.hosts.live.{name}", value)
    count, processed = 2000, [0]
    with open_log(url) as log:
        symbols = {partition_of(symbol, 2): symbol for symbol in ("AAA", "BBB", "CCC")}
        days = [
            quote(at("09:30", day) + n, "10", "10.01", symbol=symbols[day])
            for day in (0, 1)
            for n in range(count)
        ]
        market = [evolve(event, source="x", row=row) for row, event in enumerate(days, 1)]
        with log.writer("feed") as writer:
            writer.append(
                [new_record(event, partition_of(event.symbol, 2), event.symbol) for event in market]
            )
            writer.append([command_record(command, log) for command in busy_commands()][:1])
        host(log, busy_settings()).run(
            lambda beat: processed.append(beat.processed), lambda: processed[-1] >= 2 * count + 1
        )
        assert max(batch.records for batch in batches(log, 0)) <= 200 + 2 * 50
    assert max(after - before for before, after in pairwise(processed)) <= 200 + 2 * 50
    check(url)


# ---------------------------------------------------------------- one holder


def test_second_host_fences_the_first(url: str) -> None:
    other: list[EventLog] = []

    def takes_over(asked: int) -> None:
        if asked == 12:
            other.append(open_log(url))
            other[0].writer("core-0", take_over=True)

    with pytest.raises(WriterFenced):
        live(url, busy_settings(), Feeding(url, takes_over))
    with open_log(url, read_only=True) as log:
        assert verified(log).difference is None


def test_batch_that_was_not_appended_is_noticed_while_nothing_comes(url: str) -> None:
    end = time.monotonic() + 30
    other: list[EventLog] = []

    def takes_over(asked: int) -> None:
        if asked == 5:
            other.append(open_log(url))
            other[0].writer("core-0", take_over=True)
            with other[0].writer("operator") as operator:
                operator.append(next(facts(other[0]))[:1])

    def stop() -> bool:
        asked.append(1)
        takes_over(len(asked))
        return time.monotonic() > end

    asked: list[int] = []
    with pytest.raises(WriterFenced):
        live(url, busy_settings(), stop)
    assert time.monotonic() < end, "it was noticed at the end only"


def test_second_host_is_refused_unless_it_takes_over(url: str) -> None:
    with open_log(url) as log, log.writer("core-0"), pytest.raises(WriterBusy):
        live(url, busy_settings(), lambda: True, take_over=False)


# ---------------------------------------------------------------- epochs


def settings_with(every: int) -> CoreSettings:
    return core(noisy("first", ONE, every=every))


def test_changed_parameter_begins_an_epoch_after_a_clean_end(url: str) -> None:
    feeding = Feeding(url)
    live(url, settings_with(3), lambda: feeding() or feeding.asked > 15)
    live(url, settings_with(5), feeding)
    check(url)
    with open_log(url, read_only=True) as log:
        params = [c.settings.strategies[0].params["every"] for c in configurations(log, 0)]
    assert params == ["3", "5"]


def test_changed_parameter_begins_an_epoch_after_a_kill(url: str) -> None:
    """The old settings are in the log and their code is here: the old epoch is closed by its own state."""

    def killed(asked: int) -> None:
        if asked == 15:
            raise Cut

    feeding = Feeding(url, killed)
    with pytest.raises(Cut):
        live(url, settings_with(3), feeding)
    live(url, settings_with(5), feeding)
    check(url)
    with open_log(url, read_only=True) as log:
        assert [c.epoch for c in configurations(log, 0)] == [1, 2]


def test_code_that_is_gone_cannot_close_its_epoch(url: str) -> None:
    def killed(asked: int) -> None:
        if asked == 15:
            raise Cut

    feeding = Feeding(url, killed)
    with pytest.raises(Cut):
        live(url, settings_with(3), feeding)
    with pytest.raises(ConfigurationChanged, match="first: params"):
        live(url, settings_with(5), feeding, installed=lambda epoch: "it ran with other code")


# ---------------------------------------------------------------- beats, commands


def test_beats_tell_how_far_it_is(url: str) -> None:
    told: list[Beat] = []
    with open_log(url) as log:
        feeding = Feeding(url)
        host(log, busy_settings()).run(told.append, feeding)
    assert told
    assert [b.processed for b in told] == sorted(b.processed for b in told)
    assert set(told[-1].positions) >= {("operator.commands", 0), ("market.quotes", 1)}


def test_halt_goes_before_the_quotes_that_wait(url: str) -> None:
    """A thousand quotes have come and are not taken: the halt that comes after them acts before them."""
    with open_log(url) as log, log.writer("feed") as writer:
        opening = busy_commands()[0]
        writer.append([command_record(opening, log)])
        ticks = [
            evolve(quote(at("09:31") + n, 100, 101, symbol="AAA"), source="s", row=n) for n in range(1000)
        ]
        partition = partition_of("AAA", log.partitions("market.quotes"))
        writer.append([NewRecord("market.quotes", partition, b"AAA", encode(q)) for q in ticks])
        halt = HaltAccount(id="halt", account=ONE, ts=at("09:32"), who="me", why="enough")
        writer.append([command_record(halt, log)])
    asked = iter(range(10))
    live(url, core(), lambda: next(asked, None) is None)
    with open_log(url, read_only=True) as log:
        first = decode("batches", log.read("batches", 0, gte=0, limit=1)[0].value)
        assert isinstance(first, Batch)
        commands = [i for i, source in enumerate(first.inputs) if source.topic == "operator.commands"]
        assert list(order_of(first)[:2]) == commands * 2
        assert "operator" in state_at(log, 0, build).accounts.desk.accounts[ONE].breaker.halts


# ---------------------------------------------------------------- the order


STREAMS = {("market.quotes", 0): 3, ("market.quotes", 1): 5}


def record(partition: int, offset: int, ts: int) -> Record:
    event = evolve(quote(ts, 100, 101, symbol=f"S{partition}"), source="s", row=offset + 1)
    return Record("market.quotes", partition, offset, b"", encode(event))


def handed(ready: Sequence[tuple[int, Record]]) -> list[tuple[int, int]]:
    return [(r.partition, r.offset) for _, r in ready]


def test_silent_input_is_waited_for_but_not_for_long() -> None:
    merge = LiveMerge(STREAMS, 0.05)
    merge.add([record(0, 0, 10), record(0, 1, 20)], 0.0)
    assert merge.ready(lambda stream: False, 0.01) == []
    merge.add([record(1, 0, 15)], 0.02)
    assert handed(merge.ready(lambda stream: False, 0.02)) == [(0, 0), (1, 0)]
    assert handed(merge.ready(lambda stream: False, 0.08)) == [(0, 1)]
    assert merge.is_empty


def test_input_at_its_end_is_not_waited_for() -> None:
    merge = LiveMerge(STREAMS, 0.05)
    merge.add([record(0, 0, 10), record(0, 1, 20)], 0.0)
    assert handed(merge.ready(lambda stream: stream[1] == 1, 0.0)) == [(0, 0), (0, 1)]


def test_input_that_is_silent_while_others_go_on_is_given_up() -> None:
    merge, now, seen = LiveMerge(STREAMS, 0.05), 0.0, 0
    for n in range(200):
        now = n * PATIENCE_S / 100
        merge.add([record(0, n, 10 * n)], now)
        seen += len(merge.ready(lambda stream: False, now))
    assert seen > 100


def test_input_that_is_behind_at_the_start_is_waited_for_as_long_as_it_takes() -> None:
    """Else the time would be the present, and what is old would be decided on as if it were of now."""
    merge = LiveMerge(STREAMS, 0.05, dict.fromkeys(STREAMS, 2))
    merge.add([record(0, 0, 10), record(0, 1, 900)], 0.0)
    assert merge.ready(lambda stream: stream[1] == 0, 100.0) == []
    merge.add([record(1, 0, 15)], 100.0)
    assert handed(merge.ready(lambda stream: False, 200.0)) == [(0, 0), (1, 0)]
    merge.add([record(1, 1, 20)], 200.0)
    assert handed(merge.ready(lambda stream: False, 200.0)) == [(1, 1)]
    assert handed(merge.ready(lambda stream: False, 200.1)) == [(0, 1)]
    holes = LiveMerge(STREAMS, 0.05, dict.fromkeys(STREAMS, 2))
    holes.add([record(0, 0, 10), record(0, 1, 900)], 0.0)
    assert handed(holes.ready(lambda stream: True, 0.0)) == [(0, 0), (0, 1)]


def test_order_is_that_of_the_merge(tmp_path: Path) -> None:
    """What is there already and known to be all goes in the order in which a backtest takes it."""
    with create_log(f"sqlite:{tmp_path / 'log'}", SPEC) as log:
        with log.writer("feed") as writer:
            for piece in facts(log):
                if piece:
                    writer.append(piece)
        every = input_streams(log, 0, build(configured(log, core())).inputs)
        streams = {stream: i for i, stream in enumerate(every) if stream[0].startswith("market.")}
        wanted = [r.place for _, r in inputs(log) if r.topic.startswith("market")]
        merge = LiveMerge(streams, 0.05)
        records = [r for stream in streams for r in all_records(log, *stream)]
        merge.add(records, 0.0)
        assert [r.place for _, r in merge.ready(lambda stream: True, 0.0)] == wanted
