"""Sizing: from a target to a number of shares.

shares = trunc toward zero of weight x (equity x (1 - buffer) - expected fee) / price, where the
price is the ask to buy and the bid to sell. The expected fee is that of the shares which the same
formula gives without a fee.
"""

from __future__ import annotations

from decimal import Decimal

from processors.fees import FeeModel
from schemas import ONE, ZERO

FRACTION = Decimal(1_000_000)
"""Accounts that allow fractions trade millionths of a share."""


def whole(amount: Decimal, price: Decimal, fractions: bool) -> Decimal:
    """amount / price, truncated toward zero to whole shares (or millionths)."""
    if fractions:
        return amount * FRACTION // price / FRACTION
    return amount // price


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
    usable = equity * (ONE - buffer)
    rough = whole(weight * usable, price, fractions)
    fee = fees.estimate(side, abs(rough), price, ts) if rough else ZERO
    return whole(weight * (usable - fee), price, fractions)
