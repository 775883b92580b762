"""Whether a log is healthy: 0 it is, 1 it is not, 2 it cannot be told."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

from eventlog import create_log
from schemas import HaltAccount, NewRecord, PlaceOrder
from support.cli import here
from support.market import at
from support.runs import ONE, SPEC, core, opening, run, write_facts
from support.runs import busy_market as market
from tape.standing import standing


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
        assert (waiting.code, waiting.json["freshness"][0]["undecided"]) == (0, 1)
        (problem,) = standing(log, behind_s=0)["problems"]
        assert problem == "partition 0 has 1 inputs that are not decided yet"
        run(log, core())
        halted = here("status", place, "--json")
        assert (halted.code, halted.json["problems"]) == (1, [f"account {ONE} is HALTED: operator"])
        assert halted.json["breaches"][-1]["event"]["reason"] == "operator"
        assert "not healthy" in here("status", place).out


def test_no_log(tmp_path: Path) -> None:
    assert here("status", tmp_path / "none").code == 2


def test_unreadable_halts_and_is_told(tmp_path: Path) -> None:
    place = tmp_path / "log.sqlite"
    with create_log(f"sqlite:{place}", SPEC) as log:
        write_facts(log, market(quotes=40), [opening(ONE)])
        with log.writer("broken") as writer:
            writer.append([NewRecord("operator.commands", 0, ONE.encode(), b'{"type":')])
        run(log, core())
        found = here("status", place, "--json")
        unread = f"account {ONE} has unread records: operator.commands/0/1"
        assert (found.code, found.json["problems"]) == (
            1,
            [f"account {ONE} is HALTED: integrity", unread],
        )
        assert found.json["dead_letters"] == 1


def test_a_position_without_a_price_since_long_is_told(tmp_path: Path) -> None:
    place = tmp_path / "log.sqlite"
    quiet, noon = at("10:00", 2), at("12:00", 2)
    with create_log(f"sqlite:{place}", SPEC) as log:
        facts = [e for e in market() if e.ts < (quiet if getattr(e, "symbol", "") == "AAA" else noon)]
        terms = {"symbol": "AAA", "side": "buy", "quantity": Decimal(10)}
        buy = PlaceOrder(id="buy", account=ONE, ts=at("09:40", 2), who="me", why="a test", **terms)
        write_facts(log, facts, [opening(ONE), buy])
        run(log, core())
        found = here("status", place, "--json")
        assert (found.code, found.json["problems"]) == (
            1,
            [f"account {ONE} holds what is stale: no price of AAA"],
        )
        (held,) = (p for p in found.json["accounts"][0]["positions"] if p["symbol"] == "AAA")
        assert float(held["age_s"]) > 3600
