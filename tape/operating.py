"""What an operator tells an account: a command is written, and the core's answer is waited for."""

from __future__ import annotations

import getpass
import os
import platform
import secrets
import time as clock
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import msgspec
from pydantic import ValidationError

from eventlog import EventLog, LogReader, inspect, open_log
from processors.hosts.journal import last
from processors.hosts.state import state_at
from producers.operator import COMMANDS, command_record
from schemas import (
    TOPICS,
    Batch,
    CommandApplied,
    CommandRefused,
    Limits,
    OpenAccount,
    OrderDenied,
    decode,
    evolve,
    partition_of,
    validate,
)
from tape.errors import WrongInput
from tape.wiring import build

ANSWERS = ("risk.breaches", "orders")
"""Where the core writes what comes of a command; breaches first, since they cancel orders."""
WAIT_S = 10.0
POLL_S = 1.0


class OperatorError(WrongInput):
    """A command that cannot be given; the message says why. Nothing was written."""


@dataclass(frozen=True)
class Answer:
    """What the core said to a command.

    `pending`: nothing in the time that was waited; the command stands in the log, and acts when a core
    decides it. `decisions` are those that it led to at once, as they were written.
    """

    command: str
    account: str
    kind: str
    outcome: Literal["applied", "refused", "pending"]
    reason: str = ""
    decisions: tuple[Any, ...] = ()

    @property
    def denied(self) -> OrderDenied | None:
        """The denial of the order that it placed."""
        return next((d for d in self.decisions if isinstance(d, OrderDenied)), None)

    @property
    def is_done(self) -> bool:
        """Whether what was asked for is so."""
        return self.outcome == "applied" and self.denied is None


def new_id() -> str:
    """The id of a command that is not given one."""
    return f"operator-{secrets.token_hex(8)}"


def whoami() -> str:
    """Who asks, where nobody says: the user, and the machine's name."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.getuid())
    return f"{user}@{platform.node()}"


def command(event: Any, /, **fields: Any) -> Any:
    """A command of this type, checked; its time is set when it is told. Raises `OperatorError`."""
    plain_fields = {name: msgspec.to_builtins(value) for name, value in fields.items()}
    try:
        return validate(event, {"ts": 0, **plain_fields})
    except ValidationError as problem:
        first = problem.errors()[0]
        name = str(first["loc"][0]) if first["loc"] else "the command"
        what = first["msg"].replace("Input should be", "it must be", 1)
        raise OperatorError(f"{name} is {first['input']!s}; {what}") from problem


# ------------------------------------------------------------ accounts


def asked_for(log: LogReader) -> dict[str, int]:
    """The accounts that somebody asked to be opened, with the partition of each."""
    found = {}
    for partition in range(log.partitions(COMMANDS)):
        for event in _events(log, COMMANDS, partition):
            if isinstance(event, OpenAccount):
                found[event.account] = partition
    return dict(sorted(found.items()))


def require(log: LogReader, account: str) -> None:
    """Raises `OperatorError` for an account that nobody opened."""
    there = asked_for(log)
    if account not in there:
        names = ", ".join(there) or "none yet; open one with tape open"
        raise OperatorError(f"{log.url} has no account {account}; there is {names}")


def limits_now(log: LogReader, account: str) -> tuple[Limits, Any]:
    """The limits that an account has by now, and its multiplier. Raises `OperatorError`."""
    partition = partition_of(account, log.partitions("batches"))
    end = last(log, "batches", partition, Batch)
    if end is None or account not in end.seqs:
        raise OperatorError(f"account {account} has no limits yet: no core has opened it; start one")
    found = state_at(log, partition, build).accounts.desk.accounts[account]
    return found.limits, found.multiplier


# ------------------------------------------------------------ telling


def tell(url: str, commands: Sequence[Any], wait_s: float = WAIT_S) -> list[Answer]:
    """Write commands, each with the log's time, and wait for the core's answers, in the same order.

    One whose id was given before is not written again: its answer is that of the first.
    """
    with open_log(url) as log:
        repeats = _written(log, commands)
        after = {
            (topic, partition): (log.bounds(topic, partition)[0 if repeats else 1])
            for topic in ANSWERS
            for partition in {_partition(log, one) for one in commands}
        }
        new = [one for one in commands if one.id not in repeats]
        if new:
            with log.writer(f"operator-{secrets.token_hex(4)}") as writer:
                writer.append([command_record(evolve(one, ts=log_time(log, one)), log) for one in new])
        return _wait(log, commands, after, wait_s)


def _partition(log: LogReader, one: Any) -> int:
    return partition_of(one.account, log.partitions(COMMANDS))


def _written(log: LogReader, commands: Sequence[Any]) -> set[str]:
    """Ids of those that stand in the log already. Raises `OperatorError` where the id is another's."""
    wanted, found = {one.id: one for one in commands}, set()
    for partition in sorted({_partition(log, one) for one in commands}):
        for event in _events(log, COMMANDS, partition):
            one = wanted.get(getattr(event, "id", ""))
            if one is None or event.account != one.account:
                continue
            if type(event) is not type(one) or _terms(event) != _terms(one):
                raise OperatorError(f"command id {one.id} was used for something else; choose another")
            found.add(one.id)
    return found


