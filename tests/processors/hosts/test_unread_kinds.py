"""What cannot be read, on each kind of topic, in each way; and what the operator does about it."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from eventlog import EventLog, create_log, fingerprint
from processors.account.account import Account
from processors.hosts.inprocess import Ran
from processors.hosts.state import state_at
from processors.hosts.verify import derive
from schemas import (
    CORE_ACCOUNT_INPUTS,
    CORE_MARKET_INPUTS,
    CashActivity,
    CommandApplied,
    CommandRefused,
    Configured,
    CoreSettings,
    DeadLetter,
    Deposit,
    Event,
    NewRecord,
    PlaceOrder,
    Proposal,
    Rearm,
    ResolveUnread,
    Signal,
    Unread,
    codec,
    decode,
    encode,
    evolve,
    exact,
    partition_of,
)
from support.market import (
    at,
    bar,
    halt,
    heartbeat,
    quote,
    resume,
    session_closed,
    session_opened,
    split,
    trade,
)
from support.runs import (
    ELSEWHERE,
    ONE,
    SOURCE,
    SPEC,
    TWO,
    all_records,
    applied,
    configured,
    core,
    inputs,
    opening,
    run,
    run_cut,
    verified,
    write_facts,
)
from tape.wiring import build, installed

BAD_AT = at("10:30")
SAID = {"who": "ann", "why": "test"}
TOPICS_READ = (*CORE_MARKET_INPUTS, *CORE_ACCOUNT_INPUTS)
GOOD: dict[str, Any] = {
    "operator.commands": Deposit(id="bad", account=ONE, ts=BAD_AT, amount=Decimal("777.25"), **SAID),
    "strategy.proposals": Proposal(
        id="outside/1/1/0",
        account=ONE,
        ts=BAD_AT,
        strategy="outside",
        version="1",
        cause="1",
        source="outside",
        position=1,
        ordinal=0,
        intent="target",
        symbol="AAA",
        shares=Decimal("777.25"),
    ),
    "broker.reports": CashActivity(
        id="bad", account=ONE, ts=BAD_AT, kind="interest", amount=Decimal("777.25"), raw=""
    ),
    "market.quotes": quote(BAD_AT, "777.25", "777.30", symbol="AAA"),
    "market.trades": trade(BAD_AT, "777.25", symbol="AAA"),
    "market.bars": bar(BAD_AT, "777.25 777.25 777.25 777.25", symbol="AAA"),
    "market.status": split(BAD_AT, 2, 1, "AAA"),
}
"""An event about account ONE, or symbol AAA, on each topic."""


def changed(event: Event, **members: Any) -> bytes:
    """The event's bytes with other members; None leaves one out."""
    given = json.loads(encode(event)) | members
    return json.dumps({k: v for k, v in given.items() if v is not None}, separators=(",", ":")).encode()


def too_long(event: Event) -> bytes:
    """With a number that cannot be computed with exactly."""
    if b"777.25" not in encode(event):
        return changed(event, num=2**70)
    return encode(event).replace(b"777.25", b"777." + b"25" * 30)


WAYS: dict[str, Any] = {
    "broken JSON": lambda event: encode(event)[:-1],
    "not UTF-8": lambda event: encode(event).replace(b'"type":"', b'"type":"\xff'),
    "unknown type": lambda event: changed(event, type="Nothing"),
    "from the future": lambda event: changed(event, v=2),
    "missing field": lambda event: changed(event, ts=None),
    "wrong type of field": lambda event: changed(event, ts="soon"),
    "too many digits": too_long,
    "empty": lambda event: b"",
    "of another topic": lambda event: encode(
        GOOD["market.quotes" if event.topic != "market.quotes" else "market.trades"]
    ),
}

