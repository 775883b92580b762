"""Mean reversion: what it proposes, when, under which id."""

from __future__ import annotations

from decimal import Decimal

import pytest

from processors.outside import MeanReversion
from schemas import Bar, Proposal
from support.market import MINUTE, Feed, at, bar

FLAT = [100, 101, 100, 101]


def closes(*prices: float, **more: object) -> list[Bar]:
    return [bar(at("09:31") + n * MINUTE, " ".join([str(p)] * 4), **more) for n, p in enumerate(prices)]  # type: ignore[arg-type]


def proposed(made: list[Bar], **params: object) -> list[Proposal]:
    given: dict[str, object] = {"length": 5, "entry": 1.5, "leave": 0.5, "weight": Decimal("0.25"), **params}
    strategy = MeanReversion("revert", "one", ["SPY"], **given)  # type: ignore[arg-type]
    feed = Feed()
    found = [event for one in made for event in strategy.apply(feed.record(one))]
    assert all(isinstance(event, Proposal) for event in found)
    return found  # type: ignore[return-value]


def weights(made: list[Bar], **params: object) -> list[str]:
    return [str(p.weight) for p in proposed(made, **params)]


@pytest.mark.parametrize(
    ("prices", "short", "wanted"),
    [
        ([*FLAT, 100], False, []),  # within the band: nothing
        ([*FLAT, 95], False, ["0.25"]),  # far below the mean: bought
        ([*FLAT, 95, 99], False, ["0.25", "0"]),  # back at the mean: left
        ([*FLAT, 95, 94], False, ["0.25"]),  # still below: one proposal, not two
        ([*FLAT, 106], False, []),  # far above, and short is not allowed
        ([*FLAT, 106], True, ["-0.25"]),
        ([*FLAT, 106, 95], True, ["-0.25", "0.25"]),
        (FLAT, True, []),  # too few closes
        ([100] * 8, True, []),  # no deviation
        ([*FLAT, 50], True, []),  # a split begins the window anew
    ],
)
def test_targets(prices: list[float], short: bool, wanted: list[str]) -> None:
    assert weights(closes(*prices), short=short) == wanted


def test_a_revised_bar_makes_no_second_signal_and_corrects_the_window() -> None:
    first = closes(*FLAT, 95)
    (once,) = proposed(first)
    revised = closes(*FLAT, 106)[-1:]
    assert proposed(first + first[-1:] + revised) == [once]
    corrected = closes(*FLAT, 106, 100)
    assert weights([*first, corrected[-1]]) == ["0.25", "0"]
    assert weights([*first, *revised, corrected[-1]]) == ["0.25"]


def test_what_is_passed_over() -> None:
    low = closes(*FLAT, 95)[-1:]
    for other in (
        closes(*FLAT, 95, symbol="IBM")[-1:],
        closes(*FLAT, 95, period=2 * MINUTE)[-1:],
        closes(*FLAT, 95, backfilled=True)[-1:],
        [bar(low[0].ts)],
        [bar(at("09:30"), "95 95 95 95")],
    ):
        assert proposed(closes(*FLAT) + other) == []
    assert len(proposed(closes(*FLAT) + low)) == 1


def test_ids_are_made_of_strategy_version_parameters_and_cause() -> None:
    (one,) = proposed(closes(*FLAT, 95))
    (other,) = proposed(closes(*FLAT, 95), entry=1.6)
    assert one.id == f"revert/{one.version}/market.bars/0/4/0"
    assert (one.source, one.position, one.ordinal) == ("market.bars/0", 4, 0)
    assert one.cause == "market.bars/0/4"
    assert one.version != other.version
    assert one.id != other.id


@pytest.mark.parametrize("params", [{"length": 1}, {"entry": 0.5, "leave": 0.5}, {"leave": -1.0}])
def test_what_cannot_be_meant_is_refused(params: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="mean reversion needs"):
        proposed([], **params)
