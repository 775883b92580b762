from __future__ import annotations

from itertools import islice

import pytest

from producers.marketdata.synthetic import Synthetic, synthetic
from schemas import Quote, SessionClosed, SessionOpened

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
