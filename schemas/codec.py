"""Events to bytes and back.

`encode` is the only thing in Tape that writes the bytes of an event: UTF-8 JSON without an
envelope, `type` and `v` first, decimals in canonical plain notation. `decode` reads the current
version of a topic's events directly; older versions go through their upcasters; what cannot be
read comes back as `Unreadable` with the reason, never as an exception.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Context, Decimal
from typing import Any, Union

import msgspec

from schemas import books, commands, journal, market, orders, proposals, reports, risk  # noqa: F401
from schemas.decimals import canonical
from schemas.declare import DECIMAL_FIELDS, EVENTS, NESTED_FIELDS, VERSIONS, Event
from schemas.record import NewRecord, Record, Unreadable
from schemas.topics import TOPICS
from schemas.upcasters import UPCASTERS

REASON_MAX = 200
"""Characters of a reason: it becomes part of a decision."""

NESTING_MAX = 300
"""Levels of brackets that are read: without a limit of ours, the caller's stack would set one."""


MARKET_DIGITS = Context(prec=29, Emin=-999999, Emax=999999, traps=[])
MARKET_UNIT = Decimal("1e-19")
"""What a market record's numbers are multiples of: the rest of one is zero only if it has at most 10 digits
before the point (a quotient of more than 29 digits has no rest), and 19 after: adjusted prices have 18."""


PLAIN_DIGITS = Context(prec=60, Emin=-999999, Emax=999999, traps=[])
PLAIN_UNIT = Decimal("1e-20")
"""What nearly all numbers are multiples of, with up to 40 digits before the point: `encode` writes these."""


class _Version(msgspec.Struct):
    """Whether `v` is there: an event's own has a default, for those who construct one."""

    v: int | None = None


_ENCODER = msgspec.json.Encoder()
_HEAD = msgspec.json.Decoder(type=dict[str, Any])
_VERSION = msgspec.json.Decoder(type=_Version)
_BRACKET = re.compile(rb'"(?:[^"\\]++|\\.)*+"?|[\[\]{}]', re.DOTALL)  # or a whole string, which hides its own
_TOO_DEEP = Unreadable(f"nested deeper than {NESTING_MAX} levels")
_BROKEN = (ValueError, ArithmeticError, RecursionError)  # all that msgspec raises over bytes it cannot read


def encode(event: Event) -> bytes:
    """The bytes of an event. Raises `ValueError` for decimals that `canonical` refuses."""
    made = _canonical(event)
    data = _ENCODER.encode(made)
    # Decimal's own text has an exponent below 1e-6, whatever its scale; such numbers are written by us.
    # 69 is the letter E: to look for one byte first takes a tenth of the time.
    return (
        _ENCODER.encode(_plain(msgspec.to_builtins(made, builtin_types=(Decimal,))))
        if 69 in data and b"E-" in data
        else data
    )


def decode(topic: str, value: bytes) -> Event | Unreadable:
    """What `value` says in `topic`."""
    try:
        decoder, tests = _DECODERS[topic]
    except KeyError:
        return Unreadable(f"unknown topic {topic}")
    if len(value) > 2 * NESTING_MAX and _too_deep(value):  # a shorter one cannot be, or is no JSON
        return _TOO_DEEP
    try:
        event = decoder(value)
    except _BROKEN as problem:
        return _decode_other(topic, value, problem)
    return event if tests[type(event)](event, value) else _decode_odd(event, value)


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


def _too_deep(value: bytes) -> bool:
    """Whether brackets outside of strings are open `NESTING_MAX` levels deep, and more."""
    if value.count(b"[") + value.count(b"{") <= NESTING_MAX:
        return False
    depth = 0
    for found in _BRACKET.finditer(value):
        depth += (found[0] in b"[{") - (found[0] in b"]}")
        if depth > NESTING_MAX:
            return True
    return False


def _decode_odd(event: Event, value: bytes) -> Event | Unreadable:
    """An event whose bytes do not begin as ours do, or with a number that we would not write."""
    if problem := _odd_number(event) or _long_number(event):
        return _unreadable(problem)
    try:
        versioned = _VERSION.decode(value).v is not None
    except _BROKEN as broken:
        return _unreadable(f"not a JSON object: {broken}")
    return event if versioned else _unreadable(f"{type(event).__name__} has no schema version")


