"""Sizing: from a target to a number of shares.

shares = trunc toward zero of weight x (equity x (1 - buffer) - expected fee) / price, where the
price is the ask to buy and the bid to sell, and the weight is rounded to 6 places. The expected fee
is that of the shares which the same formula gives without a fee. An account without equity is
sized at nothing.
"""

from __future__ import annotations

from decimal import Decimal

from processors.fees import FeeModel
from schemas import ONE, ZERO
from schemas.decimals import WIDE

WEIGHT_STEP = Decimal("0.000001")
FRACTION = Decimal(1_000_000)
"""Accounts that allow fractions trade millionths of a share."""


def whole(amount: Decimal, price: Decimal, fractions: bool) -> Decimal:
    """amount / price, truncated toward zero to whole shares (or millionths)."""
    if fractions:
        return WIDE.divide_int(WIDE.multiply(amount, FRACTION), price) / FRACTION
    return WIDE.divide_int(amount, price)


def shares_of_weight(
    weight: Decimal,
    equity: Decimal,
    buffer: Decimal,
    side: str,
    price: Decimal,
    fees: FeeModel,
    ts: int,
    fractions: bool,
) -> Decimal:
    """Signed shares that a weight of equity is worth at `price` dollars."""
    share = WIDE.quantize(weight, WEIGHT_STEP)
    usable = WIDE.multiply(max(equity, ZERO), ONE - buffer)
    rough = whole(WIDE.multiply(share, usable), price, fractions)
    fee = fees.estimate(side, abs(rough), price, ts) if rough else ZERO
    return whole(WIDE.multiply(share, max(WIDE.subtract(usable, fee), ZERO)), price, fractions)
