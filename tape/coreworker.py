"""The process that runs one core partition: `python -m tape.coreworker LOG`, started by `tape.core`.

It makes ready, and waits until it is told what to do in the first line of its standard input, and "stop"
in a later one; when the input ends, whoever started it is gone, and it ends at once. On standard output
it tells its beats, a JSON object a line, and what it failed of in the last.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

from eventlog import open_log
from eventlog.roles import Beat
from eventlog.urls import is_kafka
from processors.hosts.live import Cadence, LiveHost
from schemas import Configured, Unreadable, decode
from tape.wiring import build, installed

ORPHANED = 3
"""Exit code where the starter is gone."""


def main() -> int:
    """Run the partition until told to stop; the exit code."""
    if is_kafka(sys.argv[1]):
        import eventlog.kafka.store  # noqa: F401  # it takes a while

    told = sys.stdin
    line = told.readline()
    if not line:
        return ORPHANED
    order = json.loads(line)
    with suppress(OSError):
        Path("/proc/self/comm").write_text(f"tape-core-{order['partition']}", encoding="ascii")
    stopping = threading.Event()
    threading.Thread(target=_listen, args=(told, stopping), daemon=True).start()
    try:
        _run(order, stopping)
    except Exception as problem:
        _tell(error=str(problem), kind=type(problem).__name__)
        return 1
    return 0


def _run(order: dict[str, Any], stopping: threading.Event) -> None:
    configured = decode(Configured.topic, order["configured"].encode())
    if isinstance(configured, Unreadable) or not isinstance(configured, Configured):
        raise ValueError(f"no configuration: {configured}")
    cadence = Cadence(order["commit_s"], order["wait_s"])
    with open_log(order["log"]) as log:
        host = LiveHost(
            log,
            order["partition"],
            configured,
            build,
            installed=installed,
            cadence=cadence,
            take_over=is_kafka(order["log"]),  # elsewhere no group says that the other is gone
        )
        host.run(_beat, stopping.is_set)


def _beat(beat: Beat) -> None:
    _tell(
        processed=beat.processed,
        positions=[[topic, partition, at] for (topic, partition), at in beat.positions.items()],
    )


def _tell(**what: object) -> None:
    sys.__stdout__.write(json.dumps(what) + "\n")  # type: ignore[union-attr]  # a strategy may print elsewhere
    sys.__stdout__.flush()  # type: ignore[union-attr]


def _listen(told: TextIO, stopping: threading.Event) -> None:
    for line in told:
        if line.strip() == "stop":
            stopping.set()
    os._exit(ORPHANED)


if __name__ == "__main__":
    sys.stdout = sys.stderr  # what strategies print is not for who reads the beats
    sys.exit(main())
