"""JSON Schemas of every event version ever written, held against the code.

`export` writes NAME.vN.json for the current version of every event; the files of older versions
stay for ever. `check` holds the code against the files: within one version nothing may change that
records already written, or readers already running, would not survive. Such a change is a new `v`
with an upcaster; a new optional field, a wider bound or a new member of an enumeration only has to
be exported again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import core_schema

from schemas.compatibility import Difference, Schema, differences
from schemas.declare import EVENTS, VERSIONS, Event
from schemas.upcasters import UPCASTERS

VERSIONS_FOLDER = Path(__file__).parent / "versions"
"""The schemas that come with Tape."""

DIALECT = "https://json-schema.org/draft/2020-12/schema"
PLAIN_DECIMAL = r"^(0|-?(0\.[0-9]*[1-9]|[1-9][0-9]*(\.[0-9]*[1-9])?))$"

_FILE = re.compile(r"(?P<name>\w+)\.v(?P<version>[1-9][0-9]*)\.json")
_BOUNDS = (("ge", "minimum"), ("gt", "exclusiveMinimum"), ("le", "maximum"), ("lt", "exclusiveMaximum"))
_EXPORT_AGAIN = "compatible: run tape schemas export"
_TAKE_BACK = "take it from version control: a written version is never lost"


class IncompatibleError(ValueError):
    """A written schema was about to be replaced by one that its records would not survive."""


def json_schema(kind: type[Event]) -> Schema:
    """What an event looks like on the wire, with its topic; the same for the same declaration.

    Members that the schema does not name are allowed, since readers ignore them.
    """
    made = kind.model.model_json_schema(schema_generator=_Wire)
    for member in ("type", "v"):  # they have a default for those who construct; on the wire they must stand
        del made["properties"][member]["default"]
    made["required"] = ["type", "v", *made.get("required", ())]
    schema: Schema = _sorted({"$schema": DIALECT, "topic": kind.topic, **_open(made), "title": kind.__name__})
    return schema


def export(folder: Path) -> list[Path]:
    """Write NAME.vN.json for every event's current version into `folder`.

    Raises `IncompatibleError` and writes nothing where a file of the same version does not survive it.
    """
    refused = []
    for name in sorted(EVENTS):
        written = _read(_path(folder, name, VERSIONS[name]))
        changed = differences(written, json_schema(EVENTS[name])) if written else ()
        refused += [_told(name, difference) for difference in changed if difference.breaks]
    if refused:
        raise IncompatibleError("\n".join(refused))
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name in sorted(EVENTS):
        path = _path(folder, name, VERSIONS[name])
        path.write_text(json.dumps(json_schema(EVENTS[name]), indent=2, ensure_ascii=False) + "\n", "utf-8")
        paths.append(path)
    return paths


def check(folder: Path) -> list[str]:
    """What is wrong between the schemas in `folder` and the code: event, field and remedy of each."""
    problems: list[str] = []
    for name in sorted(EVENTS):
        problems += _check_older(folder, name)
        problems += _check_current(folder, name)
    return problems + list(_check_strays(folder))


def _check_older(folder: Path, name: str) -> Iterator[str]:
    for version in range(1, VERSIONS[name]):
        path = _path(folder, name, version)
        written = _read(path)
        if (name, version) not in UPCASTERS:
            yield f"{name} v{version}: no upcaster to v{version + 1} (add one to schemas/upcasters.py)"
        if written is None:
            yield f"{name} v{version}: {path.name} is missing or no schema ({_TAKE_BACK})"
        elif written.get("topic") != EVENTS[name].topic:
            what = f"the topic changed from {written.get('topic')} to {EVENTS[name].topic}"
            yield _told(name, Difference("", what, True))


def _check_current(folder: Path, name: str) -> Iterator[str]:
    path = _path(folder, name, VERSIONS[name])
    written, said = _read(path), json_schema(EVENTS[name])
    where = f"{name} v{VERSIONS[name]}: {path.name}"
    if not path.exists():
        yield f"{where} is missing (run tape schemas export; if it was there before, take it back)"
    elif written is None:
        yield f"{where} is no schema ({_TAKE_BACK})"
    elif found := list(differences(written, said)):
        yield from (_told(name, difference) for difference in found)
    elif _bare(written) != _bare(said):
        yield f"{where} says it in other words than the code ({_EXPORT_AGAIN})"


def _check_strays(folder: Path) -> Iterator[str]:
    """Files of events or versions that the code does not know."""
    for path in sorted(folder.glob("*.json")):
        match = _FILE.fullmatch(path.name)
        if match is None:
            yield f"{path.name}: not NAME.vN.json (remove it)"
        elif match["name"] not in EVENTS:
            yield f"{path.stem}: the event was removed (declare it again: old records are read with it)"
        elif int(match["version"]) > VERSIONS[match["name"]]:
            yield f"{path.stem}: the code is back at v{VERSIONS[match['name']]} (a version never goes back)"


def _told(name: str, difference: Difference) -> str:
    """A difference in words, with its remedy."""
    version = VERSIONS[name]
    if not difference.breaks:
        remedy = _EXPORT_AGAIN
    elif not difference.field:
        remedy = "keep it, and declare an event of another name"
    else:
        remedy = f"make it v{version + 1}, with an upcaster from v{version} in schemas/upcasters.py"
    where = f"field {difference.field}: " if difference.field else ""
    return f"{name} v{version}: {where}{difference.what} ({remedy})"


def _path(folder: Path, name: str, version: int) -> Path:
    return folder / f"{name}.v{version}.json"


def _read(path: Path) -> Schema | None:
    """The schema in a file; None where there is none."""
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and isinstance(found.get("properties"), dict) else None


class _Wire(GenerateJsonSchema):
    """Decimals as they are written: strings, with their bounds beside as numbers. Integers of 64 bits."""

    def decimal_schema(self, schema: core_schema.DecimalSchema) -> Schema:
        bounds = {keyword: schema[key] for key, keyword in _BOUNDS if schema.get(key) is not None}  # type: ignore[literal-required]
        return {"type": "string", "format": "decimal", "pattern": PLAIN_DECIMAL, **bounds}

    def int_schema(self, schema: core_schema.IntSchema) -> Schema:
        return {**super().int_schema(schema), "format": "int64"}


def _open(part: Any) -> Any:
    """Without the titles that pydantic makes up and the refusal of unknown members."""
    if isinstance(part, list):
        return [_open(inner) for inner in part]
    if not isinstance(part, dict):
        return part
    made_up = {key for key, value in part.items() if key == "title" and isinstance(value, str)}
    made_up |= {key for key, value in part.items() if key == "additionalProperties" and value is False}
    return {key: _open(value) for key, value in part.items() if key not in made_up}


def _bare(part: Any) -> Any:
    """Without descriptions."""
    if isinstance(part, list):
        return [_bare(inner) for inner in part]
    if not isinstance(part, dict):
        return part
    return {
        key: _bare(value) for key, value in part.items() if key != "description" or not isinstance(value, str)
    }


def _sorted(part: Any) -> Any:
    if isinstance(part, dict):
        return {key: _sorted(part[key]) for key in sorted(part)}
    return [_sorted(inner) for inner in part] if isinstance(part, list) else part