OPENING: tuple[Any, ...] = (
    session_opened(),
    quote(at("10:00"), 100, "100.10", symbol="AAA"),
    quote(at("10:00"), 50, "50.05", symbol="BBB"),
    quote(at("10:02"), 100, "100.10", symbol="AAA"),
    quote(at("10:02"), 50, "50.05", symbol="BBB"),
    trade(at("10:02"), 100, symbol="AAA"),
    bar(at("10:02"), "100 100 100 100", symbol="AAA"),
    resume(at("10:02"), "AAA"),
)
FACTS = (
    evolve(GOOD["strategy.proposals"], id="outside/0/0/0", ts=at("10:02"), position=0, shares=Decimal(0)),
    evolve(GOOD["broker.reports"], id="nothing", ts=at("10:02"), amount=Decimal(0)),
)
"""What cannot be read has its place right behind what its partition had before."""
REST: tuple[Any, ...] = (heartbeat(at("10:40")), quote(at("10:41"), 50, "50.05", symbol="BBB"))
"""After the record that cannot be read; nothing of AAA."""
COMMANDS: list[Event] = [
    *(opening(name, day_loss="0.5", day_loss_reduce=None) for name in (ONE, TWO, ELSEWHERE)),
    PlaceOrder(id="one", account=ONE, ts=at("10:01"), symbol="AAA", side="buy", quantity=Decimal(10), **SAID),
    PlaceOrder(id="two", account=TWO, ts=at("10:01"), symbol="BBB", side="buy", quantity=Decimal(10), **SAID),
]


def numbered(events: Sequence[Any], first: int = 1) -> list[Event]:
    """Market events as an import would write them."""
    return [evolve(event, source=SOURCE, row=first + n) for n, event in enumerate(events)]


def settings_for(topic: str, **more: Any) -> CoreSettings:
    """Without strategies; only a core without an exchange reads reports."""
    return evolve(core(latency=0, stale_after=7200 * 10**9, **more), simulated=topic != "broker.reports")


def log_with(
    folder: Path, topic: str, value: bytes, key: bytes | None = None, rest: Sequence[Any] = REST
) -> EventLog:
    """ONE holds AAA and TWO holds BBB; then comes the record; then the rest."""
    log = create_log(f"sqlite:{folder / 'log'}", SPEC)
    write_facts(log, numbered(OPENING), COMMANDS)
    for fact in FACTS:
        put(log, fact.topic, encode(fact), ONE.encode())
    market = topic in CORE_MARKET_INPUTS
    about = "AAA" if market else ONE
    put(log, topic, value, about.encode() if key is None else key, partition_of("AAA", 2) if market else 0)
    later = Deposit(id="later", account=ONE, ts=at("10:42"), amount=Decimal(5), **SAID)
    write_facts(log, numbered(rest, len(OPENING) + 1), [later])
    return log


def put(log: EventLog, topic: str, value: bytes, key: bytes, partition: int = 0) -> None:
    with log.writer("producer") as writer:
        writer.append([NewRecord(topic, partition, key, value)])


def place_of(log: EventLog, topic: str, value: bytes) -> str:
    """Where the bytes stand."""
    (place,) = [
        r.place for p in range(log.partitions(topic)) for r in all_records(log, topic, p) if r.value == value
    ]
    return place


def decisions(log: EventLog, kind: Any, partition: int = 0, topic: str = "orders") -> list[Any]:
    events = (decode(topic, r.value) for r in all_records(log, topic, partition))
    return [event for event in events if isinstance(event, kind)]


def letters(log: EventLog, partition: int) -> list[tuple[str, bytes]]:
    """Place and bytes of the dead letters."""
    events: list[Any] = [decode("dead-letters", r.value) for r in all_records(log, "dead-letters", partition)]
    assert all(isinstance(event, DeadLetter) and event.reason for event in events)
    return [(event.place, base64.b64decode(event.bytes)) for event in events]


def account(ran: Ran, name: str = ONE) -> Account:
    return ran.pipeline.accounts.desk.accounts[name]


