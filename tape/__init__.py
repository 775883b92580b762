"""Command line, configuration and wiring; what a user's own strategy imports.

    from tape import Bar, Context, Decimal, Strategy

See `Strategy` for what to write, and `Context` for what it can see and say.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from decimal import Decimal

    from processors.strategies.base import Strategy
    from processors.strategies.context import Context
    from processors.strategies.state import Stateful
    from processors.strategies.view import WorkingOrder
    from schemas import Bar, Fill, OrderAccepted, OrderChanged, OrderDenied, Quote, Split, Trade

__all__ = [
    "Bar",
    "Context",
    "Decimal",
    "Fill",
    "OrderAccepted",
    "OrderChanged",
    "OrderDenied",
    "Quote",
    "Split",
    "Stateful",
    "Strategy",
    "Trade",
    "WorkingOrder",
]

_HOMES = {
    "Context": "processors.strategies.context",
    "Decimal": "decimal",
    "Stateful": "processors.strategies.state",
    "Strategy": "processors.strategies.base",
    "WorkingOrder": "processors.strategies.view",
}


def __getattr__(name: str) -> Any:
    """What a strategy imports, found when it is asked for: `tape --help` needs none of it."""
    if name not in __all__:
        raise AttributeError(f"module 'tape' has no attribute '{name}'; it has {', '.join(__all__)}")
    return getattr(import_module(_HOMES.get(name, "schemas")), name)
