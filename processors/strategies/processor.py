"""The strategies of a core partition: who is told of what, and what came of it."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import getcontext, localcontext, setcontext
from types import TracebackType
from typing import Any, NoReturn

from processors.strategies.base import Strategy
from processors.strategies.context import USER_DECIMALS, Context, Moment, root_of
from processors.strategies.state import StateCodec, StateError, dump, load_decimals, save_decimals
from processors.strategies.view import AccountView
from schemas import (
    CORE_MARKET_INPUTS,
    Bar,
    Event,
    Fill,
    OrderAccepted,
    OrderChanged,
    OrderDenied,
    Quote,
    Record,
    Split,
    StrategySetting,
    Trade,
)

MARKET_HANDLERS = {Bar: "on_bar", Quote: "on_quote", Trade: "on_trade", Split: "on_split"}
OWN_HANDLERS = {Fill: "on_fill", OrderAccepted: "on_order", OrderChanged: "on_order", OrderDenied: "on_order"}
WARM_UP_ORDER = (Bar, Quote, Trade)

Handler = Callable[[Any, Context], None]
Call = tuple[Handler, Context]


class StrategyError(Exception):
    """A strategy raised: which one, on which event, and where in its code.

    `event` is the type of the event, `identity` its place or account:seq, `file` and `line` are
    the innermost in the strategy's own folder, `original` is what it raised.
    """

    def __init__(
        self, strategy: str, event: Event, identity: str, *, file: str, line: int, original: Exception
    ) -> None:
        self.strategy = strategy
        self.event = type(event).__name__
        self.identity = identity
        self.file = file
        self.line = line
        self.original = original
        what: Any = event
        super().__init__(
            f"strategy '{strategy}' failed on {self.event} of {what.symbol} at {_iso(what.ts)} ({identity}): "
            f"{type(original).__name__}: {original}, in {file} line {line}"
        )


class _Route:
    """Who is told of one kind of event of one symbol, and the time of the last one in order."""

    __slots__ = ("calls", "last")

    def __init__(self) -> None:
        self.calls: tuple[Call, ...] = ()
        self.last = 0


class _Member:
    """A strategy with its setting, its context, and the way its state is kept."""

    def __init__(
        self, setting: StrategySetting, strategy: Strategy, view: AccountView, moment: Moment
    ) -> None:
        self.setting = setting
        self.strategy = strategy
        self.ctx = Context(setting, view, moment)
        self.wants = {
            kind: handler
            for kind, handler in (MARKET_HANDLERS | OWN_HANDLERS).items()
            if getattr(type(strategy), handler) is not getattr(Strategy, handler)
        }
        self.counts = next((kind for kind in WARM_UP_ORDER if kind in self.wants), None)
        self._check()
        kept = vars(strategy).items()
        factories = {name: value.default_factory for name, value in kept if type(value) is defaultdict}
        self.codec = StateCodec(setting.name, type(strategy).__module__, factories)
        self.identity = [
            setting.kind.rpartition("/")[2],  # wherever the file lies
            setting.version,
            setting.account,
            list(setting.symbols),
            dict(setting.params),
        ]
        self.start = self.save_state()
        self.load_state(self.start)
        if self.save_state() != self.start:
            raise StateError(
                f"strategy '{setting.name}' cannot be saved: load(save()) gives another state than was saved"
            )
        self.cool()

    def _check(self) -> None:
        name, strategy = self.setting.name, self.strategy
        if not self.wants:
            raise ValueError(f"strategy '{name}' wants nothing: it overrides none of the on_... methods")
        if not self.setting.symbols or len(set(self.setting.symbols)) != len(self.setting.symbols):
            raise ValueError(f"strategy '{name}' needs symbols, each of them once")
        if type(strategy.warm_up) is not int or strategy.warm_up < 0:
            raise ValueError(
                f"strategy '{name}': warm_up is {strategy.warm_up!r}; it must be a count of bars"
            )
        if strategy.warm_up and self.counts is None:
            raise ValueError(f"strategy '{name}' has a warm_up but wants no bars, quotes or trades to count")
        slots = [c.__name__ for c in type(strategy).__mro__ if c.__dict__.get("__slots__")]
        if slots and type(strategy).save is Strategy.save:
            raise StateError(
                f"strategy '{name}' cannot be saved: {slots[0]} has __slots__; override save() and load()"
            )

    def call(self, kind: type) -> Call:
        """What to call with an event of `kind`."""
        handler: Handler = getattr(self.strategy, self.wants[kind])
        counted = kind is self.counts and self.strategy.warm_up > 0
        return (_counted(handler, self.ctx._cold) if counted else handler), self.ctx

    def cool(self) -> None:
        """Back to the start of the warm-up."""
        self.ctx._cold.clear()
        if self.strategy.warm_up:
            self.ctx._cold.update(dict.fromkeys(self.setting.symbols, self.strategy.warm_up))
        self.ctx._decimals = USER_DECIMALS.copy()

    def save_state(self) -> Any:
        """The strategy's state as JSON values."""
        with localcontext(self.ctx._decimals), self._naming("save"):
            return self.codec.encode(self.strategy.save())

    def load_state(self, data: Any) -> None:
        """Give the strategy the state that `data` stands for."""
        with localcontext(self.ctx._decimals), self._naming("load"):
            self.strategy.load(self.codec.decode(data))

    @contextmanager
    def _naming(self, method: str) -> Iterator[None]:
        """Say whose `save` or `load` it was that raised, and where."""
        try:
            yield
        except StateError:
            raise
        except Exception as problem:
            file, line = _where(problem.__traceback__) or _definition(getattr(self.strategy, method))
            raise StateError(
                f"strategy '{self.setting.name}' cannot be kept: its {method}() raised "
                f"{type(problem).__name__}: {problem}, in {file} line {line}"
            ) from problem

    def save(self) -> dict[str, Any]:
        """The member as JSON values."""
        return {
            "identity": self.identity,
            "state": self.save_state(),
            "cold": dict(self.ctx._cold),
            "decimals": save_decimals(self.ctx._decimals),
        }

    def load(self, data: dict[str, Any] | None) -> None:
        """Become what was saved; a member that is new or set up otherwise starts anew."""
        self.cool()
        if data is None or data["identity"] != self.identity:
            self.load_state(self.start)
            return
        self.load_state(data["state"])
        self.ctx._cold.clear()
        self.ctx._cold.update(data["cold"])
        self.ctx._decimals = load_decimals(data["decimals"])