# ---------------------------------------------------------------- it comes


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("topic", TOPICS_READ)
def test_it_is_unread_and_blocks_what_it_is_about_and_nothing_else(
    tmp_path: Path, topic: str, way: str
) -> None:
    value = WAYS[way](GOOD[topic])
    with log_with(tmp_path, topic, value) as log:
        ran = run(log, settings_for(topic), batch=3)
        place = place_of(log, topic, value)
        of_market = topic in CORE_MARKET_INPUTS
        assert [(u.account, u.place) for u in decisions(log, Unread)] == [
            (name, place) for name in ((ONE, TWO) if of_market else (ONE,))
        ]
        assert letters(log, 0) == [(place, value)]
        one, two = account(ran), account(ran, TWO)
        assert two.state == "ACTIVE"
        assert one.breaker.reasons == (("stale",) if of_market else ("integrity",))
        assert one.unpriced == (("AAA",) if topic == "market.status" else ())
        assert (one.equity is None) == (topic == "market.status"), "what is not known is said to be unknown"
        assert one.deposits == 5, "folding goes on"
        there = run(log, settings_for(topic), 1)
        assert account(there, ELSEWHERE).state == "ACTIVE"
        assert [u.place for u in decisions(log, Unread, 1)] == ([place] if of_market else [])
        assert letters(log, 1) == ([(place, value)] if of_market else [])
        assert verified(log).difference is None


@pytest.mark.parametrize("topic", TOPICS_READ)
def test_killed_and_resumed_it_comes_to_the_same_and_each_letter_once(tmp_path: Path, topic: str) -> None:
    value = WAYS["unknown type"](GOOD[topic])
    (tmp_path / "again").mkdir()
    with log_with(tmp_path, topic, value) as log, log_with(tmp_path / "again", topic, value) as again:
        run(log, settings_for(topic))
        assert run_cut(again, settings_for(topic), 2, batch=2) > 3
        assert fingerprint(again) == fingerprint(log)
        assert letters(again, 0) == letters(log, 0) == [(place_of(log, topic, value), value)]


KEYS = {"not UTF-8": b"\xff\xfe", "none": b"", "every": b"*"}


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("topic", TOPICS_READ)
def test_what_a_key_does_not_tell_concerns_all(tmp_path: Path, topic: str, key: str) -> None:
    with log_with(tmp_path, topic, b"{", KEYS[key], rest=(heartbeat(at("10:40")),)) as log:
        ran = run(log, settings_for(topic))
        assert [u.account for u in decisions(log, Unread)] == [ONE, TWO]
        reason = "stale" if topic in CORE_MARKET_INPUTS else "integrity"
        assert {account(ran, name).breaker.reasons for name in (ONE, TWO)} == {(reason,)}
        assert verified(log).difference is None


def test_a_symbol_nobody_has_heard_of(tmp_path: Path) -> None:
    """It blocks nobody who does not hold it; an order for it finds no price."""
    order = PlaceOrder(
        id="x", account=TWO, ts=at("10:50"), symbol="ZZZ", side="buy", quantity=Decimal(1), **SAID
    )
    rest = (*REST, quote(at("10:45"), 7, "7.01", symbol="ZZZ"), heartbeat(at("10:51")))
    with log_with(tmp_path, "market.status", b"{", b"ZZZ", rest=rest) as log:
        write_facts(log, (), [order])
        ran = run(log, settings_for(""))
        assert [account(ran, name).state for name in (ONE, TWO)] == ["ACTIVE", "ACTIVE"]
        assert "ZZZ" not in account(ran, TWO).holdings
        market = ran.pipeline.accounts.desk.market
        assert market.price(market.symbols["ZZZ"], long=True) is None


def test_the_opening_of_an_account_that_cannot_be_read(tmp_path: Path) -> None:
    """Before there is any account, nobody can be halted: its bytes are kept, and another opening goes on."""
    with create_log(f"sqlite:{tmp_path / 'log'}", SPEC) as log:
        put(log, "operator.commands", b"{", ONE.encode())
        drop = ResolveUnread(
            id="r", account=ONE, ts=at("10:43"), place="operator.commands/0/0", action="drop", **SAID
        )
        write_facts(log, numbered(OPENING), [*COMMANDS, drop])
        ran = run(log, settings_for(""))
        assert decisions(log, Unread) == []
        assert letters(log, 0) == [("operator.commands/0/0", b"{")]
        assert account(ran).state == "ACTIVE"
        assert [c.command for c in decisions(log, CommandApplied) if c.kind == "ResolveUnread"] == ["r"]
        assert verified(log).difference is None


