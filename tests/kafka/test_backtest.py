"""A backtest on Kafka is the backtest on the embedded log: one fingerprint, whatever is killed."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from eventlog.kafka import broker as kafka
from support.cli import BACKTEST, MONDAY, THREE_DAYS, tape

pytestmark = pytest.mark.kafka


def name(broker: kafka.Broker) -> str:
    return f"kafka://{broker.address}/b{uuid.uuid4().hex[:12]}"


FIGURES = (
    "fingerprint",
    "end_equity",
    "cash",
    "realized",
    "fees",
    "income",
    "orders",
    "fills",
    "positions",
    "log_id",
)


DATA = {
    "minute": ("SPY,IBM", *THREE_DAYS, "--strategy", "sma-cross"),
    "second": ("IBM", *MONDAY, "--strategy", "sma-cross", "--latency-ms", "250"),
    "tick": ("IBM", *MONDAY, "--strategy", "buy-and-hold", "--size", "displayed"),
    "daily": ("AAPL,SPY", "--from", "2010-01-04", "--to", "2016-12-30", "--strategy", "sma-cross"),
}


@pytest.mark.parametrize("resolution", DATA)
def test_fingerprint_is_that_of_the_embedded_log(
    broker: kafka.Broker, tmp_path: Path, resolution: str
) -> None:
    data = ("--resolution", resolution, "--symbols", *DATA[resolution])
    embedded = tape(*BACKTEST, *data, "--out", tmp_path / "sqlite")
    url = name(broker)
    ran = tape(*BACKTEST, *data, "--log", url, "--out", tmp_path / "kafka")
    assert ran.code == 0, ran.err
    assert ran.json["log"] == url
    assert ran.json["fills"] > 0
    assert {f: ran.json[f] for f in FIGURES} == {f: embedded.json[f] for f in FIGURES}

    verified = tape("verify", url, "--head", ran.json["head"], "--json")
    assert verified.code == 0, verified.out
    assert (verified.json["unsealed"], verified.json["records"]) == (0, ran.json["events"])
    assert verified.json["tail"] == "compared with the head given"


def test_other_runs_and_second_runs_are_refused(broker: kafka.Broker, tmp_path: Path) -> None:
    url = name(broker)
    args = (*BACKTEST, *MONDAY, "--symbols", "SPY", "--log", url, "--out", tmp_path)
    first = tape(*args).json
    again = tape(*args)
    assert (again.code, again.said) == (
        2,
        f"{url} exists; add --resume to go on with it, or name another --log",
    )
    resumed = tape(*args, "--resume")
    assert {f: resumed.json[f] for f in FIGURES} == {f: first[f] for f in FIGURES}
    other = tape(*args, "--resume", "--fee", "bps:1")
    assert other.code == 2
    assert "was begun with other settings or data (fee none -> bps:1)" in other.said


def test_no_broker_and_no_name(tmp_path: Path) -> None:
    args = (*BACKTEST, *MONDAY, "--symbols", "SPY", "--out", tmp_path)
    nobody = tape(*args, "--log", "kafka://127.0.0.1:9/x")
    assert nobody.code == 2
    assert nobody.said.startswith("kafka://127.0.0.1:9/x: the broker does not answer")
    wrong = tape(*args, "--log", "kafka://127.0.0.1")
    assert wrong.code == 2
    assert "is not of the form kafka://HOST:PORT/NAME" in wrong.said
    assert not any(tmp_path.iterdir())
