"""What a split or a dividend of the market does to the accounts of the simulated broker.

A fraction of a share that a split leaves stays in the position: no cash is paid in lieu of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal

from producers.brokers.sim.store import Store
from schemas import ZERO, CashDividend, Event, SessionOpened, Split, canonical, ratio

EVENTS: frozenset[type] = frozenset({Split, CashDividend, SessionOpened})
"""Those that may move shares or cash; a session's opening does, where a dividend is payable."""


@dataclass(frozen=True)
class Movement:
    """Shares and cash that an account gets."""

    account: str
    symbol: str
    shares: Decimal
    cash: Decimal
    reason: str


def movements(event: Event, store: Store) -> Iterator[Movement]:
    """What an event moves; dividends that are paid later are put down as owed."""
    if isinstance(event, SessionOpened):
        for account, symbol, amount in store.take_dividends(event.session):
            yield Movement(account, symbol, ZERO, amount, "dividend")
        return
    assert isinstance(event, Split | CashDividend)
    for account in store.accounts():
        held = store.positions(account).get(event.symbol)
        if held is None:
            continue
        if isinstance(event, Split):
            after = canonical(ratio(held, Decimal(event.num), Decimal(event.den)))
            yield Movement(account, event.symbol, after - held, ZERO, f"split {event.num}:{event.den}")
        elif event.pay <= event.ex:
            yield Movement(account, event.symbol, ZERO, held * event.amount, "dividend")
        else:
            store.owe_dividend(account, event.symbol, event.pay, held * event.amount)
