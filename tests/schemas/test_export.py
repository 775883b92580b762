"""The check that refuses what old records or old readers would not survive."""

import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import create_model

from schemas import export as export_module
from schemas.declare import Event, Field, Value, event, value
from schemas.export import PLAIN_DECIMAL, VERSIONS_FOLDER, IncompatibleError, check, export, json_schema
from schemas.upcasters import UPCASTERS

AGAIN = "(compatible: run tape schemas export)"
NEW = "(make it v2, with an upcaster from v1 in schemas/upcasters.py)"

Positive = Annotated[Decimal, Field(gt=0)]
Weight = Annotated[Decimal, Field(ge=0, le=1)]
Declare = Callable[..., type[Event]]


def part(**fields: Any) -> Any:
    """A value named Part."""
    return value(create_model("Part", __base__=Value, __module__=__name__, **_with_defaults(fields)))


def _with_defaults(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: kind if isinstance(kind, tuple) else (kind, ...) for name, kind in fields.items()}


@pytest.fixture
def declare(monkeypatch: pytest.MonkeyPatch) -> Declare:
    """Declares an event Sample with fields NAME=TYPE or NAME=(TYPE, DEFAULT), again and again.

    It is the only event that the check then knows.
    """
    for name in ("EVENTS", "VERSIONS"):
        known: dict[str, Any] = {}
        monkeypatch.setattr(f"schemas.declare.{name}", known)
        monkeypatch.setattr(f"schemas.export.{name}", known)

    def declared(v: int = 1, topic: str = "alerts", doc: str = "A sample.", **fields: Any) -> type[Event]:
        forget()
        made: Any = create_model(
            "Sample", __base__=Event, __module__=__name__, __doc__=doc, **_with_defaults(fields)
        )
        return event(topic, v)(made)

    return declared


def forget() -> None:
    """Sample is no longer declared."""
    export_module.EVENTS.pop("Sample", None)


def problems(folder: Path) -> list[str]:
    """What the check says, without the event's name."""
    return [problem.removeprefix("Sample ") for problem in check(folder)]


def test_what_tape_ships_is_what_the_code_says() -> None:
    assert check(VERSIONS_FOLDER) == []


def test_a_schema_says_how_an_event_stands_on_the_wire(declare: Declare) -> None:
    limits = part(share=(Weight | None, Decimal("0.05")))
    kind = declare(
        ts=int, price=Positive, note=(str, ""), sides=tuple[Literal["buy", "sell"], ...], limits=limits
    )
    decimal = {"type": "string", "format": "decimal", "pattern": PLAIN_DECIMAL}
    assert json_schema(kind) == {
        "$defs": {
            "Part": {
                "type": "object",
                "properties": {
                    "share": {
                        "anyOf": [{**decimal, "minimum": 0, "maximum": 1}, {"type": "null"}],
                        "default": "0.05",
                    }
                },
            }
        },
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Sample",
        "topic": "alerts",
        "description": "A sample.",
        "type": "object",
        "properties": {
            "type": {"type": "string", "const": "Sample"},
            "v": {"type": "integer", "const": 1},
            "ts": {"type": "integer", "format": "int64"},
            "price": {**decimal, "exclusiveMinimum": 0},
            "note": {"type": "string", "default": ""},
            "sides": {"type": "array", "items": {"type": "string", "enum": ["buy", "sell"]}},
            "limits": {"$ref": "#/$defs/Part"},
        },
        "required": ["type", "v", "ts", "price", "sides", "limits"],
    }


def test_a_schema_is_written_the_same_each_time_and_with_sorted_keys(tmp_path: Path) -> None:
    once = {path.name: path.read_bytes() for path in export(tmp_path / "a")}
    again = {path.name: path.read_bytes() for path in export(tmp_path / "b")}
    assert once == again
    for text in once.values():
        assert (
            json.dumps(json.loads(text), indent=2, ensure_ascii=False, sort_keys=True).encode() + b"\n"
            == text
        )


REFUSED: list[tuple[str, Any, Any, str]] = [
    ("a type", int, str, "its type changed from int64 to string"),
    ("text to decimal", str, Decimal, "its type changed from string to decimal"),
    (
        "an inner type",
        tuple[str, ...],
        tuple[int, ...],
        "its type changed from array of string to array of int64",
    ),
    ("null is gone", int | None, int, "its type changed from int64 or null to int64"),
    ("null is new", int, int | None, "its type changed from int64 to int64 or null"),
    ("required", (int, 0), int, "it was optional and is required"),
    ("optional", int, (int, 0), "it was required and is optional"),
    ("another default", (int, 0), (int, 1), "its default changed from 0 to 1"),
    ("a bound", Decimal, Positive, "a bound was narrowed"),
    ("a tighter bound", Annotated[int, Field(ge=0)], Annotated[int, Field(gt=0)], "a bound was narrowed"),
    ("an upper bound", Annotated[Decimal, Field(ge=0)], Weight, "a bound was narrowed"),
    ("a length", str, Annotated[str, Field(min_length=1)], "a bound was narrowed"),
    ("a maximal length", str, Annotated[str, Field(max_length=9)], "a bound was narrowed"),
    ("a pattern", str, Annotated[str, Field(pattern="^a")], "its pattern changed"),
    ("a member", Literal["a", "b", "c"], Literal["a", "c"], "it lost the member b"),
    ("an enumeration", str, Literal["a"], "it was narrowed to a"),
    ("a nullable bound", Decimal | None, Positive | None, "a bound was narrowed"),
]


