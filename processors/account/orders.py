"""Orders: their lifecycle, what is pending, and which changes are legal.

Lifecycle and pending request are two fields, because they move independently: an order that is
being cancelled still fills. `TRANSITIONS` lists what each report does to each status; a pair that
is not listed is illegal, changes nothing, and is recorded as an anomaly. Fills are in no table:
they are facts about money and always count. The FIX OrdStatus is derived from both fields by the
precedence of FIX 4.4, volume 4, "Order State Changes".
"""

from __future__ import annotations

from decimal import Decimal

import msgspec

from schemas import ZERO

ENDED = frozenset({"filled", "cancelled", "expired", "rejected", "denied"})

TRANSITIONS: dict[tuple[str, str], str] = {
    ("requested", "accept"): "accepted",
    ("requested", "deny"): "denied",
    ("requested", "cancel"): "cancelled",
    ("accepted", "sending"): "accepted",
    ("accepted", "acknowledge"): "working",
    ("accepted", "unknown"): "unknown",
    ("accepted", "reject"): "rejected",
    ("accepted", "not_sent"): "rejected",
    ("accepted", "cancel"): "cancelled",
    ("accepted", "expire"): "expired",
    ("accepted", "replace"): "working",
    ("unknown", "sending"): "unknown",
    ("unknown", "acknowledge"): "working",
    ("unknown", "unknown"): "unknown",
    ("unknown", "reject"): "rejected",
    ("unknown", "not_sent"): "rejected",
    ("unknown", "cancel"): "cancelled",
    ("unknown", "expire"): "expired",
    ("unknown", "replace"): "working",
    ("working", "sending"): "working",
    ("working", "acknowledge"): "working",
    ("working", "unknown"): "working",
    ("working", "reject"): "rejected",
    ("working", "cancel"): "cancelled",
    ("working", "expire"): "expired",
    ("working", "replace"): "working",
    ("partial", "sending"): "partial",
    ("partial", "acknowledge"): "partial",
    ("partial", "unknown"): "partial",
    ("partial", "cancel"): "cancelled",
    ("partial", "expire"): "expired",
    ("partial", "replace"): "partial",
    ("filled", "replace"): "filled",
}
"""(status, what the broker reported) -> status."""

FIX = {
    "requested": "A",
    "accepted": "A",
    "unknown": "A",
    "working": "0",
    "partial": "1",
    "filled": "2",
    "cancelled": "4",
    "expired": "C",
    "rejected": "8",
    "denied": "8",
}


class Order(msgspec.Struct):
    """An order of ours. Quantities are unsigned shares; `notional` is the dollars filled."""

    id: str
    seq: int
    strategy: str
    symbol: str
    side: str
    quantity: Decimal
    order_type: str
    limit: Decimal | None
    stop: Decimal | None
    tif: str
    extended: bool
    trace: str
    since: int = 0
    """The time of the fact that led to it (UTC ns)."""
    operator: bool = False
    after: str = ""
    """It goes only after this order has filled: the closing half of a trade through zero."""
    reduces: bool = False
    status: str = "requested"
    pending: str = "none"
    filled: Decimal = ZERO
    notional: Decimal = ZERO
    price: Decimal = ZERO
    """What a share of it may cost: the price its exposure and buying power are counted at."""
    new_quantity: Decimal | None = None
    new_limit: Decimal | None = None
    new_stop: Decimal | None = None
    executions: list[str] = msgspec.field(default_factory=list)
    ended_session: int = 0
    over: str = ""
    """The status of its end, where a late fill has made it "filled"."""

    @property
    def ended(self) -> bool:
        """Nothing more is expected of it."""
        return self.status in ENDED

    @property
    def leaves(self) -> Decimal:
        """Shares that may still fill, the larger of the standing and the asked-for quantity counted."""
        if self.status in ENDED:
            return ZERO
        at_most = self.at_most
        return at_most - self.filled if at_most > self.filled else ZERO

    @property
    def at_most(self) -> Decimal:
        """What may fill of it in all: the broker may have changed it already, and not have said so yet."""
        if self.new_quantity is not None and self.new_quantity > self.quantity:
            return self.new_quantity
        return self.quantity

    @property
    def signed_leaves(self) -> Decimal:
        """`leaves`, negative for a sale."""
        return self.leaves if self.side == "buy" else -self.leaves

    @property
    def fix(self) -> str:
        """FIX OrdStatus (tag 39): a pending request takes precedence over all else."""
        if self.pending == "cancel":
            return "6"
        if self.pending == "replace":
            return "E"
        return FIX[self.status] if self.status != "unknown" or not self.filled else "1"

    def move(self, report: str) -> bool:
        """Take the transition for a report; False, and nothing changes, where there is none."""
        status = TRANSITIONS.get((self.status, report))
        if status is None:
            return False
        self.status = "partial" if status == "working" and self.filled else status
        if self.ended or report == "replace":
            self._replace_answered()
        if self.ended:
            self.pending = "none"
        return True

    @property
    def is_replacing(self) -> bool:
        """A replacement was asked for and not answered; a cancel may have been asked for on top of it."""
        return self.new_quantity is not None

    def _replace_answered(self) -> None:
        self.new_quantity = self.new_limit = self.new_stop = None
        if self.pending == "replace":
            self.pending = "none"

    def refuse(self, what: str) -> bool:
        """The broker refused the pending cancel or replace: the order stands as it was.

        An order that has ended meanwhile was answered by its end, so that is legal too. False, and
        nothing changes, where no such request is pending.
        """
        if self.ended:
            self.pending = "none"
        elif what == "cancel" and self.pending == "cancel":
            self.pending = "replace" if self.is_replacing else "none"
        elif what == "replace" and self.is_replacing:
            self._replace_answered()
            if self.filled >= self.quantity:
                self.status, self.pending = "filled", "none"
        else:
            return False
        return True

    def fill(self, quantity: Decimal, price: Decimal) -> None:
        """Count an execution. A fill during a pending request belongs to the original order; but one that
        is to become larger is not over before the broker has answered: it may be larger there already.
        """
        self.filled += quantity
        self.notional += quantity * price
        if self.filled >= self.at_most:
            if self.ended and self.status != "filled":
                self.over = self.status
            self.status = "filled"
            self._replace_answered()
        elif not self.ended:
            self.status = "partial"

    def unfill(self, quantity: Decimal, price: Decimal) -> None:
        """Take an execution out again; an order that was filled by it is open for what is left, unless it
        had been over before."""
        self.filled -= quantity
        self.notional -= quantity * price
        if self.status in ("filled", "partial") and self.filled < self.quantity:
            self.status = self.over or ("partial" if self.filled else "working")

    def replaced(self, quantity: Decimal, limit: Decimal | None, stop: Decimal | None) -> None:
        """Stand with new terms. To below what is filled means: done with what is filled; to above it, that
        a filled order is open again."""
        self.quantity = max(quantity, self.filled)
        self.limit, self.stop = limit, stop
        if self.filled >= self.quantity and not self.ended:
            self.status = "filled"
        elif self.filled < self.quantity and self.status == "filled":
            self.status = "partial"
