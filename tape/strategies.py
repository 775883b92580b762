"""Loads a strategy: one of the built-in ones by name, or a class of the user's own file.

A file is run under a private module name, anew for each strategy, so that two files of one name
do not clash and two strategies of one file share nothing. Its folder can be imported from while
it runs (and only then, so imports belong at its top); what it imports from there is private too.
"""

from __future__ import annotations

import importlib
import inspect
import itertools
import math
import sys
import types
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from decimal import Decimal, InvalidOperation
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any, NamedTuple, TypeVar, Union, get_args, get_origin, get_type_hints

from processors.strategies import base, builtin, context, state
from processors.strategies.base import Strategy
from processors.strategies.builtin import BUILTIN
from schemas import digest
from tape.errors import WrongInput

OWN_PACKAGES = {"eventlog", "processors", "producers", "projections", "schemas", "tape"}
TRUTHS = {
    "true": True,
    "yes": True,
    "on": True,
    "1": True,
    "false": False,
    "no": False,
    "off": False,
    "0": False,
}
CONVERTIBLE = (bool, int, float, Decimal, str)
Made = TypeVar("Made")
FORM = "a file's class as FILE.py:Class"

_loads = itertools.count(1)


class LoadError(WrongInput):
    """A strategy cannot be loaded; the message says which, why, and what to do."""


class Loaded(NamedTuple):
    """A strategy, its version, and the digest of the source it was made from."""

    strategy: Strategy
    version: str
    digest: str


class Builtin(NamedTuple):
    """A built-in strategy as `--help` shows it; parameters as "fast: int = 10"."""

    name: str
    summary: str
    params: tuple[str, ...]


class _Parameter(NamedTuple):
    name: str
    kinds: tuple[type, ...]
    optional: bool
    required: bool
    text: str


def load_strategy(kind: str, params: Mapping[str, str]) -> Loaded:
    """The strategy `kind` (a built-in name, or FILE.py:Class), made with `params`.

    `params` are text and converted by the annotations of the class's `__init__`. Raises
    `LoadError`.
    """
    file, colon, name = kind.rpartition(":")
    if not colon and kind.endswith(".py"):
        file, name = kind, ""
    if file:
        cls, source = _from_file(Path(file), name)
    elif kind in BUILTIN:
        cls, source = BUILTIN[kind], _builtin_digest()
    else:
        known = ", ".join(sorted(BUILTIN))
        raise LoadError(f"there is no built-in strategy '{kind}'; there are {known}, and {FORM}")
    strategy = make_with_params(kind, cls, params)
    version = str(strategy.version)
    if not version:
        raise LoadError(f'strategy {kind} has an empty version; give it one, as in version = "1"')
    return Loaded(strategy, version, source)


def builtin_strategies() -> list[Builtin]:
    """The strategies that come with Tape, in order of name."""
    return [
        Builtin(
            name,
            (cls.__doc__ or "").splitlines()[0],
            tuple(p.text for p in _parameters(name, cls)[0].values()),
        )
        for name, cls in sorted(BUILTIN.items())
    ]


def _builtin_digest() -> str:
    files = sorted(Path(str(module.__file__)) for module in (base, builtin, context, state))
    return digest(*(part for file in files for part in (file.name.encode(), file.read_bytes())))


# A user's file


def _from_file(file: Path, name: str) -> tuple[type[Strategy], str]:
    if not file.is_file():
        raise LoadError(f"there is no file {file} (looked from {Path.cwd()}); name {FORM}")
    source = file.read_bytes()
    module, helpers = _run(file.resolve(), source)
    digested = digest(
        *(part for pair in sorted((helpers | {file.name: source}).items()) for part in _pair(pair))
    )
    return _class_of(module, file, name), digested


def _pair(named: tuple[str, bytes]) -> tuple[bytes, bytes]:
    return named[0].encode(), named[1]


def _class_of(module: ModuleType, file: Path, name: str) -> type[Strategy]:
    found = getattr(module, name, None) if name else None
    if isinstance(found, type) and issubclass(found, Strategy) and found is not Strategy:
        return found
    classes = [
        key
        for key, value in vars(module).items()
        if isinstance(value, type) and issubclass(value, Strategy) and value.__module__ == module.__name__
    ]
    there = (
        f"its strategies are {', '.join(classes)}"
        if classes
        else "it has none: write a class that extends tape.Strategy"
    )
    if not name:
        raise LoadError(
            f"{file} needs the name of a class, as in {file}:{classes[0] if classes else 'Class'}; {there}"
        )
    if found is None:
        raise LoadError(f"{file} has no class {name}; {there}")
    raise LoadError(f"{name} in {file} is not a class that extends tape.Strategy; {there}")


def _run(file: Path, source: bytes) -> tuple[ModuleType, dict[str, bytes]]:
    """The module of `file`, and the sources it imported from its folder, by relative name."""
    module = ModuleType(f"_tape_strategy_{next(_loads)}")
    module.__file__ = str(file)
    sys.modules[module.__name__] = module
    with _importing_from(file.parent) as before:
        try:
            exec(compile(source, str(file), "exec"), module.__dict__)
        except (Exception, SystemExit) as problem:
            del sys.modules[module.__name__]
            raise LoadError(f"{_place(problem, file)}: {type(problem).__name__}: {problem}") from problem
        finally:
            helpers = _make_private(module.__name__, file.parent, before)
    return module, helpers


