"""Records that cannot be read: facts about an account halt it, market records make symbols stale."""

from __future__ import annotations

from processors.account import breaker as br
from processors.account.desk import Desk
from processors.account.market import SymbolState
from processors.account.valuation import check_stale, halt
from schemas import EVERY_SYMBOL, Record, Unread, Unreadable


def on_unreadable(desk: Desk, record: Record) -> None:
    """Write Unread for the account of the record's key; for all accounts where it tells none."""
    event = record.event
    assert isinstance(event, Unreadable)
    why = desk.because()
    of_market = record.topic.startswith("market.")
    if of_market:
        for state in _symbols(desk, record.key):
            if record.topic == "market.status":
                state.unread_status = (*state.unread_status, record.place)
            else:
                state.unread = True
    named = None if of_market else desk.account(record.key.decode("utf-8", "replace"))
    for account in desk.each_account() if named is None else [named]:
        made = desk.emit(account, Unread, why, place=record.place, reason=event.reason)
        after = desk.then(made, why)
        if of_market:
            check_stale(desk, account, after)
        else:
            account.unread[record.place] = event.reason
            halt(desk, account, br.INTEGRITY, f"{record.place}: {event.reason}", after)


def _symbols(desk: Desk, key: bytes) -> list[SymbolState]:
    """The symbol that a key names; all of them where it names none."""
    try:
        name = key.decode()
    except UnicodeDecodeError:
        name = EVERY_SYMBOL
    if name in ("", EVERY_SYMBOL):
        return list(desk.market.symbols.values())
    return [desk.market.symbol(name)]
