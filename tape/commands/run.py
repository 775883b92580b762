"""`tape run`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from tape.commands.options import STOPPED, wrong

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        help="A TOML file, as deploy/tape.toml.  [default: tape.toml here, if there is one]",
    ),
]
LogOption = Annotated[
    str | None,
    typer.Option("--log", metavar="URL", help="sqlite:PATH or kafka://HOST:PORT/NAME, over TAPE_LOG."),
]


class RoleName(StrEnum):
    feed = "feed"
    heartbeat = "heartbeat"
    market = "market"
    strategies = "strategies"
    alerts = "alerts"
    core = "core"
    gateway = "gateway"
    broker_sim = "broker-sim"
    project = "project"
    seal = "seal"


def config_file(given: Path | None) -> Path | None:
    """The configuration to read: the one given, or the usual one where it exists."""
    usual = Path("tape.toml")
    return given or (usual if usual.exists() else None)


def run(
    role: Annotated[RoleName, typer.Argument(metavar="ROLE", help=f"{', '.join(RoleName)}.")],
    config: ConfigOption = None,
    log: LogOption = None,
    name: Annotated[
        str,
        typer.Option("--name", metavar="NAME", help="Which strategy, or a gateway's partition."),
    ] = "",
    instance: Annotated[
        str | None,
        typer.Option(
            "--instance",
            metavar="NAME",
            help="Which of several processes of this role it is, in its heartbeats.  [default: the machine's "
            "name]",
        ),
    ] = None,
    ready_file: Annotated[
        Path | None,
        typer.Option("--ready-file", metavar="FILE", help="Is there while the role is ready."),
    ] = None,
    metrics_port: Annotated[
        int | None,
        typer.Option(
            "--metrics-port",
            min=1,
            max=65535,
            metavar="PORT",
            help="Serve Prometheus metrics on 127.0.0.1.  [default: none]",
        ),
    ] = None,
) -> None:
    """Run one role of the live plane in this process, until SIGTERM or Ctrl-C.

    \b
    feed       plays market data of [feed] into the log
    heartbeat  says sessions and the time on a log that no player feeds
    market     makes marks and bars of quotes
    strategies runs a strategy outside the core; --name says which
    alerts     says where a rule holds
    core       decides: a process for each partition that has accounts
    gateway    sends a partition's orders to the broker, and reports what it answers; --name says which
    broker-sim is a broker that simulates
    project    brings decisions into Postgres
    seal       seals what is on Kafka; a file seals itself

    The log must be there: `tape up` and `tape config apply` make it. What it does is told on standard error,
    a JSON object a line where that is no terminal, and once a second on topic `roles`. Whatever goes wrong
    ends it; start it again, as `tape up` does: it goes on from the log.

    SIGHUP has it read its configuration again; a wrong one is refused on standard error, and the old one
    goes on. The core takes it while it runs: what changed of its settings or of a strategy begins an epoch.
    Every other role ends well and begins anew in the same process. The log, its time and partitions, and
    whether orders are simulated, stay as they are.

    \b
    Exit codes:
      0    ended by SIGTERM
      1    it failed; the message says why
      2    wrong input, or a wrong configuration; nothing was written
      70   its loop gave no sign for 30 s
      130  ended by Ctrl-C
    """
    import signal

    from tape.commands.options import users_code
    from tape.config import load
    from tape.roles import Role, named
    from tape.running import Signals, begin_anew, instance_name, run_role
    from tape.supervisor import die_with_parent

    die_with_parent()
    loaded = load(config_file(config), log=log)
    names = [one.name for one in named(loaded) if one.kind == role]
    is_several = role in (RoleName.strategies, RoleName.gateway)
    if is_several and name not in names:
        there = ", ".join(names) or "none in the configuration"
        raise wrong("name", f"'{name}' is no {role.value} by name; there are: {there}")
    if name and not is_several:
        raise wrong("name", f"role {role.value} has none; leave it out")
    stop = Signals()
    with users_code(), stop.listening():
        is_changed = run_role(
            Role(role.value, name),
            loaded,
            stop,
            reread=lambda: load(config_file(config), log=log),
            instance=instance or instance_name(),
            ready_file=ready_file,
            metrics_port=metrics_port,
        )
    if is_changed:
        begin_anew()
    raise typer.Exit(STOPPED if stop.number == signal.SIGINT else 0)
