"""What an order costs under each fee model."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from processors.fees import fee_model
from schemas import exact

TOTALS = """
    # model              date        side  quantity  notional     fee
    none                 2024-01-02  buy   100       1000         0
    bps:1                2024-01-02  buy   100       10000        1.00
    bps:1                2024-01-02  sell  1         50           0.00
    bps:2.5              2024-01-02  buy   3         100          0.02
    per-share:0.005:1    2024-01-02  buy   688       9000         3.44
    per-share:0.005:1    2024-01-02  sell  200       9000         1.00
    per-share:0.005:1    2024-01-02  buy   1         9            1.00
    per-share:0.005:0    2024-01-02  buy   1         9            0.00
    per-share:0.005:0    2024-01-02  buy   3         9            0.02
    per-share:0.005:1    2024-01-02  buy   0         0            0
    alpaca               2024-06-03  buy   100       10000        0
    alpaca               2024-06-03  sell  100       10000        0.30
    alpaca               2024-06-03  sell  0.5       10           0.02
    alpaca               2024-06-03  sell  100000    1000000      36.10
    alpaca               2024-05-21  sell  100       10000        0.10
    alpaca               2024-05-22  sell  100       10000        0.30
    alpaca               2021-06-01  sell  50000     1000000      11.05
    alpaca               2025-12-31  sell  100       10000        0.02
    alpaca               2026-01-02  sell  100000    1000000      9.79
    alpaca               2026-04-04  sell  100000    1000000      30.39
    alpaca               2030-01-02  sell  100000    1000000      30.39
    alpaca               2007-01-03  sell  100000    1000000      28.05
"""


def rows(table: str) -> list[list[str]]:
    return [line.split() for line in table.splitlines() if line.strip() and "#" not in line]


def noon(date: str) -> int:
    return int(datetime.fromisoformat(date).replace(hour=17, tzinfo=UTC).timestamp()) * 10**9


@pytest.mark.parametrize("row", rows(TOTALS), ids=" ".join)
def test_total(row: list[str]) -> None:
    model, date, side, quantity, notional, fee = row
    with exact():
        total = fee_model(model).total(side, Decimal(quantity), Decimal(notional), noon(date))
    assert total == Decimal(fee)


def test_estimate_is_the_total_of_a_fill_at_that_price() -> None:
    model = fee_model("bps:1")
    with exact():
        assert model.estimate("buy", Decimal(300), Decimal("33.34"), 0) == Decimal("1.00")


def test_partial_fills_pay_the_minimum_once() -> None:
    model = fee_model("per-share:0.005:1")
    filled = [Decimal(part) for part in (50, 120, 200, 688)]
    totals = [model.total("buy", quantity, Decimal(0), 0) for quantity in filled]
    fees = [after - before for before, after in zip([Decimal(0), *totals], totals, strict=False)]
    assert [str(fee) for fee in fees] == ["1.00", "0.00", "0.00", "2.44"]


@pytest.mark.parametrize("text", ["", "free", "bps", "bps:x", "bps:-1", "bps:NaN", "per-share:1", "alpaca:1"])
def test_an_unknown_model_is_named_with_the_forms_allowed(text: str) -> None:
    with pytest.raises(ValueError, match="none, bps:X, per-share:X:MIN, alpaca") as raised:
        fee_model(text)
    assert repr(text) in str(raised.value)
