"""Strategies that run outside the core, by name: they write what they want as proposals."""

from __future__ import annotations

from processors.keyed import KeyedProcessor
from processors.outside import MeanReversion
from tape.config import StrategyConfig
from tape.strategies import LoadError, make_with_params

OUTSIDE = {MeanReversion.name: MeanReversion}


def load_outside(strategy: StrategyConfig) -> KeyedProcessor:
    """The processor of a strategy outside the core, made with its parameters. Raises `LoadError`."""
    cls = OUTSIDE.get(strategy.kind)
    if cls is None:
        raise LoadError(
            f"strategy {strategy.name}: outside the core there is no '{strategy.kind}'; there are "
            f'{", ".join(sorted(OUTSIDE))}, or set where = "core"'
        )
    given = {"strategy": strategy.name, "account": strategy.account, "symbols": strategy.symbols}
    return make_with_params(strategy.kind, cls, strategy.params, given)
