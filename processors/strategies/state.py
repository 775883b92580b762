"""What a strategy remembers, as JSON and back: canonical, and exact to the type.

A restored strategy must go on as if nothing had happened, so every value comes back with its
type and value: floats to the bit, decimals with their trailing zeros, dicts in their order,
deques with their length, and two names for one list as two names for one list.

In JSON, None, bool, int and str stand for themselves; anything else is `[tag, ...]`. Lists,
dicts, sets, deques and objects are numbered as they are met, and `["ref", n]` is the n-th again.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict, deque
from collections.abc import Callable, Mapping
from datetime import date
from decimal import Context, Decimal
from typing import Any

from processors.strategies.view import WorkingOrder
from schemas.declare import DECIMAL_FIELDS

DECLARED = {kind.__name__: kind for kind in DECIMAL_FIELDS}
"""The events and values of the log by name; strategies like to keep their last bar."""


class StateError(TypeError):
    """What a strategy remembers cannot be kept; the message names strategy, attribute and remedy."""


_identity = object.__hash__  # tells objects apart while they live; it is never written


class Stateful:
    """Something with a state that survives a restart; by default, its attributes.

    Base of `Strategy`, and of what a strategy keeps in its attributes: an indicator, say. For
    the attributes of an object like that, `load` is called on one made without `__init__`.
    """

    def save(self) -> Any:
        """What `load` needs, made of None, bool, int, float, str, Decimal, date, events, lists,
        tuples, dicts, sets, deques and `Stateful` objects."""
        return dict(vars(self))

    def load(self, state: Any) -> None:
        """Become what `save` described."""
        vars(self).clear()
        vars(self).update(state)


class StateCodec:
    """Turns the state of one strategy into JSON values and back.

    `home` is the module of the strategy: names of classes are written relative to it, since
    the loader gives it another name in each process. `factories` are those of the
    `defaultdict` attributes that `__init__` made; such an attribute comes back with its own.
    """

    def __init__(
        self, strategy: str, home: str, factories: Mapping[str, Callable[[], Any] | None] | None = None
    ) -> None:
        self.strategy = strategy
        self.home = home
        self.factories = dict(factories or {})
        self.checked: set[type] = set()

    def encode(self, state: Any) -> Any:
        """JSON values that stand for `state`. Raises `StateError` naming what cannot be kept."""
        return _Encoder(self).encode(state, "")

    def decode(self, data: Any) -> Any:
        """The state that `data` stands for."""
        return _Decoder(self).decode(data)

    def class_name(self, kind: type) -> str:
        """The name of a class: relative to the strategy's module where it is beside it."""
        module = kind.__module__
        if module == self.home:
            module = ""
        elif f"{self.home}.{module}" in sys.modules:
            module = f".{module}"
        return f"{module}:{kind.__qualname__}"

    def class_named(self, name: str) -> Any:
        """The class of that name, or None."""
        module, _, path = name.partition(":")
        found: Any = sys.modules.get(self.home + module if not module or module[0] == "." else module)
        for part in path.split("."):
            found = getattr(found, part, None)
        return found


class _Encoder:
    def __init__(self, codec: StateCodec) -> None:
        self.codec = codec
        self.numbers: dict[int, int] = {}
        self.alive: list[Any] = []
        self.hashed = False

    def encode(self, value: Any, path: str) -> Any:
        kind = type(value)
        if value is None or kind in (bool, int, str):
            return value
        if kind in _SCALARS:
            tag, text = _SCALARS[kind]
            return [tag, text(value)]
        if kind is tuple or kind is WorkingOrder:
            return ["tuple" if kind is tuple else "working", *self.each(value, path)]
        if kind is frozenset:
            return ["frozenset", *self.members(value, path)]
        if kind in DECIMAL_FIELDS:
            fields = [(name, getattr(value, name)) for name in value.__struct_fields__]
            return ["event", kind.__name__, *([n, self.encode(v, f"{path}.{n}")] for n, v in fields)]
        number = self.numbers.get(_identity(value))
        if number is not None:
            return ["ref", number]
        if self.hashed:
            raise self.refuse(value, path, "which is in a set or a key")
        self.numbers[_identity(value)] = len(self.alive)
        self.alive.append(value)
        return self.mutable(value, path)

    def mutable(self, value: Any, path: str) -> Any:
        kind = type(value)
        if kind is list:
            return ["list", *self.each(value, path)]
        if kind is deque:
            return ["deque", value.maxlen, *self.each(value, path)]
        if kind is set:
            return ["set", *self.members(value, path)]
        if kind is dict:
            return ["dict", *self.items(value, path)]
        if kind is defaultdict and value.default_factory is self.codec.factories.get(path, _identity):
            return ["defaultdict", path, *self.items(value, path)]
        if callable(getattr(kind, "save", None)) and callable(getattr(kind, "load", None)):
            return self.object(value, path)
        raise self.refuse(value, path, "which a snapshot cannot hold")

    def each(self, values: Any, path: str) -> list[Any]:
        return [self.encode(item, f"{path}[{i}]") for i, item in enumerate(values)]

    def items(self, value: Mapping[Any, Any], path: str) -> list[Any]:
        return [[self.key(k, path), self.encode(v, _below(path, k))] for k, v in value.items()]

    def members(self, value: Any, path: str) -> list[Any]:
        return sorted((self.key(item, path) for item in value), key=dump)

    def key(self, value: Any, path: str) -> Any:
        before, self.hashed = self.hashed, True
        made = self.encode(value, path)
        self.hashed = before
        return made

    def object(self, value: Any, path: str) -> Any:
        kind = type(value)
        name = self.codec.class_name(kind)
        if self.codec.class_named(name) is not kind:
            raise self.refuse(value, path, "a class that is not at the top level of its module")
        state = value.save()
        if kind not in self.codec.checked:
            self.check_load(value, state, path)
            self.codec.checked.add(kind)
        return ["object", name, self.encode(state, path)]

    def check_load(self, value: Any, state: Any, path: str) -> None:
        """`load` must set every attribute: it is called on an object made without `__init__`."""
        kind: Any = type(value)
        made = kind.__new__(kind)
        made.load(state)
        lost = sorted(set(getattr(value, "__dict__", ())) - set(getattr(made, "__dict__", ())))
        if lost:
            raise self.refuse(value, path, f"whose load() leaves {', '.join(lost)} unset")

    def refuse(self, value: Any, path: str, why: str) -> StateError:
        kind = type(value)
        name = (
            kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
        )
        what = f"attribute {path}" if path else "state"
        return StateError(
            f"strategy '{self.codec.strategy}' cannot be saved: its {what} is of type {name}, {why}; "
            "override save() and load() to say what to keep"
        )


