"""The role `alerts` on Kafka, on Faust: killed while errors come, every alert is told."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest

from eventlog import EventLog, LogSpec, create_log
from eventlog.kafka.broker import Broker
from schemas import RoleHeartbeat, new_record
from support.market import SECOND

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(600)]

SERIAL = count(1)
SPEC = LogSpec("0123456789abcdef", "wall", account_partitions=2, market_partitions=2)
ROLE = """
import sys
from pathlib import Path
from tape.alerting import rules_named, run_alerts, sinks_of
folder = Path(sys.argv[2])
run_alerts(sys.argv[1], rules_named([]), sinks_of(None, folder / "alerts.jsonl"), host=sys.argv[3],
           places=folder / "at", beats=lambda beat: None, stop=(folder / "stop").exists)
"""


def until(holds: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    """Wait for something while a process lives."""
    end = time.monotonic() + 200
    while not holds():
        assert process.poll() is None, "the role has ended"
        assert time.monotonic() < end, "it never came"
        time.sleep(0.1)


def write(log: EventLog, numbers: range) -> None:
    with log.writer("role-test-a") as writer:
        for n in numbers:
            beat = RoleHeartbeat(
                role="core", instance="a", ts=n * SECOND, processed=n, behind=0, error=f"error {n}"
            )
            writer.append([new_record(beat, 0, "core")])


def errors(path: Path) -> list[str]:
    lines = path.read_text().splitlines() if path.exists() else []
    ids = [json.loads(line)["id"] for line in lines if line.endswith("}")]
    return [id for id in ids if "/error/" in id]


@pytest.mark.parametrize("host", ["faust", "transactional"])
def test_killed_in_between_every_alert_is_told_in_order(broker: Broker, tmp_path: Path, host: str) -> None:
    out = tmp_path / "alerts.jsonl"
    wanted = [f"roles/core/a/error/{n * SECOND}" for n in range(60)]
    with create_log(f"kafka://{broker.address}/alerts{next(SERIAL)}", SPEC) as log:
        for kill in range(3):
            write(log, range(kill * 20, kill * 20 + 20))
            process = subprocess.Popen(
                [sys.executable, "-c", ROLE, log.url, str(tmp_path), host], env=os.environ
            )
            try:
                last = 19 if kill == 2 else kill * 4
                until(lambda: wanted[kill * 20 + last] in errors(out), process)  # noqa: B023
                if kill == 2:
                    (tmp_path / "stop").touch()
                    assert process.wait(120) == 0
            finally:
                process.kill()
                process.wait()
        assert list(dict.fromkeys(errors(out))) == wanted
        stored = [json.loads(r.value)["id"] for r in log.read("alerts", 0, gte=0)]
        assert {id for id in stored if "/error/" in id} == set(wanted)
        if host == "transactional":
            assert len(stored) == len(set(stored))
