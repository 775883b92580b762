"""What the parts of the account processor share: settings, market, accounts, and the way out.

Every decision leaves through `Desk.emit`, which gives it its `seq` and `prev`.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any, NamedTuple, TypeVar

import msgspec

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


class Kept(msgspec.Struct, frozen=True):
    """A record that could not be read: its place, its bytes, and for a status record who held how many
    shares of its symbols when it came."""

    topic: str
    partition: int
    offset: int
    key: bytes
    value: bytes
    held: dict[str, dict[str, Decimal]]

    @property
    def place(self) -> str:
        """TOPIC/PARTITION/OFFSET."""
        return f"{self.topic}/{self.partition}/{self.offset}"


class Retried(NamedTuple):
    """A record that has been read again, and the id of the command that asked for it."""

    record: Record
    command: str

    @property
    def identities(self) -> tuple[str, str]:
        """What decisions that it leads to name as their cause."""
        return self.record.place, getattr(self.record.event, "id", "")


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
        self.kept: list[Kept] = []
        """Records that could not be read and are not resolved, as they came."""
        self.again: list[Retried] = []
        """What the record at hand has had read again: it acts next; not in snapshots."""
        self.retried: Retried | None = None
        """The record at hand, where it is one that has been read again."""

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
            cause=because.cause if self.retried is None else self._cause(because.cause, self.retried),
            trace=because.trace,
            ts=self.ts,
            **fields,
        )
        account.prev[kind.topic] = account.seq
        self.out.append(made)
        return made

    def _cause(self, cause: str, retried: Retried) -> str:
        """A decision that a record read again leads to names it and the command that had it read."""
        if cause not in retried.identities:
            return cause
        return f"{cause} retried by {retried.command}"

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
