"""The three processors of the core fulfil one contract; that they do is checked by types and by use."""

from __future__ import annotations

import pytest

from processors.account.processor import Accounts
from processors.contract import Processor
from processors.exchange.exchange import Exchange
from processors.strategies.processor import Strategies
from schemas import EVERY_SYMBOL, CoreSettings, Heartbeat, Record

SETTINGS = CoreSettings(log_prefix="logid0", simulated=True)


def processors() -> list[Processor]:
    accounts = Accounts(SETTINGS)
    return [accounts, Exchange(SETTINGS), Strategies([], accounts)]


@pytest.mark.parametrize("which", range(3))
def test_a_processor_says_what_it_is_and_keeps_its_state(which: int) -> None:
    one, two = processors()[which], processors()[which]
    assert one.name
    assert one.version
    assert "market.quotes" in one.inputs
    beat = Heartbeat(ts=1, source="s", row=1)
    assert beat.symbol == EVERY_SYMBOL
    assert list(one.apply(Record("market.status", 0, 0, b"*", b"", 0, beat))) == []
    kept = one.snapshot()
    two.restore(kept)
    assert two.snapshot() == kept