class Strategies:
    """The processor that hands events to strategies and their proposals to the core.

    Proposals are handed on inside the core and never written: replaying the log makes them
    again. Members are called in order of name, each in a decimal context of its own.
    """

    name = "strategies"
    version = "1"
    inputs: tuple[str, ...] = (*CORE_MARKET_INPUTS, "orders", "fills")

    def __init__(self, members: Sequence[tuple[StrategySetting, Strategy]], view: AccountView) -> None:
        """`members` are the strategies with their settings; `view` shows their accounts.

        Raises `ValueError` for a setting that cannot be meant, `StateError` for a strategy whose
        state cannot be kept.
        """
        _each_once(members)
        self._view = view
        self._moment = Moment()
        self._members = [
            _Member(setting, strategy, view, self._moment)
            for setting, strategy in sorted(members, key=lambda member: member[0].name)
        ]
        self._reset()

    def apply(self, record: Record) -> Sequence[Event]:
        """The proposals that the strategies make of a record.

        Raises `StrategyError` when one of them raises.
        """
        if self._waiting:
            self._admit()
        event: Any = record.event
        routes = self._routes.get(type(event))
        if routes is None:
            return self._apply_other(record)
        moment, ts = self._moment, event.ts
        if ts > moment.now:  # noqa: PLR1730  # a call of max() would cost more
            moment.now = ts
        route = routes.get(event.symbol)
        if route is None or event.backfilled or ts < route.last:
            return ()
        if routes is self._quotes:
            route.last = ts
        return self._tell(route.calls, record)

    def snapshot(self) -> bytes:
        """The time, the last quotes, and every strategy's state: canonical bytes."""
        return dump(
            {
                "now": self._moment.now,
                "last": {symbol: route.last for symbol, route in self._quotes.items() if route.last},
                "members": {member.setting.name: member.save() for member in self._members},
            }
        ).encode()

    def restore(self, snapshot: bytes) -> None:
        """Go back to a snapshot's state."""
        data = json.loads(snapshot)
        self._reset()
        self._moment.now = data["now"]
        for symbol, last in data["last"].items():
            if symbol in self._quotes:
                self._quotes[symbol].last = last
        for member in self._members:
            member.load(data["members"].get(member.setting.name))

    def _reset(self) -> None:
        """Nobody is told of anything until his account is seen to be open."""
        self._waiting = list(self._members)
        self._routes: dict[type, dict[str, _Route]] = {Bar: {}, Quote: {}, Trade: {}}
        self._quotes = self._routes[Quote]
        self._splits: dict[str, _Route] = {}
        self._own: dict[tuple[type, str, str], Call] = {}
        for member in self._members:
            for kind in MARKET_HANDLERS.keys() & member.wants.keys():
                for symbol in member.setting.symbols:
                    self._of(kind).setdefault(symbol, _Route())

    def _of(self, kind: type) -> dict[str, _Route]:
        return self._splits if kind is Split else self._routes[kind]

    def _admit(self) -> None:
        """Let in the members whose accounts have been opened."""
        waiting = [m for m in self._waiting if not self._view.is_open(m.setting.account)]
        if len(waiting) == len(self._waiting):
            return
        self._waiting = waiting
        inside = [m for m in self._members if m not in waiting]
        for kind in MARKET_HANDLERS:
            for symbol, route in self._of(kind).items():
                route.calls = tuple(
                    m.call(kind) for m in inside if kind in m.wants and symbol in m.setting.symbols
                )
        for m in inside:
            for kind in OWN_HANDLERS.keys() & m.wants.keys():
                self._own[kind, m.setting.account, m.setting.name] = m.call(kind)

    def _apply_other(self, record: Record) -> Sequence[Event]:
        """What is not a quote, trade or bar: an order or fill, a split, or the passing of time."""
        event: Any = record.event
        kind = type(event)
        if kind in OWN_HANDLERS:
            call = self._own.get((kind, event.account, event.strategy))
            return self._tell((call,), record) if call else ()
        if getattr(kind, "topic", "").startswith("market."):
            self._moment.now = max(self._moment.now, event.ts)
        if kind is Split and event.symbol in self._splits:
            return self._tell(self._splits[event.symbol].calls, record)
        return ()

    def _tell(self, calls: Iterable[Call], record: Record) -> Sequence[Event]:
        moment = self._moment
        moment.record = record
        event: Any = record.event
        before = getcontext()
        try:
            for handler, ctx in calls:
                setcontext(ctx._decimals)
                handler(event, ctx)
        except Exception as problem:
            _fail(ctx._name, handler, record, problem)
        finally:
            setcontext(before)
            moment.record = None
        return self._emitted() if moment.out else ()

    def _emitted(self) -> Sequence[Event]:
        out, self._moment.out = self._moment.out, []
        for member in self._members:
            member.ctx._ordinal = 0
        return out


