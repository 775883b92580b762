"""Events to bytes and back: what is written, what is read, and that nothing raises over what cannot be."""

import json
import re
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from schemas import (
    Alert,
    Configured,
    Event,
    LimitBreached,
    OpenAccount,
    PlaceOrder,
    Quote,
    Record,
    Trade,
    Unreadable,
    decode,
    encode,
    evolve,
    new_record,
    read_into,
    validate,
)
from schemas.codec import NESTING_MAX, REASON_MAX
from schemas.declare import DECIMAL_FIELDS, NESTED_FIELDS, VERSIONS
from schemas.export import PLAIN_DECIMAL
from schemas.topics import TOPICS
from support.events import KINDS, events
from support.examples import EXAMPLES

QUOTE = EXAMPLES["Quote"]
QUOTES = QUOTE.topic
WRITTEN = encode(QUOTE)
NAMES = sorted(EXAMPLES)


def reason(topic: str, value: bytes) -> str:
    """Why `value` cannot be read; fails where it can."""
    found = decode(topic, value)
    assert isinstance(found, Unreadable), found
    return found.reason


def changed(event: Event, **members: Any) -> bytes:
    """The bytes of an event with other members; `...` takes one out."""
    data = json.loads(encode(event)) | members
    return json.dumps({key: value for key, value in data.items() if value is not ...}).encode()


def written_decimals(event: Any, data: dict[str, Any]) -> list[str]:
    """The text of every decimal of an event in its JSON, those of its values included."""
    found = [data[name] for name in DECIMAL_FIELDS[type(event)] if getattr(event, name) is not None]
    for name in NESTED_FIELDS[type(event)]:
        part = getattr(event, name)
        parts = zip(part, data[name], strict=True) if isinstance(part, tuple) else [(part, data[name])]
        found += [
            text for inner, said in parts if inner is not None for text in written_decimals(inner, said)
        ]
    return found


def same(event: Any, model: Any) -> bool:
    """Whether the fast codec's event and the pydantic model hold the same."""
    if isinstance(event, msgspec.Struct):
        assert isinstance(model, BaseModel)
        names = [name for name in type(model).model_fields if name != "type"]
        return all(same(getattr(event, name), getattr(model, name)) for name in names)
    if isinstance(event, tuple):
        return len(event) == len(model) and all(map(same, event, model))
    return type(event) is type(model) and bool(event == model)


# What is written


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@settings(max_examples=10, deadline=None)
@given(data=st.data())
def test_codec_and_model_agree(kind: type[Event], data: st.DataObject) -> None:
    event = data.draw(events(kind))
    written = encode(event)
    assert written.startswith(f'{{"type":"{kind.__name__}","v":{VERSIONS[kind.__name__]},'.encode())
    assert all(re.fullmatch(PLAIN_DECIMAL, d) for d in written_decimals(event, json.loads(written)))
    assert decode(kind.topic, written) == event
    assert same(event, kind.model.model_validate_json(written))
    again = validate(kind, json.loads(written))
    assert again == event
    assert encode(again) == written


@pytest.mark.parametrize(
    ("number", "text"),
    [
        ("470.10", "470.1"),
        ("1E+3", "1000"),
        ("1.00", "1"),
        ("-0.00", "0"),
        ("0E-20", "0"),
        ("1E-18", "0.000000000000000001"),
        ("0.0000001", "0.0000001"),
        ("1E+37", "1" + 37 * "0"),
    ],
)
def test_a_number_has_one_way_to_be_written(number: str, text: str) -> None:
    value = encode(evolve(QUOTE, bid=Decimal(number)))
    assert f'"bid":"{text}"'.encode() in value
    assert value == encode(evolve(QUOTE, bid=Decimal(text)))


def test_text_that_looks_like_an_exponent_is_left_alone() -> None:
    odd = evolve(QUOTE, symbol="E-1", feed="1E-7", bid=Decimal("1E-7"))
    assert decode(QUOTES, encode(odd)) == odd
    assert b'"symbol":"E-1"' in encode(odd)
    assert b'"bid":"0.0000001"' in encode(odd)


NO_NUMBERS = ("NaN", "sNaN", "-Infinity", "Infinity")


