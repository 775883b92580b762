"""What `tape up` does: every role of a configuration on this machine, kept running until it is ended."""

from __future__ import annotations

import signal
import sys
import threading
import time as clock
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eventlog import open_log
from eventlog.errors import LogError
from schemas import RoleHeartbeat, decode
from tape.config import ConfigError, LiveConfig
from tape.configuring import check, open_accounts, open_or_make
from tape.logs import absolute, url_of
from tape.roles import KINDS, Role, named
from tape.running import instance_name
from tape.supervisor import Child, Spec, Supervisor, Told

NAME = "live"
"""The log on a broker of one's own, where none is named."""
STEP_S = 0.2
SHOW_S = 1.0
BROKER_S = 2.0
"""Between two looks at the broker that was started."""
FRESH_S = 5.0
"""A heartbeat that is older says nothing of now."""
AGAIN_S = 2.0
NS = 1_000_000_000

Say = Callable[[str], None]


@dataclass(frozen=True)
class Row:
    """How a role stands. `rate` is inputs a second; None is not known."""

    role: str
    pid: int | None
    state: str
    starts: int
    processed: int | None
    rate: float | None
    behind: int | None
    error: str


@dataclass(frozen=True)
class Standing:
    """What runs over what, and what was begun for it."""

    url: str
    log_id: str
    opened: list[str]
    postgres: str | None
    """The server's DSN; None: nothing is projected."""
    postgres_is_ours: bool
    """Whether it is the one that comes with Tape."""
    broker: Path | None
    """The folder of the broker that was started for this."""

    @property
    def shown_postgres(self) -> str | None:
        """The server as it may be shown."""
        from projections.postgres.projector import shown_dsn

        return None if self.postgres is None else shown_dsn(self.postgres)


@contextmanager
def stand(config: LiveConfig, *, projects: bool, say: Say) -> Iterator[Standing]:
    """Everything that the roles need: a broker, a server, the log, its accounts.

    A broker that was started is stopped at the end; Postgres runs on, to be asked. Raises `WrongInput`
    before anything is started or written, `LogError`, `NoKafka`, `ProjectionError`.
    """
    check(config)
    with _log_url(config, say) as (url, broker):
        dsn, is_ours = config.postgres_dsn, False
        if projects and dsn is None:
            from tape.projecting import start_server

            dsn, is_ours = str(start_server(None)["dsn"]), True
        with open_or_make(config, url) as log:
            opened = open_accounts(config, log)
            standing = Standing(url, log.id, opened, dsn if projects else None, is_ours, broker)
        yield standing


@contextmanager
def _log_url(config: LiveConfig, say: Say) -> Iterator[tuple[str, Path | None]]:
    """The log's name, and the folder of the broker that was started for it."""
    if config.log is not None:
        yield absolute(url_of(config.log)), None
        return
    from eventlog.kafka import broker
    from tape.commands.kafka import data_folder, first_port

    folder = data_folder(None)
    is_ours = broker.status(folder) is None
    found = broker.start(folder, port=first_port(folder) if is_ours else None, say=say)
    try:
        yield f"kafka://{found.address}/{NAME}", folder if is_ours else None
    finally:
        if is_ours:
            broker.stop(folder)


