"""The operator's commands against a core that runs: what they do, what they refuse, what they say."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from eventlog import open_log
from schemas import OrderAccepted, OrderDenied, decode
from support.cli import Ran, here, start, tape
from support.lean import SAMPLE

pytestmark = pytest.mark.timeout(300)

NOISY = Path(__file__).parents[1] / "support" / "noisy.py"
CONFIG = f"""
time = "data"
account_partitions = 1
market_partitions = 1
[core]
fee = "per-share:0.005:1"
[[accounts]]
id = "busy"
cash = 1_000_000
limits = {{ day_loss = "none", day_loss_reduce = "none" }}
[[accounts]]
id = "calm"
cash = 50_000
[[strategies]]
name = "noisy"
kind = "{NOISY}:Noisy"
account = "busy"
symbols = ["IBM", "SPY"]
params = {{ size = 20 }}
[feed]
data = "{SAMPLE}"
symbols = ["IBM", "SPY"]
from = 2013-10-07
to = 2013-10-09
speed = 60
"""
WHY = ("--why", "a test")


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A log on which a core decides; at the end it must hold."""
    folder = tmp_path_factory.mktemp("operated")
    (folder / "tape.toml").write_text(CONFIG)
    url = f"sqlite:{folder / 'log'}"
    args = (
        "--config",
        folder / "tape.toml",
        "--log",
        url,
        "--no-postgres",
        "--out",
        folder / "out",
        "--json",
    )
    up = start("up", *args)
    try:
        assert up.stdout is not None
        assert any(json.loads(line)["event"] == "all-ready" for line in up.stdout)
        until(lambda: len(of(url, OrderAccepted, "busy")) > 3, "orders")
        yield url
        up.send_signal(signal.SIGINT)
        up.communicate(timeout=60)
        assert up.returncode == 130
        verified = tape("verify", url)
        assert verified.code == 0, verified.out + verified.err
    finally:
        up.kill()
        up.communicate()


def until(holds: Callable[[], bool], what: str, limit_s: float = 90) -> None:
    end = time.monotonic() + limit_s
    while not holds():
        assert time.monotonic() < end, f"not in {limit_s:.0f} s: {what}"
        time.sleep(0.1)


def orders(url: str) -> list[Any]:
    with open_log(url, read_only=True) as log:
        return [decode("orders", r.value) for r in log.read("orders", 0, gte=0, limit=1 << 20)]


def of(url: str, kind: Any, account: str, after: int = 0) -> list[Any]:
    return [e for e in orders(url) if type(e) is kind and e.account == account and e.seq > after]


def commands(url: str) -> int:
    with open_log(url, read_only=True) as log:
        return sum(log.bounds("operator.commands", p)[1] for p in range(log.partitions("operator.commands")))


def told(name: str, url: str, *args: str | Path, account: str = "calm", code: int = 0) -> dict[str, Any]:
    """What a command answers as an object."""
    ran = here(name, url, *args, "--account", account, *WHY, "--wait", "60", "--json")
    assert ran.code == code, ran.out + ran.err
    return ran.json


def state(url: str, account: str = "calm") -> dict[str, Any]:
    with open_log(url, read_only=True) as log:
        end = max(e.seq for e in map(_read, _all(log)) if e.account == account)
    return here("asof", url, "--account", account, "--seq", str(end), "--json").json


def _all(log: Any) -> Iterator[Any]:
    for topic in ("orders", "fills", "positions", "pnl", "risk.breaches"):
        yield from log.read(topic, 0, gte=0, limit=1 << 20)


def _read(record: Any) -> Any:
    return decode(record.topic, record.value)