@pytest.mark.parametrize("text", [*NO_NUMBERS, "1E+999"])
@pytest.mark.parametrize("name", ["Quote", "Fill", "OpenAccount", "LimitBreached", "Configured"])
def test_no_number_that_cannot_be_booked_is_written(name: str, text: str) -> None:
    with pytest.raises(ValueError, match=r"finite|digits"):
        encode(_with_number(EXAMPLES[name], Decimal(text)))


@pytest.mark.parametrize("text", NO_NUMBERS)
@pytest.mark.parametrize("name", ["Quote", "Fill", "OpenAccount", "LimitBreached", "Configured"])
def test_no_number_that_cannot_be_booked_is_read(name: str, text: str) -> None:
    event = EXAMPLES[name]
    value = encode(_with_number(event, Decimal("77.7777"))).replace(b'"77.7777"', f'"{text}"'.encode())
    assert "finite" in reason(event.topic, value)


@pytest.mark.parametrize("text", ["1E+999999", "1E-999999", "1" * 300, "0." + "1" * 300])
def test_no_fact_is_read_that_could_not_be_written(text: str) -> None:
    assert "too many digits" in reason("fills", changed(EXAMPLES["Fill"], price=text))


def _with_number(event: Event, number: Decimal) -> Event:
    """An event with `number` in it, wherever it has one, also in a value."""
    match event:
        case OpenAccount():
            return evolve(event, limits=evolve(event.limits, collar_bps=number))
        case LimitBreached():
            return evolve(event, evidence=(evolve(event.evidence[0], price=number),))
        case Configured():
            return evolve(event, settings=evolve(event.settings, max_spread=number))
        case _:
            return evolve(event, **{DECIMAL_FIELDS[type(event)][0]: number})


def test_text_that_is_not_unicode_is_not_written() -> None:
    with pytest.raises(ValueError, match="surrogates"):
        encode(evolve(QUOTE, feed="\ud800"))


# What is read


@pytest.mark.parametrize("name", NAMES)
def test_a_record_is_read_in_its_own_topic_alone(name: str) -> None:
    event = EXAMPLES[name]
    for topic in TOPICS:
        found = decode(topic, encode(event))
        assert found == (event if topic == event.topic else Unreadable(f"{name} does not belong in {topic}"))


DEEP = b"[" * 100_000
UNREADABLE = {
    "nothing": (b"", "not a JSON object"),
    "blanks": (b"  \n", "not a JSON object"),
    "null": (b"null", "not a JSON object"),
    "an array": (b'[{"type":"Quote","v":1}]', "not a JSON object"),
    "text": (b'"Quote"', "not a JSON object"),
    "cut short": (WRITTEN[:-1], "not a JSON object"),
    "with a tail": (WRITTEN + b"}", "not a JSON object"),
    "two": (WRITTEN + WRITTEN, "not a JSON object"),
    "a byte order mark": (b"\xef\xbb\xbf" + WRITTEN, "not a JSON object"),
    "UTF-16": (WRITTEN.decode().encode("utf-16"), "not a JSON object"),
    "not UTF-8": (WRITTEN.replace(b"SPY", b"\xff"), "not a JSON object"),
    "a raw surrogate": (WRITTEN.replace(b"SPY", b"\xed\xa0\x80"), "not a JSON object"),
    "a lone surrogate": (WRITTEN.replace(b"SPY", b"\\ud800"), "not a JSON object"),
    "a surrogate too many": (WRITTEN.replace(b"SPY", b"\\ud83d\\ude00\\ude00"), "not a JSON object"),
    "a control character": (WRITTEN.replace(b"SPY", b"\x00"), "not a JSON object"),
    "NaN": (WRITTEN.replace(b'"472.16"', b"NaN"), "not a JSON object"),
    "an array without end": (DEEP, "nested deeper"),
    "a member without end": (WRITTEN[:-1] + b',"x":' + DEEP, "nested deeper"),
    "no type": (b'{"v":1}', "unknown type None"),
    "an unknown type": (changed(QUOTE, type="Quota"), "unknown type 'Quota'"),
    "a type that is no text": (changed(QUOTE, type=["Quote"]), "unknown type ['Quote']"),
    "another topic's": (encode(EXAMPLES["Trade"]), "Trade does not belong in market.quotes"),
    "the future": (changed(QUOTE, v=2), "Quote version 2 is from the future; this Tape reads up to 1"),
    "the far future": (changed(QUOTE, v=10**30), "is from the future"),
    "version 0": (changed(QUOTE, v=0), "Quote has no schema version"),
    "version true": (changed(QUOTE, v=True), "Quote has no schema version"),
    "version 1.0": (changed(QUOTE, v=1.0), "Quote has no schema version"),
    "version '1'": (changed(QUOTE, v="1"), "Quote has no schema version"),
    "version null": (changed(QUOTE, v=None), "Quote has no schema version"),
    "a missing field": (changed(QUOTE, ts=...), "`ts`"),
    "null for a field": (changed(QUOTE, symbol=None), "`$.symbol`"),
    "a number for text": (changed(QUOTE, symbol=5), "`$.symbol`"),
    "text for a number": (changed(QUOTE, ts="5"), "`$.ts`"),
    "true for a number": (changed(QUOTE, ts=True), "`$.ts`"),
    "a fraction for a whole": (changed(QUOTE, ts=1.5), "`$.ts`"),
    "more than 64 bits": (changed(QUOTE, ts=2**63), "`$.ts`"),
    "a number for true": (changed(QUOTE, bar=1), "`$.bar`"),
    "an object for a number": (changed(QUOTE, bid={}), "`$.bid`"),
    "words for a number": (changed(QUOTE, bid="a lot"), "`$.bid`"),
    "an empty number": (changed(QUOTE, bid=""), "`$.bid`"),
    "a number with too many places": (changed(QUOTE, bid="1.00000000000000000001"), "bid has over 10 digits"),
    "a number with too many digits": (changed(QUOTE, bid_size="1E+10"), "bid_size has over 10 digits"),
    "two types": (changed(QUOTE)[:-1] + b',"type":"Trade"}', "Trade does not belong"),
    "two versions": (changed(QUOTE)[:-1] + b',"v":2}', "is from the future"),
}


