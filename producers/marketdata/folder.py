"""Where LEAN's layout keeps what, and which of it is there.

DIR/equity/usa/RESOLUTION/SYMBOL/YYYYMMDD_trade.zip, YYYYMMDD_quote.zip
DIR/equity/usa/daily/SYMBOL.zip
DIR/equity/usa/factor_files/SYMBOL.csv
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Literal

from producers.marketdata.errors import MissingDay, MissingFolder, UnknownSymbol

Kind = Literal["trade", "quote"]
KINDS: tuple[Kind, ...] = ("trade", "quote")


class Files:
    """The files of one resolution.

    Raises `MissingFolder` if `folder` is no LEAN folder or has nothing of the resolution.
    """

    def __init__(self, folder: Path, resolution: str) -> None:
        self._root = _usa(folder)
        self._resolution = resolution
        self._folder = self._root / resolution
        if not self._folder.is_dir():
            there = ", ".join(_folders(self._root)) or "nothing"
            raise MissingFolder(f"{self._root} has no {resolution} data (there is: {there}): choose another")

    def factor_path(self, symbol: str) -> Path:
        """Where the factor file is, or would be."""
        return self._root / "factor_files" / f"{symbol.lower()}.csv"

    def _unknown(self, symbol: str, known: Sequence[str]) -> UnknownSymbol:
        there = ", ".join(name.upper() for name in known) or "nothing"
        return UnknownSymbol(
            f"{self._folder} has no data of {symbol} (there is: {there}): choose among these"
        )


class DailyFiles(Files):
    """The files of daily data: one a symbol, with all of its days."""

    def path(self, symbol: str) -> Path:
        """Where a symbol's file is. Raises `UnknownSymbol` if it is not there."""
        known = sorted(path.stem for path in self._folder.glob("*.zip"))
        if symbol.lower() not in known:
            raise self._unknown(symbol, known)
        return self._folder / f"{symbol.lower()}.zip"


class DayFiles(Files):
    """The files of a resolution that keeps a trade and a quote file a day: minute, second, tick."""

    def __init__(self, folder: Path, resolution: str) -> None:
        super().__init__(folder, resolution)
        self._names: dict[str, frozenset[str]] = {}

    def path(self, symbol: str, day: date, kind: Kind) -> Path:
        """Where a day's file is, or would be."""
        return self._folder / symbol.lower() / f"{day:%Y%m%d}_{kind}.zip"

    def has(self, symbol: str, day: date, kind: Kind) -> bool:
        """Whether a day's file is there."""
        return self.path(symbol, day, kind).name in self._listing(symbol)

    def require(self, symbol: str, days: Sequence[date], *, allow_missing: bool) -> None:
        """Raise `UnknownSymbol` or `MissingDay` unless all files of `days` are there.

        A kind of file that some day has, every day must have; `allow_missing` asks for one file only.
        """
        kinds = [kind for kind in KINDS if any(self.has(symbol, day, kind) for day in days)]
        if not kinds:
            raise MissingDay(
                f"no {self._resolution} data of {symbol} from {days[0]} to {days[-1]} "
                f"(expected {self.path(symbol, days[0], KINDS[0])}): "
                f"choose dates within what is there, {self._span(symbol)}"
            )
        for day in () if allow_missing else days:
            missing = [kind for kind in kinds if not self.has(symbol, day, kind)]
            if missing:
                paths = " and ".join(str(self.path(symbol, day, kind)) for kind in missing)
                raise MissingDay(
                    f"no {self._resolution} data of {symbol} on {day} (expected {paths}): shorten the range "
                    f"(there is {self._span(symbol)}) or go on without it (--allow-missing)"
                )

    def _listing(self, symbol: str) -> frozenset[str]:
        if symbol not in self._names:
            known = _folders(self._folder)
            if symbol.lower() not in known:
                raise self._unknown(symbol, known)
            self._names[symbol] = frozenset(path.name for path in (self._folder / symbol.lower()).iterdir())
        return self._names[symbol]

    def _span(self, symbol: str) -> str:
        days = sorted(day for name in self._listing(symbol) if (day := _day(name)))
        return f"{days[0]} to {days[-1]}" if days else "nothing"


def _usa(folder: Path) -> Path:
    """The folder of resolutions: DIR/equity/usa, or DIR if it is that folder itself."""
    inner = folder / "equity" / "usa"
    if inner.is_dir():
        return inner
    if folder.is_dir() and folder.resolve().parts[-2:] == ("equity", "usa"):
        return folder
    problem = "has no folder equity/usa in it" if folder.is_dir() else "is not a folder"
    raise MissingFolder(f"{folder} {problem}: name the folder that contains equity/usa")


def _folders(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.is_dir())


def _day(name: str) -> date | None:
    try:
        return datetime.strptime(name.partition("_")[0], "%Y%m%d").date()
    except ValueError:
        return None
