"""--limits: what is in force, what trips, and what a file may not say."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.cli import BACKTEST, MONDAY, check_figures, here, run

TWO_DAYS = ("--from", "2013-10-07", "--to", "2013-10-08")


def written(folder: Path, text: str) -> Path:
    file = folder / "limits.toml"
    file.write_text(text)
    return file


@pytest.mark.parametrize("value", ['"0.005"', "0.005"])
def test_a_loss_of_half_a_percent_halts(tmp_path: Path, value: str) -> None:
    """SPY loses 1.2 % on its second day; the next session would arm the breaker again."""
    limits = written(tmp_path, f"day_loss = {value}")
    summary = run(tmp_path / "out", "--symbols", "SPY", *TWO_DAYS, "--limits", limits)
    check_figures(summary)
    assert summary["breaches"] >= 1
    assert (summary["breaker"], summary["reasons"]) == ("HALTED", ["day-loss"])
    assert summary["limits"]["day_loss"] == "0.005"


def test_the_next_session_arms_it_again_unless_the_file_says_no(tmp_path: Path) -> None:
    days = ("--from", "2013-10-08", "--to", "2013-10-09", "--symbols", "SPY")
    once = run(tmp_path / "a", *days, "--limits", written(tmp_path, "day_loss = 0.01"))
    assert (once["breaker"], once["breaches"] >= 1) == ("ACTIVE", True)
    stays = "day_loss = 0.01\nrearm_next_session = false"
    halted = run(tmp_path / "b", *days, "--limits", written(tmp_path, stays))
    assert (halted["breaker"], halted["limits"].get("rearm_next_session")) == ("HALTED", None)


def test_limits_of_every_kind_are_printed(tmp_path: Path) -> None:
    """One that holds denies the order of 595 shares and names itself; "none" lifts a default."""
    text = 'restricted = ["ibm"]\nmax_quantity = 1e2\norders_per_day = 5\nday_loss_reduce = "none"'
    limits = written(tmp_path, text)
    summary = run(tmp_path / "out", "--symbols", "SPY", *MONDAY, "--limits", limits)
    assert summary["fills"] == 0
    assert summary["denied"] >= 1
    shown = summary["limits"]
    assert (shown["restricted"], shown["max_quantity"], shown["orders_per_day"]) == ("IBM", "100", "5")
    assert "day_loss_reduce" not in shown


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("day_los = 0.05", "there is no limit 'day_los'; the limits are: absolute_loss, "),
        ("[risk]\nday_loss = 0.05", "there is no limit 'risk'"),
        ("day_loss = 5", "day_loss is 5; it must be less than or equal to 1"),
        ('day_loss = "much"', "day_loss is 'much'; it must be a number"),
        ("day_loss = true", "day_loss is true; it must be not true or false"),
        ("day_loss = nan", "day_loss is nan; it must be a finite number"),
        ("orders_per_day = 1.5", "orders_per_day is 1.5; it must be a whole number"),
        ('orders_per_day = "none"\nmax_quantity = -1', "max_quantity is -1; it must be greater than 0"),
        ("max_notional = 1e400", "max_notional is 1E+400; it has too many digits"),
        ('restricted = "SPY"', "restricted is 'SPY'; it must be a list, as in [\"SPY\"]"),
        ("restricted = [1]", "restricted is [1]; "),
        ('on_trip = "sell"', "on_trip is 'sell'; it must be 'cancel' or 'flatten'"),
        ("rearm_next_session = 1", "rearm_next_session is 1; it must be true or false"),
        ("day_loss 0.05", "is not TOML: "),
        (None, "cannot be read: No such file or directory"),
    ],
)
def test_mistakes_in_the_file(tmp_path: Path, text: str | None, said: str) -> None:
    limits = tmp_path / "limits.toml" if text is None else written(tmp_path, text)
    ran = here(*BACKTEST, *MONDAY, "--symbols", "SPY", "--out", tmp_path / "out", "--limits", limits)
    assert ran.code == 2
    assert ran.said.startswith(f"limits file {limits}")
    assert said in ran.said
    assert ran.json["error"] == ran.said
    assert not (tmp_path / "out").exists()
