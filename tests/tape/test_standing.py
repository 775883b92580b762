"""Whether a log is healthy: 0 it is, 1 it is not, 2 it cannot be told."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

from eventlog import create_log
from schemas import HaltAccount
from support.cli import here
from support.market import at
from support.runs import ONE, SPEC, core, opening, run, write_facts
from support.runs import busy_market as market


def test_healthy_halted_and_unknown(tmp_path: Path) -> None:
    place = tmp_path / "log.sqlite"
    with create_log(f"sqlite:{place}", SPEC) as log:
        write_facts(log, market(quotes=40), [opening(ONE)])
        unknown = here("status", place)
        assert unknown.code == 2
        assert "nothing has been decided" in unknown.said
        run(log, core())
        healthy = here("status", place, "--json")
        assert (healthy.code, healthy.json["problems"]) == (0, [])
        (account,) = healthy.json["accounts"]
        assert Decimal(account["pnl"]["equity"]) == 100_000
        assert healthy.json["freshness"][0]["undecided"] == 0

        halt = HaltAccount(id="halt", account=ONE, ts=at("15:00", 2), who="me", why="a test")
        write_facts(log, commands=[halt])
        waiting = here("status", place, "--json")
        assert (waiting.code, waiting.json["freshness"][0]["undecided"]) == (1, 1)
        run(log, core())
        halted = here("status", place, "--json")
        assert (halted.code, halted.json["problems"]) == (1, [f"account {ONE} is HALTED: operator"])
        assert halted.json["breaches"][-1]["event"]["reason"] == "operator"
        assert "not healthy" in here("status", place).out


def test_no_log(tmp_path: Path) -> None:
    assert here("status", tmp_path / "none").code == 2
