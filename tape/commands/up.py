"""`tape up`."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tape.commands.options import STOPPED
from tape.commands.run import ConfigOption, LogOption, config_file
from tape.errors import WrongInput

if TYPE_CHECKING:
    from tape.config import LiveConfig
    from tape.up import Up


def up(
    config: ConfigOption = None,
    log: LogOption = None,
    postgres: Annotated[
        str | None,
        typer.Option(
            "--postgres",
            metavar="DSN",
            help="A Postgres server for the read model, over TAPE_POSTGRES_DSN.  [default: the one that "
            "comes with Tape, which is started]",
        ),
    ] = None,
    no_postgres: Annotated[bool, typer.Option("--no-postgres", help="Bring nothing into Postgres.")] = False,
    out: Annotated[
        Path,
        typer.Option("--out", metavar="DIR", help="Folder for what each role says, ROLE.log."),
    ] = Path("runs/up"),
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object a line.")] = False,
) -> None:
    """Run every role of a configuration on this machine, each a process, until Ctrl-C or SIGTERM.

    \b
    tape up --config deploy/tape.toml

    Without a log, a Kafka broker is started here (see `tape kafka`), and stopped at the end; its data stay,
    and the next `tape up` goes on with them. The log is made where there is none, and the accounts of the
    configuration are opened, once. A role that dies is started again, after 1 s, then 2, 4, up to 30, and
    goes on from the log; none outlives this command, also where it is killed. They are ended in order:
    what brings in first, the core, then what reads.

    SIGHUP has every role read the configuration again, as `tape run` says, and opens the accounts that are
    new in it. One that is wrong, or names other roles, is refused in a sentence, and all goes on.

    \b
    Exit codes:
      0    ended by SIGTERM
      1    it failed: no broker, no server, no log to be had
      2    wrong input, or a wrong configuration; nothing was written
      130  ended by Ctrl-C
    """
    import signal
    import time

    from tape.commands.options import users_code, wrong
    from tape.config import load
    from tape.projecting import say
    from tape.running import Signals
    from tape.show_up import screen
    from tape.up import SHOW_S, STEP_S, Up, stand

    if postgres is not None and no_postgres:
        raise wrong("postgres", "give one of the two, --postgres or --no-postgres")
    file = config_file(config)
    loaded = load(file, log=log, postgres_dsn=postgres)
    stop, left = Signals(), []
    with stop.listening(), ExitStack() as stack:
        with users_code():
            standing = stack.enter_context(stand(loaded, projects=not no_postgres, say=say))
        shown = stack.enter_context(screen(as_json))
        roles = Up(loaded, file, standing, out)
        shown.begun(standing, roles.rows())
        said_ready, drawn = False, 0.0
        try:
            while not stop():
                if stop.take_hangup():
                    shown.changed(*_change(roles, lambda: load(file, log=log, postgres_dsn=postgres)))
                for told in roles.step():
                    shown.told(told)
                if roles.is_ready and not said_ready:
                    said_ready = True
                    shown.ready()
                if time.monotonic() - drawn >= SHOW_S:
                    drawn = time.monotonic()
                    shown.rows(roles.rows())
                time.sleep(STEP_S)
        finally:
            for told in roles.stop():
                shown.told(told)
            shown.rows(roles.rows())
        if standing.postgres_is_ours:
            left.append("Postgres runs on, to be asked; stop it with: tape postgres stop")
        shown.ended(left)
    raise typer.Exit(STOPPED if stop.number == signal.SIGINT else 0)


def _change(roles: Up, reread: Callable[[], LiveConfig]) -> tuple[list[str], str]:
    """Have the roles read the configuration again: the accounts asked for, and why it was refused."""
    from eventlog.errors import LogError
    from tape.commands.options import users_code

    try:
        with users_code():
            return roles.change(reread()), ""
    except (WrongInput, LogError) as problem:
        return [], str(problem)
