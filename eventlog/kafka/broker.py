"""A Kafka broker of one node, for developers and tests: started, found again, stopped.

Where a Docker engine answers, a container of the official image; else a Java process of its jars.
What runs in a data folder is written down there, so that it is found after its starter was killed,
and exactly that process or container is stopped.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from eventlog.kafka.jars import VERSION, NoKafka, jars, java

START_S = 90
STOP_S = 30
STATE = "broker.json"

SETTINGS = """process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
log.dirs={logs}
auto.create.topics.enable=false
num.partitions=1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
transaction.abort.timed.out.transaction.cleanup.interval.ms=1000
"""
DURABLE = "log.flush.interval.messages=1\n"
LOGGING = """rootLogger.level=WARN
rootLogger.appenderRef.stdout.ref=STDOUT
appender.stdout.type=Console
appender.stdout.name=STDOUT
appender.stdout.layout.type=PatternLayout
appender.stdout.layout.pattern=%d %p %m (%c)%n
"""


@dataclass(frozen=True)
class Broker:
    """A running broker. `how` is "container" or "process"; `handle` its id or pid."""

    port: int
    controller: int
    how: str
    handle: str
    started: str
    folder: str
    version: str = VERSION

    @property
    def address(self) -> str:
        """HOST:PORT for clients."""
        return f"127.0.0.1:{self.port}"


def start(
    folder: Path,
    *,
    port: int | None = None,
    durable: bool = True,
    say: Callable[[str], None] = lambda text: None,
) -> Broker:
    """Start a broker over a data folder, or find the one that runs there. Raises `NoKafka`.

    `durable`: it flushes each record before it acknowledges, as a single broker must. After a stop
    it comes up on the port that it had. Where the start fails or is interrupted, nothing stays.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with _alone(folder):
        return status(folder) or _start(folder, port, durable, say)


def _start(folder: Path, port: int | None, durable: bool, say: Callable[[str], None]) -> Broker:
    last = _read(folder)
    port = port or (last.port if last is not None and is_free(last.port) else free_port())
    if docker_answers():
        broker = _start_container(folder, port, durable)
    else:
        broker = _start_process(folder, port, durable, say)
    try:
        temporary = folder / f"{STATE}.new"
        temporary.write_text(json.dumps(asdict(broker), indent=1), encoding="utf-8")
        temporary.replace(folder / STATE)
        _await(broker)
    except BaseException:
        _end(broker)
        raise
    return broker


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One starts a folder's broker at a time; whoever waited finds it running."""
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def status(folder: Path) -> Broker | None:
    """The broker that runs over a data folder."""
    broker = _read(folder)
    return broker if broker is not None and _is_alive(broker) else None


def stop(folder: Path) -> bool:
    """Stop the broker of a data folder, and wait for its end; False: none was running."""
    broker = status(folder)
    if broker is None:
        return False
    _end(broker)
    return True


def _end(broker: Broker) -> None:
    if broker.how == "container":
        subprocess.run(["docker", "rm", "-f", broker.handle], check=False, capture_output=True)
        return
    kill(broker, signal.SIGTERM)
    if not _await_end(broker, STOP_S):
        kill(broker, signal.SIGKILL)
        _await_end(broker, STOP_S)


def kill(broker: Broker, number: int) -> None:
    """Send a signal to the broker's process, or its container."""
    if broker.how == "container":
        name = signal.Signals(number).name
        subprocess.run(["docker", "kill", "-s", name, broker.handle], check=False, capture_output=True)
    elif _is_alive(broker):
        os.kill(int(broker.handle), number)
        if number == signal.SIGKILL:
            _await_end(broker, STOP_S)


def docker_answers() -> bool:
    """Whether a Docker engine runs: a client can be there without one."""
    if shutil.which("docker") is None:
        return False
    try:
        return (
            subprocess.run(["docker", "info"], capture_output=True, timeout=10, check=False).returncode == 0
        )
    except subprocess.TimeoutExpired:
        return False