class Up:
    """The roles of a configuration as processes. Use: `step` a few times a second, then `stop`."""

    def __init__(self, config: LiveConfig, file: Path | None, standing: Standing, folder: Path) -> None:
        self._standing = standing
        self._roles = self._named(config)
        self._supervisor = Supervisor([spec_of(role, file, standing) for role in self._roles], folder)
        self._heard = Heard(standing.url)
        self._looked = clock.monotonic()

    @property
    def is_ready(self) -> bool:
        """Whether all roles are."""
        return self._supervisor.is_ready

    def step(self) -> list[Told]:
        """Look after all of them; what has happened."""
        return [*self._keep_broker(), *self._supervisor.step()]

    def _keep_broker(self) -> list[Told]:
        """Start the broker again that was started for this, where it has died."""
        folder, now = self._standing.broker, clock.monotonic()
        if folder is None or now - self._looked < BROKER_S:
            return []
        self._looked = now
        from eventlog.kafka import broker
        from eventlog.kafka.jars import NoKafka

        if broker.status(folder) is None:
            try:
                broker.start(folder)
            except NoKafka as problem:
                return [Told("died", "Kafka", 0, error=str(problem), again_s=BROKER_S)]
        return []

    def _named(self, config: LiveConfig) -> list[Role]:
        config = config.model_copy(update={"log": self._standing.url})
        return named(config, projects=self._standing.postgres is not None)

    def change(self, config: LiveConfig) -> list[str]:
        """Have every role read the configuration again; the accounts that were asked for.

        Raises `WrongInput` for one that is wrong, or of other roles, `LogError`; then all goes on as it was.
        """
        check(config)
        url = self._standing.url
        if config.log is not None and absolute(url_of(config.log)) != url:
            raise ConfigError(f"log is {config.log}, and {url} is in use: end tape up to change it")
        differ = {role.label for role in set(self._named(config)) ^ set(self._roles)}
        if differ:
            raise ConfigError(
                f"the roles are others ({', '.join(sorted(differ))}): end tape up, and start it again"
            )
        with open_or_make(config, url) as log:
            opened = open_accounts(config, log)
        self._supervisor.signal(signal.SIGHUP)
        return opened

    def rows(self) -> list[Row]:
        """How the roles stand."""
        return [_row(child, self._heard) for child in self._supervisor.children]

    def stop(self) -> list[Told]:
        """End what brings in first, what reads last."""
        return self._supervisor.stop()


def spec_of(role: Role, file: Path | None, standing: Standing) -> Spec:
    """The process of a role."""
    command = [sys.executable, "-m", "tape", "run", role.kind, "--ready-file", "{ready}"]
    if file is not None:
        command += ["--config", str(file.resolve())]
    if role.name:
        command += ["--name", role.name]
    environment = {"TAPE_LOG": standing.url}
    if standing.postgres is not None:
        environment["TAPE_POSTGRES_DSN"] = standing.postgres  # a command line is for all to see
    return Spec(role.label, command, list(KINDS).index(role.kind), environment)


def _row(child: Child, heard: Heard) -> Row:
    last, rate = heard.of(child.spec.name)
    return Row(
        role=child.spec.name,
        pid=child.pid,
        state=child.state,
        starts=child.starts,
        processed=None if last is None else last.processed,
        rate=rate,
        behind=None if last is None else last.behind,
        error=(last.error if last is not None else "") or child.error,
    )


class Heard:
    """The last heartbeats of this machine's roles, read in a thread of its own."""

    def __init__(self, url: str) -> None:
        self._url, self._instance = url, instance_name()
        self._last: dict[str, tuple[RoleHeartbeat, float | None]] = {}
        threading.Thread(target=self._listen, daemon=True).start()

    def of(self, label: str) -> tuple[RoleHeartbeat | None, float | None]:
        """The role's last heartbeat if it is of now, and its inputs a second since the one before."""
        last, rate = self._last.get(label, (None, None))
        if last is None or clock.time_ns() - last.ts > FRESH_S * NS:
            return None, None
        return last, rate

    def _listen(self) -> None:
        while True:
            try:
                with open_log(self._url, read_only=True) as log:
                    end = log.bounds(RoleHeartbeat.topic, 0)[1]
                    with log.follow({(RoleHeartbeat.topic, 0): end}) as follower:
                        while True:
                            for record in follower.take(100, SHOW_S):
                                self._take(decode(record.topic, record.value))
            except LogError:
                clock.sleep(AGAIN_S)

    def _take(self, heartbeat: Any) -> None:
        if not isinstance(heartbeat, RoleHeartbeat) or heartbeat.instance != self._instance:
            return
        before, _ = self._last.get(heartbeat.role, (None, None))
        rate = None
        if before is not None and heartbeat.ts > before.ts and heartbeat.processed >= before.processed:
            rate = (heartbeat.processed - before.processed) * NS / (heartbeat.ts - before.ts)
        self._last[heartbeat.role] = heartbeat, rate