@pytest.mark.parametrize("missed", ["opened", "closed", "split"])
def test_a_missed_status_leaves_no_wrong_number(tmp_path: Path, missed: str) -> None:
    """A close that is missed, and prices after it; a split, and prices of the new shares: no loss is
    seen in them, equity is not known, and nothing trips."""
    rest = (
        quote(at("10:40"), 50, "50.05", symbol="AAA"),
        quote(at("10:41"), 50, "50.05", symbol="AAA"),
        session_closed(),
        session_opened(1),
        quote(at("10:40", 1), 50, "50.05", symbol="AAA"),
    )
    key = b"AAA" if missed == "split" else b"*"
    with log_with(tmp_path, "market.status", b'{"type":"Unheard"}', key, rest=rest) as log:
        ran = run(log, settings_for(""))
        one = account(ran)
        assert (one.equity, one.baseline, one.breaker.reasons) == (None, None, ("stale",))


# ---------------------------------------------------------------- it is resolved


def tomorrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on, version 2 of any event can be read: it is as version 1 was."""
    monkeypatch.setattr(
        codec, "_decode_other", lambda topic, value, _: decode(topic, value.replace(b'"v":2', b'"v":1'))
    )


def resolve(place: str, action: str, ts: int = at("10:50"), name: str = ONE, id: str = "") -> ResolveUnread:
    return ResolveUnread(
        id=id or f"{action} {place} {ts}",
        account=name,
        ts=ts,
        place=place,
        action=action,  # type: ignore[arg-type]
        **SAID,
    )


def rearm(ts: int = at("10:51"), name: str = ONE) -> Rearm:
    return Rearm(id=f"rearm {name} {ts}", account=name, ts=ts, reason="integrity", **SAID)


def ended(at_end: Ran) -> tuple[str, dict[str, str]]:
    return account(at_end).state, account(at_end).unread


def refusals(log: EventLog) -> list[str]:
    return [c.reason for c in decisions(log, CommandRefused)]


@pytest.mark.parametrize("topic", TOPICS_READ)
def test_dropped_it_blocks_nothing_any_more(tmp_path: Path, topic: str) -> None:
    with log_with(tmp_path, topic, b"{") as log:
        place = place_of(log, topic, b"{")
        write_facts(log, (), [resolve(place, "drop"), resolve(place, "drop", at("10:50:30")), rearm()])
        ran = run(log, settings_for(topic))
        assert ended(ran) == ("ACTIVE", {})
        assert account(ran).equity is not None
        assert "or it is resolved" in refusals(log)[0]
        assert len(refusals(log)) == (2 if topic in CORE_MARKET_INPUTS else 1), "nothing to re-arm"
        assert verified(log).difference is None


@pytest.mark.parametrize("topic", TOPICS_READ)
def test_retried_without_an_upgrade_it_is_refused_and_stays(tmp_path: Path, topic: str) -> None:
    with log_with(tmp_path, topic, WAYS["from the future"](GOOD[topic])) as log:
        place = place_of(log, topic, WAYS["from the future"](GOOD[topic]))
        write_facts(log, (), [resolve(place, "retry"), rearm()])
        ran = run(log, settings_for(topic))
        assert f"{place}: " in refusals(log)[0]
        assert "from the future" in refusals(log)[0]
        assert account(ran).state != "ACTIVE"
        assert len(letters(log, 0)) == 1


def effect(topic: str, log: EventLog, ran: Ran) -> bool:
    """Whether the event has acted, once."""
    one = account(ran)
    match topic:
        case "operator.commands":
            return one.deposits == Decimal("782.25")
        case "strategy.proposals":
            return len(decisions(log, Signal, topic="signals")) == 2
        case "broker.reports":
            return one.income == Decimal("777.25")
        case "market.status":
            return one.net("AAA") == 20
    holding = one.holdings["AAA"]
    return holding.mark == 100 and holding.source.startswith("market.quotes")


def upgraded(log: EventLog, topic: str, monkeypatch: pytest.MonkeyPatch, commands: Sequence[Event]) -> None:
    """The first epoch, before the upgrade, to its end; then the operator's commands."""
    run(log, settings_for(topic), batch=3)
    write_facts(log, (), commands)
    tomorrow(monkeypatch)


