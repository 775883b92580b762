"""What the parts of the account processor share: settings, market, accounts, and the way out.

Every decision leaves through `Desk.emit`, which gives it its `seq` and `prev`.
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeVar

from processors.account.account import Account
from processors.account.market import Market
from processors.fees import FeeModel, fee_model
from schemas import CoreSettings, Event, Record, decision_id

E = TypeVar("E", bound=Event)
FOREVER = 1 << 62


class Why(NamedTuple):
    """The identity of what led to a decision, and of the root of it all."""

    cause: str
    trace: str


class Desk:
    """One core partition's accounts and the market they trade in."""

    def __init__(self, settings: CoreSettings) -> None:
        self.settings = settings
        self.market = Market(settings)
        self.fees: FeeModel = fee_model(settings.fee)
        self.accounts: dict[str, Account] = {}
        self.holders: dict[str, tuple[str, ...]] = {}
        """Accounts with a net position, by symbol, in order of name; derived, not in snapshots."""
        self.out: list[Event] = []
        self.revisits: dict[tuple[str, str], None] = {}
        self.stale_from = FOREVER
        """When to look for stale prices next (UTC ns); derived, not in snapshots."""
        self.record: Record | None = None
        self.fact_ts = 0

    def account(self, name: str) -> Account | None:
        """An open account."""
        return self.accounts.get(name)

    def each_account(self) -> list[Account]:
        """All accounts, in order of name."""
        return [self.accounts[name] for name in sorted(self.accounts)]

    @property
    def ts(self) -> int:
        """The time of a decision: the market's, or before the market has begun, the fact's."""
        return self.market.now or self.fact_ts

    def because(self) -> Why:
        """The record at hand, as cause and root; of one from inside the core, the event that led to it."""
        record: Any = self.record
        place = record.place if record.offset >= 0 else record.event.cause
        return Why(place, place)

    def revisit(self, account: Account, symbol: str) -> None:
        """When all that the record at hand led to is done, look again at what waits in the symbol."""
        self.revisits[account.id, symbol] = None

    def emit(self, account: Account, kind: type[E], because: Why, /, **fields: Any) -> E:
        """Write a decision."""
        account.seq += 1
        make: Any = kind
        made: E = make(
            account=account.id,
            seq=account.seq,
            prev=account.prev.get(kind.topic, 0),
            cause=because.cause,
            trace=because.trace,
            ts=self.ts,
            **fields,
        )
        account.prev[kind.topic] = account.seq
        self.out.append(made)
        return made

    def then(self, decision: Any, why: Why) -> Why:
        """What follows from a decision: it is the cause, the root stays."""
        return Why(decision_id(decision.account, decision.seq), why.trace)

    def holds(self, account: Account, symbol: str) -> None:
        """Note whether the account has a net position of the symbol."""
        names = set(self.holders.get(symbol, ()))
        if account.net(symbol):
            names.add(account.id)
        else:
            names.discard(account.id)
        if names:
            self.holders[symbol] = tuple(sorted(names))
        else:
            self.holders.pop(symbol, None)
