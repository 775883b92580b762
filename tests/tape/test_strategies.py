"""Loading strategies: parameters by annotation, errors with their remedy, digests, private modules."""

import subprocess
import sys
import textwrap
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from processors.strategies.builtin import BuyAndHold, SmaCross
from support.strategies import alone, bar
from tape.strategies import LoadError, load_strategy

MINE = """
    from __future__ import annotations
    from typing import Optional
    from tape import Context, Decimal, Strategy

    class Mine(Strategy):
        version = "3"

        def __init__(self, n: int, x: float = 1.5, d: Decimal | None = None, s: str = "s",
                     b: bool = False, o: Optional[int] = 4, plain=7, *, kw: Decimal = Decimal(2)):
            self.got = [n, x, d, s, b, o, plain, kw]

        def on_bar(self, bar, ctx: Context):
            pass

    class Odd(Mine):
        def __init__(self, names: list[str]):
            pass

    class Fragile(Mine):
        def __init__(self, n: int = 0):
            self.x = 1 / n

    class Bare(Strategy):
        def on_bar(self, bar, ctx):
            pass

    def helper():
        pass

    class NotOne:
        pass
"""


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    return write(tmp_path / "mine.py", MINE)


def write(file: Path, text: str) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(textwrap.dedent(text))
    return file


def refused(kind: Any, params: dict[str, str] | None = None) -> str:
    with pytest.raises(LoadError) as caught:
        load_strategy(str(kind), params or {})
    return str(caught.value)


def test_built_in() -> None:
    loaded = load_strategy("sma-cross", {"fast": "5", "slow": "20", "weight": "0.5", "short": "yes"})
    assert isinstance(loaded.strategy, SmaCross)
    made = loaded.strategy
    assert (made.fast, made.slow, made.weight, made.short) == (5, 20, Decimal("0.5"), True)
    assert (loaded.version, len(loaded.digest)) == ("1", 64)
    hold = load_strategy("buy-and-hold", {"weight": "none"})
    assert isinstance(hold.strategy, BuyAndHold)
    assert hold.digest == loaded.digest


def test_parameters_become_what_their_annotations_say(mine: Path) -> None:
    text = {"n": "3", "x": "2", "d": "0.10", "s": "a b", "b": "on", "o": "", "plain": "8", "kw": "1.0"}
    loaded = load_strategy(f"{mine}:Mine", text)
    got = loaded.strategy.got  # type: ignore[attr-defined]
    assert got == [3, 2.0, Decimal("0.10"), "a b", True, None, 8, Decimal("1.0")]
    assert [type(x) for x in got] == [int, float, Decimal, str, bool, type(None), int, Decimal]
    assert loaded.version == "3"
    assert load_strategy(f"{mine}:Mine", {"n": "1"}).strategy.got[1:] == [  # type: ignore[attr-defined]
        1.5,
        None,
        "s",
        False,
        4,
        7,
        Decimal(2),
    ]


def test_a_class_without_init(mine: Path) -> None:
    assert load_strategy(f"{mine}:Bare", {}).version == "1"
    assert refused(f"{mine}:Bare", {"n": "1"}).endswith("Bare has no parameter 'n'; its parameters are: none")


@pytest.mark.parametrize(
    ("kind", "params", "sentence"),
    [
        (
            "sma-corss",
            {},
            "there is no built-in strategy 'sma-corss'; there are buy-and-hold, sma-cross, "
            "and a file's class as FILE.py:Class",
        ),
        (
            "sma-cross",
            {"quick": "1"},
            "strategy sma-cross has no parameter 'quick'; its parameters are: fast: int = 10; "
            "slow: int = 30; weight: Decimal | None = None; short: bool = False",
        ),
        ("sma-cross", {"fast": "ten"}, "strategy sma-cross: fast is 'ten'; it must be a whole number"),
        ("sma-cross", {"weight": "NaN"}, "strategy sma-cross: weight is 'NaN'; it must be a number"),
        ("sma-cross", {"weight": "half"}, "strategy sma-cross: weight is 'half'; it must be a number"),
        ("sma-cross", {"short": "maybe"}, "strategy sma-cross: short is 'maybe'; it must be true or false"),
        ("{mine}:Mine", {}, "strategy {mine}:Mine needs a value for: n: int (required)"),
        ("{mine}:Mine", {"n": "1", "x": "inf"}, "strategy {mine}:Mine: x is 'inf'; it must be a number"),
        (
            "{mine}:Odd",
            {"names": "a"},
            "strategy {mine}:Odd: parameter names: list (required) cannot be given as text; "
            "annotate it as int, float, Decimal, str or bool, or one of them | None",
        ),
        (
            "{mine}:Fragile",
            {},
            "strategy {mine}:Fragile cannot be made: ZeroDivisionError: division by zero, in {mine} line 22",
        ),
        (
            "{mine}:Missing",
            {},
            "{mine} has no class Missing; its strategies are Mine, Odd, Fragile, Bare",
        ),
        (
            "{mine}:NotOne",
            {},
            "NotOne in {mine} is not a class that extends tape.Strategy; "
            "its strategies are Mine, Odd, Fragile, Bare",
        ),
        (
            "{mine}:helper",
            {},
            "helper in {mine} is not a class that extends tape.Strategy; "
            "its strategies are Mine, Odd, Fragile, Bare",
        ),
        (
            "{mine}",
            {},
            "{mine} needs the name of a class, as in {mine}:Mine; "
            "its strategies are Mine, Odd, Fragile, Bare",
        ),
    ],
)
def test_refused_in_words(mine: Path, kind: str, params: dict[str, str], sentence: str) -> None:
    assert refused(kind.format(mine=mine), params) == sentence.format(mine=mine)


