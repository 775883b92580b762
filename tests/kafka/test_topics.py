"""`tape topics` on Kafka: holes of transactions are never counted as records, and what follows is shown."""

from __future__ import annotations

import json
import signal
import uuid
from pathlib import Path

import pytest
from confluent_kafka import Producer

from eventlog import LogSpec, create_log, inspect
from eventlog.errors import NotInLog
from eventlog.kafka import broker as kafka
from schemas import new_record
from support.cli import BACKTEST, MONDAY, here, log_in, start, tape
from support.log_suite import COMMANDS, SPEC, numbers
from support.market import at, quote

pytestmark = pytest.mark.kafka


def name(broker: kafka.Broker) -> str:
    return f"kafka://{broker.address}/i{uuid.uuid4().hex[:12]}"


def abort(broker: kafka.Broker, url: str, count: int) -> None:
    """Records of a transaction that is aborted."""
    aborted = Producer({"bootstrap.servers": broker.address, "transactional.id": uuid.uuid4().hex})
    aborted.init_transactions(10)
    aborted.begin_transaction()
    for _ in range(count):
        aborted.produce(f"{url.rpartition('/')[2]}.{COMMANDS[0]}", value=b"never", partition=COMMANDS[1])
    aborted.flush(10)
    aborted.abort_transaction(10)


def test_counts_of_both_stores_are_those_of_the_backtest(broker: kafka.Broker, tmp_path: Path) -> None:
    url = name(broker)
    data = (*BACKTEST, *MONDAY, "--symbols", "SPY", "--strategy", "sma-cross")
    assert tape(*data, "--log", url, "--out", tmp_path / "kafka").code == 0
    assert tape(*data, "--out", tmp_path / "sqlite").code == 0
    embedded = listed(log_in(tmp_path / "sqlite"), "--count")
    cheap, counted = listed(url), listed(url, "--count")
    for topic, there in embedded.items():
        if topic == "seals":
            continue  # how often a store seals is its own affair
        found = counted[topic]
        assert (found["records"], found["unreadable"]) == (there["records"], 0)
        if there["time_of"] != "writing":
            assert (found["first"], found["last"]) == (there["first"], there["last"])
            assert (cheap[topic]["first"], cheap[topic]["last"]) == (there["first"], there["last"])
    assert cheap["market.quotes"]["records"] == embedded["market.quotes"]["records"]
    assert cheap["fills"]["records"] is None
    assert cheap["fills"]["offsets"] > counted["fills"]["records"] > 0
    text = here("topics", "list", url).out
    assert f"<= {cheap['fills']['offsets']:,}  " in text
    assert "<=: offsets, of which transactions take some; --count reads and counts the records" in text
    described = here("topics", "describe", url, "fills", "--json").json
    assert described["types"] == {"Fill": embedded["fills"]["records"]}
    assert [p["unsealed"] for p in described["by_partition"]] == [0, 0, 0, 0]


def listed(*args: str | Path) -> dict[str, dict[str, object]]:
    ran = here("topics", "list", *args, "--json")
    assert ran.code == 0, ran.err
    return {topic["topic"]: topic for topic in ran.json["topics"]}


def test_holes_are_no_records(broker: kafka.Broker) -> None:
    url = name(broker)
    with create_log(url, SPEC) as log, log.writer("w") as writer:
        writer.append(numbers(COMMANDS, [1]))  # offset 0, its marker 1
        abort(broker, url, 300)  # 2 to 301, the marker 302
        writer.append(numbers(COMMANDS, [2, 3]))  # 303, 304, the marker 305
        abort(broker, url, 50)
        seen = inspect.count(log, *COMMANDS)
        assert (seen.records, seen.unreadable, inspect.glance(log, *COMMANDS).records) == (3, 3, None)
        for count, due in ((1, [304]), (2, [303, 304]), (3, [0, 303, 304]), (9, [0, 303, 304])):
            records, ends = inspect.last(log, [COMMANDS], count)
            assert [r.offset for r in records] == due
            assert ends[COMMANDS] == log.bounds(*COMMANDS)[1]
        assert inspect.record_named(log, "operator.commands/0/303").value == b"2"
        for hole, near in ((1, "0 and 303"), (150, "0 and 303"), (302, "0 and 303"), (306, "304")):
            with pytest.raises(NotInLog, match=rf"transaction's marker.*the nearest records: {near}$"):
                inspect.record_named(log, f"operator.commands/0/{hole}")
        with pytest.raises(NotInLog, match=r"operator.commands/0 has offsets 0 to 356$"):
            inspect.record_named(log, "operator.commands/0/357")
        with pytest.raises(NotInLog, match=r"operator.commands/1 is empty"):
            inspect.record_named(log, "operator.commands/1/0")
    shown = here("topics", "show", url, "operator.commands/0/1")
    assert shown.code == 2
    assert "the nearest records: 0 and 303" in shown.said
    assert here("topics", "show", url, "operator.commands/0/304").code == 0


def test_tail_follows_what_is_committed(broker: kafka.Broker) -> None:
    url = name(broker)
    with create_log(url, LogSpec("test", "wall")) as log, log.writer("w") as writer:
        writer.append([*numbers(COMMANDS, [1]), new_record(quote(at("09:31"), 10, 11), 0, "SPY")])
        process = start("topics", "tail", url, "operator.commands", "-f", "-n", "1", "--json")
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["hex"] == b"1".hex()
        abort(broker, url, 5)
        writer.append(numbers(COMMANDS, [2]))
        assert json.loads(process.stdout.readline())["hex"] == b"2".hex()
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=60) == ("", "")
        assert process.returncode == 130


def test_what_is_not_there(broker: kafka.Broker) -> None:
    missing = here("topics", "list", name(broker))
    assert missing.code == 2
    assert missing.said.startswith("there is no log i")
    nobody = here("topics", "tail", "kafka://127.0.0.1:9/x")
    assert nobody.code == 2
    assert nobody.said.startswith("kafka://127.0.0.1:9/x: the broker does not answer")
