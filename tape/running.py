"""What `tape run` does: one role in this process, with its pulse, its log and its end."""

from __future__ import annotations

import platform
import re
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from eventlog.errors import LogError, LogUnreachable
from tape.config import LiveConfig
from tape.logs import absolute, url_of
from tape.pulse import Pulse
from tape.roles import Role, RoleError, Task, run_task

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger


class Signals:
    """SIGTERM and SIGINT ask to end; a second SIGINT ends the process. `number` is the one that came."""

    def __init__(self) -> None:
        self.number: int | None = None

    def __call__(self) -> bool:
        return self.number is not None

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take them while the block runs."""

        def ask(number: int, frame: FrameType | None) -> None:
            self.number = self.number or number
            signal.signal(signal.SIGINT, signal.SIG_DFL)

        before = {s: signal.signal(s, ask) for s in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def instance_name() -> str:
    """Which of several processes of a role this is, where nobody says: the machine's name."""
    return re.sub(r"[^A-Za-z0-9_.-]", "-", platform.node())[:40] or "1"


def run_role(
    role: Role,
    config: LiveConfig,
    stop: Signals,
    *,
    instance: str,
    ready_file: Path | None = None,
    metrics_port: int | None = None,
) -> None:
    """Run a role until `stop`. Raises `RoleError` where there is no log, and whatever goes wrong."""
    if config.log is None:
        raise RoleError("there is no log: name one with --log, TAPE_LOG, or log = in the configuration")
    url = absolute(url_of(config.log))
    logger = structured_log()
    logger.info("starting", role=role.label, instance=instance, log=url)
    try:
        with Pulse(
            role.label, instance, url, logger, ready_file=ready_file, metrics_port=metrics_port
        ) as pulse:
            run_task(role.kind, Task(config, url, role.name, pulse.beats, stop))
    except LogUnreachable as problem:
        raise LogError(str(problem)) from problem
    if not stop():
        raise LogError(f"role {role.label} has ended without being asked to")
    logger.info("ended", role=role.label, instance=instance)


def structured_log() -> FilteringBoundLogger:
    """A log on standard error: lines for people on a terminal, else a JSON object a line. Times are UTC."""
    import structlog

    is_terminal = sys.stderr.isatty()
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.dev.ConsoleRenderer() if is_terminal else structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    logger: FilteringBoundLogger = structlog.get_logger()
    return logger
