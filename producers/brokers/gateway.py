"""The order gateway: the one place where decisions leave for a broker, and the one place with a clock.

1. What the core has decided is read, and believed once the batch that covers it has been read too.
2. OrderSending is committed; then the request leaves, while that commit is younger than its lease.
3. What the broker answers, then or later, from its stream or its list of activities, is written as a
   report under an id that is of the event at the broker: whatever comes twice is written once.
4. At a start nothing new is sent to an account before every order that went out without an outcome has
   been looked up, all activities are in the log, and a snapshot of the broker's books stands behind them.

Requests are made by threads; one thread, that of the loop, reads the log, writes it and decides.
"""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from eventlog import EventLog
from eventlog.contract import Stream, Writer
from eventlog.roles import Beat, Beats, Stop
from producers.brokers.contract import (
    Activity,
    Answer,
    BrokerAdapter,
    BrokerError,
    BrokerUnreachable,
    Found,
    Holdings,
    NoAnswer,
    Refused,
    Taken,
    Terms,
    order_report,
)
from producers.brokers.known import Job, Known, snapshot_id
from producers.brokers.listening import Listener
from producers.feed import AHEAD_MAX, Clock
from schemas import (
    Acknowledged,
    BrokerSnapshot,
    Busted,
    Cancelled,
    Corrected,
    Event,
    Expired,
    NotSent,
    OrderSending,
    Rejected,
    Replaced,
    Unknown,
    log_prefix,
    new_record,
    plain,
)
from schemas.reports import MISMATCH

REPORTS = "broker.reports"
FOLLOWED = ("orders", "batches")
SECOND_NS = 1_000_000_000
TAKE_S = 0.02
PAGE = 2000
AGAIN_S = 1.0
"""After a request that got no answer and changes nothing, it is made again so much later."""

SENDINGS_MAX = 3
"""So often an order is announced whose lease runs out before it can leave; a reduction until it can."""

STALE = "stale"
WITHDRAWN = "cancelled before it was sent"
WITHDRAWN_FILL = "the broker is done with it, and an execution was withdrawn"
NOT_FOUND = "the broker does not have it"


class GatewayError(BrokerError):
    """The gateway must not run here; the message says why, and what to do."""


@dataclass(frozen=True)
class GatewaySettings:
    """Seconds: how old an order may be when it leaves, how long after its OrderSending it may, from one
    reconciliation to the next, and until an unanswered cancel or replacement is looked up."""

    max_order_age_s: float = 2.0
    lease_s: float = 1.0
    reconcile_s: float = 10.0
    answer_s: float = 5.0
    threads: int = 4


@dataclass(frozen=True)
class Lapsed:
    """The request did not leave: its lease had run out, or a cancel came before it."""

    reason: str


@dataclass(frozen=True)
class Looked:
    """What a look-up found, and the activities up to then."""

    found: Found | None
    activities: Sequence[Activity]
    began: float


@dataclass(frozen=True)
class Books:
    """The broker's books of one moment, and the activities since the last."""

    holdings: Holdings
    activities: Sequence[Activity]


@dataclass
class Line:
    """An account's connection. `held`: updates that came while a snapshot was on its way."""

    account: str
    adapter: BrokerAdapter
    listener: Listener | None = None
    is_checked: bool = False
    is_reconciled: bool = False
    is_busy: bool = False
    due: float = 0.0
    held: list[Event] | None = None
    lost: set[str] | None = None
    """Orders that were looked for at the start and are not resolved yet; None before the look."""

    @property
    def may_send(self) -> bool:
        """Whether new orders may go out."""
        return self.is_reconciled and self.lost is not None and not self.lost


AdapterFor = Callable[[str], BrokerAdapter]


def run_gateway(
    log: EventLog,
    partition: int,
    adapter_for_account: AdapterFor,
    settings: GatewaySettings = GatewaySettings(),
    *,
    clock: Clock = time.time_ns,
    beats: Beats,
    stop: Stop,
) -> None:
    """Send what the core of a partition has accepted, and write what the broker says, until `stop`.

    Raises `WriterBusy` while another gateway of the partition lives, `GatewayError` where it must not
    run (a broker of real money on a log on data time; a log that is behind the broker), `LogError`.
    """
    with log.writer(f"gateway-{partition}") as writer:
        gateway = Gateway(log, writer, partition, adapter_for_account, settings, clock)
        try:
            gateway.run(beats, stop)
        finally:
            gateway.close()


