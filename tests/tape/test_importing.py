from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from eventlog import LogReader, LogSpec, check_seals, create_log, open_log
from producers.marketdata.errors import BadRequest, BadRow
from producers.marketdata.lean import LeanReader
from producers.marketdata.quality import QualitySettings
from producers.marketdata.synthetic import SyntheticMarket
from producers.marketdata.tables import TableFormat, TableReader
from schemas import TOPICS, Bar, DeadLetter, Event, Trade, decode, evolve
from support.lean import SAMPLE
from tape.errors import Stopped
from tape.importing import DataWanted, ImportRefused, import_data, open_reader, quality_for
from tape.progress import Stage

MONDAY, TUESDAY = date(2013, 10, 7), date(2013, 10, 8)
QUALITY = QualitySettings()
MARKET = SyntheticMarket(("A", "B", "C"), 7, MONDAY, MONDAY, rate_per_s=0.5)


def url(tmp_path: Path, name: str = "log") -> str:
    return f"sqlite:{tmp_path / name}.sqlite"


def records(log: LogReader) -> dict[tuple[str, int], list[tuple[bytes, bytes]]]:
    """Key and value of all that an import may write, by partition."""
    found = {}
    for topic in (*(t.name for t in TOPICS.values() if t.kind == "market"), "dead-letters"):
        for partition in range(log.partitions(topic)):
            read = log.read(topic, partition, gte=0, limit=10**6)
            found[topic, partition] = [(record.key, record.value) for record in read]
    return found


def stored(address: str) -> dict[tuple[str, int], list[tuple[bytes, bytes]]]:
    with open_log(address, read_only=True) as log:
        faults = check_seals(log).faults
        assert not faults
        return records(log)


def test_what_is_imported_is_what_the_reader_gives(tmp_path: Path) -> None:
    reader = LeanReader(SAMPLE, ["IBM", "SPY"], MONDAY, TUESDAY)
    told = import_data(reader, url(tmp_path), quality=QUALITY)
    assert told["events"] == 4 * 780 + 4
    assert told["written"] == {"market.bars": 1560, "market.quotes": 1560, "market.status": 4}
    assert (told["skipped"], told["quality"]["quarantined"]) == (0, 0)
    made: list[Any] = [
        decode(topic, value) for (topic, _), rows in stored(url(tmp_path)).items() for _, value in rows
    ]
    made.sort(key=lambda event: event.row)
    assert {event.source for event in made} == {told["source"]}
    assert [evolve(event, source=reader.source) for event in made] == list(reader.events())


def test_a_repeated_import_writes_nothing(tmp_path: Path) -> None:
    first = import_data(MARKET, url(tmp_path), quality=QUALITY)
    before = stored(url(tmp_path))
    again = import_data(MARKET, url(tmp_path), quality=QUALITY)
    assert (again["written"], again["skipped"]) == ({}, first["events"])
    assert {**again["quality"]} == first["quality"]
    assert stored(url(tmp_path)) == before


KILLED = """
import os, signal, sys
from datetime import date
from producers.marketdata.quality import QualitySettings
from producers.marketdata.synthetic import SyntheticMarket
from tape import importing

importing.LOOK_EVERY = 10
market = SyntheticMarket(("A", "B", "C"), 7, date(2013, 10, 7), date(2013, 10, 7), rate_per_s=0.5)

def report(stage):
    if stage.name == "import" and stage.done >= int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)

importing.import_data(market, sys.argv[1], quality=QualitySettings(), report=report)
"""


def test_killed_and_repeated_it_writes_nothing_twice(tmp_path: Path) -> None:
    undisturbed, killed = url(tmp_path, "undisturbed"), url(tmp_path, "killed")
    import_data(MARKET, undisturbed, quality=QUALITY)
    root = Path(__file__).parents[2]
    for at in (0, 5_100, 10_050):
        ran = subprocess.run([sys.executable, "-c", KILLED, killed, str(at)], cwd=root, check=False)
        assert ran.returncode == -signal.SIGKILL
    told = import_data(MARKET, killed, quality=QUALITY)
    assert 0 < told["skipped"] < told["events"]
    assert stored(killed) == stored(undisturbed)


def test_stopped_and_repeated(tmp_path: Path) -> None:
    undisturbed, stopped = url(tmp_path, "undisturbed"), url(tmp_path, "stopped")
    import_data(MARKET, undisturbed, quality=QUALITY)
    stages: list[Stage] = []
    with pytest.raises(Stopped, match="repeat the command to go on"):
        import_data(
            MARKET,
            stopped,
            quality=QUALITY,
            report=stages.append,
            stop=lambda: stages[-1].name == "import" and stages[-1].done >= 10_000,
        )
    import_data(MARKET, stopped, quality=QUALITY, report=stages.append)
    assert stored(stopped) == stored(undisturbed)
    assert (stages[0].name, stages[-1].name, stages[-1].done) == ("check", "import", stages[-1].total)


AAPL = LeanReader(SAMPLE, ["AAPL"], date(2014, 6, 5), date(2014, 6, 9), hours="extended")


def test_what_the_gate_sets_aside_stands_among_the_dead_letters(tmp_path: Path) -> None:
    told = import_data(AAPL, url(tmp_path), quality=QUALITY)
    assert told["quality"]["reasons"] == {"move": {"AAPL": 2}}
    assert told["quality"]["settings"]["move_max"] == "0.30"
    assert told["written"]["dead-letters"] == 2
    letters = [
        row for (topic, _), rows in stored(url(tmp_path)).items() if topic == "dead-letters" for row in rows
    ]
    assert [key for key, _ in letters] == [b"AAPL", b"AAPL"]
    first = decode("dead-letters", letters[0][1])
    assert isinstance(first, DeadLetter)
    assert first.place == f"import/{told['source']}/1716"
    again = import_data(AAPL, url(tmp_path), quality=QUALITY)
    assert (again["written"], again["skipped"]) == ({}, told["events"])


