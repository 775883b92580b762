"""Older versions of an event are brought to the current one, step by step."""

from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import pytest

from schemas import Event, Unreadable, codec, decode, encode
from schemas.declare import EVENTS, VERSIONS, event
from schemas.upcasters import UPCASTERS

TOPIC = "alerts"
FIRST = b'{"type":"Margin","v":1,"account":"main","call":12}'
SECOND = b'{"type":"Margin","v":2,"account":"main","cents":1250}'
THIRD = b'{"type":"Margin","v":3,"account":"main","dollars":"12","reason":""}'


def to_second(data: dict[str, Any]) -> dict[str, Any]:
    """Whole dollars become cents."""
    return {"type": "Margin", "v": 2, "account": data["account"], "cents": data["call"] * 100}


def to_third(data: dict[str, Any]) -> dict[str, Any]:
    """Cents become a decimal, and there is a reason."""
    dollars = str(Decimal(data["cents"]) / 100)
    return {"type": "Margin", "v": 3, "account": data["account"], "dollars": dollars, "reason": ""}


@pytest.fixture
def margin(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Event]]:
    """An event that stands at version 3, with upcasters from 1 and 2."""

    @event(TOPIC, v=3)
    class Margin(Event):
        """A margin call."""

        account: str
        dollars: Decimal
        reason: str

    monkeypatch.setitem(UPCASTERS, ("Margin", 1), to_second)
    monkeypatch.setitem(UPCASTERS, ("Margin", 2), to_third)
    monkeypatch.setattr(codec, "_DECODERS", codec._decoders())
    yield Margin
    del EVENTS["Margin"], VERSIONS["Margin"]


@pytest.mark.parametrize(
    ("value", "dollars"),
    [(FIRST, "12"), (SECOND, "12.5"), (THIRD, "12")],
    ids=["two steps", "one step", "none"],
)
def test_an_older_version_reads_as_the_current_one(
    margin: Callable[..., Event], value: bytes, dollars: str
) -> None:
    assert decode(TOPIC, value) == margin(account="main", dollars=Decimal(dollars), reason="")


def test_only_the_current_version_is_written(margin: Callable[..., Event]) -> None:
    assert encode(margin(account="main", dollars=Decimal("12.00"), reason="")) == THIRD


def test_members_that_an_older_version_did_not_know_do_not_disturb(margin: Callable[..., Event]) -> None:
    more = FIRST[:-1] + b',"desk":[1,2]}'
    assert decode(TOPIC, more) == margin(account="main", dollars=Decimal(12), reason="")


def stumbles(data: dict[str, Any]) -> dict[str, Any]:
    """Raises what no codec raises."""
    raise RuntimeError(f"what is {data['call']}?")


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (FIRST.replace(b'"call":12', b'"calls":12'), "could not be brought to 3: KeyError"),
        (FIRST.replace(b"12", b"null"), "could not be brought to 3: TypeError"),
        (SECOND.replace(b"1250", b'"NaN"'), "not a finite number"),
        (SECOND.replace(b'"main"', b"7"), "could not be brought to 3: ValidationError"),
        (FIRST.replace(b'"v":1', b'"v":4'), "is from the future; this Tape reads up to 3"),
        (THIRD.replace(b'"v":3', b'"v":0'), "has no schema version"),
        (THIRD.replace(b'"12"', b'"a lot"'), "Invalid decimal string"),
    ],
)
@pytest.mark.usefixtures("margin")
def test_what_cannot_be_brought_up_says_why(value: bytes, why: str) -> None:
    found = decode(TOPIC, value)
    assert isinstance(found, Unreadable)
    assert why in found.reason


@pytest.mark.parametrize(
    ("upcaster", "why"),
    [
        (stumbles, "RuntimeError: what is 12?"),
        (lambda data: None, "TypeError"),
        (lambda data: {"type": "Alert", "v": 2}, "KeyError"),
    ],
)
@pytest.mark.usefixtures("margin")
def test_an_upcaster_that_fails_makes_the_record_unreadable(
    monkeypatch: pytest.MonkeyPatch, upcaster: Callable[[Any], Any], why: str
) -> None:
    monkeypatch.setitem(UPCASTERS, ("Margin", 1), upcaster)
    found = decode(TOPIC, FIRST)
    assert isinstance(found, Unreadable)
    assert why in found.reason


@pytest.mark.usefixtures("margin")
def test_a_step_that_is_missing_makes_the_record_unreadable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(UPCASTERS, ("Margin", 2))
    found = decode(TOPIC, FIRST)
    assert isinstance(found, Unreadable)
    assert "Margin version 1 could not be brought to 3" in found.reason