def test_halted_nothing_passes_until_it_is_armed_again(log: str) -> None:
    ran = here("halt", log, "--account", "busy", "--why", "bad news", "--who", "alice", "--wait", "60")
    assert ran.code == 0, ran.err
    assert ran.out.startswith("busy: HaltAccount applied\n  BreakerHalted operator alice: bad news")
    halted = next(e for e in orders(log) if getattr(e, "kind", "") == "HaltAccount")
    assert (halted.who, halted.why) == ("alice", "bad news")
    until(lambda: len(of(log, OrderDenied, "busy", halted.seq)) > 2, "orders that are denied")
    assert told("rearm", log, "--reason", "day-loss", account="busy", code=1)["reason"] == (
        "no reason day-loss stands; standing: operator"
    )
    armed = told("rearm", log, "--reason", "operator", account="busy")
    (cleared,) = [d for d in armed["decisions"] if d["type"] == "BreakerCleared"]
    assert cleared["state"] == "ACTIVE"
    assert not [o for o in of(log, OrderAccepted, "busy", halted.seq) if o.seq < cleared["seq"]]
    until(lambda: bool(of(log, OrderAccepted, "busy", cleared["seq"])), "an order that is accepted")


def test_halted_an_order_by_hand_passes_only_if_it_reduces(log: str) -> None:
    told("order", log, "--symbol", "SPY", "--side", "buy", "--quantity", "10")
    until(lambda: held(log) == {"SPY": 10}, "ten shares")
    told("halt", log)
    ran = here(*order("calm", "SPY"), "--wait", "60", log)
    assert ran.code == 1
    assert "OrderDenied" in ran.out
    assert "breaker HALTED, limit ACTIVE" in ran.out
    told("order", log, "--symbol", "SPY", "--side", "sell", "--quantity", "10")
    until(lambda: held(log) == {}, "no position")
    told("rearm", log, "--reason", "operator")


def order(account: str, symbol: str, *more: str) -> tuple[str, ...]:
    return "order", "--account", account, "--symbol", symbol, "--side", "buy", "--quantity", "10", *WHY, *more


def test_an_order_by_hand_from_placing_to_flat(log: str) -> None:
    filled = told("order", log, "--symbol", "ibm", "--side", "buy", "--quantity", "10")
    id = filled["decisions"][0]["order"]
    assert filled["decisions"][0]["type"] == "OrderRequested"
    until(lambda: held(log) == {"IBM": 10}, "ten shares")
    limit = ("--type", "limit", "--limit", "100", "--tif", "gtc")
    working = told("order", log, "--symbol", "IBM", "--side", "buy", "--quantity", "5", *limit)
    resting = working["decisions"][0]["order"]
    assert told("replace", log, resting, "--limit", "101.5")["outcome"] == "applied"
    assert told("cancel", log, id, code=1)["reason"] == f"order {id} is filled"
    until(lambda: terms(log)[resting] == "101.5", "the new price")
    assert told("cancel", log, resting)["outcome"] == "applied"
    until(lambda: not terms(log), "no working order")
    told("flatten", log)
    until(lambda: held(log) == {}, "no position")


def held(url: str) -> dict[str, int]:
    found = {p["symbol"]: int(p["quantity"]) for p in state(url)["positions"]}
    return {symbol: quantity for symbol, quantity in found.items() if quantity}


def terms(url: str) -> dict[str, Any]:
    """Limit prices of the working orders."""
    return {o["order"]: o["limit"] for o in state(url)["orders"]}


def test_cash_moves_to_the_cent_and_is_no_profit(log: str) -> None:
    before = state(log)["pnl"]
    told("deposit", log, "250.55")
    told("withdraw", log, "1000.05")
    after = state(log)["pnl"]
    assert Decimal(after["cash"]) - Decimal(before["cash"]) == Decimal("-749.5")
    assert after["realized"] == before["realized"]
    assert Decimal(after["flows"]) - Decimal(before["flows"]) == Decimal("-749.5")
    refused = told("withdraw", log, "9999999", code=1)
    assert refused["outcome"] == "refused"
    assert refused["reason"].startswith("9999999 is more than the cash, ")


def test_limits_are_shown_and_set_one_by_one_or_from_a_file(log: str, tmp_path: Path) -> None:
    assert "day_loss = 0.05" in here("limits", log, "--account", "calm").out
    told("limits", log, "--set", "max_notional=500", "--set", "day_loss=none")
    shown = here("limits", log, "--account", "calm", "--json").json["limits"]
    assert (shown["max_notional"], "day_loss" in shown, shown["day_loss_reduce"]) == ("500", False, "0.04")
    ran = here(*order("calm", "SPY"), "--wait", "60", "--json", log)
    assert ran.code == 1
    (denied,) = [d for d in ran.json["decisions"] if d["type"] == "OrderDenied"]
    assert [(c["name"], c["limit"]) for c in denied["checks"] if not c["ok"]] == [("notional", "500")]
    file = tmp_path / "limits.toml"
    file.write_text("day_loss = 0.03\nday_loss_reduce = 0.02\n")
    told("limits", log, "--file", file)
    shown = here("limits", log, "--account", "calm", "--json").json["limits"]
    assert (shown["day_loss"], shown["day_loss_reduce"], "max_notional" in shown) == ("0.03", "0.02", False)