def test_without_a_gate_all_goes_through(tmp_path: Path) -> None:
    told = import_data(AAPL, url(tmp_path), quality=None)
    assert told["quality"] is None
    assert "dead-letters" not in told["written"]


def test_other_settings_of_the_gate_are_another_import(tmp_path: Path) -> None:
    import_data(AAPL, url(tmp_path), quality=QUALITY)
    with pytest.raises(ImportRefused, match=r"has data up to 2014-06-10T00:01:00\+00:00, and these begin on"):
        import_data(AAPL, url(tmp_path), quality=replace(QUALITY, move_max=Decimal(2)))


def test_imports_go_in_the_order_of_time(tmp_path: Path) -> None:
    monday, tuesday = (LeanReader(SAMPLE, ["SPY"], day, day) for day in (MONDAY, TUESDAY))
    import_data(monday, url(tmp_path), quality=QUALITY)
    assert import_data(tuesday, url(tmp_path), quality=QUALITY)["written"]["market.bars"] == 390
    with pytest.raises(ImportRefused, match="import in the order of time"):
        import_data(LeanReader(SAMPLE, ["IBM"], TUESDAY, TUESDAY), url(tmp_path), quality=QUALITY)
    assert import_data(monday, url(tmp_path), quality=QUALITY)["written"] == {}


def test_what_was_begun_is_not_ended_behind_younger_data(tmp_path: Path) -> None:
    """Monday stopped half-way, then Tuesday: the rest of Monday would come after it."""
    tuesday = replace(MARKET, first=TUESDAY, last=TUESDAY)
    with pytest.raises(OSError, match="killed"):
        import_data(Cut(MARKET, 7000), url(tmp_path), quality=None)
    assert sum(map(len, stored(url(tmp_path)).values())) == 5000
    import_data(tuesday, url(tmp_path), quality=None)
    before = stored(url(tmp_path))
    with pytest.raises(ImportRefused, match="import in the order of time"):
        import_data(MARKET, url(tmp_path), quality=None)
    assert stored(url(tmp_path)) == before


class Cut:
    """A reader that fails after some events."""

    def __init__(self, reader: SyntheticMarket, at: int) -> None:
        self.source, self.check = reader.source, reader.check
        self._reader, self._at = reader, at

    def events(self, source: str | None = None) -> Iterator[Event]:
        yield from islice(self._reader.events(source), self._at)
        raise OSError("killed")


def test_a_log_on_wall_time_is_refused(tmp_path: Path) -> None:
    create_log(url(tmp_path), LogSpec(id="live", time="wall")).close()
    with pytest.raises(ImportRefused, match="is a log on wall time"):
        import_data(MARKET, url(tmp_path), quality=QUALITY)


def test_one_import_at_a_time(tmp_path: Path) -> None:
    import_data(MARKET, url(tmp_path), quality=QUALITY)
    with (
        open_log(url(tmp_path)) as log,
        log.writer("import"),
        pytest.raises(ImportRefused, match="--take-over"),
    ):
        import_data(MARKET, url(tmp_path), quality=QUALITY)


def test_nothing_is_written_of_data_with_a_bad_row(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("ts,symbol,price,size\n2013-10-07T14:00Z,A,1,1\n2013-10-07T14:00Z,A,x,1\n")
    with pytest.raises(BadRow):
        import_data(TableReader([(path, TableFormat("trades"))]), url(tmp_path), quality=QUALITY)
    assert not (tmp_path / "log.sqlite").exists()


def test_files_of_a_folder_with_a_mapping(tmp_path: Path) -> None:
    rows = "t,symbol,price,size\n2013-10-0{}T14:00Z,A,1,1\n"
    for day in (7, 8):
        (tmp_path / f"{day}.csv").write_text(rows.format(day))
    wanted = DataWanted(data=(tmp_path,), table=TableFormat("trades", {"ts": "t"}))
    told = import_data(open_reader(wanted), url(tmp_path), quality=quality_for(wanted))
    assert told["written"] == {"market.status": 4, "market.trades": 2}
    assert told["quality"]["gaps"]["A"]["count"] == 4
    kinds = {
        type(decode(topic, value)) for (topic, _), rows in stored(url(tmp_path)).items() for _, value in rows
    }
    assert Trade in kinds
    assert Bar not in kinds


@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        (DataWanted((SAMPLE,), ("SPY",), MONDAY), "name both (--from, --to)"),
        (DataWanted((SAMPLE, SAMPLE)), "say what is in these with --kind"),
        (DataWanted((Path("a.csv"),)), "say what is in these with --kind"),
        (DataWanted((SAMPLE,), table=TableFormat("quotes")), "no CSV or Parquet files in"),
    ],
)
def test_data_that_cannot_be_read(wanted: DataWanted, told: str) -> None:
    with pytest.raises(BadRequest) as caught:
        open_reader(wanted)
    assert told in str(caught.value)


def test_silence_is_reported_by_the_resolution(tmp_path: Path) -> None:
    lean = DataWanted((SAMPLE,), ("SPY",), MONDAY, MONDAY)
    assert quality_for(lean).gap_max == 180 * 10**9
    assert quality_for(replace(lean, resolution="tick")).gap_max == 60 * 10**9
    days = DataWanted((tmp_path,), table=TableFormat("bars", time="date"))
    assert quality_for(days, move_max=Decimal(1)) == QualitySettings(
        move_max=Decimal(1), gap_max=72 * 3600 * 10**9
    )
