"""Strategies that come with Tape: one to hold, one to follow a trend."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from decimal import ROUND_DOWN, ROUND_HALF_EVEN, Decimal

from processors.strategies.base import Strategy
from processors.strategies.context import Context
from processors.strategies.state import Stateful
from schemas import Bar, Quote, Split

WEIGHT_STEP = Decimal("0.000001")
PRICE_STEP = Decimal("1e-10")


def even_weight(symbols: int) -> Decimal:
    """1/n, rounded to 6 places toward zero, so that n of them never exceed the whole."""
    return (Decimal(1) / symbols).quantize(WEIGHT_STEP, rounding=ROUND_DOWN)


class BuyAndHold(Strategy):
    """Signals an even weight on each bar or quote of a symbol it has neither bought nor ordered."""

    def __init__(self, weight: Decimal | None = None) -> None:
        """`weight` of each symbol; by default 1/n of n symbols."""
        self.weight = weight

    def on_quote(self, quote: Quote, ctx: Context) -> None:
        self._hold(quote.symbol, ctx)

    def on_bar(self, bar: Bar, ctx: Context) -> None:
        self._hold(bar.symbol, ctx)

    def _hold(self, symbol: str, ctx: Context) -> None:
        if not ctx.position(symbol) and not ctx.working(symbol):
            ctx.target(symbol, weight=even_weight(len(ctx.symbols)) if self.weight is None else self.weight)


class MovingAverage(Stateful):
    """The sum of the last `length` closes, kept as they come; exact, since closes are decimals."""

    def __init__(self, length: int) -> None:
        self.closes: deque[Decimal] = deque(maxlen=length)
        self.sum = Decimal(0)

    def add(self, close: Decimal) -> None:
        """Take in the next close."""
        if self.ready:
            self.sum -= self.closes[0]
        self.closes.append(close)
        self.sum += close

    @property
    def ready(self) -> bool:
        """Whether there have been enough closes."""
        return len(self.closes) == self.closes.maxlen

    @property
    def value(self) -> Decimal:
        """The mean of the closes it holds."""
        return self.sum / len(self.closes)

    def restate(self, closes: Iterable[Decimal]) -> None:
        """Replace the closes it holds, as a split does."""
        self.closes = deque(closes, self.closes.maxlen)
        self.sum = sum(self.closes, Decimal(0))


class SmaCross(Strategy):
    """Follows the crossing of two simple moving averages of each symbol's closes.

    When the fast one crosses above the slow one, the target is `weight`; when it crosses below,
    zero, or -`weight` where `short`. The side on which it finds the averages first is no
    crossing, and where they touch they have not crossed yet. Bars without trades are passed over.
    """

    def __init__(
        self, fast: int = 10, slow: int = 30, weight: Decimal | None = None, short: bool = False
    ) -> None:
        """`fast` and `slow` are counts of bars; `weight` of each symbol is by default 1/n."""
        if not 0 < fast < slow:
            raise ValueError(f"fast is {fast} and slow is {slow}; it must be 0 < fast < slow")
        self.fast = fast
        self.slow = slow
        self.weight = weight
        self.short = short
        self.averages: dict[str, tuple[MovingAverage, MovingAverage]] = {}
        self.above: dict[str, bool] = {}

    def on_bar(self, bar: Bar, ctx: Context) -> None:
        if bar.close is None:
            return
        symbol = bar.symbol
        if symbol not in self.averages:
            self.averages[symbol] = MovingAverage(self.fast), MovingAverage(self.slow)
        fast, slow = self.averages[symbol]
        fast.add(bar.close)
        slow.add(bar.close)
        gap = fast.sum * self.slow - slow.sum * self.fast
        if not slow.ready or not gap:
            return
        before, self.above[symbol] = self.above.get(symbol), gap > 0
        if before is not None and before != self.above[symbol]:
            self._turn(symbol, ctx, fast.value, slow.value)

    def on_split(self, split: Split, ctx: Context) -> None:
        for average in self.averages.get(split.symbol, ()):
            average.restate(_scaled(close, split) for close in average.closes)

    def _turn(self, symbol: str, ctx: Context, fast: Decimal, slow: Decimal) -> None:
        weight = even_weight(len(ctx.symbols)) if self.weight is None else self.weight
        down = -weight if self.short else Decimal(0)
        target = weight if self.above[symbol] else down
        ctx.target(symbol, weight=target, why={"fast": fast, "slow": slow})


def _scaled(close: Decimal, split: Split) -> Decimal:
    return (close * split.den / split.num).quantize(PRICE_STEP, rounding=ROUND_HALF_EVEN)


BUILTIN: dict[str, type[Strategy]] = {"buy-and-hold": BuyAndHold, "sma-cross": SmaCross}
"""The built-in strategies by the name a configuration uses."""
