"""What `tape run` does: one role in this process, with its pulse, its log and its end."""

from __future__ import annotations

import os
import platform
import re
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from eventlog import LogSpec, open_log
from eventlog.errors import LogError, LogUnreachable
from tape.config import LiveConfig
from tape.configuring import check_log
from tape.errors import WrongInput
from tape.logs import absolute, url_of
from tape.pulse import Pulse
from tape.roles import Role, RoleError, Task, check_role, run_task

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger


class Signals:
    """SIGTERM and SIGINT ask to end; a second SIGINT ends the process. `number` is the one that came.

    SIGHUP asks to read the configuration again, unless it comes because the terminal has gone: then it
    asks to end.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self._hung_up = False
        self._had_terminal = os.isatty(2)

    def __call__(self) -> bool:
        return self.number is not None

    def take_hangup(self) -> bool:
        """Whether a SIGHUP has come since this was asked last."""
        hung_up, self._hung_up = self._hung_up, False
        return hung_up

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take them while the block runs."""

        def ask(number: int, frame: FrameType | None) -> None:
            if number == signal.SIGHUP and not (self._had_terminal and not os.isatty(2)):
                self._hung_up = True
                return
            self.number = self.number or number
            signal.signal(signal.SIGINT, signal.SIG_DFL)

        taken = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        before = {s: signal.signal(s, ask) for s in taken}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


class Changes:
    """The configuration as it is read again on SIGHUP: a wrong one is refused, and the old one goes on."""

    def __init__(
        self,
        role: Role,
        config: LiveConfig,
        reread: Callable[[], LiveConfig],
        spec: LogSpec,
        stop: Signals,
        logger: FilteringBoundLogger,
    ) -> None:
        self._role, self._config, self._reread, self._spec = role, config, reread, spec
        self._stop, self._logger = stop, logger
        self.came = False
        """Whether there was one."""

    def take(self) -> LiveConfig | None:
        """The new configuration, where SIGHUP has come and it is right."""
        if not self._stop.take_hangup():
            return None
        try:
            changed = self._reread()
            check_log(changed, str(changed.log), self._spec, changed.model_fields_set)
            check_role(self._role, changed, self._config)
        except WrongInput as problem:
            self._logger.error(
                "configuration refused, the old one goes on", role=self._role.label, error=str(problem)
            )
            return None
        self._logger.info("configuration read again", role=self._role.label)
        self._config, self.came = changed, True
        return changed

    def end(self) -> bool:
        """Whether to end, so that the role is started anew."""
        return self._stop() or self.came or self.take() is not None


def instance_name() -> str:
    """Which of several processes of a role this is, where nobody says: the machine's name."""
    return re.sub(r"[^A-Za-z0-9_.-]", "-", platform.node())[:40] or "1"


def run_role(
    role: Role,
    config: LiveConfig,
    stop: Signals,
    *,
    reread: Callable[[], LiveConfig],
    instance: str,
    ready_file: Path | None = None,
    metrics_port: int | None = None,
) -> bool:
    """Run a role until `stop`, or until it is to begin anew: whether that is so.

    On SIGHUP the configuration is read again with `reread`. The core takes it while it runs; every other
    role ends well, to begin anew with it. Raises `RoleError` where there is no log, `ConfigError` where it is
    not that of the configuration, and whatever goes wrong.
    """
    if config.log is None:
        raise RoleError("there is no log: name one with --log, TAPE_LOG, or log = in the configuration")
    url = absolute(url_of(config.log))
    logger = structured_log()
    logger.info("starting", role=role.label, instance=instance, log=url)
    try:
        with open_log(url, read_only=True) as log:
            spec = log.spec
        check_log(config, url, spec, config.model_fields_set)
        changes = Changes(role, config, reread, spec, stop, logger)
        with Pulse(
            role.label, instance, url, logger, ready_file=ready_file, metrics_port=metrics_port
        ) as pulse:
            end = stop if role.kind == "core" else changes.end
            run_task(role.kind, Task(config, url, role.name, pulse.beats, end, changes.take))
    except LogUnreachable as problem:
        raise LogError(str(problem)) from problem
    is_changed = role.kind != "core" and changes.came and not stop()
    if not stop() and not is_changed:
        raise LogError(f"role {role.label} has ended without being asked to")
    logger.info("ended", role=role.label, instance=instance)
    return is_changed


def begin_anew() -> None:
    """Run this command again in place of this process, which keeps its number."""
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


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