def _read(folder: Path) -> Broker | None:
    try:
        return Broker(**json.loads((folder / STATE).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _start_process(folder: Path, port: int, durable: bool, say: Callable[[str], None]) -> Broker:
    classpath = f"{jars(say)}/*"
    controller = free_port()
    logs, config, logging = folder / "data", folder / "server.properties", folder / "log4j2.properties"
    config.write_text(
        SETTINGS.format(port=port, controller=controller, logs=logs) + (DURABLE if durable else ""), "utf-8"
    )
    logging.write_text(LOGGING, encoding="utf-8")
    quiet = f"-Dlog4j2.configurationFile={logging}"
    if not (logs / "meta.properties").exists():
        _format(classpath, quiet, config)
    command = [java(), "-Xmx1g", "-XX:+UseSerialGC", quiet, "-cp", classpath, "kafka.Kafka", str(config)]
    with (folder / "kafka.log").open("ab") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True)
    return Broker(port, controller, "process", str(process.pid), _started(process.pid), str(folder))


def _format(classpath: str, quiet: str, config: Path) -> None:
    cluster = uuid.uuid4().hex[:22]
    command = [
        java(),
        quiet,
        "-cp",
        classpath,
        "kafka.tools.StorageTool",
        "format",
        "-t",
        cluster,
        "-c",
        str(config),
    ]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    if ran.returncode:
        raise NoKafka(f"Kafka could not format {config.parent}: {(ran.stdout + ran.stderr).strip()[-2000:]}")


def _start_container(folder: Path, port: int, durable: bool) -> Broker:
    """The official image with the same settings, on the host's network, over the data folder."""
    controller = free_port()
    config = folder / "server.properties"
    config.write_text(
        SETTINGS.format(port=port, controller=controller, logs="/tape/data") + (DURABLE if durable else ""),
        "utf-8",
    )
    (folder / "data").mkdir(exist_ok=True)
    command = [
        *("docker", "run", "-d", "--network", "host", "--user", f"{os.getuid()}:{os.getgid()}"),
        *("-v", f"{folder.resolve()}:/tape", "--entrypoint", "/bin/sh", f"apache/kafka:{VERSION}", "-c"),
        "test -f /tape/data/meta.properties || /opt/kafka/bin/kafka-storage.sh format "
        '-t "$(/opt/kafka/bin/kafka-storage.sh random-uuid)" -c /tape/server.properties; '
        "exec /opt/kafka/bin/kafka-server-start.sh /tape/server.properties",
    ]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    if ran.returncode:
        raise NoKafka(f"Docker could not start Apache Kafka {VERSION}: {ran.stderr.strip()[-2000:]}")
    return Broker(port, controller, "container", ran.stdout.strip(), "", str(folder))


def _await(broker: Broker) -> None:
    """Until it answers. Raises `NoKafka` with the end of its log where it does not."""
    admin = AdminClient({"bootstrap.servers": broker.address, "log_level": 0, "socket.timeout.ms": 2000})
    until = time.monotonic() + START_S
    while time.monotonic() < until:
        if not _is_alive(broker):
            raise NoKafka(f"Kafka ended while starting:\n{_tail(Path(broker.folder) / 'kafka.log')}")
        try:
            admin.list_topics(timeout=1)
            return
        except KafkaException:
            time.sleep(0.1)
    raise NoKafka(f"Kafka did not answer within {START_S} s:\n{_tail(Path(broker.folder) / 'kafka.log')}")


def _await_end(broker: Broker, seconds: float) -> bool:
    until = time.monotonic() + seconds
    while _is_alive(broker):
        if time.monotonic() > until:
            return False
        time.sleep(0.05)
    return True


def _is_alive(broker: Broker) -> bool:
    if broker.how == "container":
        command = ["docker", "inspect", "-f", "{{.State.Running}}", broker.handle]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() == "true"
    pid = int(broker.handle)
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)  # a child of ours that has ended is not alive
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return _started(pid) == broker.started


def _started(pid: int) -> str:
    """When a process started, in the system's own units; "" where that cannot be told."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def is_free(port: int) -> bool:
    """Whether nobody listens on a port of this machine."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def free_port() -> int:
    """A port of this machine that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _tail(file: Path, size: int = 2000) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace")[-size:]
    except OSError:
        return ""