def _decode_other(topic: str, value: bytes, problem: Exception) -> Event | Unreadable:
    """Read an older version, or say why the record cannot be read."""
    if _too_deep(value):
        return _TOO_DEEP
    try:
        data = _HEAD.decode(value)
    except _BROKEN:
        return _unreadable(f"not a JSON object: {problem}")
    kind, version = data.get("type"), data.get("v")
    if not isinstance(kind, str) or kind not in EVENTS:
        return _unreadable(f"unknown type {kind!r}")
    if EVENTS[kind].topic != topic:
        return _unreadable(f"{kind} does not belong in {topic}")
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        return _unreadable(f"{kind} has no schema version")
    current = VERSIONS[kind]
    if version > current:
        return _unreadable(f"{kind} version {version} is from the future; this Tape reads up to {current}")
    if version == current:
        return _unreadable(f"{kind}: {problem}")
    return _decode_older(kind, version, data)


def _decode_older(kind: str, version: int, data: dict[str, Any]) -> Event | Unreadable:
    try:
        for older in range(version, VERSIONS[kind]):
            data = UPCASTERS[kind, older](data)
        event = msgspec.convert(data, EVENTS[kind])
    except Exception as failed:  # an upcaster may stumble in any way over what it was not written for
        why = f"{type(failed).__name__}: {failed}"
        return _unreadable(f"{kind} version {version} could not be brought to {VERSIONS[kind]}: {why}")
    return _unreadable(problem) if (problem := _odd_number(event)) else event


def _unreadable(reason: str) -> Unreadable:
    return Unreadable(reason[:REASON_MAX])


def _odd_number(event: Event) -> str:
    """Why `encode` would not write a number of the event; empty when it would."""
    try:
        _canonical(event)
    except ValueError as problem:
        return str(problem)
    return ""


def _long_number(event: Event) -> str:
    """Why a market event's number cannot be computed with exactly; empty when it can."""
    kind = type(event)
    if TOPICS[kind.topic].kind != "market":
        return ""
    for name in DECIMAL_FIELDS[kind]:
        value = getattr(event, name)
        if value is not None and MARKET_DIGITS.remainder(value, MARKET_UNIT):
            return f"{kind.__name__}: {name} has over 10 digits before the point, or 19 after"
    return ""


def _test(kind: type[Event]) -> Callable[[Event, bytes], bool]:
    """Whether the bytes begin as ours do and every decimal can be written again: then nothing is odd.

    Market records are many, so theirs is compiled, and only asks whether the decimals are numbers that
    can be computed with exactly: nobody but `encode` writes them.
    """
    if TOPICS[kind.topic].kind == "market":
        return _all_multiples(kind, MARKET_DIGITS, MARKET_UNIT)
    head = f'{{"type":"{kind.__name__}","v":{VERSIONS[kind.__name__]},'.encode()
    plain, nested = _all_multiples(kind, PLAIN_DIGITS, PLAIN_UNIT), NESTED_FIELDS[kind]
    if nested:
        return lambda event, value: (
            value.startswith(head)
            and ((plain(event, value) and not _have_numbers(event, nested)) or not _odd_number(event))
        )
    return lambda event, value: value.startswith(head) and (plain(event, value) or not _odd_number(event))


def _have_numbers(event: Event, nested: tuple[str, ...]) -> bool:
    """Whether the values that an event holds may hold decimals."""
    for name in nested:
        parts = getattr(event, name)
        kind = type(parts[0] if parts and isinstance(parts, tuple) else parts)
        if parts and (DECIMAL_FIELDS[kind] or NESTED_FIELDS[kind]):
            return True
    return False


def _all_multiples(kind: type[Event], digits: Context, unit: Decimal) -> Callable[[Event, bytes], bool]:
    """Whether each decimal of an event is a multiple of `unit` that has so many digits; compiled."""
    tests = [f"((d := e.{name}) is None or not rest(d, unit))" for name in DECIMAL_FIELDS[kind]]
    # the names are our own, from the declarations
    test: Callable[[Event, bytes], bool] = eval(
        f"lambda e, b: {' and '.join(tests) or True}", {"rest": digits.remainder, "unit": unit}
    )
    return test


def _decoders() -> dict[str, Any]:
    table: dict[str, Any] = {}
    for topic in TOPICS:
        kinds = [e for e in EVENTS.values() if e.topic == topic]
        decoder = msgspec.json.Decoder(Union[tuple(kinds)])  # noqa: UP007
        table[topic] = (decoder.decode, {kind: _test(kind) for kind in kinds})
    return table


_DECODERS = _decoders()
