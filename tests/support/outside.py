"""Bars that swing, so that mean reversion has something to say, and what came of them."""

from __future__ import annotations

from decimal import Decimal
from random import Random

from eventlog import EventLog, LogSpec, create_log
from processors.outside import MeanReversion
from schemas import Bar, NewRecord, Proposal, Unreadable, decode, evolve, new_record, partition_of
from support.market import MINUTE, at, bar

SPEC = LogSpec("0123456789abcdef", "data", account_partitions=2, market_partitions=2)
SYMBOLS = ("AAA", "BBB", "CCC")


def strategy(account: str = "one", **params: object) -> MeanReversion:
    """A strategy that speaks often."""
    given: dict[str, object] = {"length": 10, "entry": 1.2, "leave": 0.3, "short": True, **params}
    return MeanReversion("revert", account, SYMBOLS, **given)  # type: ignore[arg-type]


def bars(count: int = 300, seed: int = 1) -> list[Bar]:
    """Bars of each symbol a minute, every thirteenth one revised."""
    draw, found = Random(seed).random, []
    cents = dict.fromkeys(SYMBOLS, 10000)
    for n in range(count):
        for symbol in SYMBOLS:
            cents[symbol] += int(draw() * 41) - 20
            made = _bar(n, cents[symbol], symbol)
            found.append(made)
            if n % 13 == 5:
                found.append(_bar(n, cents[symbol] + 30, symbol))
    return [evolve(made, source="bars", row=row + 1) for row, made in enumerate(found)]


def _bar(n: int, cents: int, symbol: str) -> Bar:
    price = Decimal(cents).scaleb(-2)
    return bar(at("09:31") + n * MINUTE, f"{price} {price} {price} {price}", symbol=symbol)


def records(log: EventLog, made: list[Bar]) -> list[NewRecord]:
    """The bars' records, in their symbols' partitions."""
    count = log.partitions("market.bars")
    return [new_record(one, partition_of(one.symbol, count), one.symbol) for one in made]


def bar_log(url: str, made: list[Bar] | None = None, market_partitions: int = 2) -> EventLog:
    """A log that holds bars."""
    log = create_log(url, LogSpec(SPEC.id, SPEC.time, SPEC.account_partitions, market_partitions))
    with log.writer("feed") as writer:
        writer.append(records(log, bars() if made is None else made))
    return log


def proposals(log: EventLog) -> list[Proposal]:
    """All proposals of a log, partition by partition."""
    found = []
    for partition in range(log.partitions("strategy.proposals")):
        for record in log.read("strategy.proposals", partition, gte=0, limit=1 << 30):
            event = decode(record.topic, record.value)
            assert not isinstance(event, Unreadable), event.reason
            assert isinstance(event, Proposal)
            assert partition == partition_of(event.account, log.partitions("strategy.proposals"))
            found.append(event)
    return found


def by_source(made: list[Proposal]) -> dict[tuple[str, str], list[Proposal]]:
    """The proposals of each account and source in their order, each where it stands first."""
    found: dict[tuple[str, str], dict[str, Proposal]] = {}
    for one in made:
        found.setdefault((one.account, one.source), {}).setdefault(one.id, one)
    return {key: list(ones.values()) for key, ones in found.items()}
