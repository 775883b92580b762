"""From any number to its causes, down to the quotes, and from any record to its consequences.

A decision is found by halving: batches say up to which `seq` each account was decided, so one of them
is searched for, and of each topic only the decisions of that batch are read.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from eventlog import LogReader, inspect
from eventlog.errors import LogError, NotInLog
from processors.account.orders import ENDED
from processors.hosts.journal import event_of, search
from processors.hosts.replay import position_after
from schemas import (
    CORE_ACCOUNT_INPUTS,
    DECISIONS,
    TOPICS,
    Batch,
    Fill,
    LimitBreached,
    OrderAccepted,
    OrderChanged,
    OrderDenied,
    OrderRequested,
    Record,
    Unreadable,
    decision_id,
    partition_of,
    read_into,
)

RETRIED = " retried by "
DEPTH_MAX = 60
Tree = dict[str, Any]


class Index:
    """Finds the records of a log by their identities, without reading it through."""

    def __init__(self, log: LogReader) -> None:
        self.log = log
        self._windows: dict[tuple[int, int], dict[str, Record]] = {}

    def find(self, name: str, near: Record | None = None) -> Record:
        """The record of an identity; `near` is one that it led to. Raises `NotInLog`."""
        decision = inspect.DECISION.fullmatch(name)
        if decision is not None and (found := self._decision(decision[1], int(decision[2]))) is not None:
            return found
        if name.partition("/")[0] in TOPICS:
            return inspect.record_named(self.log, name)
        found = self._order(name) or self._execution(name) or self._fact(name, near)
        if found is None:
            raise NotInLog(
                f"{self.log.url} has no record {name}; name one as ACCOUNT:SEQ, TOPIC/PARTITION/OFFSET, "
                "a client order id, an execution id or the id of a command"
            )
        return found

    def _decision(self, account: str, seq: int) -> Record | None:
        partition = partition_of(account, self.log.partitions("batches"))
        batch = self._batch(partition, lambda b: b.seqs.get(account, 0) >= seq)
        return None if batch is None else self.window(partition, batch).get(decision_id(account, seq))

    def _batch(self, partition: int, beyond: Any) -> Batch | None:
        start = search(self.log, "batches", partition, Batch, beyond)
        found = self.log.read("batches", partition, gte=start, limit=1)
        return event_of(found[0], Batch) if found else None

    def batch_of(self, record: Record) -> tuple[int, Batch] | None:
        """The core partition and batch of a decision, or of an input that one account's core took."""
        event: Any = record.event
        if TOPICS[record.topic].kind == "decision":
            batch = self._batch(record.partition, lambda b: b.seqs.get(event.account, 0) >= event.seq)
            return None if batch is None else (record.partition, batch)
        return next(self.batches_of(record), None)

    def batches_of(self, record: Record) -> Iterator[tuple[int, Batch]]:
        """Each core partition's batch that took an input."""

        def taken(batch: Batch) -> bool:
            stream = record.topic, record.partition
            return any((i.topic, i.partition) == stream and i.next > record.offset for i in batch.inputs)

        market = record.topic.startswith("market.")
        for partition in range(self.log.partitions("batches")) if market else (record.partition,):
            batch = self._batch(partition, taken)
            if batch is not None:
                yield partition, batch

    def window(self, partition: int, batch: Batch) -> dict[str, Record]:
        """The decisions of a batch, by identity, in order of account and seq."""
        key = partition, batch.number
        if key not in self._windows:
            before = self._batch(partition, lambda b: b.number >= batch.number - 1)
            seqs = before.seqs if batch.number and before is not None else {}
            found = [r for topic in DECISIONS for r in self._between(topic, partition, seqs, batch.seqs)]
            found.sort(key=lambda r: (r.event.account, r.event.seq))  # type: ignore[union-attr]
            if len(self._windows) > 50:
                self._windows.clear()
            self._windows[key] = {inspect.identity(r): r for r in found}
        return self._windows[key]

    def _between(
        self, topic: str, partition: int, after: dict[str, int], to: dict[str, int]
    ) -> Iterator[Record]:
        for record in self.forward(topic, partition, position_after(self.log, topic, partition, after)):
            event: Any = record.event
            if event.seq > to.get(event.account, 0):
                return
            yield record

    def forward(self, topic: str, partition: int, start: int) -> Iterator[Record]:
        """The readable decisions of a topic from offset `start` on."""
        while page := self.log.read(topic, partition, gte=start, limit=500):
            for record in page:
                if not isinstance(read_into(record).event, Unreadable):
                    yield record
            start = page[-1].offset + 1

    def _order(self, name: str) -> Record | None:
        """What was asked for under a client order id: prefix, account, seq."""
        account, _, seq = name.partition("-")[2].rpartition("-")
        if not account or not seq.isdigit():
            return None
        found = self._decision(account, int(seq))
        return found if found is not None and getattr(found.event, "order", None) == name else None

    def _execution(self, name: str) -> Record | None:
        sign = name.encode()
        for partition in range(self.log.partitions("fills")):
            for record in self.forward("fills", partition, self.log.bounds("fills", partition)[0]):
                if sign in record.value and isinstance(record.event, Fill) and record.event.execution == name:
                    return record
        return None

    def _fact(self, name: str, near: Record | None) -> Record | None:
        """A command, proposal or report: first among the inputs of the batch that it led to."""
        place = self.batch_of(near) if near is not None else None
        for part in place[1].inputs if place is not None else ():
            if part.topic in CORE_ACCOUNT_INPUTS:
                found = self._with_id(part.topic, part.partition, name, part.first, part.next)
                if found is not None:
                    return found
        for topic in CORE_ACCOUNT_INPUTS:
            for partition in range(self.log.partitions(topic)):
                first, end = self.log.bounds(topic, partition)
                if (found := self._with_id(topic, partition, name, first, end)) is not None:
                    return found
        return None

    def _with_id(self, topic: str, partition: int, name: str, start: int, end: int) -> Record | None:
        for record in self.forward(topic, partition, start):
            if record.offset >= end:
                return None
            if getattr(record.event, "id", None) == name:
                return record
        return None

    def judged(self, order: Record) -> Record | None:
        """The risk decision on an order that was asked for."""
        wanted: Any = order.event
        for record in self.forward("orders", order.partition, order.offset + 1):
            event = record.event
            if isinstance(event, OrderAccepted | OrderDenied) and event.order == wanted.order:
                return record
            if isinstance(event, OrderChanged) and event.order == wanted.order and event.status in ENDED:
                return None
        return None

    def life(self, accepted: Record) -> Iterator[Record]:
        """What became of an accepted order: its states, to the last."""
        wanted: Any = accepted.event
        for record in self.forward("orders", accepted.partition, accepted.offset + 1):
            event = record.event
            if isinstance(event, OrderChanged) and event.order == wanted.order:
                yield record
                if event.status in ENDED:
                    return


