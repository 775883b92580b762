"""The roles of the live plane: which a configuration names, and how each is wired.

A role's function works until it is asked to stop. Each is wired in one small function here, which
imports what it needs when it runs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from eventlog import open_log
from eventlog.roles import Beat, Beats, Stop
from eventlog.urls import is_kafka
from schemas import partition_of
from tape.errors import WrongInput

if TYPE_CHECKING:
    from projections.postgres.projector import Done
    from tape.config import BrokerConfig, LiveConfig


class RoleError(WrongInput):
    """A role cannot be run as asked; the message says why, and what to do."""


@dataclass(frozen=True)
class Task:
    """What a role is to do: `name` says which of several, a strategy or a gateway's partition."""

    config: LiveConfig
    url: str
    name: str
    beats: Beats
    stop: Stop
    changed: Callable[[], LiveConfig | None]
    """The new configuration where there is one since it was asked; of the core alone, others end for it."""


@dataclass(frozen=True)
class Role:
    """A role that a configuration names."""

    kind: str
    name: str = ""

    @property
    def label(self) -> str:
        """Its name among all roles, also that of its heartbeats."""
        return f"{self.kind}-{self.name}" if self.name else self.kind


def named(config: LiveConfig, *, projects: bool | None = None) -> list[Role]:
    """The roles that a configuration names, in the order of their start.

    `projects`: whether there is a Postgres server, else it is as the configuration says.
    """
    roles = [Role("core")]
    if not config.core.simulated:
        partitions = {partition_of(a.id, config.account_partitions) for a in config.accounts}
        gateways = [Role("gateway", str(partition)) for partition in sorted(partitions)]
        roles = [Role("broker-sim"), *gateways, *roles]
    roles += [Role("market")] if config.market is not None else []
    roles += [Role("alerts")] if config.alerts is not None else []
    roles += [Role("strategies", s.name) for s in config.strategies if s.where != "core"]
    if config.log is not None and is_kafka(config.log):
        roles.append(Role("seal"))
    if projects or (projects is None and config.postgres_dsn):
        roles.append(Role("project"))
    if config.feed is not None:
        roles.append(Role("feed"))
    elif config.time == "wall":
        roles.append(Role("heartbeat"))
    return roles


def check_role(role: Role, config: LiveConfig, before: LiveConfig) -> None:
    """Refuse a changed configuration that the role could not go on with.

    Raises `RoleError`, `ConfigError`, `LoadError`, `LimitsError`, `DataError`.
    """
    from tape.configuring import check_core, play_of
    from tape.outside import load_outside
    from tape.playing import reader_of

    if config.log != before.log:
        raise RoleError(f"log is {config.log}, and {before.log} is in use: end the role to change it")
    if config.core.simulated != before.core.simulated:
        raise RoleError("core.simulated has changed: where orders go cannot change while the role runs")
    if role.name and role not in named(config):
        raise RoleError(f"it has no {role.kind} {role.name} any more: end that role instead")
    if role.kind == "core":
        check_core(config)
    elif role.kind == "strategies":
        load_outside(next(s for s in config.strategies if s.name == role.name))
    elif role.kind == "feed" and config.feed is not None:
        reader_of(play_of(config.feed))


def run_task(kind: str, task: Task) -> None:
    """Do a role's work until `task.stop`. Raises `RoleError`, and whatever goes wrong."""
    KINDS[kind](task)


# ------------------------------------------------------------ one function a role


def _feed(task: Task) -> None:
    from tape.configuring import play_of
    from tape.playing import run_play

    feed = task.config.feed
    if feed is None:
        raise RoleError("the configuration has no [feed]: add one, it says which data are played")
    with open_log(task.url) as log:
        run_play(log, play_of(feed), beats=task.beats, stop=task.stop)


def _market(task: Task) -> None:
    from processors.hosts.market import run_market
    from tape.configuring import market_settings

    with open_log(task.url) as log:
        run_market(log, market_settings(task.config), beats=task.beats, stop=task.stop)


def _strategies(task: Task) -> None:
    from tape.outside import load_outside

    (strategy,) = (s for s in task.config.strategies if s.name == task.name and s.where != "core")
    processor = load_outside(strategy)
    if strategy.where == "transactional":
        from processors.hosts.keyed import run_keyed

        with open_log(task.url) as log:
            run_keyed(log, processor, name=task.name, beats=task.beats, stop=task.stop)
    elif is_kafka(task.url):
        from processors.hosts.faust import run_faust

        run_faust(task.url, processor, name=task.name, beats=task.beats, stop=task.stop)
    else:
        raise RoleError(
            f"strategy {task.name} is to run on Faust, which takes Kafka, and the log is {task.url}: set "
            'where = "transactional", or keep the log on Kafka'
        )


