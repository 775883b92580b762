"""A strategy that trades all the time, in every way there is; loaded from this file by its path."""

from tape import Bar, Context, Decimal, Fill, OrderAccepted, OrderChanged, OrderDenied, Quote, Strategy, Trade

CENT = Decimal("0.01")


class Noisy(Strategy):
    """Draws what to do from a sequence of its own, once in `every` market events."""

    def __init__(self, seed: int = 1, every: int = 3, size: int = 200, fail_at: int = 0) -> None:
        """`fail_at`: it raises on the market event of that count."""
        self.draws = seed
        self.every = every
        self.size = size
        self.fail_at = fail_at
        self.seen = 0
        self.prices: dict[str, Decimal] = {}
        self.ended: dict[str, int] = {}

    def draw(self, below: int) -> int:
        """The next number of the sequence, from 0."""
        self.draws = (self.draws * 6364136223846793005 + 1442695040888963407) % (1 << 64)
        return (self.draws >> 33) % below

    def on_quote(self, quote: Quote, ctx: Context) -> None:
        if quote.bid is not None:
            self.act(quote.symbol, quote.bid, ctx)

    def on_bar(self, bar: Bar, ctx: Context) -> None:
        if bar.close is not None:
            self.act(bar.symbol, bar.close, ctx)

    def on_trade(self, trade: Trade, ctx: Context) -> None:
        self.prices[trade.symbol] = trade.price

    def on_fill(self, fill: Fill, ctx: Context) -> None:
        """A stop on one fill in four, a target on another."""
        what = self.draw(4)
        out = "sell" if fill.side == "buy" else "buy"
        sign = -1 if fill.side == "buy" else 1
        if what == 0:
            ctx.order(fill.symbol, out, fill.quantity, "stop", stop=fill.price + sign * 5 * CENT)
        elif what == 1:
            ctx.order(fill.symbol, out, fill.quantity, "limit", limit=fill.price - sign * 5 * CENT, tif="gtc")

    def on_order(self, order: OrderAccepted | OrderDenied | OrderChanged, ctx: Context) -> None:
        name = type(order).__name__
        self.ended[name] = self.ended.get(name, 0) + 1

    def act(self, symbol: str, price: Decimal, ctx: Context) -> None:
        """One of the things a strategy can do."""
        self.seen += 1
        if self.seen == self.fail_at:
            raise RuntimeError(f"event {self.seen}")
        if self.seen % self.every:
            return
        working = ctx.working(symbol)
        side = "buy" if self.draw(2) else "sell"
        sign = 1 if side == "buy" else -1
        quantity = 1 + self.draw(self.size)
        match self.draw(10):
            case 0 | 1:
                ctx.target(symbol, weight=Decimal(self.draw(81) - 40) / 100, why={"price": price})
            case 2:
                ctx.target(symbol, shares=-ctx.position(symbol))
            case 3:
                ctx.order(symbol, side, quantity)
            case 4:
                ctx.order(symbol, side, quantity, "limit", limit=price - sign * 3 * CENT)
            case 5:
                tif = ("ioc", "fok", "gtc")[self.draw(3)]
                ctx.order(symbol, side, quantity, "limit", limit=price + sign * 2 * CENT, tif=tif)
            case 6:
                ctx.order(symbol, side, quantity, "stop", stop=price + sign * 4 * CENT)
            case 7:
                stop = price + sign * 3 * CENT
                ctx.order(symbol, side, quantity, "stop_limit", stop=stop, limit=stop + sign * CENT)
            case 8 if working:
                ctx.cancel(working[self.draw(len(working))].order)
            case 9 if working:
                order = working[self.draw(len(working))]
                limit = None if order.limit is None else order.limit + sign * CENT
                ctx.replace(order.order, quantity=order.quantity + self.draw(20), limit=limit)