class Gateway:
    """The loop; see `run_gateway`."""

    def __init__(
        self,
        log: EventLog,
        writer: Writer,
        partition: int,
        adapter_for_account: AdapterFor,
        settings: GatewaySettings,
        clock: Clock,
    ) -> None:
        self._log, self._writer, self._partition = log, writer, partition
        self._adapter_for, self._settings, self._clock = adapter_for_account, settings, clock
        self._known = Known()
        self._lines: dict[str, Line] = {}
        self._out: list[Event] = []
        self._leaving: list[Job] = []
        self._inbox: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._pool = ThreadPoolExecutor(settings.threads, thread_name_prefix="gateway")
        self._under_way = 0
        self._error = ""
        self._processed = 0
        self._is_ending = False

    # ------------------------------------------------------------ the loop

    def run(self, beats: Beats, stop: Stop) -> None:
        """Until `stop`; then what is under way is waited for, and its outcome written."""
        streams: list[Stream] = [(topic, self._partition) for topic in FOLLOWED]
        ends = {stream: self._log.bounds(*stream)[1] for stream in streams}
        is_folded = False
        with self._log.follow({stream: self._log.bounds(*stream)[0] for stream in streams}) as follower:
            while not stop():
                for record in follower.take(PAGE, TAKE_S):
                    self._processed += 1
                    self._known.take(record)
                beats(Beat(self._processed, dict(follower.positions), self._error))
                if is_folded:
                    self._turn()
                elif all(follower.positions[s] >= end or follower.is_at_end(s) for s, end in ends.items()):
                    is_folded = self._fold_reports(beats, stop)
                    self._known.doubt_replacements()
        self._is_ending = True
        while self._under_way:
            beats(Beat(self._processed, error=self._error))
            self._take_inbox(0.2)
            self._commit()

    def _fold_reports(self, beats: Beats, stop: Stop) -> bool:
        """What the log says of the orders that stand in it; nobody else writes there. False: stopped."""
        at, end = self._log.bounds(REPORTS, self._partition)
        while at < end and not stop():
            page = self._log.read(REPORTS, self._partition, gte=at, lt=end, limit=PAGE)
            for record in page:
                self._known.take(record)
            at = page[-1].offset + 1 if page else end
            beats(Beat(self._processed, error=self._error))
        return at >= end

    def _turn(self) -> None:
        self._take_inbox(0)
        for account in self._known.accounts:
            if account not in self._lines:
                self._lines[account] = self._connect(account)
        for line in self._lines.values():
            self._tend(line)
        for job in list(self._known.open.values()):
            if not job.is_busy:
                self._attend(job, self._lines[job.account])
        self._commit()

    def _take_inbox(self, timeout_s: float) -> None:
        """What threads have brought: each a call that is made here."""
        while True:
            try:
                call = self._inbox.get(timeout=timeout_s) if timeout_s else self._inbox.get_nowait()
            except queue.Empty:
                return
            call()
            timeout_s = 0

    def _commit(self) -> None:
        """Append what is to be written, and only then let go what has been announced by it."""
        out, self._out = self._out, []
        leaving, self._leaving = self._leaving, []
        began = time.monotonic()
        if out:
            self._writer.append([new_record(e, self._partition, e.account) for e in out])  # type: ignore[attr-defined]
        for job in leaving:
            self._send(job, began)

    def close(self) -> None:
        """Let go of all connections and threads."""
        for line in self._lines.values():
            if line.listener is not None:
                line.listener.stop()
        self._pool.shutdown(wait=True, cancel_futures=True)
        for line in self._lines.values():
            line.adapter.close()

    # ------------------------------------------------------------ an account's connection

    def _connect(self, account: str) -> Line:
        adapter = self._adapter_for(account)
        if self._log.time == "data" and not adapter.simulated:
            raise GatewayError(
                f"{self._log.url} is a log on data time: it can only be connected to the simulated broker; "
                f"account {account} is at another: use a log on wall time for it"
            )
        return Line(account, adapter)

    def _tend(self, line: Line) -> None:
        """Whatever the account's connection needs next."""
        now = time.monotonic()
        if line.lost:
            line.lost = {id for id in line.lost if self._known.jobs[id].is_lost}
        if line.is_busy or now < line.due:
            return
        if not line.is_checked:
            prefix = f"{log_prefix(self._log.id)}-{line.account}-"
            self._work(line, lambda: line.adapter.newest_order(prefix), lambda id: self._check(line, id))
            return
        if line.lost is None:
            jobs = [j for j in self._known.open.values() if j.account == line.account and j.is_lost]
            line.lost = {job.order.client_id for job in jobs}
            for job in jobs:
                job.look_at, job.settled_at = now, now + line.adapter.settling_s
        cursor = self._known.cursors.get(line.account, "")
        line.held = [] if line.held is None else line.held
        self._work(line, lambda: _books(line.adapter, cursor), lambda books: self._reconcile(line, books))

    def _work(self, line: Line, ask: Callable[[], Any], then: Callable[[Any], None]) -> None:
        """Ask the broker about an account, one thing at a time; without an answer, again a little later."""
        line.is_busy = True

        def ended(answer: Any) -> None:
            line.is_busy = False
            if isinstance(answer, BrokerUnreachable):
                self._error = f"account {line.account}: {answer}"
                line.due = time.monotonic() + AGAIN_S
                self._release(line)
            else:
                then(answer)

        self._ask(ask, ended)

    def _ask(self, ask: Callable[[], Any], then: Callable[[Any], None]) -> None:
        """Have a thread ask; `then` gets the answer, or the `BrokerUnreachable`, in the loop."""
        self._under_way += 1

        def work() -> None:
            try:
                answer = ask()
            except BrokerUnreachable as problem:
                answer = problem
            except BaseException as problem:
                self._inbox.put(lambda problem=problem: _raise(problem))  # type: ignore[misc]
                return
            self._inbox.put(lambda: self._answered(then, answer))

        self._pool.submit(work)

    def _answered(self, then: Callable[[Any], None], answer: Any) -> None:
        self._under_way -= 1
        then(answer)

    def _check(self, line: Line, newest: str) -> None:
        """The broker must have no order that the log does not know of."""
        seq = int(newest.rpartition("-")[2]) if newest else 0
        head = self._known.seqs.get(line.account, 0)
        if seq > head:
            raise GatewayError(
                f"{self._log.url} ends at {line.account}:{head}, and the broker has order {newest}: this is "
                "an older copy of the log, or its end is lost; open the log that sent the order"
            )
        line.is_checked = True
        line.listener = Listener(
            line.adapter,
            on_report=lambda report: self._inbox.put(lambda: self._update(line, report)),
            on_connected=lambda: self._inbox.put(lambda: self._connected(line)),
            on_lost=lambda problem: self._inbox.put(lambda: self._lost(line, problem)),
            on_failed=lambda problem: self._inbox.put(lambda: _raise(problem)),
        )
        line.listener.start()

    def _connected(self, line: Line) -> None:
        """The stream runs (again), and nothing of what came before is repeated on it: ask for it."""
        line.due = 0.0
        self._look_for_missing(line, set())

    def _lost(self, line: Line, problem: str) -> None:
        self._error = f"account {line.account}: {problem}"

    def _update(self, line: Line, report: Event) -> None:
        """An update from the stream, which keeps no order. What became of an execution is left to the
        activities, and the end of an order to a look-up: it may have overtaken a fill."""
        if line.held is not None:
            line.held.append(report)
        elif isinstance(report, (Busted, Corrected)):
            line.due = 0.0
        elif isinstance(report, (Cancelled, Expired)) and report.order in self._known.jobs:
            self._known.jobs[report.order].look_at = 0.0
        else:
            self._write(report)

    def _release(self, line: Line) -> None:
        held, line.held = line.held or [], None
        for report in held:
            self._update(line, report)

    def _reconcile(self, line: Line, books: Books) -> None:
        """Activities up to the snapshot's, the snapshot, and then what came meanwhile."""
        holdings, cursor = books.holdings, self._known.cursors.get(line.account, "")
        numbers = [activity.number for activity in books.activities]
        is_whole = holdings.activity in (*numbers, cursor)
        upto = numbers.index(holdings.activity) + 1 if holdings.activity in numbers else 0
        for activity in books.activities[: upto if is_whole else None]:
            self._write(activity.report)
        line.due = time.monotonic() + (self._settings.reconcile_s if is_whole else AGAIN_S)
        if is_whole:
            self._write(_snapshot(line.account, holdings))
            line.is_reconciled, self._error = True, ""
            self._look_for_missing(line, {order.order for order in holdings.orders})
        else:
            self._error = (
                f"account {line.account}: the broker's books are at activity {holdings.activity or 'none'}, "
                f"and what follows on {cursor or 'the beginning'} does not lead there; they are not "
                "compared until it does: if the broker's books were begun anew, begin a new log"
            )
        self._release(line)

    def _look_for_missing(self, line: Line, there: set[str]) -> None:
        for id, job in self._known.open.items():
            if job.account == line.account and job.is_known and id not in there:
                job.look_at = 0.0

    # ------------------------------------------------------------ an order

    def _attend(self, job: Job, line: Line) -> None:
        """The next thing an order needs, if any: to be looked up, sent, cancelled, replaced."""
        if job.is_known:
            self._ask_change(job, line)
        elif not job.sendings:
            self._consider(job, line)
        is_due = job.look_at is not None and time.monotonic() >= job.look_at
        if is_due and line.is_checked and line.held is None and not job.is_busy:
            self._look(job, line)

    def _consider(self, job: Job, line: Line) -> None:
        """An order that has not been sent: it goes, or never will."""
        if job.cancel:
            self._not_sent(job, WITHDRAWN)
        elif not self._is_fresh(job):
            self._not_sent(job, STALE)
        elif line.may_send and self._known.seqs.get(job.account, 0) >= job.seq:
            self._announce(job)

    def _is_fresh(self, job: Job, since: int = 0) -> bool:
        """Whether it and its cause, or what was asked of it `since`, are young enough; reductions always are.

        One further ahead of the clock than a feed lets pass is not known to be: the clock was set back.
        """
        if self._log.time == "data" or job.reduces:
            return True
        age = self._clock() - (since or job.since)
        return -AHEAD_MAX <= age <= self._settings.max_order_age_s * SECOND_NS

    def _announce(self, job: Job) -> None:
        """OrderSending; when that stands in the log, the request may leave."""
        if self._is_ending:
            return
        number = str(job.sendings) if job.sendings else ""
        id = order_report(job.order.client_id, "sending", number)
        self._write(OrderSending(id=id, **self._about(job)))
        job.is_busy = True
        self._leaving.append(job)

    def _send(self, job: Job, since: float) -> None:
        """Hand an order to a thread. `since`: the latest time at which its OrderSending was not yet in the
        log (monotonic seconds)."""
        adapter, until = self._lines[job.account].adapter, since + self._settings.lease_s

        def ask() -> Answer | Lapsed:
            if job.cancel:
                return Lapsed(WITHDRAWN)
            if time.monotonic() >= until:
                return Lapsed(STALE)
            return adapter.submit(job.order)

        self._ask(ask, lambda answer: self._sent(job, answer))

    def _sent(self, job: Job, answer: Answer | Lapsed) -> None:
        job.is_busy = False
        line = self._lines[job.account]
        if isinstance(answer, Lapsed):
            self._not_left(job, answer.reason)
        elif isinstance(answer, Taken):
            self._acknowledged(job, answer.broker_id, answer.raw)
        elif isinstance(answer, Refused) and not answer.is_known:
            id = order_report(job.order.client_id, "rejected")
            about = self._about(job, raw=answer.raw)
            self._write(Rejected(id=id, what="order", reason=answer.reason, **about))
        else:
            now = time.monotonic()
            job.settled_at = now + line.adapter.settling_s
            job.look_at, job.not_found = (now if isinstance(answer, Refused) else job.settled_at), 0
            if isinstance(answer, NoAnswer):
                self._unknown(job, answer.reason)

    def _not_left(self, job: Job, reason: str) -> None:
        """The request certainly did not leave: announce it again, unless it is too late for that."""
        if job.is_known:
            return  # an earlier one has arrived meanwhile
        is_over = job.sendings >= SENDINGS_MAX and not job.reduces
        if job.cancel or is_over or not self._is_fresh(job):
            self._not_sent(job, WITHDRAWN if job.cancel else reason)
        else:
            self._announce(job)

    def _unknown(self, job: Job, reason: str) -> None:
        if not job.is_known:
            number = str(job.sendings - 1) if job.sendings > 1 else ""
            id = order_report(job.order.client_id, "unknown", number)
            self._write(Unknown(id=id, reason=reason, **self._about(job)))

    def _not_sent(self, job: Job, reason: str) -> None:
        id = order_report(job.order.client_id, "not-sent")
        self._write(NotSent(id=id, reason=reason, **self._about(job)))

    def _acknowledged(self, job: Job, broker_id: str, raw: str) -> None:
        """Unless something of the order came before: then that has said it."""
        if not job.is_known:
            id = order_report(job.order.client_id, "acknowledged")
            self._write(Acknowledged(id=id, broker_id=broker_id, **self._about(job, raw=raw)))

    # ------------------------------------------------------------ looking up

    def _look(self, job: Job, line: Line) -> None:
        job.is_busy, job.look_at = True, None
        cursor, began, id = self._known.cursors.get(job.account, ""), time.monotonic(), job.order.client_id

        def ask() -> Looked:
            found = line.adapter.look_up(id)
            return Looked(found, line.adapter.activities(cursor), began)

        self._ask(ask, lambda answer: self._looked(job, line, answer))

    def _looked(self, job: Job, line: Line, answer: Looked | BrokerUnreachable) -> None:
        job.is_busy = False
        if isinstance(answer, BrokerUnreachable):
            self._error = f"account {job.account}: {answer}"
            job.look_at = time.monotonic() + AGAIN_S
        elif line.held is not None:
            job.look_at = 0.0  # a snapshot is on its way: what is newer than that is written after it
        elif answer.found is None:
            self._missing(job, line, answer.began)
        else:
            for activity in answer.activities:
                self._write(activity.report)
            self._stands(job, answer.found)

    def _missing(self, job: Job, line: Line, began: float) -> None:
        """Not there: asked twice after the settling time, it counts as not there."""
        if job.is_known:
            return
        job.not_found += began >= job.settled_at
        if job.not_found < 2:
            job.look_at = max(job.settled_at, time.monotonic() + line.adapter.settling_s)
        elif line.adapter.enforces_unique_ids and not job.cancel and self._is_fresh(job):
            self._announce(job)
        else:
            self._not_sent(job, WITHDRAWN if job.cancel else NOT_FOUND)

    def _stands(self, job: Job, found: Found) -> None:
        """The broker has it: is it what was sent, and what became of it?"""
        id, about = job.order.client_id, self._about(job, raw=found.raw, ts=found.ts)
        if not _matches(job, found):
            report = order_report(id, MISMATCH)
            self._write(Unknown(id=report, reason=MISMATCH, **self._about(job, raw=_said(found))))
        else:
            self._acknowledged(job, found.broker_id, found.raw)
            if found.revision:
                self._write(_replaced(found, order_report(id, "replaced", found.revision), about))
        is_short = found.standing == "filled" and found.filled < found.order.quantity
        if found.standing == "cancelled" or is_short:
            reason = WITHDRAWN_FILL if is_short else found.reason
            self._write(Cancelled(id=order_report(id, "cancelled"), reason=reason, **about))
        elif found.standing == "expired":
            self._write(Expired(id=order_report(id, "expired"), **about))
        elif found.standing == "rejected":
            reason = found.reason or "rejected"
            self._write(Rejected(id=order_report(id, "rejected"), what="order", reason=reason, **about))
        elif found.standing == "open":
            self._still_open(job, found)
        elif job.replace is not None and not found.revision:
            self._refused(job, "replace", job.replace.seq, "it is filled", found.raw)

    def _still_open(self, job: Job, found: Found) -> None:
        """A cancel or replacement of which nothing has come: one that got no answer is asked for again,
        unless it was done; another is looked at again later."""
        terms = Terms(found.order.quantity, found.order.limit, found.order.stop)
        is_done = not job.cancel and job.replace is not None and job.replace.terms == terms
        if job.unanswered and not is_done:
            job.asked = min(job.asked, job.unanswered - 1)
        elif job.cancel or (job.replace is not None and not is_done):
            job.look_at = time.monotonic() + self._settings.answer_s
        job.unanswered = 0

    # ------------------------------------------------------------ cancels and replacements

    def _ask_change(self, job: Job, line: Line) -> None:
        """Pass on what is asked of an order at the broker: a cancel before a replacement."""
        id = job.order.client_id
        if job.cancel > job.asked and not self._known.answered(job, "cancel", job.cancel):
            self._change(job, line, "cancel", job.cancel, lambda: line.adapter.cancel(id))
        elif job.replace is not None and not job.cancel and job.replace.seq > job.asked:
            seq, terms = job.replace.seq, job.replace.terms
            if self._known.answered(job, "replace", seq):
                return
            if not self._is_fresh(job, job.replace.since):
                self._refused(job, "replace", seq, STALE)
            elif line.may_send:
                self._change(job, line, "replace", seq, lambda: line.adapter.replace(id, terms))

    def _change(self, job: Job, line: Line, what: str, seq: int, ask: Callable[[], Answer]) -> None:
        job.is_busy, job.asked = True, seq
        self._ask(ask, lambda answer: self._changed(job, line, what, seq, answer))

    def _changed(self, job: Job, line: Line, what: str, seq: int, answer: Answer) -> None:
        job.is_busy = False
        if isinstance(answer, Refused):
            self._refused(job, what, seq, answer.reason, answer.raw)
        elif isinstance(answer, NoAnswer):
            job.unanswered, job.look_at = seq, time.monotonic() + line.adapter.settling_s
            self._error = f"order {job.order.client_id}: {what}: {answer.reason}"
        else:
            job.look_at = time.monotonic() + self._settings.answer_s

    def _refused(self, job: Job, what: Any, seq: int, reason: str, raw: str = "") -> None:
        id = order_report(job.order.client_id, f"{what}-refused", str(seq))
        self._write(Rejected(id=id, what=what, reason=reason, **self._about(job, raw=raw)))

    # ------------------------------------------------------------ writing

    def _about(self, job: Job, *, raw: str = "", ts: int = 0) -> dict[str, Any]:
        return {"account": job.account, "ts": ts or self._clock(), "order": job.order.client_id, "raw": raw}

    def _write(self, report: Any) -> None:
        """Into the next append, unless there is nothing to say, or it is in the log already."""
        if report is not None and not self._known.has(report.account, report.id):
            self._known.report(report)
            self._out.append(report)


