"""How an event is declared: once, as a frozen pydantic model; its fast codec is made from it.

`@event(topic)` turns the class statement into a `msgspec.Struct` with the same fields, which
is what the rest of Tape constructs, reads and writes. The pydantic model stays reachable as
`Quote.model` and validates what comes from outside (see `validate`). Type checkers see the
declared fields, so a misspelt or mistyped field is an error before anything runs.

Constraints (`Field(gt=0)`, `Literal[...]`) live in the model only: the fast codec takes
enumerations as text, so that an old reader survives a new member. Whole numbers have 64 bits in
both.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, TypeVar, Union, get_args, get_origin

import msgspec
from pydantic import BaseModel, ConfigDict, create_model, model_validator
from pydantic import Field as Field
from typing_extensions import dataclass_transform

if TYPE_CHECKING:

    @dataclass_transform(kw_only_default=True, frozen_default=True)
    class Value:
        """A part of an event: fields, no identity of its own."""

        model: ClassVar[type[BaseModel]]

    @dataclass_transform(kw_only_default=True, frozen_default=True)
    class Event(Value):
        """What stands in one record of the log. `topic` is where, `v` the schema version."""

        topic: ClassVar[str]
        v: ClassVar[int]
else:

    class Value(BaseModel):
        model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, protected_namespaces=())

        @model_validator(mode="after")
        def _whole_numbers_fit(self) -> Value:
            for name, part in self:
                parts = part.values() if isinstance(part, dict) else (part,)
                if any(isinstance(p, int) and not INT_MIN <= p <= INT_MAX for p in parts):
                    raise ValueError(f"{name} does not fit into 64 bits")
            return self

    class Event(Value):
        pass


T = TypeVar("T")
INT_MIN, INT_MAX = -(2**63), 2**63 - 1

EVENTS: dict[str, type[Event]] = {}
"""Every declared event by its wire name."""

VERSIONS: dict[str, int] = {}
"""The current schema version of every event."""

DECIMAL_FIELDS: dict[type, tuple[str, ...]] = {}
"""The fields of a declared class that hold a Decimal (or None)."""

NESTED_FIELDS: dict[type, tuple[str, ...]] = {}
"""The fields of a declared class that hold values, or tuples of values."""


def event(topic: str, v: int = 1) -> Callable[[type[T]], type[T]]:
    """Declare an event of `topic` in schema version `v`."""

    def declare(model: type[T]) -> type[T]:
        name = model.__name__
        if name in EVENTS:
            raise TypeError(f"two events are named {name}")
        members: dict[str, Any] = {"type": (Literal[name], name), "v": (Literal[v], v)}
        base: Any = model
        full: Any = create_model(
            name, __base__=base, __doc__=model.__doc__, __module__=model.__module__, **members
        )
        struct: type[T] = _struct(model, full, tag=name, head=[("v", Literal[v], v)], topic=topic)
        EVENTS[name] = struct  # type: ignore[assignment]
        VERSIONS[name] = v
        return struct

    return declare


def value(model: type[T]) -> type[T]:
    """Declare a part of an event."""
    struct: type[T] = _struct(model, model, tag=None, head=[], topic=None)
    return struct


def validate(kind: type[T], data: Mapping[str, Any]) -> T:
    """An event of `kind` from outside data, checked by its pydantic model.

    Raises `pydantic.ValidationError`, which names field, value and reason.
    """
    checked = kind.model.model_validate(data)  # type: ignore[attr-defined]
    return msgspec.convert(checked.model_dump(), kind)


def evolve(value: T, **fields: Any) -> T:
    """A copy of a declared value with other fields."""
    copy: T = msgspec.structs.replace(value, **fields)  # type: ignore[type-var]
    return copy


def _struct(model: Any, full: Any, *, tag: str | None, head: list[Any], topic: str | None) -> Any:
    module = sys.modules[model.__module__]
    fields: list[Any] = list(head)
    decimals: list[str] = []
    nested: list[str] = []
    for name, info in model.model_fields.items():
        kind = _fast_type(info.annotation)
        default = [] if info.is_required() else [info.default]
        fields.append((name, kind, *default))
        members = set(_flatten(kind))
        if Decimal in members:
            if not members <= {Decimal, types.NoneType}:
                raise TypeError(
                    f"{model.__name__}.{name}: a Decimal stands alone or in a value, not in {kind}"
                )
            decimals.append(name)
        if any(isinstance(m, type) and issubclass(m, msgspec.Struct) for m in members):
            nested.append(name)
    namespace: dict[str, Any] = {
        "__doc__": model.__doc__,
        "model": full,
        "__get_pydantic_core_schema__": classmethod(lambda cls, source, handler: handler(cls.model)),
    }
    if topic is not None:
        namespace["topic"] = topic
    struct = msgspec.defstruct(
        model.__name__,
        fields,
        namespace=namespace,
        module=module.__name__,
        tag_field="type" if tag else None,
        tag=tag,
        frozen=True,
        kw_only=True,
        gc=False,
    )
    DECIMAL_FIELDS[struct] = tuple(decimals)
    NESTED_FIELDS[struct] = tuple(nested)
    return struct


def _fast_type(annotation: Any) -> Any:
    """The annotation without constraints: text for literals, structs for values, 64 bits for int."""
    origin = get_origin(annotation)
    if annotation is int:
        return Annotated[int, msgspec.Meta(ge=INT_MIN, le=INT_MAX)]
    if origin is Annotated:
        return _fast_type(get_args(annotation)[0])
    if origin is Literal:
        return str
    if origin in (Union, types.UnionType):
        return Union[tuple(_fast_type(a) for a in get_args(annotation))]  # noqa: UP007
    if origin is not None:
        return origin[tuple(a if a is Ellipsis else _fast_type(a) for a in get_args(annotation))]
    return annotation


def _flatten(kind: Any) -> list[Any]:
    arguments = get_args(kind)
    return [kind] if not arguments else [part for a in arguments for part in _flatten(a)]
