"""What changed between two JSON Schemas of one event version, and which records or readers break on it.

A record already written must still be read, and a reader already running must be able to read what
is written from now on. The fast codec takes no notice of bounds and members of enumerations, so wider ones
are harmless; narrower ones would refuse what was once accepted.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

Schema = dict[str, Any]


class Difference(NamedTuple):
    """What differs between a written schema and the code. `breaks`: old records or readers break on it."""

    field: str
    what: str
    breaks: bool


def differences(old: Schema, new: Schema) -> Iterator[Difference]:
    """What changed from one schema of an event version to another; descriptions are passed over."""
    if old.get("topic") != new.get("topic"):
        yield Difference("", f"the topic changed from {old.get('topic')} to {new.get('topic')}", True)
    yield from _compare("", _resolved(old, old.get("$defs", {})), _resolved(new, new.get("$defs", {})))


def _resolved(part: Any, defs: Schema) -> Any:
    """A schema with its references put in place and enumerations of one member like the others."""
    if isinstance(part, list):
        return [_resolved(inner, defs) for inner in part]
    if not isinstance(part, dict):
        return part
    if "$ref" in part:
        beside = {k: v for k, v in part.items() if k != "$ref"}
        return _resolved({**defs[part["$ref"].rpartition("/")[2]], **beside}, defs)
    made = {key: _resolved(value, defs) for key, value in part.items() if key != "$defs"}
    if isinstance(made.get("const"), str | int):
        made["enum"] = [made.pop("const")]
    return made


def _compare(field: str, old: Schema, new: Schema) -> Iterator[Difference]:
    """Differences between two resolved schemas of the same place."""
    if _shape(old) != _shape(new):
        yield Difference(field, f"its type changed from {_shape(old)} to {_shape(new)}", True)
        return
    yield from _compare_enum(field, old.get("enum"), new.get("enum"))
    yield from _compare_bounds(field, old, new)
    for inner in ("items", "additionalProperties"):
        if inner in old:
            yield from _compare(f"{field}[]", old[inner], new[inner])
    for before, after in zip(old.get("anyOf", ()), new.get("anyOf", ()), strict=True):
        yield from _compare(field, before, after)
    if "properties" in old:
        yield from _compare_members(field, old, new)


def _compare_members(field: str, old: Schema, new: Schema) -> Iterator[Difference]:
    before, after = old["properties"], new["properties"]
    needed_before, needed_after = set(old.get("required", ())), set(new.get("required", ()))
    for name in sorted({*before, *after}):
        path = f"{field}.{name}" if field else name
        if name not in after:
            yield Difference(path, "it was removed", True)
        elif name not in before:
            breaks = name in needed_after
            yield Difference(path, "it is new and required" if breaks else "it is new and optional", breaks)
        else:
            yield from _compare(path, before[name], after[name])
            if name in needed_after - needed_before:
                yield Difference(path, "it was optional and is required", True)
            elif name in needed_before - needed_after:
                yield Difference(path, "it was required and is optional", True)
            elif before[name].get("default") != after[name].get("default"):
                told = f"{before[name].get('default')!r} to {after[name].get('default')!r}"
                yield Difference(path, f"its default changed from {told}", True)


def _compare_enum(field: str, old: list[Any] | None, new: list[Any] | None) -> Iterator[Difference]:
    if old == new:
        return
    if old is None:
        yield Difference(field, f"it was narrowed to {', '.join(map(str, new or ()))}", True)
    elif new is None:
        yield Difference(field, "it is no longer an enumeration", False)
    elif gone := [str(m) for m in old if m not in new]:
        yield Difference(field, f"it lost the member {', '.join(gone)}", True)
    elif more := [str(m) for m in new if m not in old]:
        yield Difference(field, f"it gained the member {', '.join(more)}", False)


def _compare_bounds(field: str, old: Schema, new: Schema) -> Iterator[Difference]:
    pairs = [(_lower(old), _lower(new)), (_upper(old), _upper(new))]
    for low, high in (
        ("minLength", "maxLength"),
        ("minItems", "maxItems"),
        ("minProperties", "maxProperties"),
    ):
        pairs.append((((old.get(low, 0)), 0), ((new.get(low, 0)), 0)))
        pairs.append(((-old.get(high, float("inf")), 0), (-new.get(high, float("inf")), 0)))
    if any(after > before for before, after in pairs):
        yield Difference(field, "a bound was narrowed", True)
    elif any(after < before for before, after in pairs):
        yield Difference(field, "a bound was widened", False)
    for keyword in ("pattern", "multipleOf", "uniqueItems"):
        if old.get(keyword) != new.get(keyword):
            yield Difference(field, f"its {keyword} changed", new.get(keyword) is not None)


def _lower(schema: Schema) -> tuple[float, int]:
    """The lower bound, greater where it is tighter."""
    none = float("-inf")
    return max((schema.get("minimum", none), 0), (schema.get("exclusiveMinimum", none), 1))


def _upper(schema: Schema) -> tuple[float, int]:
    """The upper bound negated, greater where it is tighter."""
    none = float("inf")
    return max((-schema.get("maximum", none), 0), (-schema.get("exclusiveMaximum", none), 1))


def _shape(schema: Schema) -> str:
    """The type of a place in words, without constraints: what the fast codec sees."""
    if "anyOf" in schema:
        return " or ".join(_shape(alternative) for alternative in schema["anyOf"])
    kind: str = schema.get("format") or schema.get("type") or "anything"
    for inner in ("items", "additionalProperties"):
        if isinstance(schema.get(inner), dict):
            kind += f" of {_shape(schema[inner])}"
    return kind
