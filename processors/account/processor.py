"""The account processor: quotes, reports, proposals and commands in; every decision out.

What happens to a record, by its type, stands in `Accounts._handlers`; the parts are in the modules
beside this one: `books` (a fill becomes a position), `orders` (the state machine), `targets` and
`sizing` (from a signal to a number of shares), `trading` (from there to an order), `risk` (the
checks), `execution` (from a report to the books), `reconcile` (the broker's books against ours),
`valuation` (marks, profit and loss, trips), `breaker`, `flatten` (the way out), `operator` (commands),
`sessions`, `corporate` (splits and dividends), `unread`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

import msgspec

from processors.account import (
    corporate,
    execution,
    flatten,
    operator,
    reconcile,
    sessions,
    targets,
    trading,
    unread,
    valuation,
)
from processors.account.account import Account
from processors.account.desk import Desk, Kept, Retried
from processors.account.market import Session, SymbolState
from processors.strategies.view import WorkingOrder
from schemas import (
    CORE_ACCOUNT_INPUTS,
    CORE_MARKET_INPUTS,
    ZERO,
    Bar,
    BrokerSnapshot,
    Busted,
    CashActivity,
    CashDividend,
    CoreSettings,
    Corrected,
    Event,
    Filled,
    Proposal,
    Quote,
    Record,
    Rejected,
    SessionClosed,
    SessionOpened,
    Split,
    Trade,
    TradeCancel,
    TradeCorrection,
    TradingHalt,
    TradingResume,
    Unknown,
    Unreadable,
)

NOTHING: tuple[Event, ...] = ()
MARKET = frozenset(CORE_MARKET_INPUTS)
NEVER = 2**63 - 1


class State(msgspec.Struct):
    """All that the processor remembers."""

    now: int
    fact_ts: int
    session: Session
    symbols: dict[str, SymbolState]
    accounts: dict[str, Account]
    unread_status: tuple[str, ...] = ()
    kept: list[Kept] = []


class Accounts:
    """The accounts of one core partition."""

    name = "account"
    version = "1"
    inputs: tuple[str, ...] = (*CORE_MARKET_INPUTS, *CORE_ACCOUNT_INPUTS)

    def __init__(self, settings: CoreSettings) -> None:
        self.desk = Desk(settings)
        self._pnl_interval = settings.pnl_interval
        self._dirty: list[Account] = []
        self._pnl_due = NEVER
        """The market time at which the first of them may have to be written."""
        self._handlers = self._table()
        self._market: dict[type, Callable[[Record], None]] = {
            Quote: self._quote,
            Trade: self._trade,
            TradeCorrection: self._correction,
            TradeCancel: self._withdrawn,
            Bar: self._bar,
        }

    def apply(self, record: Record) -> Sequence[Event]:
        """Take one record; the decisions it leads to, in order."""
        desk = self.desk
        event: Any = record.event
        kind = type(event)
        desk.record = record
        fast = self._market.get(kind)
        if fast is None:
            if record.topic in MARKET:
                if kind is not Unreadable:
                    self.advance(event.ts)
            elif record.offset >= 0 and unread.problem(record):
                kind = Unreadable
            handler = self._handlers.get(kind)
            if handler is not None:
                handler(desk, record)
                desk.stale_from = valuation.stale_deadline(desk)
        else:
            ts = event.ts
            if ts > desk.market.now:  # noqa: PLR1730  # on the hot path: a call of max() costs more
                desk.market.now = ts
            fast(record)
        if desk.revisits:
            self._revisit()
        if desk.market.now >= desk.stale_from:
            self._check_stale()
        if desk.market.now >= self._pnl_due:
            self._write_pnl()
        return self._taken() if desk.out else NOTHING

    def next_again(self) -> Retried | None:
        """The next record that a command has had read again, which now acts; None where there is none."""
        desk = self.desk
        desk.retried = desk.again.pop(0) if desk.again else None
        return desk.retried

    def _revisit(self) -> None:
        """Something has ended: what waited for it goes, kept targets are sized again, a flatten goes on."""
        desk = self.desk
        while desk.revisits:
            name, symbol = next(iter(desk.revisits))
            del desk.revisits[name, symbol]
            account = desk.accounts[name]
            for part in (trading, targets, flatten):
                part.resume(desk, account, symbol)

    def advance(self, ts: int) -> None:
        """Market time moves to `ts`, unless it is there already: only market records may move it."""
        self.desk.market.now = max(self.desk.market.now, ts)

    def _taken(self) -> Sequence[Event]:
        out = self.desk.out
        self.desk.out = []
        return out

    # ------------------------------------------------------------ market, on the hot path

    def _quote(self, record: Record) -> None:
        quote: Any = record.event
        market = self.desk.market
        state = market.symbols.get(quote.symbol) or market.symbol(quote.symbol)
        last = state.quote
        if quote.backfilled or (last is not None and quote.ts < last.ts):
            return
        if (
            market.on_quote(state, quote, record.partition, record.offset)
            and quote.symbol in self.desk.holders
        ):
            self._marked(state)

    def _trade(self, record: Record) -> None:
        trade: Any = record.event
        market = self.desk.market
        state = market.symbol(trade.symbol)
        if market.is_blind(state):
            return
        market.count(state, trade)
        if trade.backfilled:
            return
        if (
            market.on_trade(state, trade.price, trade.ts, record.place, trade.id)
            and trade.symbol in self.desk.holders
        ):
            self._marked(state)

    def _correction(self, record: Record) -> None:
        """A correction of the last trade corrects the mark."""
        event: Any = record.event
        state = self.desk.market.symbol(event.symbol)
        if state.trade is not None and state.trade_id == event.id:
            state.trade, state.trade_source = event.price, record.place
            if event.symbol in self.desk.holders:
                self._marked(state)

    def _withdrawn(self, record: Record) -> None:
        """A withdrawal of the last trade leaves the symbol without one."""
        event: Any = record.event
        state = self.desk.market.symbol(event.symbol)
        if state.trade is not None and state.trade_id == event.id:
            state.trade, state.trade_ts, state.trade_source, state.trade_id = None, 0, "", ""
            if event.symbol in self.desk.holders:
                self._marked(state)
            self.desk.stale_from = valuation.stale_deadline(self.desk)

    def _bar(self, record: Record) -> None:
        bar: Any = record.event
        market = self.desk.market
        state = market.symbol(bar.symbol)
        if market.on_bar(state, bar, record.place) and bar.symbol in self.desk.holders:
            self._marked(state)

    def _marked(self, state: SymbolState) -> None:
        desk = self.desk
        valuation.on_mark(desk, state)
        for name in desk.holders[state.symbol]:
            account = desk.accounts[name]
            if account.changed and account not in self._dirty:
                self._dirty.append(account)
                self._pnl_due = min(self._pnl_due, account.pnl_ts + self._pnl_interval)

    def _write_pnl(self) -> None:
        """Profit and loss of what changed, at most once an interval of market time."""
        now = self.desk.market.now
        kept = []
        for account in sorted(self._dirty, key=lambda a: a.id):
            if account.changed and now - account.pnl_ts < self._pnl_interval:
                kept.append(account)
            elif account.changed:
                valuation.write_pnl(self.desk, account, self.desk.because())
        self._dirty = kept
        self._pnl_due = min((a.pnl_ts + self._pnl_interval for a in kept), default=NEVER)

    def _check_stale(self) -> None:
        for account in self.desk.each_account():
            valuation.check_stale(self.desk, account, self.desk.because())
        self.desk.stale_from = valuation.stale_deadline(self.desk)

    # ------------------------------------------------------------ the rest, by type

    def _table(self) -> dict[type, Callable[[Desk, Record], None]]:
        table: dict[type, Callable[[Desk, Record], None]] = {
            SessionOpened: sessions.on_opened,
            SessionClosed: sessions.on_closed,
            Split: corporate.on_split,
            CashDividend: corporate.on_dividend,
            TradingHalt: sessions.on_trading_halt,
            TradingResume: sessions.on_trading_resume,
            Unreadable: unread.on_unreadable,
            Proposal: targets.on_proposal,
            Filled: execution.on_filled,
            Busted: execution.on_busted,
            Corrected: execution.on_corrected,
            Rejected: execution.on_rejected,
            CashActivity: execution.on_cash,
            BrokerSnapshot: reconcile.on_snapshot,
        }
        table.update(dict.fromkeys(execution.REPORTS, execution.on_report))
        table[Unknown] = reconcile.on_unknown
        table.update(dict.fromkeys(operator.COMMANDS, operator.on_command))
        return table

    # ------------------------------------------------------------ what strategies may see

    def is_open(self, account: str) -> bool:
        """Whether the account exists."""
        return account in self.desk.accounts

    def position(self, account: str, strategy: str, symbol: str) -> Decimal:
        """Signed shares in the strategy's own book."""
        holding = self.desk.accounts[account].holdings.get(symbol)
        book = holding.ledger.books.get(strategy) if holding is not None else None
        return book.quantity if book is not None else ZERO

    def working(self, account: str, strategy: str, symbol: str) -> Sequence[WorkingOrder]:
        """The strategy's orders of a symbol that have not ended."""
        orders: list[Any] = list(self.desk.accounts[account].open_of(symbol))
        return [
            WorkingOrder(
                order=o.id,
                side=o.side,
                quantity=o.quantity,
                filled=o.filled,
                leaves=o.leaves,
                order_type=o.order_type,
                limit=o.limit,
                stop=o.stop,
                pending=o.pending,
            )
            for o in orders
            if o.strategy == strategy
        ]

    def equity(self, account: str) -> Decimal | None:
        """Dollars; None while something held has no price."""
        return self.desk.accounts[account].equity

    def cash(self, account: str) -> Decimal:
        """Dollars."""
        return self.desk.accounts[account].cash

    def state(self, account: str) -> str:
        """ACTIVE, REDUCING or HALTED."""
        return self.desk.accounts[account].state

    # ------------------------------------------------------------ snapshots

    def snapshot(self) -> bytes:
        """All state, as canonical JSON."""
        market = self.desk.market
        state = State(
            market.now,
            self.desk.fact_ts,
            market.session,
            market.symbols,
            self.desk.accounts,
            market.unread_status,
            self.desk.kept,
        )
        return msgspec.json.encode(state, order="deterministic")

    def restore(self, snapshot: bytes) -> None:
        """Be as the snapshot says; what is derived from it is worked out again."""
        state = msgspec.json.decode(snapshot, type=State)
        desk = self.desk
        desk.market.now, desk.fact_ts, desk.market.session = state.now, state.fact_ts, state.session
        desk.market.symbols, desk.accounts = state.symbols, state.accounts
        desk.market.unread_status, desk.kept = state.unread_status, state.kept
        desk.holders = {}
        for account in desk.each_account():
            for symbol in sorted(account.holdings):
                desk.holds(account, symbol)
        self._dirty = [a for a in desk.each_account() if a.changed]
        self._pnl_due = 0
        desk.stale_from = valuation.stale_deadline(desk)
