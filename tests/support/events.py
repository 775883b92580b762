"""Hypothesis strategies that make any event, read off its pydantic model.

`events(Quote)` gives quotes, `any_event()` an event of any type: with text of any script, decimals
of any scale within their bounds (also with exponents, trailing zeros and negative zeros), integers
of 64 bits, and now and then without the fields that have a default.
"""

from __future__ import annotations

import types
from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import msgspec
from annotated_types import Ge, Gt, Le, Lt, MinLen
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from schemas import TOPICS, Event, evolve
from schemas.declare import DECIMAL_FIELDS, EVENTS

KINDS: tuple[type[Event], ...] = tuple(EVENTS[name] for name in sorted(EVENTS))
"""Every event type, by name."""

INTEGERS = st.one_of(st.integers(-10, 10), st.integers(-(2**63), 2**63 - 1))
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.sampled_from(
    ["E-", "SPY", '"\\/', "\x00é€😀"]
)
ODD_NUMBERS = tuple(
    map(Decimal, ("0", "-0.00", "1E-18", "1.50", "1E+3", "0E-20", "1" + 37 * "0", "0.000000100"))
)


def events(kind: type[Event]) -> SearchStrategy[Event]:
    """Events of one type."""
    made = fields(kind).map(lambda chosen: kind(**chosen))
    return made.map(_computable) if TOPICS[kind.topic].kind == "market" else made


def _computable(event: Event) -> Event:
    """A market event whose numbers are short enough to be computed with exactly."""
    values = {name: getattr(event, name) for name in DECIMAL_FIELDS[type(event)]}
    return evolve(event, **{n: Decimal(1) for n, v in values.items() if v and not _is_short(v)})


def _is_short(value: Decimal) -> bool:
    return value.adjusted() < 10 and value == round(value, 9)


def any_event() -> SearchStrategy[Event]:
    """Events of any type."""
    return st.sampled_from(KINDS).flatmap(events)


def fields(kind: type[Any]) -> SearchStrategy[dict[str, Any]]:
    """Keyword arguments of an event or a value; those with a default may be left out."""
    model: type[BaseModel] = kind.model
    made = {name: _field(info) for name, info in model.model_fields.items() if name not in ("type", "v")}
    needed = {name for name in made if model.model_fields[name].is_required()}
    return st.fixed_dictionaries(
        {name: made[name] for name in made if name in needed},
        optional={name: made[name] for name in made if name not in needed},
    )


def decimals(bounds: Mapping[str, Any] | None = None) -> SearchStrategy[Decimal]:
    """Finite decimals of up to 38 digits, as Python may hold them."""
    limits = {"gt": None, "ge": None, "le": None, "lt": None, **(bounds or {})}
    signs = st.just(0) if limits["gt"] is not None or limits["ge"] is not None else st.integers(0, 1)
    plain = st.builds(
        lambda sign, digits, exponent: Decimal((sign, tuple(map(int, str(digits))), exponent)),
        signs,
        st.integers(0, 10**6) | st.integers(0, 10**38 - 1),
        st.integers(-4, 0) | st.integers(-40, 20),
    )
    if limits["le"] is not None:
        plain = st.integers(0, 10**18).map(lambda n: Decimal(n).scaleb(-18)) | plain
    return (st.sampled_from(ODD_NUMBERS) | plain).filter(lambda d: _within(d, limits))


def _within(value: Decimal, limits: Mapping[str, Any]) -> bool:
    return (
        (limits["gt"] is None or value > limits["gt"])
        and (limits["ge"] is None or value >= limits["ge"])
        and (limits["lt"] is None or value < limits["lt"])
        and (limits["le"] is None or value <= limits["le"])
    )


def _field(info: FieldInfo) -> SearchStrategy[Any]:
    return _of(info.annotation, _bounds(info.metadata))


def _bounds(metadata: Any) -> dict[str, Any]:
    """`gt`, `ge`, `lt`, `le` and `min_length` of an annotation's constraints."""
    found: dict[str, Any] = {}
    for part in metadata:
        match part:
            case FieldInfo():
                found |= _bounds(part.metadata)
            case Gt() | Ge() | Lt() | Le() | MinLen():
                found |= {slot: getattr(part, slot) for slot in part.__slots__}
            case _:
                raise TypeError(f"no strategy knows the constraint {part!r}")
    return found


def _of(annotation: Any, bounds: dict[str, Any]) -> SearchStrategy[Any]:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _of(arguments[0], bounds | _bounds(arguments[1:]))
    if origin is Literal:
        return st.sampled_from(arguments)
    if origin in (Union, types.UnionType):
        return st.one_of(*(_of(argument, bounds) for argument in arguments))
    if origin is tuple:
        return st.lists(_of(arguments[0], {}), max_size=3).map(tuple)
    if origin is dict:
        return st.dictionaries(_of(arguments[0], {}), _of(arguments[1], {}), max_size=3)
    if isinstance(annotation, type) and issubclass(annotation, msgspec.Struct):
        kind: Any = annotation
        return fields(kind).map(lambda chosen: kind(**chosen))
    return _plain(annotation, bounds)


def _plain(annotation: Any, bounds: dict[str, Any]) -> SearchStrategy[Any]:
    if annotation is types.NoneType:
        return st.none()
    if annotation is bool:
        return st.booleans()
    if annotation is int:
        low = bounds["gt"] + 1 if "gt" in bounds else bounds.get("ge")
        return st.integers(low, 2**63 - 1) if low is not None else INTEGERS
    if annotation is Decimal:
        return decimals(bounds)
    if annotation is str:
        return TEXT.filter(lambda text: len(text) >= bounds.get("min_length", 0))
    raise TypeError(f"no strategy knows {annotation!r}")
