"""Events to bytes and back.

`encode` is the only thing in Tape that writes the bytes of an event: UTF-8 JSON without an
envelope, `type` and `v` first, decimals in canonical plain notation. `decode` reads the current
version of a topic's events directly; older versions go through their upcasters; what cannot be
read comes back as `Unreadable` with the reason, never as an exception.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any, Union

import msgspec

from schemas import books, commands, journal, market, orders, proposals, reports, risk  # noqa: F401
from schemas.decimals import canonical
from schemas.declare import DECIMAL_FIELDS, EVENTS, NESTED_FIELDS, VERSIONS, Event
from schemas.record import NewRecord, Record, Unreadable
from schemas.topics import TOPICS
from schemas.upcasters import UPCASTERS

_ENCODER = msgspec.json.Encoder()
_HEAD = msgspec.json.Decoder(type=dict[str, Any])


def encode(event: Event) -> bytes:
    """The bytes of an event. Raises `ValueError` for NaN or infinite decimals."""
    made = _canonical(event)
    data = _ENCODER.encode(made)
    # Decimal's own text has an exponent below 1e-6, whatever its scale; such numbers are written by us.
    return (
        _ENCODER.encode(_plain(msgspec.to_builtins(made, builtin_types=(Decimal,))))
        if b"E-" in data
        else data
    )


def decode(topic: str, value: bytes) -> Event | Unreadable:
    """What `value` says in `topic`."""
    try:
        decoder, finite = _DECODERS[topic]
    except KeyError:
        return Unreadable(f"unknown topic {topic}")
    try:
        event = decoder(value)
    except (msgspec.MsgspecError, UnicodeDecodeError, ArithmeticError, ValueError) as problem:
        return _decode_other(topic, value, problem)
    return event if finite[type(event)](event) else Unreadable("a number is not finite")


def read_into(record: Record) -> Record:
    """Fill in the record's event."""
    record.event = decode(record.topic, record.value)
    return record


def new_record(event: Event, partition: int, key: str) -> NewRecord:
    """The record of an event, to be appended to its topic."""
    return NewRecord(event.topic, partition, key.encode(), encode(event))


def _canonical(event: Any) -> Any:
    changed: dict[str, Any] = {}
    kind = type(event)
    for name in DECIMAL_FIELDS[kind]:
        before = getattr(event, name)
        if before is not None and (after := canonical(before)) is not before:
            changed[name] = after
    for name in NESTED_FIELDS[kind]:
        before = getattr(event, name)
        if isinstance(before, tuple):
            changed[name] = tuple(_canonical(part) for part in before)
        elif before is not None:
            changed[name] = _canonical(before)
    return msgspec.structs.replace(event, **changed) if changed else event


def _plain(part: Any) -> Any:
    if isinstance(part, Decimal):
        return format(part, "f")
    if isinstance(part, dict):
        return {key: _plain(inner) for key, inner in part.items()}
    return [_plain(inner) for inner in part] if isinstance(part, list | tuple) else part


def _decode_other(topic: str, value: bytes, problem: Exception) -> Event | Unreadable:
    """Read an older version, or say why the record cannot be read."""
    try:
        data = _HEAD.decode(value)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return Unreadable(f"not a JSON object: {problem}")
    kind, version = data.get("type"), data.get("v")
    if not isinstance(kind, str) or kind not in EVENTS:
        return Unreadable(f"unknown type {kind!r}")
    if EVENTS[kind].topic != topic:
        return Unreadable(f"{kind} does not belong in {topic}")
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        return Unreadable(f"{kind} has no schema version")
    current = VERSIONS[kind]
    if version > current:
        return Unreadable(f"{kind} version {version} is from the future; this Tape reads up to {current}")
    if version == current:
        return Unreadable(f"{kind}: {problem}")
    try:
        while version < current:
            data = UPCASTERS[kind, version](data)
            version += 1
        return msgspec.convert(data, EVENTS[kind])
    except (KeyError, msgspec.MsgspecError, ArithmeticError, ValueError) as failed:
        return Unreadable(
            f"{kind} version {data.get('v')} could not be brought to version {current}: {failed}"
        )


def _finite_test(kind: type) -> Callable[[Any], bool]:
    """Whether every decimal is a number; compiled, since each market record passes through it."""
    names = DECIMAL_FIELDS[kind]
    if not names:
        return lambda event: True
    tests = " and ".join(f"((d := e.{name}) is None or d.is_finite())" for name in names)
    test: Callable[[Any], bool] = eval(f"lambda e: {tests}", {})  # names are our own, from the declarations
    return test


def _decoders() -> dict[str, Any]:
    table: dict[str, Any] = {}
    for topic in TOPICS:
        kinds = [e for e in EVENTS.values() if e.topic == topic]
        decoder = msgspec.json.Decoder(Union[tuple(kinds)])  # noqa: UP007
        table[topic] = (decoder.decode, {kind: _finite_test(kind) for kind in kinds})
    return table


_DECODERS = _decoders()
