"""The read model `trading`: its tables, their columns with unit and meaning, and the views over them.

Tables are only ever appended to, one row a decision (or a part of one); what stands *now* is a view
over them. A column's type ends in `?` where it may be null. Money is in dollars, exact.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class Column(NamedTuple):
    """A column; `type` is Postgres' name of it."""

    name: str
    type: str
    nullable: bool
    doc: str


@dataclass(frozen=True)
class Table:
    """A table, or with `query` a view."""

    name: str
    doc: str
    columns: tuple[Column, ...]
    key: tuple[str, ...] = ()
    index: tuple[str, ...] = ()
    query: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """Its columns, in order."""
        return tuple(column.name for column in self.columns)


@dataclass(frozen=True)
class ReadModel:
    """A projection: name and version give its schema; a schema of the bare name has views on it."""

    name: str
    version: int
    tables: tuple[Table, ...]
    views: tuple[Table, ...]

    @property
    def schema(self) -> str:
        """Where the tables live."""
        return f"{self.name}_v{self.version}"


DECISION = """
log       text          id of the log
account   text          the account
seq       bigint        the decision's number in the account, gapless over all tables of decisions
ts        timestamptz   market time of the decision, to the microsecond (cut off)
ts_ns     bigint        the same, exact: nanoseconds since 1970 UTC
cause     text          identity of what led to it: account:seq, a fact's id, or topic/partition/offset
trace     text          identity of the root; for an order or a fill, its signal
"""
PLACE = """
log       text          id of the log
account   text          the account
seq       bigint        the decision that this is a part of
"""


def _columns(text: str) -> tuple[Column, ...]:
    found = []
    for line in filter(None, text.splitlines()):
        name, kind, doc = line.split(None, 2)
        found.append(Column(name, kind.rstrip("?"), kind.endswith("?"), doc))
    return tuple(found)


def _decisions(name: str, doc: str, columns: str, index: tuple[str, ...] = ()) -> Table:
    return Table(name, doc, _columns(DECISION + columns), ("log", "account", "seq"), index)


def _parts(name: str, doc: str, columns: str, key: str, index: tuple[str, ...] = ()) -> Table:
    return Table(name, doc, _columns(PLACE + columns), ("log", "account", "seq", key), index)


def _view(name: str, doc: str, columns: str, query: str) -> Table:
    return Table(name, doc, _columns(columns), query=query)


ORDER_TERMS = """
order_id     text       client order id
strategy     text       the strategy; empty for an operator's order
symbol       text       ticker
side         text       buy or sell
quantity     numeric    shares
"""
BREAKER = """
reason       text       day-loss, absolute-loss, drawdown, operator, integrity, drift, stale, overfill
"""

