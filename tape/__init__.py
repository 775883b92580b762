"""Command line, configuration and wiring; what a user's own strategy imports.

    from tape import Bar, Context, Decimal, Strategy

See `Strategy` for what to write, and `Context` for what it can see and say.
"""

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