@pytest.mark.parametrize("case", UNREADABLE)
def test_what_cannot_be_read_says_why(case: str) -> None:
    value, why = UNREADABLE[case]
    assert why in reason(QUOTES, value)


def test_an_unknown_topic_cannot_be_read() -> None:
    assert reason("market.quota", WRITTEN) == "unknown topic market.quota"


def test_outside_the_market_a_version_must_stand() -> None:
    account = EXAMPLES["HaltAccount"]
    assert reason(account.topic, changed(account, v=...)) == "HaltAccount has no schema version"


def test_members_may_come_in_any_order() -> None:
    for event in EXAMPLES.values():
        turned = json.dumps(dict(reversed(json.loads(encode(event)).items())), indent=1).encode()
        assert decode(event.topic, turned) == event


def test_unknown_members_are_passed_over() -> None:
    more = {"venue": {"name": "X", "v": 2}, "tags": [None, 1.5, "é"]}
    for event in EXAMPLES.values():
        assert decode(event.topic, changed(event, **more)) == event
    account = EXAMPLES["OpenAccount"]
    assert isinstance(account, OpenAccount)
    limits = json.loads(encode(account))["limits"] | more
    assert decode(account.topic, changed(account, limits=limits)) == account


def test_of_two_members_of_a_name_the_last_counts() -> None:
    twice = WRITTEN[:-1] + b',"symbol":"AAPL"}'
    assert decode(QUOTES, twice) == evolve(QUOTE, symbol="AAPL")
    assert same(evolve(QUOTE, symbol="AAPL"), Quote.model.model_validate_json(twice))


@pytest.mark.parametrize("digits", ["0.1", "472.16", "-0", "1234567890.123456789"])
def test_a_decimal_written_as_a_number_is_read_digit_by_digit(digits: str) -> None:
    value = WRITTEN.replace(b'"472.16"', digits.encode())
    assert decode(QUOTES, value) == evolve(QUOTE, bid=Decimal(digits))


def test_new_members_of_an_enumeration_are_read_but_not_let_in() -> None:
    order, change = EXAMPLES["PlaceOrder"], EXAMPLES["OrderChanged"]
    assert decode(order.topic, changed(order, tif="opg")) == evolve(order, tif="opg")
    assert decode(change.topic, changed(change, status="held")) == evolve(change, status="held")
    with pytest.raises(ValidationError, match="tif"):
        validate(PlaceOrder, json.loads(changed(order, tif="opg")))


