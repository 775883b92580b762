"""Any sequence of inputs: a snapshot anywhere changes nothing, and what is filled stays in bounds."""

from __future__ import annotations

from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st

from processors.exchange import Exchange
from schemas import CoreSettings, Event, Filled, OrderAccepted, Split, exact
from support.market import (
    Feed,
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
from support.venue import accepted, changed

CENT = Decimal("0.01")
NAMES = [f"order{n}" for n in range(40)]

prices = st.integers(990, 1010).map(lambda cents: cents * CENT)
texts = st.tuples(
    st.sampled_from(["buy", "sell"]),
    st.integers(1, 300),
    st.one_of(
        st.just("market"),
        st.builds("limit {}".format, prices),
        st.builds("stop {}".format, prices),
        st.builds("stop_limit {} {}".format, prices, prices),
    ),
    st.sampled_from(["day", "gtc", "ioc", "fok", "day extended", "gtc extended"]),
).map(lambda parts: " ".join(map(str, parts)))

steps = st.one_of(
    st.tuples(st.just("quote"), prices, prices, st.integers(0, 200), st.booleans()),
    st.tuples(st.just("trade"), prices),
    st.tuples(st.just("bar"), prices, prices, prices),
    st.tuples(st.sampled_from(["halt", "resume", "heartbeat", "open", "close", "split", "reverse"])),
    st.tuples(st.just("order"), texts),
    st.tuples(st.just("order"), texts),
    st.tuples(st.just("cancel"), st.integers(0, 39)),
    st.tuples(st.just("replace"), st.integers(0, 39), st.integers(1, 300), st.none() | prices),
    st.tuples(st.just("none"), st.integers(0, 39)),
)
gaps = st.sampled_from([0, 1, 30, 60, 3600, 4 * 3600])
scripts = st.lists(st.tuples(gaps, steps), max_size=40)
core_settings = st.builds(
    CoreSettings,
    log_prefix=st.just("x"),
    simulated=st.just(True),
    fee=st.sampled_from(["none", "bps:3", "per-share:0.005:1", "alpaca"]),
    slippage_bps=st.sampled_from([Decimal(0), Decimal("2.5")]),
    latency=st.sampled_from([0, 1_000_000_000, 90_000_000_000]),
    size=st.sampled_from(["full", "displayed"]),
    stop_trigger=st.sampled_from(["trade", "quote"]),
)


def events(script: list) -> list[Event]:
    """The script as events, on a clock that starts in the first session."""
    made: list[Event] = [session_opened()]
    now, days, orders = at("09:30"), 0, 0
    for number, (gap, (kind, *given_)) in enumerate(script):
        now += gap * 1_000_000_000
        match kind:
            case "quote":
                bid, ask, size, of_bar = given_
                made.append(quote(now, bid, ask, (size, size), bar=of_bar))
            case "trade":
                made.append(trade(now, given_[0]))
            case "bar":
                low, middle, high = sorted(given_)
                made.append(bar(now, f"{middle} {high} {low} {middle}"))
            case "halt" | "resume" | "heartbeat":
                made.append({"halt": halt, "resume": resume, "heartbeat": heartbeat}[kind](now))
            case "split" | "reverse":
                made.append(split(now, *((3, 2) if kind == "split" else (1, 5))))
            case "open" | "close":
                made.append(session_opened(days) if kind == "open" else session_closed(days))
                days += kind == "close"
                now = max(now, made[-1].ts)  # type: ignore[attr-defined]
            case "order":
                made.append(accepted(number, NAMES[orders], given_[0]))
                orders += 1
            case _:
                made.append(changed(number, NAMES[given_[0]], kind, *given_[1:]))
    return made


def run(core: CoreSettings, script: list[Event], *, restarts: bool = False) -> list[Event]:
    exchange, feed, reports = Exchange(core), Feed(), []
    for event in script:
        if restarts:
            snapshot = exchange.snapshot()
            exchange = Exchange(core)
            exchange.restore(snapshot)
            assert exchange.snapshot() == snapshot
        with exact():
            reports.extend(exchange.apply(feed.record(event)))
    return reports


@given(core_settings, scripts.map(events))
@settings(max_examples=300, deadline=None)
def test_a_snapshot_between_any_two_inputs_changes_nothing(core: CoreSettings, script: list[Event]) -> None:
    reports = run(core, script)
    assert run(core, script) == reports
    assert run(core, script, restarts=True) == reports


@given(core_settings, scripts.map(events))
@settings(max_examples=300, deadline=None)
def test_fills_stay_within_quantity_and_limit_and_ids_are_unique(
    core: CoreSettings, script: list[Event]
) -> None:
    orders = {event.order: event for event in script if isinstance(event, OrderAccepted)}
    reports = run(core, script)
    assert len({report.id for report in reports}) == len(reports)  # type: ignore[attr-defined]
    untouched = not any(isinstance(e, Split) or getattr(e, "pending", "") == "replace" for e in script)
    filled: dict[str, Decimal] = {}
    for report in reports:
        if not isinstance(report, Filled):
            continue
        order = orders[report.order]
        filled[report.order] = filled.get(report.order, Decimal(0)) + report.quantity
        assert report.cumulative == filled[report.order]
        assert report.fee >= 0
        if untouched:
            assert filled[report.order] <= order.quantity
            if order.limit is not None:
                within = report.price <= order.limit if order.side == "buy" else report.price >= order.limit
                assert within