class _Decoder:
    def __init__(self, codec: StateCodec) -> None:
        self.codec = codec
        self.met: list[Any] = []

    def decode(self, data: Any) -> Any:
        if not isinstance(data, list):
            return data
        tag, *rest = data
        if tag in _TEXTS:
            return _TEXTS[tag](rest[0])
        return getattr(self, f"make_{tag}")(rest)

    def met_now(self, made: Any) -> Any:
        self.met.append(made)
        return made

    def make_ref(self, rest: list[Any]) -> Any:
        return self.met[rest[0]]

    def make_tuple(self, rest: list[Any]) -> Any:
        return tuple(self.decode(item) for item in rest)

    def make_working(self, rest: list[Any]) -> Any:
        return WorkingOrder(*(self.decode(item) for item in rest))

    def make_frozenset(self, rest: list[Any]) -> Any:
        return frozenset(self.decode(item) for item in rest)

    def make_event(self, rest: list[Any]) -> Any:
        return DECLARED[rest[0]](**{name: self.decode(value) for name, value in rest[1:]})

    def make_list(self, rest: list[Any]) -> Any:
        made = self.met_now([])
        made.extend(self.decode(item) for item in rest)
        return made

    def make_deque(self, rest: list[Any]) -> Any:
        made = self.met_now(deque(maxlen=rest[0]))
        made.extend(self.decode(item) for item in rest[1:])
        return made

    def make_set(self, rest: list[Any]) -> Any:
        made = self.met_now(set())
        made.update(self.decode(item) for item in rest)
        return made

    def make_dict(self, rest: list[Any]) -> Any:
        return self.fill(self.met_now({}), rest)

    def make_defaultdict(self, rest: list[Any]) -> Any:
        return self.fill(self.met_now(defaultdict(self.codec.factories[rest[0]])), rest[1:])

    def make_object(self, rest: list[Any]) -> Any:
        kind = self.codec.class_named(rest[0])
        if kind is None:
            raise LookupError(
                f"strategy '{self.codec.strategy}': class {rest[0]} of its snapshot is not here"
            )
        made = self.met_now(kind.__new__(kind))
        made.load(self.decode(rest[1]))
        return made

    def fill(self, made: dict[Any, Any], items: list[Any]) -> dict[Any, Any]:
        for key, value in items:
            made[self.decode(key)] = self.decode(value)
        return made


_SCALARS: dict[type, tuple[str, Callable[[Any], str]]] = {
    float: ("float", float.hex),
    Decimal: ("decimal", str),
    date: ("date", date.isoformat),
}
_TEXTS: dict[str, Callable[[str], Any]] = {
    "float": float.fromhex,
    "decimal": Decimal,
    "date": date.fromisoformat,
}


def _below(path: str, key: Any) -> str:
    return f"{path}[{key!r}]" if path else str(key)


def dump(data: Any) -> str:
    """The one text of JSON values: no spaces, ASCII, keys sorted."""
    return json.dumps(data, separators=(",", ":"), sort_keys=True)


def save_decimals(context: Context) -> dict[str, Any]:
    """A decimal context as JSON values: a strategy may have changed its own."""
    return {
        "prec": context.prec,
        "rounding": context.rounding,
        "Emin": context.Emin,
        "Emax": context.Emax,
        "capitals": context.capitals,
        "clamp": context.clamp,
        "flags": sorted(signal.__name__ for signal, on in context.flags.items() if on),
        "traps": sorted(signal.__name__ for signal, on in context.traps.items() if on),
    }


def load_decimals(data: Mapping[str, Any]) -> Context:
    """The decimal context that `data` stands for."""
    signals = {signal.__name__: signal for signal in Context().flags}
    named = {which: [signals[name] for name in data[which]] for which in ("flags", "traps")}
    return Context(**{**data, **named})
