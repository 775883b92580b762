"""Records that cannot be read: facts about an account halt it, market records make symbols stale.

The rules, and what the operator can do about such a record, stand in `docs/internals/unread.md`.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec

from processors.account import breaker as br
from processors.account.account import Account
from processors.account.desk import Desk, Kept, Retried, Why
from processors.account.market import UNNAMED
from processors.account.valuation import check_stale, halt, mark, watch, write_pnl
from schemas import (
    CORE_MARKET_INPUTS,
    EVERY_SYMBOL,
    CashDividend,
    Record,
    SessionClosed,
    SessionOpened,
    Split,
    TradingHalt,
    TradingResume,
    Unread,
    Unreadable,
    decode,
    plain,
)
from schemas.declare import DECIMAL_FIELDS, NESTED_FIELDS

MARKET = frozenset(CORE_MARKET_INPUTS)
PRICES = frozenset(CORE_MARKET_INPUTS) - {"market.status"}
PLACES_OF_A_SYMBOL_MAX = 100
KEPT_RECORD_MAX, KEPT_FACTS_MAX, KEPT_PRICES_MAX = 16 * 1024, 1024 * 1024, 100
"""Bytes of a record that is kept, of all facts kept, and the count of quotes, trades and bars kept."""
WHOLE_DIGITS_MAX, PLACES_MAX = 10, 9
"""Of a number in a command, proposal or report: two such can be multiplied exactly."""
TOO_MANY_DIGITS = f"a number has over {WHOLE_DIGITS_MAX} digits before the point, or {PLACES_MAX} after"


def problem(record: Record) -> str:
    """Why a record cannot be read, or what it says cannot be booked; "" where it can."""
    event: Any = record.event
    if type(event) is Unreadable:
        return str(event.reason)
    return "" if record.topic in MARKET or _can_be_booked(event) else TOO_MANY_DIGITS


def _can_be_booked(event: Any) -> bool:
    """Whether every number of a fact is short enough to be computed with exactly."""
    kind = type(event)
    for name in DECIMAL_FIELDS.get(kind, ()):
        value = getattr(event, name)
        if value and (value.adjusted() >= WHOLE_DIGITS_MAX or value.as_tuple().exponent < -PLACES_MAX):
            return False
    return all(_can_be_booked(getattr(event, name)) for name in NESTED_FIELDS.get(kind, ()))


# ---------------------------------------------------------------- it comes


def on_unreadable(desk: Desk, record: Record) -> None:
    """Write Unread for the account of the record's key; for all accounts where it tells none."""
    reason = problem(record)
    if record.topic in MARKET:
        _of_market(desk, record, reason)
    else:
        _of_accounts(desk, record, reason)


def _of_accounts(desk: Desk, record: Record, reason: str) -> None:
    _keep(desk, record, {})
    why = desk.because()
    named = desk.account(_text(record.key))
    for account in desk.each_account() if named is None else [named]:
        made = desk.emit(account, Unread, why, place=record.place, reason=reason)
        account.unread[record.place] = reason
        halt(desk, account, br.INTEGRITY, f"{record.place}: {reason}", desk.then(made, why))


def _of_market(desk: Desk, record: Record, reason: str) -> None:
    """The symbol of the key is stale; of a status record it is also without a price."""
    name = _text(record.key)
    every = name in ("", EVERY_SYMBOL)
    states = list(desk.market.symbols.values()) if every else [desk.market.symbol(name)]
    blinded: list[str] = []
    if record.topic in PRICES:
        for state in states:
            state.unread_prices = _with(state.unread_prices, record.place)
    else:
        blinded = sorted(state.symbol for state in states)
        if every:
            desk.market.unread_status = (*desk.market.unread_status, record.place)
        else:
            states[0].unread_status = (*states[0].unread_status, record.place)
    _keep(desk, record, {symbol: _held(desk, symbol) for symbol in blinded})
    why = desk.because()
    afterwards = {}
    for account in desk.each_account():
        made = desk.emit(account, Unread, why, place=record.place, reason=reason)
        afterwards[account.id] = desk.then(made, why)
    _look_again(desk, blinded, afterwards)


def _with(places: tuple[str, ...], place: str) -> tuple[str, ...]:
    """The places with one more; beyond so many, that there are more that are not named."""
    if len(places) < PLACES_OF_A_SYMBOL_MAX:
        return (*places, place)
    return places if places[-1] == UNNAMED else (*places, UNNAMED)


def _look_again(desk: Desk, blinded: list[str], whys: dict[str, Why]) -> None:
    """What is known of symbols is another: so is who holds something stale, and the marks of those symbols
    that have lost their price, or have it again."""
    for account in desk.each_account():
        why = whys[account.id]
        held = [symbol for symbol in blinded if account.net(symbol)]
        for symbol in held:
            mark(desk, account, account.holdings[symbol])
        check_stale(desk, account, why)
        if held:
            write_pnl(desk, account, why)
            watch(desk, account, why)


