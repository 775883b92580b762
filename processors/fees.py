"""What an order costs: the fee models that the simulated exchange charges and the account expects.

A fee belongs to an order, not to an execution: `total` is the fee of all that the order has
executed so far, rounded to the cent, and the fee of one execution is the difference of two
totals. So a minimum counts once, and partial fills add no rounding. Charges round half-even;
the regulatory fees round up, each for itself, as Alpaca does.

`alpaca` is no commission, and on sells the two fees that pass through it:

- the SEC's fee under Section 31, dollars per million dollars sold
  (Fee Rate Advisories, sec.gov; the 2026 rate: Release 34-104909, 91 FR 10643);
- FINRA's Trading Activity Fee, dollars per share sold, up to a maximum per trade
  (FINRA By-Laws, Schedule A, section 1(b), as amended by SR-FINRA-2020-032 and SR-FINRA-2024-019).

Both "rounded up to the nearest penny": alpaca.markets/support/regulatory-fees. The fees of the
Consolidated Audit Trail (some millionths of a dollar a share) are left out. A rate applies from
its date on; the first one of a table also before it, the newest until another is added here.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_right
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import ROUND_CEILING, Decimal, InvalidOperation

from schemas import ZERO
from schemas.decimals import WIDE

CENT = Decimal("0.01")
FORMS = "none, bps:X, per-share:X:MIN, alpaca"

SECTION_31 = (
    # from, dollars per million
    ("2014-03-18", "22.10"),
    ("2015-02-14", "18.40"),
    ("2016-02-16", "21.80"),
    ("2017-07-04", "23.10"),
    ("2018-05-22", "13.00"),
    ("2019-04-16", "20.70"),
    ("2020-02-18", "22.10"),
    ("2021-02-25", "5.10"),
    ("2022-05-14", "22.90"),
    ("2023-02-27", "8.00"),
    ("2024-05-22", "27.80"),
    ("2025-05-14", "0.00"),
    ("2026-04-04", "20.60"),
)
TRADING_ACTIVITY = (
    # from, dollars per share, at most
    ("2012-07-01", "0.000119", "5.95"),
    ("2022-01-01", "0.000130", "6.49"),
    ("2023-01-01", "0.000145", "7.27"),
    ("2024-01-01", "0.000166", "8.30"),
    ("2026-01-01", "0.000195", "9.79"),
)


class FeeModel(ABC):
    """The fee of an order, in dollars."""

    @abstractmethod
    def total(self, side: str, quantity: Decimal, notional: Decimal, ts: int) -> Decimal:
        """The fee of an order that has filled `quantity` shares for `notional` dollars by `ts` (UTC ns)."""

    def estimate(self, side: str, quantity: Decimal, price: Decimal, ts: int) -> Decimal:
        """The fee of an order of `quantity` shares if all of it fills at `price`."""
        return self.total(side, quantity, WIDE.multiply(quantity, price), ts)


@dataclass(frozen=True)
class NoFee(FeeModel):
    """Nothing is charged."""

    def total(self, side: str, quantity: Decimal, notional: Decimal, ts: int) -> Decimal:
        return ZERO


@dataclass(frozen=True)
class BasisPoints(FeeModel):
    """A share of the notional: `bps` hundredths of a per cent."""

    bps: Decimal

    def total(self, side: str, quantity: Decimal, notional: Decimal, ts: int) -> Decimal:
        return _to_cent(WIDE.multiply(notional, self.bps.scaleb(-4)))


@dataclass(frozen=True)
class PerShare(FeeModel):
    """`rate` dollars a share, but at least `minimum` for an order that has filled at all."""

    rate: Decimal
    minimum: Decimal

    def total(self, side: str, quantity: Decimal, notional: Decimal, ts: int) -> Decimal:
        if not quantity:
            return ZERO
        return _to_cent(max(self.minimum, WIDE.multiply(quantity, self.rate)))


@dataclass(frozen=True)
class Regulatory(FeeModel):
    """Section 31 and Trading Activity Fee on sells, by the rates in force at `ts`."""

    def total(self, side: str, quantity: Decimal, notional: Decimal, ts: int) -> Decimal:
        if side == "buy" or not quantity:
            return ZERO
        per_million = _SECTION_31[_in_force(_SECTION_31_FROM, ts)]
        rate, most = _TRADING_ACTIVITY[_in_force(_TRADING_ACTIVITY_FROM, ts)]
        section_31 = _up_to_cent(WIDE.multiply(notional, per_million.scaleb(-6)))
        return section_31 + min(most, _up_to_cent(WIDE.multiply(quantity, rate)))


def fee_model(text: str) -> FeeModel:
    """The model that `text` names. Raises `ValueError` with the text and the forms allowed."""
    name, *given = text.split(":")
    try:
        numbers = [Decimal(part) for part in given]
    except InvalidOperation:
        raise _unknown(text) from None
    if not all(number.is_finite() and number >= 0 for number in numbers):
        raise _unknown(text)
    match name, numbers:
        case "none", []:
            return NoFee()
        case "bps", [bps]:
            return BasisPoints(bps)
        case "per-share", [rate, minimum]:
            return PerShare(rate, minimum)
        case "alpaca", []:
            return Regulatory()
    raise _unknown(text)


def _unknown(text: str) -> ValueError:
    return ValueError(f"fee {text!r} is none of: {FORMS} (X and MIN are not negative)")


def _to_cent(amount: Decimal) -> Decimal:
    return WIDE.quantize(amount, CENT)


def _up_to_cent(amount: Decimal) -> Decimal:
    return amount.quantize(CENT, rounding=ROUND_CEILING, context=WIDE)


def _starts(date: str) -> int:
    """When a rate of `date` begins, UTC ns: at 06:00 UTC, when no American venue trades."""
    return int(datetime.fromisoformat(date).replace(hour=6, tzinfo=UTC).timestamp()) * 1_000_000_000


def _in_force(starts: list[int], ts: int) -> int:
    return max(0, bisect_right(starts, ts) - 1)


_SECTION_31_FROM = [_starts(date) for date, _ in SECTION_31]
_SECTION_31 = [Decimal(rate) for _, rate in SECTION_31]
_TRADING_ACTIVITY_FROM = [_starts(date) for date, _, _ in TRADING_ACTIVITY]
_TRADING_ACTIVITY = [(Decimal(rate), Decimal(most)) for _, rate, most in TRADING_ACTIVITY]