def _each_once(members: Sequence[tuple[StrategySetting, Strategy]]) -> None:
    names = [setting.name for setting, _ in members]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"two strategies are named '{name}'; give each a name of its own")
    for i, (setting, strategy) in enumerate(members):
        if any(strategy is other for _, other in members[:i]):
            raise ValueError(f"strategy '{setting.name}' shares its object with another; load it twice")


def _counted(handler: Handler, cold: dict[str, int]) -> Handler:
    """`handler`, counting down the symbol's warm-up after each event."""

    def count(event: Any, ctx: Context) -> None:
        handler(event, ctx)
        if event.symbol in cold:
            cold[event.symbol] -= 1
            if not cold[event.symbol]:
                del cold[event.symbol]

    return count


OWN_FILES = {
    code.co_filename
    for code in (Strategies._tell.__code__, Context._emit.__code__, StateCodec.encode.__code__)
}


def _fail(strategy: str, handler: Handler, record: Record, problem: Exception) -> NoReturn:
    file, line = _where(problem.__traceback__) or _definition(handler)
    event: Any = record.event
    raise StrategyError(
        strategy, event, root_of(record)[0], file=file, line=line, original=problem
    ) from problem


def _where(trace: TracebackType | None) -> tuple[str, int] | None:
    """The innermost file and line in the folder of the strategy's code."""
    found: tuple[str, int] | None = None
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if file not in OWN_FILES and (found is None or _folder(file) == _folder(found[0])):
            found = file, trace.tb_lineno
        trace = trace.tb_next
    return found


def _folder(file: str) -> str:
    return file.rpartition("/")[0]


def _definition(handler: Any) -> tuple[str, int]:
    code = getattr(handler, "__code__", None)
    return (code.co_filename, code.co_firstlineno) if code else ("?", 0)


def _iso(ts: int) -> str:
    """UTC nanoseconds as ISO 8601."""
    seconds, nanoseconds = divmod(ts, 1_000_000_000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{nanoseconds:09d}Z"