def _text(key: bytes) -> str:
    """The account or symbol that a key names; "" where it names none."""
    try:
        return key.decode()
    except UnicodeDecodeError:
        return ""


def _held(desk: Desk, symbol: str) -> dict[str, Decimal]:
    """The net positions of a symbol, by account."""
    return {name: desk.accounts[name].net(symbol) for name in desk.holders.get(symbol, ())}


def _keep(desk: Desk, record: Record, held: dict[str, dict[str, Decimal]]) -> None:
    """Keep a record's bytes within bounds, so that it can be read again: the newest of the market's prices,
    the first of the rest."""
    if len(record.key) + len(record.value) > KEPT_RECORD_MAX:
        return
    held = {symbol: by_account for symbol, by_account in held.items() if by_account}
    kept = Kept(record.topic, record.partition, record.offset, record.key, record.value, held)
    same = [k for k in desk.kept if (k.topic in PRICES) == (kept.topic in PRICES)]
    if kept.topic in PRICES:
        if len(same) >= KEPT_PRICES_MAX:
            desk.kept.remove(same[0])
    elif sum(len(k.key) + len(k.value) for k in same) + len(kept.key) + len(kept.value) > KEPT_FACTS_MAX:
        return
    desk.kept.append(kept)


# ---------------------------------------------------------------- it is resolved


def refusal(desk: Desk, account: Account, place: str) -> str:
    """Why the account's operator cannot resolve what stands at a place; "" where that can be done."""
    owners = [a.id for a in desk.each_account() if place in a.unread]
    if owners:
        return "" if account.id in owners else f"the record at {place} concerns {', '.join(owners)}"
    market = desk.market
    of_symbols = ((*s.unread_prices, *s.unread_status) for s in market.symbols.values())
    if place in market.unread_status or any(place in places for places in of_symbols):
        return ""
    if any(kept.place == place for kept in desk.kept):
        return ""
    return f"no unreadable record at {place}, or it is resolved"


def read_again(desk: Desk, place: str) -> Record | str:
    """The record at a place as the schemas of today read it; or why it cannot act now."""
    kept = next((k for k in desk.kept if k.place == place), None)
    if kept is None:
        return "its bytes are not kept (too large, or too many came): drop it"
    record = Record(kept.topic, kept.partition, kept.offset, kept.key, kept.value)
    record.event = decode(record.topic, record.value)
    return problem(record) or _out_of_time(desk, kept, record.event) or record


def _out_of_time(desk: Desk, kept: Kept, event: Any) -> str:
    """Why an event of the market's status no longer fits to what has come since; "" where it does."""
    session = desk.market.session
    if isinstance(event, SessionOpened):
        if event.close <= desk.market.now or (session.is_open and session.opened >= event.ts):
            return f"session {event.session} is open already, or over: drop it"
    elif isinstance(event, SessionClosed):
        if not session.is_open or session.name != event.session:
            return f"session {event.session} is not the one that is open: drop it"
    elif isinstance(event, TradingHalt | TradingResume):
        if event.ts < desk.market.symbol(event.symbol).halt_ts:
            return f"a later halt or resume of {event.symbol} has been read: drop it"
    elif isinstance(event, Split | CashDividend):
        before, now = kept.held.get(event.symbol, {}), _held(desk, event.symbol)
        if before != now:
            return f"positions of {event.symbol} were {_shares(before)}, and are {_shares(now)}: drop it"
    return ""


def _shares(held: dict[str, Decimal]) -> str:
    return ", ".join(f"{name} {plain(held[name])}" for name in sorted(held)) or "none"


def resolve(desk: Desk, place: str, why: Why) -> None:
    """The record at a place blocks nothing any more."""
    market = desk.market
    desk.kept = [k for k in desk.kept if k.place != place]
    blinded = set()
    if place in market.unread_status:
        market.unread_status = _without(market.unread_status, place)
        blinded = set(market.symbols)
    for state in market.symbols.values():
        state.unread_prices = _without(state.unread_prices, place)
        if place in state.unread_status:
            state.unread_status = _without(state.unread_status, place)
            blinded.add(state.symbol)
    for account in desk.each_account():
        account.unread.pop(place, None)
    _look_again(desk, sorted(blinded), {account.id: why for account in desk.each_account()})


def _without(places: tuple[str, ...], place: str) -> tuple[str, ...]:
    return tuple(p for p in places if p != place)


def retry(desk: Desk, record: Record, command: str) -> None:
    """Hand the record on behind the command at hand. A price of the past is kept, and is never a mark."""
    event: Any = record.event
    if record.topic in PRICES and hasattr(event, "backfilled"):
        record.event = msgspec.structs.replace(event, backfilled=True)
    desk.again.append(Retried(record, command))