@pytest.mark.parametrize(("before", "after", "what"), [c[1:] for c in REFUSED], ids=[c[0] for c in REFUSED])
def test_refused(declare: Declare, tmp_path: Path, before: Any, after: Any, what: str) -> None:
    declare(ts=int, x=before)
    export(tmp_path)
    declare(ts=int, x=after)
    assert problems(tmp_path) == [f"v1: field x: {what} {NEW}"]


@pytest.mark.parametrize(
    ("before", "after", "what"),
    [
        ({"x": int, "y": int}, {"x": int}, "field y: it was removed"),
        ({"x": int}, {"x": int, "y": int}, "field y: it is new and required"),
        ({"x": int}, {"x": int, "y": int | None}, "field y: it is new and required"),
        ({"p": part(a=int)}, {"p": part(a=str)}, "field p.a: its type changed from int64 to string"),
        ({"p": part(a=int)}, {"p": part(a=int, b=int)}, "field p.b: it is new and required"),
        ({"p": part(a=int, b=int)}, {"p": part(a=int)}, "field p.b: it was removed"),
    ],
)
def test_refused_of_the_members(
    declare: Declare, tmp_path: Path, before: dict[str, Any], after: dict[str, Any], what: str
) -> None:
    declare(**before)
    export(tmp_path)
    declare(**after)
    assert problems(tmp_path) == [f"v1: {what} {NEW}"]


def test_refused_inside_a_list_of_values(declare: Declare, tmp_path: Path) -> None:
    declare(parts=tuple[part(a=Literal["x", "y"]), ...])
    export(tmp_path)
    declare(parts=tuple[part(a=Literal["x"]), ...])
    assert problems(tmp_path) == [f"v1: field parts[].a: it lost the member y {NEW}"]


ADMITTED: list[tuple[str, Any, Any, str]] = [
    ("a new member", Literal["a"], Literal["a", "b"], "it gained the member b"),
    ("any text", Literal["a", "b"], str, "it is no longer an enumeration"),
    ("a wider bound", Positive, Annotated[Decimal, Field(ge=0)], "a bound was widened"),
    ("no bound", Weight, Decimal, "a bound was widened"),
    ("a shorter text", Annotated[str, Field(min_length=1)], str, "a bound was widened"),
]


@pytest.mark.parametrize(("before", "after", "what"), [c[1:] for c in ADMITTED], ids=[c[0] for c in ADMITTED])
def test_admitted_once_it_is_exported(
    declare: Declare, tmp_path: Path, before: Any, after: Any, what: str
) -> None:
    declare(ts=int, x=before)
    export(tmp_path)
    declare(ts=int, x=after)
    assert problems(tmp_path) == [f"v1: field x: {what} {AGAIN}"]
    export(tmp_path)
    assert problems(tmp_path) == []


def test_a_new_optional_field_is_admitted_but_not_taken_back(declare: Declare, tmp_path: Path) -> None:
    declare(ts=int)
    export(tmp_path)
    declare(ts=int, note=(str, ""))
    assert problems(tmp_path) == [f"v1: field note: it is new and optional {AGAIN}"]
    export(tmp_path)
    declare(ts=int)
    assert problems(tmp_path) == [f"v1: field note: it was removed {NEW}"]


def test_words_may_change(declare: Declare, tmp_path: Path) -> None:
    declare(ts=int)
    export(tmp_path)
    declare(doc="Better said.", ts=int)
    assert problems(tmp_path) == []


def test_the_topic_never_changes(declare: Declare, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    declare(ts=int)
    export(tmp_path)
    told = "the topic changed from alerts to roles (keep it, and declare an event of another name)"
    declare(topic="roles", ts=int)
    assert problems(tmp_path) == [f"v1: {told}"]
    declare(v=2, topic="roles", ts=int)
    monkeypatch.setitem(UPCASTERS, ("Sample", 1), dict)
    assert f"v2: {told}" in problems(tmp_path)


def test_a_new_version_needs_a_file_and_an_upcaster(
    declare: Declare, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    declare(ts=int)
    export(tmp_path)
    declare(v=2, when=str)
    assert problems(tmp_path) == [
        "v1: no upcaster to v2 (add one to schemas/upcasters.py)",
        "v2: Sample.v2.json is missing (run tape schemas export; if it was there before, take it back)",
    ]
    monkeypatch.setitem(UPCASTERS, ("Sample", 1), dict)
    export(tmp_path)
    assert problems(tmp_path) == []
    (tmp_path / "Sample.v1.json").unlink()
    assert [p.split(" (")[0] for p in problems(tmp_path)] == ["v1: Sample.v1.json is missing or no schema"]


def test_events_and_versions_that_were_written_stay(declare: Declare, tmp_path: Path) -> None:
    declare(v=2, ts=int)
    export(tmp_path)
    declare(v=1, ts=int)
    export(tmp_path)
    assert check(tmp_path) == ["Sample.v2: the code is back at v1 (a version never goes back)"]
    forget()
    told = "the event was removed (declare it again: old records are read with it)"
    assert check(tmp_path) == [f"Sample.v1: {told}", f"Sample.v2: {told}"]


@pytest.mark.parametrize("text", [b"", b"[]", b"{}", b"\xff", b'{"properties": 1}'])
def test_a_broken_file_is_named(declare: Declare, tmp_path: Path, text: bytes) -> None:
    declare(ts=int)
    export(tmp_path)
    (tmp_path / "Sample.v1.json").write_bytes(text)
    assert [p.split(" (")[0] for p in problems(tmp_path)] == ["v1: Sample.v1.json is no schema"]


def test_export_writes_nothing_where_records_would_not_survive(declare: Declare, tmp_path: Path) -> None:
    declare(ts=int)
    export(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    declare(ts=str)
    with pytest.raises(IncompatibleError, match="Sample v1: field ts: its type changed"):
        export(tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
