from __future__ import annotations

from datetime import date, time
from itertools import islice, pairwise
from math import log, sqrt
from typing import Any

import pytest

from producers.marketdata.errors import BadRequest
from producers.marketdata.synthetic import Synthetic, SyntheticMarket, synthetic
from producers.sessions import midnight, sessions
from schemas import Quote, SessionClosed, SessionOpened, Trade

START = 1_381_152_600_000_000_000


def test_the_same_seed_gives_the_same_events() -> None:
    assert list(synthetic(["A", "B"], 7, 500, START)) == list(synthetic(["A", "B"], 7, 500, START))
    assert list(synthetic(["A", "B"], 7, 500, START)) != list(synthetic(["A", "B"], 8, 500, START))


def test_this_seed_gives_this_event_everywhere() -> None:
    quote = next(islice(synthetic(["A", "B"], 7, 500, START), 1, None))
    assert isinstance(quote, Quote)
    assert (quote.symbol, str(quote.bid), str(quote.ask)) == ("B", "47.14", "47.16")


def test_one_session_of_valid_quotes_in_order() -> None:
    market = Synthetic(("A", "B"), seed=1, quotes=3000, start=START, rate_per_s=1000)
    opened, *quotes, closed = market.events()
    assert isinstance(opened, SessionOpened)
    assert isinstance(closed, SessionClosed)
    assert opened.close == closed.ts == START + 3 * 10**9
    assert len(quotes) == 3000
    for quote in quotes:
        assert isinstance(quote, Quote)
        assert quote.bid is not None
        assert quote.ask is not None
        assert 1 <= quote.bid < quote.ask
        assert START <= quote.ts < closed.ts
    assert [e.row for e in (opened, *quotes, closed)] == list(range(1, 3003))  # type: ignore[attr-defined]
    assert {e.source for e in (opened, *quotes, closed)} == {market.source}  # type: ignore[attr-defined]


def test_a_market_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="needs a symbol"):
        synthetic([], 1, 10, START)


def market(**options: Any) -> SyntheticMarket:
    days = {"first": date(2013, 11, 27), "last": date(2013, 12, 2)}
    return SyntheticMarket(**{"symbols": ("A", "B"), "seed": 3, "rate_per_s": 0.1, **days, **options})


def test_the_seed_of_a_benchmark_gives_the_market_it_always_gave() -> None:
    market = Synthetic(("SPY", "IBM"), seed=42, quotes=1000, start=START)
    assert market.source == "48d5c39aad3a"
    last = list(market.events())[-2]
    assert isinstance(last, Quote)
    assert (last.symbol, str(last.bid), str(last.ask), str(last.ask_size)) == ("IBM", "24.35", "24.36", "600")


def test_a_market_keeps_to_the_calendar() -> None:
    events: list[Any] = list(market().events())
    days = sessions(date(2013, 11, 27), date(2013, 12, 2))
    assert [s.date.day for s in days] == [27, 29, 2]
    opened = [e for e in events if isinstance(e, SessionOpened)]
    closed = [e for e in events if isinstance(e, SessionClosed)]
    assert [(e.ts, e.close) for e in opened] == [(s.open, s.close) for s in days]
    assert [e.ts for e in closed] == [s.close for s in days]
    assert [e.row for e in events] == list(range(1, len(events) + 1))
    assert [e.ts for e in events] == sorted(e.ts for e in events)
    quotes = [e for e in events if isinstance(e, Quote)]
    assert len(quotes) == 2340 + 1260 + 2340
    assert market().check() == len(events)


def test_quotes_and_trades_fit_each_other() -> None:
    events = list(market(trade_share=0.5, spread_bps=20).events())
    spreads = []
    for before, event in pairwise(events):
        if isinstance(event, Quote):
            assert event.bid is not None
            assert event.ask is not None
            assert 0 < event.bid < event.ask
            spreads.append(float((event.ask - event.bid) / event.ask) * 10_000)
        if isinstance(event, Trade):
            assert isinstance(before, Quote)
            assert (event.symbol, event.ts) == (before.symbol, before.ts)
            assert (event.price, event.size) in ((before.bid, before.bid_size), (before.ask, before.ask_size))
    trades = sum(isinstance(e, Trade) for e in events)
    assert 0.45 < trades / len(spreads) < 0.55
    assert 18 < sum(spreads) / len(spreads) < 22


@pytest.mark.parametrize("volatility", [0.1, 0.5])
@pytest.mark.parametrize("rate", [0.05, 0.5])
def test_the_volatility_is_what_was_asked_for(volatility: float, rate: float) -> None:
    made = market(
        symbols=("A",), rate_per_s=rate, volatility=volatility, last=date(2014, 1, 15), trade_share=0
    )
    mids = [float(e.bid + e.ask) for e in made.events() if isinstance(e, Quote) and e.bid and e.ask]
    every = mids[:: int(600 * rate)]  # ten minutes: longer than what the spread adds
    returns = [log(b / a) for a, b in pairwise(every)]
    yearly = sqrt(sum(r * r for r in returns) / len(returns) * 252 * 39)
    assert 0.9 * volatility < yearly < 1.1 * volatility


def test_other_opening_times() -> None:
    made = market(first=date(2013, 11, 27), last=date(2013, 11, 27), opens=time(10), closes=time(10, 5))
    opened, *events, closed = made.events()
    base = midnight(date(2013, 11, 27))
    assert isinstance(opened, SessionOpened)
    assert isinstance(closed, SessionClosed)
    assert (opened.ts, opened.close) == (base + 36_000 * 10**9, base + 36_300 * 10**9)
    assert closed.ts == opened.close
    assert sum(isinstance(e, Quote) for e in events) == 30


def test_a_market_differs_with_each_argument() -> None:
    options: list[dict[str, Any]] = [
        {},
        {"seed": 4},
        {"symbols": ("A", "C")},
        {"rate_per_s": 0.2},
        {"volatility": 0.3},
        {"spread_bps": 3.0},
        {"trade_share": 0.3},
        {"opens": time(9, 45)},
    ]
    assert len({market(**o).source for o in options}) == len(options)
    starts = {tuple(map(str, islice(market(**o).events(), 40))) for o in options}
    assert len(starts) == len(options)
    assert list(market().events()) == list(market().events())


def test_this_seed_gives_this_market_everywhere() -> None:
    last = [e for e in market().events() if isinstance(e, Quote)][-1]
    assert (last.symbol, str(last.bid), str(last.ask)) == ("A", "62.7", "62.71")


@pytest.mark.parametrize(
    "options",
    [
        {"symbols": ()},
        {"symbols": ("A", "A")},
        {"rate_per_s": 0},
        {"volatility": -0.1},
        {"spread_bps": -1},
        {"trade_share": 1.1},
        {"opens": time(16)},
        {"first": date(2013, 11, 28), "last": date(2013, 11, 28)},
    ],
)
def test_a_market_that_makes_no_sense(options: dict[str, Any]) -> None:
    with pytest.raises(BadRequest, match=r"choose|open it earlier|name at least one"):
        market(**options)