TABLES = (
    _decisions(
        "accounts",
        "One row an account, as it was opened.",
        """
command      text       id of the OpenAccount command
who          text       who opened it
cash         numeric    starting cash, dollars
kind         text       cash or margin
multiplier   numeric    gross exposure allowed, multiples of equity
shorting     boolean    whether short positions are allowed
fractions    boolean    whether fractions of shares are allowed
limits       jsonb      the limits it was opened with
""",
    ),
    _decisions(
        "commands",
        "Operators' commands, applied or refused.",
        """
command      text       id of the command
kind         text       OpenAccount, Deposit, SetLimits, HaltAccount, Rearm, PlaceOrder, ...
who          text       who gave it
applied      boolean    false: it was refused and changed nothing
why          text       the operator's reason; of a refused one, why it was refused
body         jsonb?     the command as it stands in the log; null where it cannot be read
""",
    ),
    _decisions(
        "signals",
        "What strategies wanted, as the core took it.",
        """
proposal     text       id of the proposal
strategy     text       the strategy
version      text       its version
intent       text       target, order, cancel or replace
symbol       text       ticker
weight       numeric?   target as a share of equity
shares       numeric?   target in shares, signed
side         text?      buy or sell
quantity     numeric?   shares of an order
order_type   text       market, limit, stop or stop_limit
limit_price  numeric?   dollars
stop_price   numeric?   dollars
tif          text       day, gtc, ioc or fok
extended     boolean    whether it may trade outside regular hours
order_id     text       the order that a cancel or a replacement is for; else empty
confidence   numeric?   as the strategy gave it
features     jsonb      what the strategy saw: name and value as text
""",
    ),
    _decisions(
        "orders",
        "Orders as they were requested, one row an order; `order_status` has their state.",
        ORDER_TERMS
        + """
order_type   text       market, limit, stop or stop_limit
limit_price  numeric?   dollars
stop_price   numeric?   dollars
tif          text       day, gtc, ioc or fok
extended     boolean    whether it may trade outside regular hours
""",
        ("order_id",),
    ),
    _decisions(
        "order_history",
        "Everything that happened to an order: requested, accepted or denied, and each change.",
        """
order_id     text       client order id
event        text       OrderRequested, OrderAccepted, OrderDenied or OrderChanged
status       text       requested, accepted, denied, working, partial, filled, cancelled, expired, ...
pending      text       none, cancel or replace: asked of the broker and not answered yet
fix          text       FIX OrdStatus; empty before the broker has it
quantity     numeric    shares
filled       numeric    shares filled so far
leaves       numeric    shares that may still fill
limit_price  numeric?   dollars
stop_price   numeric?   dollars
new_quantity numeric?   what a pending replacement asks for, shares
new_limit    numeric?   the same, dollars
new_stop     numeric?   the same, dollars
reduces      boolean?   whether the account's position cannot grow by it; known once it was checked
quote        text       identity of the quote it was checked on; else empty
reason       text       why it changed; of a denied one, the checks that failed
""",
        ("order_id",),
    ),
    _parts(
        "risk_checks",
        "Every risk check that an order was held against, one row a check.",
        """
n            integer    its place among the order's checks, from 0
order_id     text       client order id
name         text       gross-exposure, buying-power, breaker, ...
passed       boolean    whether the order passed it
value        text       what was found; empty: not known
limit_value  text       what it was held against; empty: not known
value_number numeric?   `value`, where it is a number
limit_number numeric?   `limit_value`, where it is a number
""",
        "n",
        ("order_id",),
    ),
    _decisions(
        "fills",
        "Executions as booked first; `executions` has them after busts and corrections.",
        """
order_id     text       client order id
execution    text       execution id: a repeat bears the same
strategy     text       whose book
symbol       text       ticker
side         text       buy or sell
quantity     numeric    shares
price        numeric    dollars a share
fee          numeric    dollars
""",
        ("order_id",),
    ),
    _decisions(
        "fill_busts",
        "Executions taken out again.",
        """
fill         text       account:seq of the fill
execution    text       execution id
reason       text       why
""",
    ),
    _decisions(
        "fill_corrections",
        "Executions replaced by other terms.",
        """
fill         text       account:seq of the fill
execution    text       execution id
quantity     numeric    shares
price        numeric    dollars a share
fee          numeric    dollars
reason       text       why
""",
    ),
    _decisions(
        "transfers",
        "Shares moved between two books of the account: no order, no fee, no cash.",
        """
symbol       text       ticker
giver        text       strategy that gives
taker        text       strategy that takes
quantity     numeric    shares
price        numeric    dollars a share
""",
    ),
    _decisions(
        "position_changes",
        "A book (strategy, symbol) after each change, with the account's net position beside it.",
        """
strategy     text       whose book
symbol       text       ticker
quantity     numeric    shares, negative when short
cost         numeric    dollars, signed as the quantity
average      numeric?   dollars a share: cost / quantity, for display; null when flat
realized     numeric    dollars, gross of fees
fees         numeric    dollars paid
income       numeric    dollars: dividends
net_quantity numeric    the account's shares of the symbol, over all books
net_cost     numeric    dollars, of the net position
net_realized numeric    dollars, of the net position
""",
    ),
    _decisions(
        "days",
        "The baseline of each session: equity at the last regular close.",
        """
session      text       date of the session
baseline     numeric?   dollars; null where equity was not known
peak         numeric?   dollars: the highest equity, which drawdown is measured from
""",
    ),
    _decisions(
        "pnl",
        "The account's money over time. Null: it depends on a position without a price.",
        """
equity       numeric?   dollars: cash + receivables + value
cash         numeric    dollars
receivables  numeric    dollars: dividends to come
value        numeric?   dollars: positions at their marks
realized     numeric    dollars, gross of fees
unrealized   numeric?   dollars: value - cost
fees         numeric    dollars paid
income       numeric    dollars: dividends, interest
deposits     numeric    dollars: net deposits since the opening
day          numeric?   dollars: equity - flows since the baseline - baseline
drawdown     numeric?   dollars below the peak
long         numeric?   dollars: long positions at their marks
short        numeric?   dollars: short positions at their marks
crossing     numeric?   dollars: net valuation less the sum of the strategies' books
unpriced     text[]     symbols held without a price
""",
    ),
    _decisions(
        "breaches",
        "Limits on loss that were reached: value <= threshold.",
        """
limit_name   text       day-loss, absolute-loss or drawdown
value        numeric    dollars
threshold    numeric    dollars
session      text       date of the session
""",
    ),
    _parts(
        "breach_evidence",
        "The prices that a breach rests on, one row a position.",
        """
n            integer    its place, from 0
symbol       text       ticker
quantity     numeric    shares held
price        numeric    dollars a share
tier         text       quote, trade or close
source       text       identity of the market event: topic/partition/offset
price_ts     timestamptz market time of the price, to the microsecond (cut off)
price_ts_ns  bigint     the same, exact: nanoseconds since 1970 UTC
""",
        "n",
    ),
    _decisions(
        "breaker_changes",
        "The circuit breaker's trips and clearings.",
        """
event        text       BreakerReducing, BreakerHalted or BreakerCleared
of           text       halt or reduce: which set the reason is in
"""
        + BREAKER
        + """
session      text       date of the session; empty for a clearing
ordinal      integer?   the how-manieth trip for this reason in the session; null for a clearing
detail       text       what it rests on; of a clearing, why
who          text       who cleared it; empty for a trip
reasons      text[]     all reasons that stand after it
""",
    ),
    _decisions(
        "anomalies",
        "What should not have happened and was recorded.",
        """
kind         text       one of a fixed list
order_id     text       client order id, or empty
detail       text       for people
""",
    ),
    _decisions(
        "drifts",
        "Where the broker's books differ from ours.",
        """
what         text       what differs
symbol       text       ticker, or empty
ours         text       our value
theirs       text       the broker's
""",
    ),
    _decisions(
        "unread",
        "Facts that the core could not read.",
        """
place        text       topic/partition/offset
reason       text       why
""",
    ),
    Table(
        "unreadable",
        "Decisions that this projection could not read; the tables above lack them.",
        _columns(
            """
log           text      id of the log
topic         text      where it stands
partition     integer   where it stands
log_offset    bigint    where it stands
account       text      the account, by the record's key
seq           bigint?   its number in the account, where that much could be read
reason        text      why it could not be read
bytes         bytea     the record as it stands in the log
"""
        ),
        ("log", "topic", "partition", "log_offset"),
    ),
)