def test_a_command_given_twice_acts_once(log: str) -> None:
    before = Decimal(state(log)["pnl"]["cash"])
    once = told("deposit", log, "10", "--id", "dep-1")
    twice = told("deposit", log, "10", "--id", "dep-1")
    assert once == twice
    assert Decimal(state(log)["pnl"]["cash"]) == before + 10
    other = here("deposit", log, "11", "--id", "dep-1", "--account", "calm", *WHY)
    assert (other.code, other.said) == (2, "command id dep-1 was used for something else; choose another")


def test_an_account_is_opened_and_all_are_halted(log: str) -> None:
    assert told("open", log, "--cash", "7000.5", "--kind", "cash", account="new")["outcome"] == "applied"
    assert state(log, "new")["pnl"]["cash"] == "7000.5"
    assert told("open", log, "--cash", "7", account="new", code=1)["reason"] == "the account is open already"
    answers = here("halt", log, "--all", *WHY, "--wait", "60", "--json").json["answers"]
    assert [(a["account"], a["outcome"]) for a in answers] == [
        (n, "applied") for n in ("busy", "calm", "new")
    ]
    for name in ("busy", "calm", "new"):
        told("rearm", log, "--reason", "operator", account=name)


CALM = ("--account", "calm", *WHY)
WRONG: dict[str, tuple[tuple[str, ...], str]] = {
    "unknown account": (("halt", "--account", "nobody", *WHY), "has no account nobody; there is busy, calm"),
    "no account": (("halt", *WHY), "either --account A, or --all"),
    "no reason given": (("flatten", "--account", "calm", "--why", " "), "say why"),
    "no side": (
        ("order", *CALM, "--symbol", "IBM", "--side", "up", "--quantity", "1"),
        "side is up; it must be 'buy' or 'sell'",
    ),
    "nothing": (("deposit", *CALM, "0"), "amount is 0; it must be greater than 0"),
    "no number": (("deposit", *CALM, "much"), "'much' is not a number"),
    "too many digits": (("deposit", *CALM, "1" * 20), "has more than 15 digits before"),
    "unknown limit": (("limits", *CALM, "--set", "foo=1"), "there is no limit 'foo'"),
    "no limit": (("limits", *CALM, "--set", "foo"), "'foo' is not NAME=VALUE"),
    "wrong limit": (
        ("limits", *CALM, "--set", "day_loss=3"),
        "day_loss is 3; it must be less than or equal to 1",
    ),
    "no change": (("replace", *CALM, "some-order"), "--quantity, --limit or --stop"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_input_is_refused_before_anything_is_written(log: str, case: str) -> None:
    words, said = WRONG[case]
    before = commands(log)
    ran = here(words[0], log, *words[1:])
    assert ran.code == 2
    assert said in ran.said
    assert commands(log) == before


def test_without_a_core_it_stands_in_the_log(tmp_path: Path) -> None:
    made = tape(
        *("backtest", "--data", str(SAMPLE), "--symbols", "SPY", "--strategy", "buy-and-hold", "--json"),
        *("--from", "2013-10-07", "--to", "2013-10-07", "--out", tmp_path),
    ).json
    account = here("status", made["log"], "--json").json["accounts"][0]["account"]
    ran: Ran = here("halt", made["log"], "--account", account, *WHY, "--wait", "0")
    assert ran.code == 1
    assert "not answered yet; it stands in the log, and acts when a core decides it" in ran.out
    again = here("halt", made["log"], "--account", account, *WHY, "--wait", "0", "--json")
    assert (again.code, again.json["outcome"]) == (1, "pending")
    assert commands(made["log"]) == 3  # with the one that opened the account