def next_epoch(topic: str) -> CoreSettings:
    return settings_for(topic, pnl_interval=1, snapshot_every=3)


def first_is_other(configured: Configured) -> str:
    return "it ran with other code" if configured.epoch == 1 else installed(configured)


@pytest.mark.parametrize("topic", TOPICS_READ)
def test_retried_after_an_upgrade_it_acts_then_and_once(
    tmp_path: Path, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    value = WAYS["from the future"](GOOD[topic])
    (tmp_path / "again").mkdir()
    with log_with(tmp_path, topic, value) as log, log_with(tmp_path / "again", topic, value) as again:
        place = place_of(log, topic, value)
        commands = [resolve(place, "retry", id="r"), resolve(place, "retry", at("10:50:30")), rearm()]
        for each in (log, again):
            with monkeypatch.context() as patch:
                upgraded(each, topic, patch, commands)
        tomorrow(monkeypatch)
        ran = run(log, next_epoch(topic))
        assert effect(topic, log, ran)
        assert ended(ran) == ("ACTIVE", {})
        assert "or it is resolved" in refusals(log)[0]
        run_cut(again, next_epoch(topic), 2, batch=1)
        assert fingerprint(again) == fingerprint(log)
        assert state_at(again, 0, build).snapshot() == ran.pipeline.snapshot()
        found = derive(log, build, first_is_other)
        assert (found.difference, len(found.not_derived)) == (None, 1)
        assert found.decisions > 0
        causes = [d.cause for t in ("pnl", "signals", "orders") for d in decisions(log, object, topic=t)]
        named = {"operator.commands": "bad", "strategy.proposals": "outside/1/1/0", "broker.reports": "bad"}
        if topic == "market.status" or topic in named:
            assert f"{named.get(topic, place)} retried by r" in causes


@pytest.mark.parametrize("topic", TOPICS_READ)
def test_a_snapshot_between_any_two_inputs_changes_nothing(
    tmp_path: Path, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    value = WAYS["from the future"](GOOD[topic])
    with log_with(tmp_path, topic, value) as log:
        place = place_of(log, topic, value)
        write_facts(log, (), [resolve(place, "retry"), rearm(), resolve(place, "drop", at("10:52"))])
        settings = configured(log, settings_for(topic))
        records = [record for _, record in inputs(log)]
        if topic == "broker.reports":
            later = next(n for n, r in enumerate(records) if b"later" in r.value)
            *_, bad = all_records(log, topic, 0)
            bad.event = decode(topic, value)
            records.insert(later, bad)
        tomorrow(monkeypatch)
        whole = build(settings)
        made, kept = [], []
        for record in records:
            kept.append(whole.snapshot())
            made += applied(whole, [record])
        assert any(made)
        for n, snapshot in enumerate(kept):
            other = build(settings)
            with exact():
                other.restore(snapshot)
            assert applied(other, records[n:]) == made[n:]
            assert other.snapshot() == whole.snapshot()


def test_places_that_are_not_there_or_of_another_account(tmp_path: Path) -> None:
    with log_with(tmp_path, "operator.commands", b"{") as log:
        place = place_of(log, "operator.commands", b"{")
        asked = [
            resolve("operator.commands/0/99", "drop"),
            resolve("nonsense", "retry"),
            resolve(place, "drop", name=TWO),
        ]
        write_facts(log, (), asked)
        ran = run(log, settings_for(""))
        first, second, third = refusals(log)
        assert first.startswith("no unreadable record at operator.commands/0/99")
        assert second.startswith("no unreadable record at nonsense")
        assert third == f"the record at {place} concerns {ONE}"
        assert account(ran).unread == {place: account(ran).unread[place]}


def test_a_resolution_that_cannot_be_read_is_itself_to_be_resolved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    value = WAYS["from the future"](GOOD["operator.commands"])
    with log_with(tmp_path, "operator.commands", value) as log:
        place = place_of(log, "operator.commands", value)
        inner = changed(resolve(place, "retry", id="inner"), v=2)
        put(log, "operator.commands", inner, ONE.encode())
        outer = resolve(place_of(log, "operator.commands", inner), "retry", at("10:55"))
        upgraded(log, "", monkeypatch, [outer, rearm(at("10:56"))])
        ran = run(log, next_epoch(""))
        assert effect("operator.commands", log, ran)
        assert ended(ran) == ("ACTIVE", {})
        assert "bad retried by inner" in [c.cause for c in decisions(log, CommandApplied)]
        assert derive(log, build, first_is_other).difference is None


HELD = PlaceOrder(
    id="sell", account=ONE, ts=at("10:43"), symbol="AAA", side="sell", quantity=Decimal(4), **SAID
)
LATE: dict[str, tuple[Any, Sequence[Any], list[Event], str]] = {
    "session over": (session_closed(-1), (), [], "is not the one that is open"),
    "session open": (session_opened(), (), [], "is open already, or over"),
    "halt resumed": (halt(BAD_AT, "AAA"), (resume(at("10:44"), "AAA"),), [], "a later halt or resume"),
    "split after a sale": (
        split(BAD_AT, 2, 1, "AAA"),
        (quote(at("10:44"), 50, "50.05", symbol="AAA"),),
        [HELD],
        f"positions of AAA were {ONE} 10, and are {ONE} 6",
    ),
}


@pytest.mark.parametrize("case", LATE)
def test_a_status_that_no_longer_fits_is_not_retried(
    tmp_path: Path, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    event, since, commands, said = LATE[case]
    value = changed(event, v=2)
    with log_with(tmp_path, "market.status", value, rest=(*REST, *since, heartbeat(at("10:45")))) as log:
        place = place_of(log, "market.status", value)
        upgraded(log, "", monkeypatch, [*commands, resolve(place, "retry")])
        if commands:
            write_facts(log, numbered([quote(at("10:49"), 50, "50.05", symbol="AAA")], 50))
        ran = run(log, next_epoch(""))
        assert said in refusals(log)[-1]
        assert account(ran).equity is None


def test_of_many_the_newest_prices_and_the_first_facts_are_kept(tmp_path: Path) -> None:
    """The rest can be dropped, not retried; a snapshot stays small."""
    with log_with(tmp_path, "market.quotes", b"{") as log:
        with log.writer("producer") as writer:
            partition = partition_of("AAA", 2)
            for topic, part, key in (
                ("market.quotes", partition, b"AAA"),
                ("operator.commands", 0, ONE.encode()),
            ):
                values = [b"x%d" % n + b"y" * 10_000 for n in range(150)] + [b"z" * 20_000]
                writer.append([NewRecord(topic, part, key, value) for value in values])
        first = place_of(log, "market.quotes", b"{")
        large = place_of(log, "operator.commands", b"z" * 20_000)
        write_facts(
            log,
            (),
            [resolve(first, "retry"), resolve(large, "retry"), resolve(large, "drop", at("10:51")), rearm()],
        )
        ran = run(log, settings_for(""))
        desk = ran.pipeline.accounts.desk
        assert len([k for k in desk.kept if k.topic == "market.quotes"]) == 100
        assert 900_000 < sum(len(k.value) for k in desk.kept if k.topic == "operator.commands") < 1 << 20
        unread, again, still = refusals(log)
        assert "not kept" in unread
        assert "not kept" in again
        assert "150 unreadable records are not resolved" in still
        assert still.endswith("and 145 more")
        assert len(letters(log, 0)) == 303
        assert verified(log).difference is None
