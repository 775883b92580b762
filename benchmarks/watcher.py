"""The strategy of the benchmark: it sees every quote, and holds ten symbols."""

from tape import Context, Quote, Strategy


class Watcher(Strategy):
    """Counts quotes and keeps a running mean of each symbol's mid in cents; buys its first ten symbols."""

    def __init__(self) -> None:
        self.seen = 0
        self.held: set[str] = set()
        self.mean: dict[str, float] = {}

    def on_quote(self, quote: Quote, ctx: Context) -> None:
        self.seen += 1
        symbol = quote.symbol
        bid = float(quote.bid or 0)
        self.mean[symbol] = self.mean.get(symbol, bid) * 0.99 + bid * 0.01
        if len(self.held) < 10 and symbol not in self.held:
            self.held.add(symbol)
            ctx.target(symbol, weight=0.05)
