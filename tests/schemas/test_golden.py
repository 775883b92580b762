"""Every version ever written is still read, and the current ones are still written byte for byte."""

import json
from pathlib import Path
from typing import Any

import pytest

from schemas import Event, decode, encode
from schemas.declare import EVENTS, VERSIONS
from schemas.export import VERSIONS_FOLDER
from support.examples import EXAMPLES, OLDER
from support.golden import FOLDER, write

GOLDEN = sorted(FOLDER.glob("*.json"))


def split(path: Path) -> tuple[str, int]:
    """Event and version of NAME.vN.json."""
    name, _, version = path.stem.partition(".v")
    return name, int(version)


def expected(path: Path) -> Event:
    name, version = split(path)
    return EXAMPLES[name] if version == VERSIONS[name] else OLDER[name, version]


def known_then(now: Any, then: Any) -> Any:
    """What is written today without the members that were added since, with a default."""
    if isinstance(then, dict):
        return {key: known_then(value, then[key]) for key, value in now.items() if key in then}
    if isinstance(then, list) and len(now) == len(then):
        return [known_then(*pair) for pair in zip(now, then, strict=True)]
    return now


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_it_reads_as_it_was_meant(path: Path) -> None:
    event = expected(path)
    assert decode(event.topic, path.read_bytes()) == event


@pytest.mark.parametrize(
    "path", [p for p in GOLDEN if split(p)[1] == VERSIONS[split(p)[0]]], ids=lambda path: path.stem
)
def test_the_current_version_is_written_so(path: Path) -> None:
    golden = path.read_bytes()
    made = encode(expected(path))
    if made != golden:
        today = known_then(json.loads(made), json.loads(golden))
        made = json.dumps(today, ensure_ascii=False, separators=(",", ":")).encode()
    assert made == golden


def test_every_version_with_a_schema_has_a_golden_file() -> None:
    assert {path.stem for path in VERSIONS_FOLDER.glob("*.json")} == {path.stem for path in GOLDEN}


def test_every_event_has_an_example() -> None:
    assert set(EXAMPLES) == set(EVENTS)


def test_a_golden_file_is_only_written_again_by_force(tmp_path: Path) -> None:
    assert len(write(tmp_path)) == len(EXAMPLES)
    kept, gone = tmp_path / "Quote.v1.json", tmp_path / "Trade.v1.json"
    kept.write_bytes(b"{}")
    gone.unlink()
    assert write(tmp_path) == [gone]
    assert kept.read_bytes() == b"{}"
    assert len(write(tmp_path, force=True)) == len(EXAMPLES)
    assert kept.read_bytes() == encode(EXAMPLES["Quote"])
