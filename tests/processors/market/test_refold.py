"""The market processor on an embedded log: killed, restarted, changed; outputs once and in order."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest

from eventlog import LogSpec, create_log, open_log
from eventlog.errors import WriterBusy
from processors.hosts.journal import read_all
from processors.hosts.market import run_market
from processors.hosts.refold import FOLDS, Refold
from processors.market.settings import MarketSettings
from schemas import Bar, Folded, Mark, decode, new_record, partition_of
from support.market import MINUTE, at, bar, trade
from support.refolds import (
    MANY,
    SETTINGS,
    append_as_it_falls,
    audited,
    beat,
    in_order,
    is_all_taken,
    killed,
    late,
    records,
    stands,
)

SPEC = LogSpec("0123456789abcdef", "data")


@pytest.fixture
def url(tmp_path: Path) -> str:
    return made(tmp_path / "a.db")


def made(path: Path) -> str:
    create_log(url := f"sqlite:{path}", SPEC).close()
    return url


def take_all(url: str, settings: MarketSettings = SETTINGS) -> None:
    """Run until all inputs have been taken."""
    with open_log(url) as log, open_log(url) as watch:
        run_market(log, settings, beats=lambda beat: None, stop=lambda: is_all_taken(watch))


def add(url: str, events: list[Any]) -> None:
    with open_log(url) as log, log.writer("feed") as feed:
        feed.append(records(log, events))


@pytest.mark.parametrize("seed", range(2))
def test_killed_at_ten_moments_all_outputs_are_there_once_and_in_order(
    url: str, tmp_path: Path, seed: int
) -> None:
    killed(url, tmp_path, late(seed, 8000), seed)
    with open_log(url, read_only=True) as log:
        assert audited(log) > 1000
        assert max(f.parts for _, f in read_all(log, FOLDS, 0, Folded)) > 1
    before = _stands(url)
    take_all(url)
    assert _stands(url) == before


def test_killed_and_restarted_it_wrote_what_an_undisturbed_run_wrote(tmp_path: Path) -> None:
    events, killed_url, calm_url = in_order(5, 6000), made(tmp_path / "a.db"), made(tmp_path / "b.db")
    for url in (killed_url, calm_url):
        add(url, events)
    killed(killed_url, tmp_path, [], 5)
    take_all(calm_url)
    assert _stands(killed_url) == _stands(calm_url)
    assert sum(map(len, _stands(calm_url).values())) > 1000


def test_the_way_in_which_partitions_fall_does_not_matter_once_they_are_there(tmp_path: Path) -> None:
    events = late(6, 4000)
    found = []
    for n in range(3):
        url = made(tmp_path / f"{n}.db")
        with open_log(url) as log, log.writer("feed") as feed:
            append_as_it_falls(log, feed, events, Random(n))
        take_all(url)
        found.append(_stands(url))
    assert found[0] == found[1] == found[2]


def test_other_settings_go_on_where_the_old_ones_ended_under_another_name(url: str) -> None:
    events = in_order(7, 3000)
    add(url, events[:1500])
    take_all(url)
    before = _stands(url)
    add(url, events[1500:])
    other = msgspec.structs.replace(SETTINGS, mark_interval=10**9)
    take_all(url, other)
    with open_log(url, read_only=True) as log:
        audited(log)
        assert {f.source for _, f in read_all(log, FOLDS, 0, Folded)} == {SETTINGS.source, other.source}
    after = _stands(url)
    assert all(after[stream][: len(values)] == values for stream, values in before.items())
    assert after != before


def test_a_symbol_that_a_vendor_brings_bars_of_gets_none_also_after_a_restart(url: str) -> None:
    ten = at("10:00")
    add(url, [bar(ten, "10 10 10 10", symbol="SPY"), trade(ten, 10), trade(ten, 20, symbol="IBM")])
    take_all(url)
    add(url, [trade(ten + MINUTE, 10), trade(ten + MINUTE, 20, symbol="IBM"), beat(ten + 2 * MINUTE)])
    take_all(url)
    bars: list[Any] = [
        decode(Bar.topic, v) for s, some in _stands(url).items() if s[0] == Bar.topic for v in some
    ]
    assert [(b.symbol, b.period // 10**9) for b in sorted(bars, key=lambda b: b.row)] == [
        ("IBM", 1),
        ("IBM", 60),
        ("IBM", 1),
        ("IBM", 60),
    ]


def test_a_second_one_is_refused_while_the_first_lives(url: str) -> None:
    with (
        open_log(url) as log,
        open_log(url) as other,
        other.writer("market"),
        pytest.raises(WriterBusy),
    ):
        run_market(log, SETTINGS, beats=lambda beat: None, stop=lambda: True)


def test_live_what_comes_is_taken_and_time_shows_what_was_held_back(url: str) -> None:
    ended = threading.Event()
    beats: list[int] = []

    def run() -> None:
        with open_log(url) as log:
            run_market(log, SETTINGS, beats=lambda beat: beats.append(beat.processed), stop=ended.is_set)

    role = threading.Thread(target=run)
    role.start()
    try:
        events = in_order(8, 1000)
        with open_log(url) as log, log.writer("feed") as feed:
            for start in range(0, len(events), 100):
                append_as_it_falls(log, feed, events[start : start + 100], Random(start))
            until = time.monotonic() + 120
            while not is_all_taken(log) and time.monotonic() < until:
                time.sleep(0.01)
    finally:
        ended.set()
        role.join()
    with open_log(url, read_only=True) as log:
        assert audited(log) > 100
    assert beats[-1] >= len(events)
    marked = {mark.symbol for mark in _marks(url)}
    assert marked == set(MANY)


def test_code_of_another_version_needs_an_ordered_end_of_the_one_before(url: str) -> None:
    def build(version: str) -> Any:
        def made(text: str) -> Any:
            if MarketSettings.of(text).version != version:
                raise ValueError(f"{version} is installed")
            from processors.market.processor import MarketProcessor

            return MarketProcessor(MarketSettings.of(text))

        return made

    add(url, in_order(9, 500))
    take_all(url)
    newer = msgspec.structs.replace(SETTINGS, version="2")
    with open_log(url) as log, log.writer("feed") as feed:
        feed.append([new_record(beat(at("15:00")), partition_of("*", log.partitions("market.status")), "*")])
        Refold(log, "market", newer.text, build("2")).run(lambda beat: None, lambda: is_all_taken(log))
        assert [f.source for _, f in read_all(log, FOLDS, 0, Folded)][-1] == newer.source
        audited(log)


def _stands(url: str) -> dict[Any, list[bytes]]:
    with open_log(url, read_only=True) as log:
        return stands(log)


def _marks(url: str) -> list[Any]:
    return [decode(Mark.topic, v) for s, some in _stands(url).items() if s[0] == Mark.topic for v in some]