def _alerts(task: Task) -> None:
    from tape.alerting import rules_named, run_alerts, sinks_of
    from tape.config import AlertsConfig

    alerts = task.config.alerts or AlertsConfig()
    if alerts.file is not None:
        alerts.file.parent.mkdir(parents=True, exist_ok=True)
    run_alerts(
        task.url,
        rules_named(alerts.rules, silent_s=alerts.silent_s, behind=alerts.behind, behind_s=alerts.behind_s),
        sinks_of(alerts.webhook, alerts.file),
        host=alerts.host,
        places=alerts.places,
        beats=task.beats,
        stop=task.stop,
    )


def _gateway(task: Task) -> None:
    from producers.brokers.gateway import run_gateway
    from producers.brokers.simclient import SimClient
    from tape.configuring import gateway_settings

    url = _broker(task.config).url
    with open_log(task.url) as log:
        run_gateway(
            log,
            int(task.name),
            lambda account: SimClient(url, account),
            gateway_settings(task.config),
            beats=task.beats,
            stop=task.stop,
        )


def _broker_sim(task: Task) -> None:
    from tape.brokersim import faults_of, run_broker_sim
    from tape.configuring import exchange_settings

    broker = _broker(task.config)
    with open_log(task.url, read_only=True) as log:
        run_broker_sim(
            log,
            exchange_settings(task.config, log),
            broker.folder / log.id[:12],
            host=broker.listen,
            port=int(broker.url.rpartition(":")[2]),
            accounts={account.id: account.cash for account in task.config.accounts},
            faults=faults_of([f"{name}={how}" for name, how in broker.faults.items()]),
            beats=task.beats,
            stop=task.stop,
        )


def _broker(config: LiveConfig) -> BrokerConfig:
    if config.broker is None:
        raise RoleError("the configuration has no [broker]: add one, and core.simulated = false")
    return config.broker


def _core(task: Task) -> None:
    from processors.hosts.live import Cadence
    from tape.configuring import check_core, configured_for
    from tape.core import run_core

    config = task.config
    check_core(config)

    def changed() -> bool:
        nonlocal config
        new = task.changed()
        config = new or config
        return new is not None

    with open_log(task.url, read_only=True) as log:
        run_core(
            task.url,
            lambda partition: configured_for(config, log, partition),
            cadence=lambda: Cadence(config.commit_ms / 1000, config.wait_ms / 1000),
            changed=changed,
            beats=task.beats,
            stop=task.stop,
        )


def _heartbeat(task: Task) -> None:
    from producers.heartbeat import run_heartbeat

    with open_log(task.url) as log:
        run_heartbeat(log, beats=task.beats, stop=task.stop)


def _seal(task: Task) -> None:
    from eventlog.sealing import run_seal

    if not is_kafka(task.url):
        raise RoleError(f"{task.url} seals itself: leave this role out; only logs on Kafka need it")
    with open_log(task.url) as log:
        run_seal(log, beats=task.beats, stop=task.stop)


def _project(task: Task) -> None:
    from projections.postgres.projector import connect, projecting
    from tape.projecting import start_server

    server = task.config.postgres_dsn or str(start_server(None)["dsn"])
    with (
        open_log(task.url, read_only=True) as log,
        connect(server) as connection,
        projecting(connection, log) as projector,
    ):

        def stop() -> bool:
            """Asked by the loop a few times a second, so that it gives the beats."""
            task.beats(_projected(projector.done))
            return task.stop()

        projector.follow(stop=stop)


def _projected(done: Done) -> Beat:
    positions = {("batches", partition): at.next for partition, at in done.positions.items()}
    for partition, at in done.positions.items():
        positions |= {(topic, partition): offset for topic, offset in at.topics.items()}
    return Beat(done.decisions, positions)


KINDS: dict[str, Callable[[Task], None]] = {
    "feed": _feed,
    "heartbeat": _heartbeat,
    "market": _market,
    "strategies": _strategies,
    "alerts": _alerts,
    "core": _core,
    "gateway": _gateway,
    "broker-sim": _broker_sim,
    "project": _project,
    "seal": _seal,
}
"""What there is to run, in the order of its end: what brings in first, what reads last."""
