"""What a strategy may see of its account, and who must provide it."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import NamedTuple, Protocol

from schemas.orders import OrderType, Pending, Side


class WorkingOrder(NamedTuple):
    """An order that has not ended. `order` is its id; `leaves` is what may still fill.

    `pending` is what was asked of the broker and not yet answered: "none", "cancel" or "replace".
    """

    order: str
    side: Side
    quantity: Decimal
    filled: Decimal
    leaves: Decimal
    order_type: OrderType
    limit: Decimal | None
    stop: Decimal | None
    pending: Pending


class AccountView(Protocol):
    """The account's books and orders, read-only.

    `working`, `equity` and `cash` are called under `schemas.EXACT` and may compute. The others
    only look up: they may be called under the decimal context of a strategy.
    """

    def is_open(self, account: str) -> bool:
        """Whether the account exists; once open, it stays so."""
        ...

    def position(self, account: str, strategy: str, symbol: str) -> Decimal:
        """Shares in the strategy's own book, signed; zero where there is none."""
        ...

    def working(self, account: str, strategy: str, symbol: str) -> Sequence[WorkingOrder]:
        """The strategy's orders in `symbol` that have not ended, oldest first."""
        ...

    def equity(self, account: str) -> Decimal | None:
        """The account's equity in dollars; None while a position has no price."""
        ...

    def cash(self, account: str) -> Decimal:
        """The account's cash in dollars."""
        ...

    def state(self, account: str) -> str:
        """The breaker's state: "ACTIVE", "REDUCING" or "HALTED"."""
        ...
