"""What every decision carries."""

from __future__ import annotations

from schemas.declare import Event


class Decision(Event):
    """`account` and `seq` (gapless per account) name it for good.

    `prev` is the account's previous `seq` in the same topic (0 for the first), `cause` the identity
    of what led to it, `trace` that of the root (for an order, its signal), `ts` the market's time
    (UTC ns).
    """

    account: str
    seq: int
    prev: int
    cause: str
    trace: str
    ts: int
