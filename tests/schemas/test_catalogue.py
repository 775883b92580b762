"""Topics, events and identities: each event has one topic, each topic its events, each name one meaning."""

from decimal import Decimal

import pytest

import schemas
from schemas import (
    CORE_ACCOUNT_INPUTS,
    CORE_MARKET_INPUTS,
    DECISIONS,
    TOPICS,
    Event,
    client_order_id,
    decision_id,
    digest,
    log_prefix,
)
from schemas.declare import EVENTS, VERSIONS, Value, event, value
from schemas.ids import CLIENT_ORDER_ID_MAX

KINDS = sorted(EVENTS.values(), key=lambda kind: kind.__name__)
OF_A_DECISION = {"account": str, "seq": int, "prev": int, "cause": str, "trace": str, "ts": int}


def of_topics(*topics: str) -> list[type[Event]]:
    return [kind for kind in KINDS if kind.topic in topics]


def annotations(kind: type[Event]) -> dict[str, object]:
    return {name: info.annotation for name, info in kind.model.model_fields.items()}


def test_every_topic_has_events_and_every_event_a_topic() -> None:
    assert {kind.topic for kind in KINDS} == set(TOPICS)
    assert {topic.name for topic in TOPICS.values()} == set(TOPICS)


def test_events_are_known_by_their_own_names() -> None:
    assert {name: kind.__name__ for name, kind in EVENTS.items()} == {name: name for name in EVENTS}
    assert VERSIONS.keys() == EVENTS.keys()
    for name, kind in EVENTS.items():
        assert getattr(schemas, name) is kind
        assert name in schemas.__all__


def test_two_events_of_one_name_are_refused() -> None:
    with pytest.raises(TypeError, match="two events are named Quote"):

        @event("market.quotes")
        class Quote(Event):
            ts: int


def test_a_decimal_stands_alone_or_in_a_value() -> None:
    with pytest.raises(TypeError, match=r"Wrong\.prices: a Decimal stands alone"):

        @value
        class Wrong(Value):
            prices: tuple[Decimal, ...]


@pytest.mark.parametrize("kind", of_topics(*DECISIONS), ids=lambda kind: kind.__name__)
def test_decisions_say_whose_they_are_and_what_led_to_them(kind: type[Event]) -> None:
    members = annotations(kind)
    assert {name: members.get(name) for name in OF_A_DECISION} == OF_A_DECISION
    assert all(kind.model.model_fields[name].is_required() for name in OF_A_DECISION)


@pytest.mark.parametrize("kind", of_topics(*CORE_ACCOUNT_INPUTS), ids=lambda kind: kind.__name__)
def test_facts_about_an_account_have_an_id_of_their_own(kind: type[Event]) -> None:
    members = annotations(kind)
    assert (members["id"], members["account"], members["ts"]) == (str, str, int)


@pytest.mark.parametrize("kind", of_topics(*CORE_MARKET_INPUTS), ids=lambda kind: kind.__name__)
def test_facts_of_the_market_say_their_source_and_row(kind: type[Event]) -> None:
    members = annotations(kind)
    assert (members["symbol"], members["ts"]) == (str, int)
    assert (members["source"], members["row"]) == (str, int)


@pytest.mark.parametrize("kind", of_topics("operator.commands"), ids=lambda kind: kind.__name__)
def test_commands_say_who_and_why(kind: type[Event]) -> None:
    members = annotations(kind)
    assert (members["who"], members["why"]) == (str, str)


def test_market_topics_alone_are_written_without_transactions() -> None:
    plain = {topic.name for topic in TOPICS.values() if not topic.transactional}
    assert plain == {name for name in TOPICS if name.startswith("market.")}


def test_the_core_writes_every_decision_and_none_of_its_inputs() -> None:
    assert {name for name in DECISIONS if TOPICS[name].roles != ("core",)} == set()
    inputs = (*CORE_MARKET_INPUTS, *CORE_ACCOUNT_INPUTS)
    assert [name for name in inputs if "core" in TOPICS[name].roles] == []
    assert "market.marks" not in inputs


@pytest.mark.parametrize("name", [*DECISIONS, *CORE_ACCOUNT_INPUTS])
def test_topics_of_an_account_lie_in_the_same_partition(name: str) -> None:
    assert (TOPICS[name].key, TOPICS[name].spread) == ("account", "account")


def test_identities() -> None:
    assert decision_id("alpha", 42) == "alpha:42"
    assert log_prefix("063dcb2b1284309d86bb788287d55488") == "063dcb"
    assert client_order_id("063dcb", "alpha", 42) == "063dcb-alpha-42"


def test_a_client_order_id_has_48_characters_at_most() -> None:
    longest = client_order_id("063dcb", "a" * 21, 2**63 - 1)
    assert len(longest) == CLIENT_ORDER_ID_MAX == 48
    with pytest.raises(ValueError, match="longer than 48"):
        client_order_id("063dcb", "a" * 22, 2**63 - 1)


def test_digest_tells_where_a_part_ends() -> None:
    assert digest(b"ab", b"c") != digest(b"a", b"bc") != digest(b"abc")
    assert digest() == "0e5751c026e543b2e8ab2eb06099daa1d1e5df47778f7787faab45cdf12fe3a8"
    assert len(digest(b"x")) == 64
