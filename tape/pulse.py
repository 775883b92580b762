"""The pulse of a role: readiness, a RoleHeartbeat a second, metrics, and an end where its loop hangs.

Beats come from the loop that does the work. Another thread, with a log of its own, tells them on topic
`roles`; whatever goes wrong there is said once and never stops the role.
"""

from __future__ import annotations

import os
import threading
import time as clock
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from eventlog import EventLog, Writer, open_log
from eventlog.contract import Stream
from eventlog.errors import LogError
from eventlog.roles import Beat
from schemas import RoleHeartbeat, new_record

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

EVERY_S = 1.0
SILENT_S = 5.0
"""Without a beat for so long, the heartbeat says so."""
HUNG_S = 30.0
"""Without one for so long, the process ends itself."""
STARTING_S = 120.0
"""How long the first may take."""
AGAIN_S = 5.0
"""After a failure of the heartbeat's log, it is opened again."""
COUNTED = 1000
"""Records of a partition that are counted one by one, where offsets have holes."""
HUNG = 70
"""Exit code of a process that has ended itself."""


class Pulse:
    """Takes a role's beats while the block runs; `label` is its name, with what it runs for."""

    def __init__(
        self,
        label: str,
        instance: str,
        url: str,
        logger: FilteringBoundLogger,
        *,
        ready_file: Path | None = None,
        metrics_port: int | None = None,
    ) -> None:
        self._label, self._instance, self._url, self._logger = label, instance, url, logger
        self._ready_file, self._metrics_port = ready_file, metrics_port
        self._beat: Beat | None = None
        self._at = clock.monotonic()
        self._ended = threading.Event()
        self._teller: threading.Thread | None = None
        self._observe: Callable[[int, int | None], None] = lambda processed, behind: None

    def beats(self, beat: Beat) -> None:
        """Take a beat; the first says that the role is ready."""
        is_first = self._beat is None
        self._beat, self._at = beat, clock.monotonic()
        if is_first:
            self._logger.info("ready", role=self._label, instance=self._instance, pid=os.getpid())
            if self._ready_file is not None:
                self._ready_file.write_text(f"{os.getpid()}\n", encoding="utf-8")

    def __enter__(self) -> Self:
        if self._ready_file is not None:
            self._ready_file.unlink(missing_ok=True)
        if self._metrics_port is not None:
            self._observe = _metrics(self._metrics_port, self._label, lambda: clock.monotonic() - self._at)
        self._teller = threading.Thread(target=self._tell, daemon=True)
        self._teller.start()
        threading.Thread(target=self._watch, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        if self._teller is not None:
            self._teller.join(AGAIN_S)
        if self._ready_file is not None:
            self._ready_file.unlink(missing_ok=True)

    def _watch(self) -> None:
        """End the process where its loop gives no sign."""
        while not self._ended.wait(EVERY_S):
            silent = clock.monotonic() - self._at
            if silent > (STARTING_S if self._beat is None else HUNG_S):
                self._logger.critical("hung", role=self._label, silent_s=round(silent))
                os._exit(HUNG)

    def _tell(self) -> None:
        said = ""
        while not self._ended.is_set():
            try:
                with open_log(self._url) as log, log.writer(f"role-{self._label}-{self._instance}") as writer:
                    self._tell_to(log, writer)
            except Exception as problem:  # whatever it is, the role goes on
                if str(problem) != said:
                    self._logger.warning("no heartbeat", role=self._label, error=str(problem))
                said = str(problem)
                self._ended.wait(AGAIN_S)

    def _tell_to(self, log: EventLog, writer: Writer) -> None:
        behind = Behind(log)
        while not self._ended.wait(EVERY_S):
            beat, silent = self._beat, clock.monotonic() - self._at
            if beat is None:
                continue
            error = beat.error if silent <= SILENT_S else f"its loop has given no sign for {silent:.0f} s"
            far = behind.of(beat)
            self._observe(beat.processed, far)
            heartbeat = RoleHeartbeat(
                role=self._label,
                instance=self._instance,
                ts=clock.time_ns(),
                processed=beat.processed,
                behind=far,
                error=error,
            )
            writer.append([new_record(heartbeat, 0, self._label)])


class Behind:
    """How many records a role's inputs have beyond its positions, measured at the log's ends."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._counted: dict[Stream, tuple[int, int, int]] = {}
        """Of each partition: a position, an end, and the records between them."""

    def of(self, beat: Beat) -> int | None:
        """None for a role without inputs."""
        if not beat.positions:
            return None
        return sum(self._between(stream, at) for stream, at in beat.positions.items())

    def _between(self, stream: Stream, position: int) -> int:
        """Where offsets have holes, what is little is counted: markers are no records."""
        end = self._log.bounds(*stream)[1]
        if self._log.dense or end <= position or end - position > COUNTED:
            return max(end - position, 0)
        known = self._counted.get(stream)
        if known is None or known[:2] != (position, end):
            count = len(self._log.read(*stream, gte=position, lt=end, limit=COUNTED))
            known = self._counted[stream] = (position, end, count)
        return known[2]


def _metrics(port: int, label: str, silent_s: Callable[[], float]) -> Callable[[int, int | None], None]:
    """Serve Prometheus metrics on 127.0.0.1; what takes processed and behind. Raises `LogError`."""
    from prometheus_client import Gauge, start_http_server

    try:
        start_http_server(port, addr="127.0.0.1")
    except OSError as problem:
        raise LogError(f"metrics: port {port} cannot be used: {problem.strerror}; name another") from problem
    processed = Gauge("tape_role_processed", "Inputs taken since the start", ["role"]).labels(label)
    behind = Gauge("tape_role_behind", "Records that wait at its inputs", ["role"]).labels(label)
    silence: Any = Gauge("tape_role_silent_seconds", "Time since its loop's last beat", ["role"])
    silence.labels(label).set_function(silent_s)

    def observe(taken: int, far: int | None) -> None:
        processed.set(taken)
        behind.set(far or 0)

    return observe
