"""What an import has brought into a log is read from there as it would be from its files."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from eventlog import create_log
from eventlog.contract import LogSpec
from eventlog.errors import LogNotFound
from producers.importer import import_events
from producers.marketdata.errors import BadRequest, BadRow, UnknownSymbol
from producers.marketdata.lean import LeanReader
from producers.marketdata.recorded import RecordedReader
from schemas import NewRecord, encode, evolve
from support.lean import SAMPLE

MONDAY, TUESDAY, WEDNESDAY = date(2013, 10, 7), date(2013, 10, 8), date(2013, 10, 9)


def lean(symbols: Sequence[str], first: date, last: date, **more: Any) -> LeanReader:
    return LeanReader(SAMPLE, symbols, first, last, **more)


def alike(events: Any) -> list[Any]:
    """The events, whatever their source."""
    return [evolve(event, source="") for event in events]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A log of three days of two symbols, brought in by two imports, one after the other."""
    url = f"sqlite:{tmp_path_factory.mktemp('recorded') / 'log.sqlite'}"
    with create_log(url, LogSpec("recorded", "data")) as log, log.writer("import") as writer:
        for reader in (lean(["SPY", "IBM"], MONDAY, TUESDAY), lean(["SPY", "IBM"], WEDNESDAY, WEDNESDAY)):
            import_events(reader.events(), log, writer, source=reader.source, done={})
    return url


def test_events_are_those_of_the_files(url: str) -> None:
    reader, files = RecordedReader(url), lean(["SPY", "IBM"], MONDAY, WEDNESDAY)
    assert reader.check() == files.check() == 3 * 1560 + 6
    assert alike(reader.events()) == alike(files.events())
    assert {event.source for event in reader.events()} == {reader.source}  # type: ignore[attr-defined]
    assert reader.period == 60 * 10**9


def test_some_symbols_and_days(url: str) -> None:
    reader = RecordedReader(url, ["ibm"], TUESDAY, TUESDAY)
    assert reader.check() == 782
    assert alike(reader.events()) == alike(lean(["IBM"], TUESDAY, TUESDAY).events())
    assert reader.source != RecordedReader(url, ["spy"], TUESDAY, TUESDAY).source
    assert reader.source == RecordedReader(url, ["IBM"], TUESDAY, TUESDAY).source


def test_source_depends_on_the_records(url: str, tmp_path: Path) -> None:
    """One price changed, and it is another."""
    sources = set()
    for change in (0, 0, 1):
        other = f"sqlite:{tmp_path / str(len(list(tmp_path.iterdir())))}.sqlite"
        with create_log(other, LogSpec("recorded", "data")) as log, log.writer("import") as writer:
            events = list(lean(["SPY"], MONDAY, MONDAY).events())
            if change:
                events[5] = evolve(events[5], source=events[5].source + "x")
            writer.append([NewRecord(e.topic, 0, e.symbol.encode(), encode(e)) for e in events])
        sources.add(RecordedReader(other).source)
    assert len(sources) == 2


def test_what_is_not_there(url: str, tmp_path: Path) -> None:
    with pytest.raises(UnknownSymbol, match=r"has no data of GE \(there is: IBM, SPY\)"):
        RecordedReader(url, ["GE", "SPY"]).check()
    with pytest.raises(BadRequest, match="no market data in that range"):
        RecordedReader(url, first=date(2014, 1, 1)).check()
    with pytest.raises(BadRequest, match="exchange the two"):
        RecordedReader(url, first=TUESDAY, last=MONDAY)
    with pytest.raises(LogNotFound, match="there is no log at"):
        RecordedReader(f"sqlite:{tmp_path / 'none.sqlite'}")


def test_record_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    url = f"sqlite:{tmp_path / 'log.sqlite'}"
    with create_log(url, LogSpec("recorded", "data")) as log, log.writer("import") as writer:
        writer.append([NewRecord("market.quotes", 1, b"SPY", b'{"type":"Quote","v":9}')])
    with pytest.raises(BadRow, match=r"market.quotes/1/0 cannot be read \(.*9.*\): name other data"):
        RecordedReader(url).check()
