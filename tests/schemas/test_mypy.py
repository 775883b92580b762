"""A misspelt field or one of the wrong type is an error before anything runs."""

from pathlib import Path

import pytest
from mypy import api

ROOT = Path(__file__).parents[2]

HEAD = """\
from decimal import Decimal
from schemas import Quote, evolve

def made() -> Quote:
    return Quote(
        symbol="SPY", ts=1, bid=Decimal(1), bid_size=None, ask=None, ask_size=None, source="", row=0
    )

"""
RIGHT = """\
def mid(q: Quote) -> Decimal:
    return q.bid / 2 if q.bid is not None and not q.backfilled else Decimal(q.ts)

where: str = Quote.topic
bare = Quote(symbol="SPY", ts=1, bid=None, bid_size=None, ask=None, ask_size=None, source="", row=0, bar=True)
later: Quote = evolve(made(), ts=2)
"""
WRONG = """\
Quote(symbl="SPY", ts=1, bid=None, bid_size=None, ask=None, ask_size=None, source="", row=0)
print(made().bidd)
Quote(symbol="SPY", ts=1, bid=1.5, bid_size=None, ask=None, ask_size=None, source="", row=0)
made().ts = 2
"""


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mypy")


def errors(snippet: str, folder: Path, cache: Path) -> list[str]:
    """What `mypy --strict` says about a file that holds HEAD and `snippet`."""
    file = folder / "snippet.py"
    file.write_text(HEAD + snippet)
    config = f"--config-file={ROOT / 'pyproject.toml'}"
    out, failed, _ = api.run(["--strict", config, f"--cache-dir={cache}", "--no-error-summary", str(file)])
    assert not failed
    return out.splitlines()


def test_declared_fields_pass(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert errors(RIGHT, tmp_path, cache) == []


def test_others_do_not(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    found = errors(WRONG, tmp_path, cache)
    for expected in (
        'Unexpected keyword argument "symbl" for "Quote"',
        '"Quote" has no attribute "bidd"',
        'Argument "bid" to "Quote" has incompatible type "float"; expected "Decimal | None"',
        'Property "ts" defined in "Quote" is read-only',
    ):
        assert sum(expected in line for line in found) == 1, (expected, found)
