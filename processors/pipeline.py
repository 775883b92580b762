"""The core: exchange, account and strategies in one worker, one record at a time.

A record goes to the exchange (what rests may fill), to the account (fills, marks, breaker), to the
strategies; what they derive is handed on first in, first out, until nothing is left: reports and
proposals to the account, orders to the exchange, fills and order states to the strategies. Only the
account's decisions leave; the simulated exchange's reports and the strategies' proposals stay inside.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

import msgspec

from processors.account.processor import Accounts
from processors.exchange.exchange import Exchange
from processors.strategies.processor import Strategies
from schemas import CORE_ACCOUNT_INPUTS, CORE_MARKET_INPUTS, DECISIONS, Event, Record, Unreadable

NOTHING: tuple[Event, ...] = ()
_DECISIONS = frozenset(DECISIONS)


class State(msgspec.Struct):
    """The processors' snapshots, and the last row of each source in each market partition."""

    rows: dict[str, dict[str, dict[str, int]]]
    account: msgspec.Raw
    strategies: msgspec.Raw
    exchange: msgspec.Raw


class Pipeline:
    """The processors of a core partition, in order. `exchange` is None where a gateway is outside."""

    def __init__(self, accounts: Accounts, strategies: Strategies, exchange: Exchange | None) -> None:
        self.accounts = accounts
        self.strategies = strategies
        self.exchange = exchange
        inputs = (*CORE_MARKET_INPUTS, *CORE_ACCOUNT_INPUTS)
        self.inputs = tuple(t for t in inputs if exchange is None or t != "broker.reports")
        self._rows: dict[str, dict[int, dict[str, int]]] = {t: {} for t in CORE_MARKET_INPUTS}

    @property
    def seqs(self) -> dict[str, int]:
        """The last `seq` of each account."""
        return {name: account.seq for name, account in sorted(self.accounts.desk.accounts.items())}

    @property
    def now(self) -> int:
        """The greatest market time seen (UTC ns)."""
        return self.accounts.desk.market.now

    def apply(self, record: Record) -> Sequence[Event]:
        """Take one record; the decisions it leads to, in order. A repeated market record does nothing.

        What the operator has had read again acts right behind the command that asked for it.
        """
        decisions = self._take(record)
        if self.accounts.desk.again:
            decisions = [*decisions]
            while (retried := self.accounts.next_again()) is not None:
                decisions.extend(self._take(retried.record, first=False))
        return decisions

    def _take(self, record: Record, first: bool = True) -> Sequence[Event]:
        event: Any = record.event
        partitions = self._rows.get(record.topic)
        reports: Sequence[Event] = NOTHING
        if partitions is not None:
            if type(event) is not Unreadable:
                rows = partitions.get(record.partition)
                if rows is None:
                    rows = partitions[record.partition] = {}
                last = rows.get(event.source, -1)
                if event.row > last:
                    rows[event.source] = event.row
                elif first:
                    return NOTHING
            if self.exchange is not None:
                reports = self.exchange.apply(record)
        decisions: list[Event] = []
        if reports:
            self.accounts.advance(event.ts)
            for report in reports:
                decisions.extend(self.accounts.apply(_inside(report)))
        made = self.accounts.apply(record)
        proposals = self.strategies.apply(record)
        if not (decisions or made or proposals):
            return NOTHING
        decisions.extend(made)
        return self._hand_on(deque((*decisions, *proposals)), decisions)

    def _hand_on(self, pending: deque[Event], decisions: list[Event]) -> list[Event]:
        """First in, first out, until nothing is left; `decisions` with those that were added."""
        exchange, strategies = self.exchange, self.strategies
        while pending:
            event = pending.popleft()
            record = _inside(event)
            if event.topic not in _DECISIONS:
                made = self.accounts.apply(record)
                decisions.extend(made)
                pending.extend(made)
                continue
            if exchange is not None:
                pending.extend(exchange.apply(record))
            pending.extend(strategies.apply(record))
        return decisions

    def snapshot(self) -> bytes:
        """All state of all processors, as canonical JSON."""
        state = State(
            rows={t: {str(p): rows for p, rows in parts.items()} for t, parts in self._rows.items()},
            account=msgspec.Raw(self.accounts.snapshot()),
            strategies=msgspec.Raw(self.strategies.snapshot()),
            exchange=msgspec.Raw(self.exchange.snapshot() if self.exchange is not None else b"null"),
        )
        return msgspec.json.encode(state, order="deterministic")

    def restore(self, snapshot: bytes) -> None:
        """Be as the snapshot says."""
        state = msgspec.json.decode(snapshot, type=State)
        self._rows = {t: {int(p): rows for p, rows in parts.items()} for t, parts in state.rows.items()}
        self.accounts.restore(bytes(state.account))
        self.strategies.restore(bytes(state.strategies))
        if self.exchange is not None:
            self.exchange.restore(bytes(state.exchange))


def _inside(event: Event) -> Record:
    """A derived event as the record a processor takes; it has no offset."""
    return Record(event.topic, 0, -1, b"", b"", 0, event)
