"""The topic catalogue: what is written where, by whom, keyed how, in transactions or not."""

from __future__ import annotations

from typing import Literal, NamedTuple

Kind = Literal["market", "fact", "decision", "journal"]


class Topic(NamedTuple):
    """One topic. `spread` says whose partition count it shares: market, account, or one partition."""

    name: str
    kind: Kind
    key: Literal["symbol", "account", "partition", "rule"]
    spread: Literal["market", "account", "one"]
    roles: tuple[str, ...]

    @property
    def transactional(self) -> bool:
        """Market topics are written without transactions, so that their offsets have no holes."""
        return self.kind != "market"


def _topics(*rows: Topic) -> dict[str, Topic]:
    return {t.name: t for t in rows}


TOPICS = _topics(
    Topic("market.quotes", "market", "symbol", "market", ("feed", "import")),
    Topic("market.trades", "market", "symbol", "market", ("feed", "import")),
    Topic("market.bars", "market", "symbol", "market", ("feed", "import", "market")),
    Topic("market.status", "market", "symbol", "market", ("feed", "import", "heartbeat", "market")),
    Topic("market.marks", "market", "symbol", "market", ("market",)),
    Topic("operator.commands", "fact", "account", "account", ("operator",)),
    Topic("strategy.proposals", "fact", "account", "account", ("strategies",)),
    Topic("broker.reports", "fact", "account", "account", ("gateway",)),
    Topic("signals", "decision", "account", "account", ("core",)),
    Topic("orders", "decision", "account", "account", ("core",)),
    Topic("fills", "decision", "account", "account", ("core",)),
    Topic("risk.breaches", "decision", "account", "account", ("core",)),
    Topic("positions", "decision", "account", "account", ("core",)),
    Topic("pnl", "decision", "account", "account", ("core",)),
    Topic("configuration", "journal", "partition", "account", ("core",)),
    Topic("batches", "journal", "partition", "account", ("core",)),
    Topic("snapshots", "journal", "partition", "account", ("core",)),
    Topic("folds", "journal", "partition", "one", ("market",)),
    Topic("dead-letters", "journal", "partition", "account", ("core", "feed", "import", "strategies")),
    Topic("seals", "journal", "partition", "one", ("store", "seal")),
    Topic("roles", "journal", "partition", "one", ("heartbeat",)),
    Topic("alerts", "journal", "rule", "one", ("strategies",)),
)

CORE_MARKET_INPUTS = ("market.status", "market.quotes", "market.trades", "market.bars")
CORE_ACCOUNT_INPUTS = ("operator.commands", "strategy.proposals", "broker.reports")
DECISIONS = tuple(t.name for t in TOPICS.values() if t.kind == "decision")
