"""What the log says: which orders are to go to the broker, which went, and what was answered.

Folded from `orders`, `batches` and `broker.reports` of one partition, from the beginning at each start.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from producers.brokers.contract import BrokerError, Order, Terms, order_report
from schemas import (
    Acknowledged,
    Batch,
    BrokerSnapshot,
    Cancelled,
    Expired,
    Filled,
    NotSent,
    OrderAccepted,
    OrderChanged,
    OrderDenied,
    OrderRequested,
    OrderSending,
    Record,
    Rejected,
    Replaced,
    Unknown,
    Unreadable,
    decision_id,
    decode,
)
from schemas.reports import MISMATCH

ENDED = frozenset({"filled", "cancelled", "expired", "rejected", "denied"})
OUTCOMES = (Acknowledged, Filled, Cancelled, Replaced, Expired)
SNAPSHOT = "snapshot"


class Unusable(BrokerError):
    """A record of the log that the gateway cannot read; nothing may be sent past it."""


class Replacement(NamedTuple):
    """New terms that are asked for by a decision, its `seq` and time (UTC ns)."""

    seq: int
    since: int
    terms: Terms


@dataclass(eq=False)
class Job:
    """An order that the core has accepted. `since`: the older time of it and its cause (UTC ns)."""

    order: Order
    account: str
    seq: int
    since: int
    reduces: bool
    sendings: int = 0
    is_known: bool = False
    """The broker has or had it, or it will never go there."""
    ended: bool = False
    cancel: int = 0
    """The `seq` of the decision that asks for a cancel, 0: none."""
    replace: Replacement | None = None
    asked: int = 0
    """The last cancel or replacement that this process has sent, by its `seq`."""
    unanswered: int = 0
    """The one of these to which there was no answer, by its `seq`; 0: none."""
    is_busy: bool = False
    """A request of it is under way."""
    not_found: int = 0
    look_at: float | None = None
    """When it is to be looked up (monotonic seconds)."""
    settled_at: float = 0.0
    """Before this (monotonic seconds), that it is not found tells nothing."""

    @property
    def is_lost(self) -> bool:
        """Whether it may have been sent, and nobody knows what became of it."""
        return bool(self.sendings) and not self.is_known

    @property
    def terms(self) -> Terms:
        """As it stands."""
        return Terms(self.order.quantity, self.order.limit, self.order.stop)


@dataclass
class Known:
    """All jobs of a partition, the ids of all reports, and how far each account is."""

    jobs: dict[str, Job] = field(default_factory=dict)
    open: dict[str, Job] = field(default_factory=dict)
    """Those of which something may still be expected."""
    written: set[tuple[str, str]] = field(default_factory=set)
    """(account, report id)"""
    seqs: dict[str, int] = field(default_factory=dict)
    """The last `seq` of each account that a batch covers."""
    accounts: dict[str, None] = field(default_factory=dict)
    cursors: dict[str, str] = field(default_factory=dict)
    """The last activity of each account up to which everything stands in the log."""
    _requested: dict[str, int] = field(default_factory=dict)

    def take(self, record: Record) -> None:
        """Fold one record. Raises `Unusable` for one that cannot be read."""
        event: Any = decode(record.topic, record.value)
        if isinstance(event, Unreadable):
            raise Unusable(f"{record.place} cannot be read ({event.reason}); use the Tape that wrote it")
        if isinstance(event, Batch):
            self.seqs.update(event.seqs)
        elif record.topic == "orders":
            self.accounts[event.account] = None
            self._decided(event)
        else:
            self.report(event)

    def _decided(self, event: Any) -> None:
        if isinstance(event, OrderRequested):
            self._requested[decision_id(event.account, event.seq)] = event.since or event.ts
        elif isinstance(event, OrderDenied):
            self._requested.pop(event.cause, None)
        elif isinstance(event, OrderAccepted):
            since = min(event.ts, self._requested.pop(event.cause, event.ts))
            order = Order(
                event.order,
                event.symbol,
                event.side,
                event.quantity,
                event.order_type,
                event.limit,
                event.stop,
                event.tif,
                event.extended,
            )
            job = self.jobs[event.order] = Job(order, event.account, event.seq, since, event.reduces)
            self._track(job)
        elif isinstance(event, OrderChanged) and event.order in self.jobs:
            self._changed(self.jobs[event.order], event)

    def _changed(self, job: Job, event: OrderChanged) -> None:
        job.order = replace(job.order, quantity=event.quantity, limit=event.limit, stop=event.stop)
        job.ended = event.status in ENDED
        job.cancel = (job.cancel or event.seq) if event.pending == "cancel" else 0
        if event.new_quantity is None:
            job.replace = None
        elif job.replace is None:
            terms = Terms(event.new_quantity, event.new_limit, event.new_stop)
            job.replace = Replacement(event.seq, event.ts, terms)
        self._track(job)

    def _track(self, job: Job) -> None:
        """An order that has ended leaves the open ones; a bust may bring it back."""
        if job.ended:
            self.open.pop(job.order.client_id, None)
        else:
            self.open[job.order.client_id] = job

    def report(self, report: Any) -> None:
        """Fold a report, read or just written."""
        self.written.add((report.account, report.id))
        if isinstance(report, BrokerSnapshot):
            self.cursors[report.account] = cursor_of(report.id)
        job = self.jobs.get(getattr(report, "order", ""))
        if job is None:
            return
        if isinstance(report, OrderSending):
            job.sendings += 1
        elif isinstance(report, OUTCOMES) or (isinstance(report, Unknown) and report.reason == MISMATCH):
            job.is_known = True
        elif isinstance(report, NotSent) or (isinstance(report, Rejected) and report.what == "order"):
            job.is_known = job.ended = True
        if isinstance(report, (Cancelled, Expired)):
            job.ended = True
        self._track(job)

    def doubt_replacements(self) -> None:
        """At a start: another process may have asked for those that are pending. As if unanswered."""
        for job in self.open.values():
            if job.is_known and job.replace is not None:
                job.asked = job.unanswered = job.replace.seq
                job.look_at = 0.0

    def has(self, account: str, id: str) -> bool:
        """Whether a report stands in the log."""
        return (account, id) in self.written

    def answered(self, job: Job, what: str, seq: int) -> bool:
        """Whether the broker has refused a cancel or replacement already."""
        return self.has(job.account, order_report(job.order.client_id, f"{what}-refused", str(seq)))


def snapshot_id(ts: int, cursor: str) -> str:
    """The id of a BrokerSnapshot: it names the last activity that is in it."""
    return f"{SNAPSHOT} {ts} {cursor}"


def cursor_of(id: str) -> str:
    """The activity that a BrokerSnapshot's id names; "": none."""
    parts = id.split(" ", 2)
    return parts[2] if len(parts) == 3 and parts[0] == SNAPSHOT else ""
