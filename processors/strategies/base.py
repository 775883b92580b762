"""The class that a user's strategy extends."""

from __future__ import annotations

from processors.strategies.context import Context
from processors.strategies.state import Stateful
from schemas import Bar, Fill, OrderAccepted, OrderChanged, OrderDenied, Quote, Split, Trade


class Strategy(Stateful):
    """A trading strategy: override the `on_...` methods of the events it wants.

        from tape import Bar, Context, Strategy

        class Dip(Strategy):
            def __init__(self, drop: float = 0.02):
                self.drop = drop
                self.high = {}

            def on_bar(self, bar: Bar, ctx: Context) -> None:
                close = float(bar.close or 0)
                high = self.high[bar.symbol] = max(close, self.high.get(bar.symbol, 0.0))
                if 0 < close < high * (1 - self.drop) and not ctx.position(bar.symbol):
                    ctx.target(bar.symbol, weight=0.1, why={"high": high, "close": close})

    It gets the events of the symbols it is configured with, in the order of the log. The
    parameters of `__init__` are set in the configuration and converted by their annotations
    (int, float, Decimal, str, bool, or one of them `| None`).

    The same events must always lead to the same proposals, live as in every replay. So the time
    is `ctx.now`, never the clock; there is no randomness, no file, no network; a set is walked
    only through `sorted`. What it remembers stands in attributes of `self`, not in globals: a
    snapshot keeps them (see `Stateful`), and after a restart it goes on where it was. A
    strategy whose parameters, symbols or `version` have changed since then starts anew; one
    whose code alone has changed keeps its state, so raise `version` where that would be wrong.

    An exception ends the run, and names the event and the line; nothing is traded on a guess.
    """

    version: str = "1"
    """Part of the id of every signal."""

    warm_up: int = 0
    """For how many bars of a symbol its proposals are dropped (quotes if it wants no bars, else trades)."""

    def on_bar(self, bar: Bar, ctx: Context) -> None:
        """A bar ended. `bar.close` is None if nothing traded in it."""

    def on_quote(self, quote: Quote, ctx: Context) -> None:
        """The best bid or ask changed. A side without orders is None."""

    def on_trade(self, trade: Trade, ctx: Context) -> None:
        """A trade was printed."""

    def on_split(self, split: Split, ctx: Context) -> None:
        """`num` new shares for every `den` old: prices after it are scaled, so scale those you keep."""

    def on_fill(self, fill: Fill, ctx: Context) -> None:
        """An order of this strategy filled, wholly or in part; `ctx.position` has it already."""

    def on_order(self, order: OrderAccepted | OrderDenied | OrderChanged, ctx: Context) -> None:
        """An order of this strategy was accepted, denied (see its `checks`), or changed its status."""