@contextmanager
def _importing_from(folder: Path) -> Iterator[set[str]]:
    """Let `import` find the folder's modules first; gives the names of modules loaded before.

    Modules of the same names from elsewhere step aside meanwhile.
    """
    shadowed = {path.stem for path in folder.glob("*.py")} | {
        path.parent.name for path in folder.glob("*/__init__.py")
    }
    shadowed -= OWN_PACKAGES | sys.stdlib_module_names
    aside = {name: sys.modules.pop(name) for name in list(sys.modules) if name.partition(".")[0] in shadowed}
    writes_bytecode, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    try:
        yield set(sys.modules)
    finally:
        sys.path.remove(str(folder))
        sys.dont_write_bytecode = writes_bytecode
        sys.modules.update(aside)


def _make_private(owner: str, folder: Path, before: set[str]) -> dict[str, bytes]:
    """Rename the folder's newly imported modules; their sources by relative name."""
    sources = {}
    for name in sorted(set(sys.modules) - before - {owner}):
        file = getattr(sys.modules[name], "__file__", None)
        if name.partition(".")[0] in OWN_PACKAGES or not _is_from(folder, sys.modules[name]):
            continue
        sys.modules[f"{owner}.{name}"] = sys.modules.pop(name)
        if file is not None:
            sources[Path(file).relative_to(folder).as_posix()] = Path(file).read_bytes()
    return sources


def _is_from(folder: Path, module: ModuleType) -> bool:
    """Whether the module was found through `folder`, not through another entry of the path below it."""
    places = [module.__file__] if getattr(module, "__file__", None) else list(getattr(module, "__path__", ()))
    inner = [
        Path(entry)
        for entry in sys.path
        if entry and Path(entry).is_relative_to(folder) and Path(entry) != folder
    ]
    return any(
        Path(place).is_relative_to(folder) and not any(Path(place).is_relative_to(entry) for entry in inner)
        for place in places
        if place
    )


def _place(problem: BaseException, file: Path) -> str:
    """File and line in the user's folder where `problem` arose."""
    if isinstance(problem, SyntaxError) and problem.filename:
        return f"{problem.filename} line {problem.lineno}"
    found, trace = str(file), problem.__traceback__
    while trace is not None:
        where = trace.tb_frame.f_code.co_filename
        if Path(where).is_relative_to(file.parent):
            found = f"{where} line {trace.tb_lineno}"
        trace = trace.tb_next
    return found


# Parameters


def make_with_params(
    kind: str, cls: type[Made], params: Mapping[str, str], given: Mapping[str, Any] = MappingProxyType({})
) -> Made:
    """An instance of `cls`, with what is `given` and with `params`, converted by its annotations.

    Raises `LoadError`, which calls it strategy `kind`.
    """
    known, takes_any = _parameters(kind, cls)
    known = {name: parameter for name, parameter in known.items() if name not in given}
    values = dict(given)
    for name, text in params.items():
        if name in known:
            values[name] = _convert(kind, known[name], text)
        elif takes_any:
            values[name] = text
        else:
            listed = "; ".join(p.text for p in known.values()) or "none"
            raise LoadError(f"strategy {kind} has no parameter '{name}'; its parameters are: {listed}")
    missing = [p.text for p in known.values() if p.required and p.name not in values]
    if missing:
        raise LoadError(f"strategy {kind} needs a value for: {'; '.join(missing)}")
    try:
        return cls(**values)
    except Exception as problem:
        file = Path(inspect.getfile(cls.__init__))
        raise LoadError(
            f"strategy {kind} cannot be made: {type(problem).__name__}: {problem}, in {_place(problem, file)}"
        ) from problem


def _parameters(kind: str, cls: type[Any]) -> tuple[dict[str, _Parameter], bool]:
    """The parameters of a strategy's `__init__`, and whether it takes any other too."""
    if cls.__init__ is object.__init__:
        return {}, False
    try:
        hints = get_type_hints(cls.__init__)
    except Exception as problem:
        raise LoadError(
            f"strategy {kind}: its __init__ has an annotation that cannot be read: {problem}"
        ) from problem
    given = list(inspect.signature(cls.__init__).parameters.values())[1:]
    takes_any = any(p.kind is p.VAR_KEYWORD for p in given)
    named = [p for p in given if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    return {p.name: _parameter(p, hints.get(p.name)) for p in named}, takes_any


def _parameter(parameter: inspect.Parameter, hint: Any) -> _Parameter:
    required = parameter.default is parameter.empty
    if hint is None:
        hint = str if required or parameter.default is None else type(parameter.default)
    members = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    kinds = tuple(kind for kind in members if kind is not types.NoneType)
    optional = len(kinds) < len(members)
    label = " | ".join([getattr(kind, "__name__", str(kind)) for kind in kinds] + ["None"] * optional)
    value = "(required)" if required else f"= {parameter.default}"
    return _Parameter(parameter.name, kinds, optional, required, f"{parameter.name}: {label} {value}")


def _convert(kind: str, parameter: _Parameter, text: str) -> Any:
    if parameter.optional and text.strip().lower() in ("", "none"):
        return None
    for wanted in parameter.kinds:
        if wanted not in CONVERTIBLE:
            raise LoadError(
                f"strategy {kind}: parameter {parameter.text} cannot be given as text; "
                "annotate it as int, float, Decimal, str or bool, or one of them | None"
            )
        try:
            return _value(wanted, text)
        except (ValueError, InvalidOperation):
            continue
    what = " or ".join(_DESCRIPTIONS[wanted] for wanted in parameter.kinds)
    raise LoadError(f"strategy {kind}: {parameter.name} is '{text}'; it must be {what}")


def _value(wanted: type, text: str) -> Any:
    if wanted is str:
        return text
    text = text.strip().lower()
    if wanted is bool:
        if text not in TRUTHS:
            raise ValueError(text)
        return TRUTHS[text]
    made = wanted(text)
    if not math.isfinite(made):
        raise ValueError(text)
    return made


_DESCRIPTIONS = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    Decimal: "a number",
    str: "text",
}