LOGS = Table(
    "logs",
    "The logs whose rows are here.",
    _columns(
        """
log           text      its id
url           text      where it was read last; two logs cannot bear the same name
time          text      wall (live) or data (played with its own times)
"""
    ),
    ("log",),
)
PROGRESS = Table(
    "progress",
    "How far each partition of a log has been brought in; it moves in the transaction of the rows.",
    _columns(
        """
log           text      id of the log
partition     integer   of the account topics
next          bigint    offset of the next batch to read
batches       bigint    batches brought in
decisions     bigint    decisions brought in
now           timestamptz? market time at the end of the last batch
now_ns        bigint?   the same, exact: nanoseconds since 1970 UTC
state         jsonb     where each topic and account stands; for the projector alone
"""
    ),
    ("log", "partition"),
)

VIEWS = (
    _view(
        "order_status",
        "Each order with its state now.",
        """
log          text       id of the log
account      text       the account
order_id     text       client order id
strategy     text       the strategy; empty for an operator's order
symbol       text       ticker
side         text       buy or sell
order_type   text       market, limit, stop or stop_limit
tif          text       day, gtc, ioc or fok
requested_at timestamptz market time of the request
status       text       its last status
pending      text       none, cancel or replace
quantity     numeric    shares
filled       numeric    shares filled so far
leaves       numeric    shares that may still fill
limit_price  numeric?   dollars
stop_price   numeric?   dollars
reason       text       why it changed last
changed_at   timestamptz market time of the last change
seq          bigint     the decision that changed it last
trace        text       its signal
""",
        """
SELECT o.log, o.account, o.order_id, o.strategy, o.symbol, o.side, o.order_type, o.tif,
       o.ts AS requested_at, h.status, h.pending, h.quantity, h.filled, h.leaves, h.limit_price,
       h.stop_price, h.reason, h.ts AS changed_at, h.seq, o.trace
FROM {schema}.orders o JOIN (
    SELECT DISTINCT ON (log, account, order_id) * FROM {schema}.order_history
    ORDER BY log, account, order_id, seq DESC
) h USING (log, account, order_id)
""",
    ),
    _view(
        "executions",
        "Fills as they count now: without those busted, with corrected terms.",
        """
log          text       id of the log
account      text       the account
seq          bigint     of the fill
ts           timestamptz market time of the fill
order_id     text       client order id
execution    text       execution id
strategy     text       whose book
symbol       text       ticker
side         text       buy or sell
quantity     numeric    shares
price        numeric    dollars a share
fee          numeric    dollars
corrected    boolean    whether the terms are not those booked first
cause        text       identity of what filled it
trace        text       its signal
""",
        """
SELECT f.log, f.account, f.seq, f.ts, f.order_id, f.execution, f.strategy, f.symbol, f.side,
       coalesce(c.quantity, f.quantity) AS quantity, coalesce(c.price, f.price) AS price,
       coalesce(c.fee, f.fee) AS fee, c.seq IS NOT NULL AS corrected, f.cause, f.trace
FROM {schema}.fills f
LEFT JOIN (
    SELECT DISTINCT ON (log, account, fill) * FROM {schema}.fill_corrections
    ORDER BY log, account, fill, seq DESC
) c ON c.log = f.log AND c.account = f.account AND c.fill = f.account || ':' || f.seq
WHERE NOT EXISTS (
    SELECT FROM {schema}.fill_busts b
    WHERE b.log = f.log AND b.account = f.account AND b.fill = f.account || ':' || f.seq
)
""",
    ),
    _view(
        "positions",
        "Each book as it is now, flat ones too.",
        """
log          text       id of the log
account      text       the account
strategy     text       whose book
symbol       text       ticker
quantity     numeric    shares, negative when short
cost         numeric    dollars, signed as the quantity
average      numeric?   dollars a share; null when flat
realized     numeric    dollars, gross of fees
fees         numeric    dollars paid
income       numeric    dollars: dividends
ts           timestamptz market time of the last change
seq          bigint     the decision that changed it last
""",
        """
SELECT DISTINCT ON (log, account, strategy, symbol) log, account, strategy, symbol, quantity, cost,
       average, realized, fees, income, ts, seq
FROM {schema}.position_changes ORDER BY log, account, strategy, symbol, seq DESC
""",
    ),
    _view(
        "net_positions",
        "The account's net position of each symbol now, flat ones too.",
        """
log          text       id of the log
account      text       the account
symbol       text       ticker
quantity     numeric    shares, negative when short
cost         numeric    dollars, signed as the quantity
realized     numeric    dollars, gross of fees
ts           timestamptz market time of the last change
seq          bigint     the decision that changed it last
""",
        """
SELECT DISTINCT ON (log, account, symbol) log, account, symbol, net_quantity AS quantity,
       net_cost AS cost, net_realized AS realized, ts, seq
FROM {schema}.position_changes ORDER BY log, account, symbol, seq DESC
""",
    ),
    _view(
        "breaker_reasons",
        "The reasons for which the breaker stands now.",
        """
log          text       id of the log
account      text       the account
of           text       halt or reduce
"""
        + BREAKER
        + """
detail       text       what it rests on
session      text       date of the session
since        timestamptz market time of the trip
seq          bigint     the trip
""",
        """
SELECT log, account, of, reason, detail, session, ts AS since, seq FROM (
    SELECT DISTINCT ON (log, account, of, reason) * FROM {schema}.breaker_changes
    ORDER BY log, account, of, reason, seq DESC
) last WHERE event <> 'BreakerCleared'
""",
    ),
    _view(
        "account_status",
        "Each account now: its breaker and its last figures.",
        """
log          text       id of the log
account      text       the account
breaker      text       ACTIVE, REDUCING or HALTED
ts           timestamptz? market time of the figures
equity       numeric?   dollars; null where something held has no price
cash         numeric?   dollars
realized     numeric?   dollars, gross of fees
unrealized   numeric?   dollars
fees         numeric?   dollars paid
day          numeric?   dollars: the session's gain or loss
drawdown     numeric?   dollars below the peak
seq          bigint?    the decision that the figures are from
""",
        """
SELECT a.log, a.account,
       CASE WHEN EXISTS (SELECT FROM {schema}.breaker_reasons r
                         WHERE r.log = a.log AND r.account = a.account AND r.of = 'halt') THEN 'HALTED'
            WHEN EXISTS (SELECT FROM {schema}.breaker_reasons r
                         WHERE r.log = a.log AND r.account = a.account) THEN 'REDUCING'
            ELSE 'ACTIVE' END AS breaker,
       p.ts, p.equity, p.cash, p.realized, p.unrealized, p.fees, p.day, p.drawdown, p.seq
FROM {schema}.accounts a LEFT JOIN LATERAL (
    SELECT * FROM {schema}.pnl p WHERE p.log = a.log AND p.account = a.account ORDER BY seq DESC LIMIT 1
) p ON true
""",
    ),
)

TRADING = ReadModel("trading", 1, (*TABLES, LOGS, PROGRESS), VIEWS)