def _raise(problem: BaseException) -> None:
    raise problem


def _books(adapter: BrokerAdapter, cursor: str) -> Books:
    holdings = adapter.snapshot()
    return Books(holdings, adapter.activities(cursor))


def _replaced(found: Found, id: str, about: dict[str, Any]) -> Replaced:
    order = found.order
    return Replaced(
        id=id,
        quantity=order.quantity,
        limit=order.limit,
        stop=order.stop,
        broker_id=found.broker_id,
        **about,
    )


def _snapshot(account: str, holdings: Holdings) -> BrokerSnapshot:
    return BrokerSnapshot(
        id=snapshot_id(holdings.ts, holdings.activity),
        account=account,
        ts=holdings.ts,
        cash=holdings.cash,
        positions=holdings.positions,
        orders=holdings.orders,
        raw=holdings.raw,
    )


def _matches(job: Job, found: Found) -> bool:
    """Symbol, side and type as sent; quantity and prices as sent, or as a replacement asked for."""
    ours, theirs = job.order, found.order
    if (ours.symbol, ours.side, ours.order_type) != (theirs.symbol, theirs.side, theirs.order_type):
        return False
    known = [job.terms, *([job.replace.terms] if job.replace is not None else [])]
    return bool(found.revision) or Terms(theirs.quantity, theirs.limit, theirs.stop) in known


def _said(found: Found) -> str:
    order = found.order
    prices = [f"{n} {plain(p)}" for n, p in (("limit", order.limit), ("stop", order.stop)) if p is not None]
    return " ".join([order.side, plain(order.quantity), order.symbol, order.order_type, *prices])