def test_a_missing_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert refused("no/such.py:Mine") == (
        f"there is no file no/such.py (looked from {tmp_path}); name a file's class as FILE.py:Class"
    )


def test_a_file_without_strategies(tmp_path: Path) -> None:
    file = write(tmp_path / "empty.py", "x = 1\n")
    assert refused(f"{file}:Mine") == (
        f"{file} has no class Mine; it has none: write a class that extends tape.Strategy"
    )


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("x = 1\nimport nothing_of_that_name\n", "line 2: ModuleNotFoundError: No module named"),
        ("def f(:\n", "line 1: SyntaxError: "),
        ("\n\n1 / 0\n", "line 3: ZeroDivisionError: division by zero"),
        ("import sys\nsys.exit('bye')\n", "line 2: SystemExit: bye"),
    ],
)
def test_an_error_in_the_file_is_placed(tmp_path: Path, text: str, sentence: str) -> None:
    file = tmp_path / "bad.py"
    file.write_text(text)
    assert refused(f"{file}:X").startswith(f"{file} {sentence}")


def test_an_error_in_a_helper_is_placed_there(tmp_path: Path) -> None:
    file = write(tmp_path / "bad.py", "import tools\n")
    tools = write(tmp_path / "tools.py", "\n1 / 0\n")
    assert refused(f"{file}:X").startswith(f"{tools} line 2: ZeroDivisionError")
    assert "tools" not in sys.modules


WITH_HELPERS = """
    import json
    import tools
    from parts.ema import Ema
    from tape import Strategy

    class Mine(Strategy):
        def __init__(self):
            self.ema = Ema()
            self.name = tools.NAME

        def on_bar(self, bar, ctx):
            self.ema.add(bar.close)
"""
EMA = """
    from tape import Stateful

    class Ema(Stateful):
        def __init__(self):
            self.seen = []

        def add(self, x):
            self.seen.append(x)
"""


def project(folder: Path, name: str = "a") -> Path:
    write(folder / "tools.py", f"NAME = '{name}'\n")
    write(folder / "parts" / "__init__.py", "")
    write(folder / "parts" / "ema.py", EMA)
    write(folder / "unused.py", "1 / 0\n")
    return write(folder / "mine.py", WITH_HELPERS)


def test_the_digest_counts_every_file_that_is_imported(tmp_path: Path) -> None:
    file = project(tmp_path / "one")

    def digest(of: Path = file) -> str:
        return load_strategy(f"{of}:Mine", {}).digest

    first = digest()
    assert digest() == first
    assert digest(project(tmp_path / "elsewhere")) == first
    write(file.parent / "unused.py", "2 / 0\n")
    assert digest() == first
    write(file.parent / "tools.py", "NAME = 'b'\n")
    second = digest()
    write(file.parent / "parts" / "ema.py", EMA + "\n")
    third = digest()
    file.write_text(file.read_text() + "\n")
    assert len({first, second, third, digest()}) == 4


def test_files_and_helpers_of_one_name_do_not_clash(tmp_path: Path) -> None:
    path = list(sys.path)
    modules = set(sys.modules)
    one, two = (load_strategy(f"{project(tmp_path / n, n)}:Mine", {}).strategy for n in ("one", "two"))
    assert [vars(s)["name"] for s in (one, two)] == ["one", "two"]
    assert type(one) is not type(two)
    assert sys.path == path
    assert all(name.startswith("_tape_strategy_") for name in set(sys.modules) - modules)
    assert not list(tmp_path.rglob("__pycache__"))


def test_a_module_of_that_name_from_elsewhere_steps_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = type(sys)("tools")
    monkeypatch.setitem(sys.modules, "tools", other)
    assert vars(load_strategy(f"{project(tmp_path)}:Mine", {}).strategy)["name"] == "a"
    assert sys.modules["tools"] is other


def test_a_strategy_with_helpers_is_restored_in_its_own_classes(tmp_path: Path) -> None:
    one, two = (load_strategy(f"{project(tmp_path / n, 'a')}:Mine", {}).strategy for n in ("one", "two"))
    before, after = alone(one), alone(two)
    before.apply(bar(1, "1.5"))
    assert b"one" not in before.snapshot().replace(b'{"one":', b"")
    after.restore(before.snapshot())
    assert vars(two)["ema"].seen == [Decimal("1.5")]
    assert type(vars(two)["ema"]) is type(load_fresh(two))
    assert after.snapshot() == before.snapshot()


def load_fresh(strategy: Any) -> Any:
    """An Ema of the class that the strategy's own file imported."""
    return sys.modules[type(strategy).__module__].Ema()


def test_tape_offers_what_a_strategy_needs_and_loads_nothing_heavy() -> None:
    heavy = "apsw confluent_kafka duckdb exchange_calendars fastapi faust pandas psycopg pyarrow rich typer"
    code = (
        "import sys, tape\n"
        "from tape import Bar, Context, Decimal, Fill, OrderChanged, Quote, Stateful, Strategy, Trade\n"
        f"print([name for name in {heavy.split()} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
