"""A damaged file ends in a `LogError` or a fault that names what is wrong, never in a traceback."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from eventlog import LogSpec, check_heads, check_seals, create_log, fingerprint, heads, open_log
from eventlog.errors import LogError
from support.log_suite import numbers

STREAMS = [("market.quotes", 0), ("operator.commands", 0)]
PAGE = 4096


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, dict[str, object]]:
    """The bytes of a closed log of a few hundred pages, and its heads."""
    path = tmp_path_factory.mktemp("damage") / "log"
    with create_log(f"sqlite:{path}", LogSpec("damage", "data", 1, 1)) as log:
        with log.writer("w") as writer:
            for start in range(0, 5000, 500):
                batch = [r for s in STREAMS for r in numbers(s, range(start, start + 500), b"k" * 40)]
                writer.append(batch)
        kept = heads(log)
    return path.read_bytes(), kept


def noticed(path: Path, kept: dict[str, object]) -> bool:
    """Whether verification says something; anything but a `LogError` fails the test."""
    try:
        with open_log(f"sqlite:{path}", read_only=True) as log:
            faults = check_seals(log).faults + check_heads(log, kept)
            fingerprint(log)
            return bool(faults)
    except LogError:
        return True


def test_whole_file_holds(whole: tuple[bytes, dict[str, object]], tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(whole[0])
    assert not noticed(path, whole[1])


@pytest.mark.parametrize("seed", range(6))
def test_lost_page_is_noticed(whole: tuple[bytes, dict[str, object]], tmp_path: Path, seed: int) -> None:
    content, kept = whole
    chance = random.Random(seed)
    for n in range(8):
        page = chance.randrange(1, len(content) // PAGE)
        filler = bytes(PAGE) if n % 2 else chance.randbytes(PAGE)
        path = tmp_path / f"{n}"
        path.write_bytes(content[: page * PAGE] + filler + content[(page + 1) * PAGE :])
        assert noticed(path, kept) or not holds_records(content, page)


def holds_records(content: bytes, page: int) -> bool:
    """Whether a page holds records of the batches above."""
    return b"k" * 40 in content[page * PAGE : (page + 1) * PAGE]


@pytest.mark.parametrize("seed", range(6))
def test_flipped_bits_never_end_in_a_traceback(
    whole: tuple[bytes, dict[str, object]], tmp_path: Path, seed: int
) -> None:
    content, kept = whole
    chance = random.Random(100 + seed)
    path = tmp_path / "log"
    for _ in range(15):
        damaged = bytearray(content)
        for _ in range(chance.choice([1, 3, 30])):
            at = chance.randrange(100, len(damaged)) if chance.random() < 0.5 else chance.randrange(8 * PAGE)
            damaged[at] ^= 1 << chance.randrange(8)
        path.write_bytes(damaged)
        noticed(path, kept)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_cut_file_is_noticed(whole: tuple[bytes, dict[str, object]], tmp_path: Path, share: float) -> None:
    content, kept = whole
    path = tmp_path / "log"
    path.write_bytes(content[: int(len(content) * share)])
    assert noticed(path, kept)


def test_damaged_log_is_not_written_on(whole: tuple[bytes, dict[str, object]], tmp_path: Path) -> None:
    content, _ = whole
    path = tmp_path / "log"
    path.write_bytes(content[: len(content) // 2])

    def write() -> None:
        with open_log(f"sqlite:{path}") as log, log.writer("w") as writer:
            writer.append(numbers(STREAMS[0], [1]))

    with pytest.raises(LogError):
        write()
