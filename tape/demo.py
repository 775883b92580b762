"""`tape demo`: what Tape does, on the data that come with it, in under two minutes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

from eventlog import LogReader, open_log
from schemas import (
    BreakerCleared,
    BreakerHalted,
    CoreSettings,
    Fill,
    LimitBreached,
    Limits,
    OrderDenied,
    PnL,
    decode,
    validate,
)
from tape.backtest import ACCOUNT, Wanted, plan, run
from tape.errors import WrongInput
from tape.importing import DataWanted
from tape.limits import BACKTEST
from tape.progress import Report
from tape.projecting import project
from tape.wiring import ROOT, SNAPSHOT_EVERY

SYMBOLS = ("AIG", "BAC", "IBM", "SPY")
FIRST, LAST = date(2013, 10, 7), date(2013, 10, 9)
TIGHT = Decimal("0.003")
CASH = Decimal(100_000)


class DemoError(WrongInput):
    """The demo cannot run here; the message says why."""


class Point(NamedTuple):
    """Equity at an instant (UTC ns)."""

    ts: int
    equity: Decimal


class Shown(NamedTuple):
    """A run as the demo shows it."""

    summary: dict[str, Any]
    equity: list[Point]
    fills: list[Fill]
    breach: LimitBreached | None
    halt: BreakerHalted | None
    refused: int
    """Orders denied while it was halted."""


class Demo(NamedTuple):
    """Two runs, and where their read model stands: how many decisions, and which server."""

    first: Shown
    tight: Shown
    projected: int
    server: str


def sample_data() -> Path:
    """The sample that comes with Tape. Raises `DemoError`."""
    for folder in (Path("data/sample"), ROOT / "data" / "sample"):
        if (folder / "equity" / "usa").is_dir():
            return folder
    raise DemoError(
        "the sample data are not here: run this in a checkout of Tape, which has them in data/sample"
    )


def demo(report: Report, stop: Callable[[], bool]) -> Demo:
    """A backtest, the same with a limit so tight that the breaker trips, and both in Postgres."""
    folder = Path("runs") / f"demo-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    free = _wanted(sample_data(), folder / "first")
    tight = replace(free, limits=validate(Limits, {**BACKTEST, "day_loss": TIGHT, "day_loss_reduce": None}))
    runs = (free, replace(tight, out=folder / "tight"))
    first, second = (_shown(run(plan(wanted, report, stop), report, stop)) for wanted in runs)
    projected = [
        project(shown.summary["log"], None, follow=False, rebuild=False, report=report, stop=stop)
        for shown in (first, second)
    ]
    return Demo(first, second, sum(p["decisions_in_all"] for p in projected), projected[0]["server"])


def _wanted(data: Path, out: Path) -> Wanted:
    return Wanted(
        data=DataWanted((data,), SYMBOLS, FIRST, LAST),
        strategy="sma-cross",
        params={"fast": "10", "slow": "30"},
        cash=CASH,
        settings=CoreSettings(
            log_prefix="", simulated=True, fee="per-share:0.005:1", snapshot_every=SNAPSHOT_EVERY
        ),
        limits=validate(Limits, BACKTEST),
        kind="margin",
        multiplier=Decimal(2),
        shorting=True,
        fractions=False,
        log=None,
        out=out,
        resume=False,
        take_over=False,
    )


def _shown(summary: dict[str, Any]) -> Shown:
    with open_log(summary["log"], read_only=True) as log:
        pnl = [e for e in _decisions(log, "pnl") if isinstance(e, PnL)]
        fills = [e for e in _decisions(log, "fills") if isinstance(e, Fill)]
        risk = list(_decisions(log, "risk.breaches"))
        denied = [e.seq for e in _decisions(log, "orders") if isinstance(e, OrderDenied)]
    halt = next((e for e in risk if isinstance(e, BreakerHalted)), None)
    since = halt.seq if halt is not None else 0
    cleared = next((e.seq for e in risk if isinstance(e, BreakerCleared) and e.seq > since), None)
    return Shown(
        summary,
        equity=[Point(e.ts, e.equity) for e in pnl if e.equity is not None],
        fills=fills,
        breach=next((e for e in risk if isinstance(e, LimitBreached)), None),
        halt=halt,
        refused=sum(since < seq and (cleared is None or seq < cleared) for seq in denied) if halt else 0,
    )


def _decisions(log: LogReader, topic: str) -> Iterator[Any]:
    """All that the demo's account decided of a topic, in order."""
    for partition in range(log.partitions(topic)):
        position = 0
        while records := log.read(topic, partition, gte=position):
            for record in records:
                event = decode(topic, record.value)
                if getattr(event, "account", None) == ACCOUNT:
                    yield event
            position = records[-1].offset + 1