@pytest.mark.parametrize(
    "wrong", [{"bid": "0"}, {"bid": "NaN"}, {"symbol": ""}, {"ts": 2**63}, {"venue": "X"}, {"row": ...}]
)
def test_what_comes_from_outside_is_held_against_the_model(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        validate(Quote, json.loads(changed(QUOTE, **wrong)))


def nested(levels: int, inside: bytes = b"") -> bytes:
    """A quote with an unknown member that is nested so deep that `levels` brackets are open."""
    return WRITTEN[:-1] + b',"x":' + b"[" * (levels - 1) + inside + b"]" * (levels - 1) + b"}"


def test_nesting_has_a_limit() -> None:
    assert decode(QUOTES, nested(NESTING_MAX)) == QUOTE
    assert "nested deeper" in reason(QUOTES, nested(NESTING_MAX + 1))
    assert decode(QUOTES, nested(9, b'"' + b"[{" * 1000 + b'\\"]"')) == QUOTE
    assert decode(QUOTES, nested(9, b"[[],{}]," * 1000 + b"1")) == QUOTE


def test_the_depth_of_the_stack_has_no_say() -> None:
    def below(frames: int, value: bytes) -> Event | Unreadable:
        return decode(QUOTES, value) if not frames else below(frames - 1, value)

    for value in (nested(NESTING_MAX), nested(700), nested(930)):
        assert below(0, value) == below(400, value)


# Whatever bytes there are


def check_any(topic: str, value: bytes) -> None:
    """Whatever is read can be written; whatever is not has a reason that a decision can carry."""
    found = decode(topic, value)
    if isinstance(found, Unreadable):
        assert 0 < len(found.reason) <= REASON_MAX
        unread = evolve(EXAMPLES["Unread"], reason=found.reason)
        assert decode("orders", encode(unread)) == unread
    elif TOPICS[topic].kind != "market":  # there, nobody but `encode` writes
        assert decode(topic, encode(found)) == found


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(sorted(TOPICS)), st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(topic: str, value: bytes) -> None:
    check_any(topic, value)


PARTS = (
    b'"',
    b"{",
    b"}",
    b"[",
    b",",
    b":",
    b"\\",
    b"\\ud800",
    b"\xff",
    b"\x00",
    b"1e999",
    b"-",
    b"0",
    b"null",
    b"NaN",
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(NAMES), st.data())
def test_damaged_records_are_read_or_refused(name: str, data: st.DataObject) -> None:
    value = encode(EXAMPLES[name])
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(value)))
        end = data.draw(st.integers(start, min(len(value), start + 8)))
        value = value[:start] + data.draw(st.sampled_from(PARTS) | st.binary(max_size=4)) + value[end:]
    check_any(EXAMPLES[name].topic, value)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(NAMES), st.data())
def test_members_of_any_kind_are_read_or_refused(name: str, data: st.DataObject) -> None:
    said = json.loads(encode(EXAMPLES[name]))
    said[data.draw(st.sampled_from(sorted(said)))] = data.draw(JSON)
    check_any(EXAMPLES[name].topic, json.dumps(said).encode())


# Records


def test_a_record_is_made_of_an_event_and_read_into_one() -> None:
    trade = EXAMPLES["Trade"]
    made = new_record(trade, 2, "SPY")
    assert (made.topic, made.partition, made.key, made.value) == ("market.trades", 2, b"SPY", encode(trade))
    record = Record(made.topic, made.partition, 17, made.key, made.value)
    assert read_into(record) is record
    assert isinstance(record.event, Trade)
    assert record.event == trade
    assert record.place == "market.trades/2/17"


def test_an_unreadable_record_keeps_its_place() -> None:
    record = read_into(Record("orders", 0, 3, b"main", b"{"))
    assert isinstance(record.event, Unreadable)
    assert record.place == "orders/0/3"


def test_an_event_does_not_change() -> None:
    alert = EXAMPLES["Alert"]
    assert isinstance(alert, Alert)
    with pytest.raises(AttributeError):
        alert.text = "other"  # type: ignore[misc]
    assert evolve(alert, text="other").text == "other"
    assert alert.text != "other"
