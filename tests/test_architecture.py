"""The direction of imports between the folders, and the purity of the folds."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from importlinter.cli import EXIT_STATUS_SUCCESS, lint_imports

ROOT = Path(__file__).parent.parent
PROCESSORS = ROOT / "processors"
FOLDS = [path for path in sorted(PROCESSORS.rglob("*.py")) if PROCESSORS / "hosts" not in path.parents]

# What an import contract cannot see: the clock in datetime, files, what differs between two runs.
IMPURE_FUNCTIONS = {"open", "print", "input", "hash", "id"}
IMPURE_METHODS = {"now", "utcnow", "today"}


def impure_calls(source: str) -> Iterator[tuple[int, str]]:
    """Line and name of every call in `source` that a pure fold must not make."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Call(func=ast.Name(id=name)) if name in IMPURE_FUNCTIONS:
                yield node.lineno, name
            case ast.Call(func=ast.Attribute(attr=name)) if name in IMPURE_METHODS:
                yield node.lineno, name


def test_imports_follow_the_contracts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert lint_imports(no_cache=True) == EXIT_STATUS_SUCCESS


@pytest.mark.parametrize("path", FOLDS, ids=lambda path: str(path.relative_to(ROOT)))
def test_folds_are_pure(path: Path) -> None:
    assert list(impure_calls(path.read_text())) == []


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("datetime.now(UTC)", [(1, "now")]),
        ("\ndate.today()", [(2, "today")]),
        ("open('x')", [(1, "open")]),
        ("self.id\norders.open\nDecimal(1)", []),
    ],
)
def test_impure_calls_are_seen(source: str, found: list[tuple[int, str]]) -> None:
    assert list(impure_calls(source)) == found