def _terms(one: Any) -> dict[str, Any]:
    """What a command asks for, without when, who and why."""
    return {k: v for k, v in msgspec.structs.asdict(one).items() if k not in ("ts", "who", "why")}


def log_time(log: LogReader, one: Any) -> int:
    """Now (UTC ns): of a log on data time, the market's time that the account's partition has come to."""
    if log.time == "wall":
        return clock.time_ns()
    end = last(log, "batches", partition_of(one.account, log.partitions("batches")), Batch)
    if end is not None:
        return end.now
    markets = [t for t in TOPICS if t.startswith("market.")]
    newest, _ = inspect.last(log, [(t, p) for t in markets for p in range(log.partitions(t))], 1)
    return (inspect.event_time(newest[0]) or 0) if newest else 0


def _wait(
    log: EventLog, commands: Sequence[Any], after: Mapping[tuple[str, int], int], wait_s: float
) -> list[Answer]:
    """Read what the core decides until every command has its answer, or the time is over."""
    led = _Led(commands, after)
    end = clock.monotonic() + wait_s
    while True:
        led.read(log)
        left = end - clock.monotonic()
        if left <= 0 or all(a.outcome != "pending" for a in led.answers()):
            led.read(log)
            return led.answers()
        log.wait(led.positions, min(left, POLL_S))


class _Led:
    """What commands have led to: decisions that have their trace, or one of these as their cause."""

    def __init__(self, commands: Sequence[Any], after: Mapping[tuple[str, int], int]) -> None:
        self._commands = commands
        self.positions = dict(after)
        self._found: dict[str, list[Any]] = {one.id: [] for one in commands}
        self._of = {one.id: one.id for one in commands}
        """Command by the identity of what it has led to."""

    def read(self, log: LogReader) -> None:
        """Read on to the ends."""
        for stream, start in list(self.positions.items()):
            position = start
            while records := log.read(*stream, gte=position):
                position = records[-1].offset + 1
                for record in records:
                    self._take(decode(stream[0], record.value))
            self.positions[stream] = position

    def _take(self, event: Any) -> None:
        trace, cause = getattr(event, "trace", ""), getattr(event, "cause", "")
        command = trace if trace in self._found else self._of.get(cause)
        if command is not None:
            self._found[command].append(event)
            self._of[f"{event.account}:{event.seq}"] = command

    def answers(self) -> list[Answer]:
        return [_answer(one, self._found[one.id]) for one in self._commands]


def _answer(one: Any, found: Sequence[Any]) -> Answer:
    kind = type(one).__name__
    mine = sorted((d for d in found if d.account == one.account), key=lambda d: d.seq)
    for decision in mine:
        if isinstance(decision, CommandRefused):
            return Answer(one.id, one.account, kind, "refused", decision.reason)
        if isinstance(decision, CommandApplied):
            rest = tuple(d for d in mine if d is not decision)
            return Answer(one.id, one.account, kind, "applied", decisions=rest)
    return Answer(one.id, one.account, kind, "pending")


def _events(log: LogReader, topic: str, partition: int) -> Iterator[Any]:
    position = log.bounds(topic, partition)[0]
    while records := log.read(topic, partition, gte=position):
        position = records[-1].offset + 1
        for record in records:
            yield decode(topic, record.value)


# ------------------------------------------------------------ for people and programs


def answer_json(answer: Answer) -> dict[str, Any]:
    """An answer as an object: money as exact text, times UTC ns as the log has them."""
    return {
        "command": answer.command,
        "account": answer.account,
        "kind": answer.kind,
        "outcome": answer.outcome,
        "reason": answer.reason,
        "decisions": [msgspec.to_builtins(d) | {"type": type(d).__name__} for d in answer.decisions],
    }


def answer_text(answer: Answer) -> list[str]:
    """An answer in lines."""
    said = {
        "applied": "applied",
        "refused": f"refused: {answer.reason}",
        "pending": "not answered yet; it stands in the log, and acts when a core decides it",
    }[answer.outcome]
    return [f"{answer.account}: {answer.kind} {said}", *(f"  {_said(d)}" for d in answer.decisions)]


def _said(decision: Any) -> str:
    """A decision in a line: what it is, and its telling fields."""
    name = type(decision).__name__
    if isinstance(decision, OrderDenied):
        failed = "; ".join(
            f"{c.name} {c.value or 'unknown'}, limit {c.limit}" for c in decision.checks if not c.ok
        )
        return f"{name} {decision.order}: {failed}"
    fields = ("order", "status", "side", "quantity", "symbol", "reason", "detail", "state", "equity", "cash")
    shown = [_plain(getattr(decision, field, None)) for field in fields]
    return " ".join([name, *(text for text in shown if text)])


def _plain(value: Any) -> str:
    return "" if value is None else format(value, "f") if hasattr(value, "as_tuple") else str(value)