# ------------------------------------------------------------ up: causes


def causes(index: Index, name: str) -> Tree:
    """The record of an identity with its causes below it. Raises `NotInLog` where there is none."""
    return _up(index, index.find(name), None, set(), 0)


def _up(index: Index, record: Record, after: int | None, seen: set[str], depth: int) -> Tree:
    node = described(record, after)
    if node["id"] in seen or depth > DEPTH_MAX:
        return {**node, "again": True}
    seen.add(node["id"])
    time = inspect.event_time(record)
    names = _led_to(index, record)
    node["causes"] = [_cause(index, name, record, time, seen, depth) for name in names]
    trace = getattr(record.event, "trace", "").partition(RETRIED)[0]
    if trace and trace not in seen:
        node["causes"].append(_cause(index, trace, record, time, seen, depth))
    return node


def _cause(index: Index, name: str, near: Record, after: int | None, seen: set[str], depth: int) -> Tree:
    try:
        found = index.find(name, near)
    except LogError as problem:
        return {"id": name, "type": None, "missing": str(problem), "causes": []}
    return _up(index, found, after, seen, depth + 1)


def _led_to(index: Index, record: Record) -> list[str]:
    """The identities of what led to a record, in the order in which they are shown."""
    event: Any = record.event
    names = getattr(event, "cause", "").split(RETRIED)
    if isinstance(event, Fill):
        names.append(_order_name(index, event.order))
    if isinstance(event, OrderAccepted | OrderDenied):
        names.append(event.quote)
    if isinstance(event, LimitBreached):
        names += [e.source for e in event.evidence]
    if hasattr(event, "fill"):
        names.append(event.fill)
    own = inspect.identity(record)
    return [name for name in dict.fromkeys(names) if name and name != own]


def _order_name(index: Index, order: str) -> str:
    """The risk decision on an order; the order itself where there is none."""
    try:
        asked = index.find(order)
    except NotInLog:
        return order
    judged = index.judged(asked) if isinstance(asked.event, OrderRequested) else None
    return inspect.identity(judged or asked)


# ------------------------------------------------------------ down: consequences


def consequences(index: Index, name: str) -> Tree:
    """The record of an identity with what followed from it below it. Raises `NotInLog`."""
    return _down(index, index.find(name), None, set(), 0)


def _down(index: Index, record: Record, before: int | None, seen: set[str], depth: int) -> Tree:
    node = described(record, None)
    time = inspect.event_time(record)
    node["age_s"] = _age(time, before)
    if node["id"] in seen or depth > DEPTH_MAX:
        return {**node, "again": True}
    seen.add(node["id"])
    found = _followed(index, record, node["id"])
    node["consequences"] = [_down(index, r, time, seen, depth + 1) for r in found]
    return node


def _followed(index: Index, record: Record, name: str) -> list[Record]:
    found = []
    decision = TOPICS[record.topic].kind == "decision"
    place = index.batch_of(record) if decision else None
    places = [place] if place is not None else [] if decision else list(index.batches_of(record))
    for partition, batch in places:
        for other in index.window(partition, batch).values():
            if name in getattr(other.event, "cause", "").split(RETRIED):
                found.append(other)
    if isinstance(record.event, OrderAccepted):
        for state in index.life(record):
            led = index.find(state.event.cause, state)  # type: ignore[union-attr]
            found.append(led if isinstance(led.event, Fill) else state)
    return list({inspect.identity(r): r for r in found}.values())


# ------------------------------------------------------------ a node


def _age(time: int | None, other: int | None) -> str | None:
    from tape.asking import seconds

    return None if time is None or other is None else seconds(abs(other - time))


def described(record: Record, after: int | None) -> Tree:
    """A record as a node: its identity, place, time (ISO 8601), age at `after` (UTC ns), and values."""
    import msgspec

    from tape.topics import iso

    time = inspect.event_time(record)
    node: Tree = {
        "id": inspect.identity(record),
        "place": record.place,
        "type": None,
        "time": None if time is None else iso(time),
        "age_s": _age(time, after),
        "missing": None,
        "causes": [],
    }
    if isinstance(record.event, Unreadable):
        return {**node, "missing": f"{record.place} cannot be read: {record.event.reason}"}
    values = msgspec.json.decode(record.value)
    node["type"] = values["type"]
    node["values"] = {k: v for k, v in values.items() if k not in ("type", "v")}
    return node
