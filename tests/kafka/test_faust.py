"""Outside strategies on a real Kafka, on Faust and in transactions: kills, aborted and unreadable records."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import pytest
from confluent_kafka import Producer

from eventlog import EventLog
from eventlog.kafka.broker import Broker
from processors.hosts.inprocess import InProcessHost
from processors.hosts.keyed import run_keyed
from producers.operator import command_record
from schemas import DeadLetter, Fill, NewRecord, Proposal, decode, evolve, new_record, partition_of
from support.market import MINUTE, at, session_opened
from support.outside import bar_log, bars, by_source, proposals, records, strategy
from support.runs import configured, core, opening
from tape.wiring import build

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(900)]

SERIAL = count(1)
HOSTS = ("faust", "transactional")

HOST = """
import sys
from pathlib import Path
from eventlog import open_log
from support.outside import strategy

kind, url, folder, slow = sys.argv[1], sys.argv[2], Path(sys.argv[3]), float(sys.argv[4])

def beats(beat):
    (folder / "beat.new").write_text(f"{beat.processed} {sum(beat.positions.values())}")
    (folder / "beat.new").replace(folder / "beat")

class Slow(type(strategy())):
    def apply(self, record):
        import time
        time.sleep(slow)
        return super().apply(record)

made = strategy()
made.__class__ = Slow
stop = (folder / "stop").exists
if kind == "faust":
    from processors.hosts.faust import run_faust
    run_faust(url, made, name="revert", beats=beats, stop=stop)
else:
    from processors.hosts.keyed import run_keyed
    with open_log(url) as log:
        run_keyed(log, made, name="revert", beats=beats, stop=stop, page=20)
"""


@contextmanager
def host(kind: str, url: str, folder: Path, slow: float = 0) -> Iterator[subprocess.Popen[bytes]]:
    """A host in a process of its own, killed at the end."""
    for name in ("beat", "stop"):
        (folder / name).unlink(missing_ok=True)
    environment = os.environ | {"PYTHONPATH": f"{Path.cwd()}:{Path.cwd() / 'tests'}"}
    process = subprocess.Popen(
        [sys.executable, "-c", HOST, kind, url, str(folder), str(slow)], env=environment
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@contextmanager
def supervised(kind: str, url: str, folder: Path, slow: float = 0) -> Iterator[None]:
    """A host as a supervisor runs it: one that ends by an error is started again. Killed at the end."""
    for name in ("beat", "stop"):
        (folder / name).unlink(missing_ok=True)
    environment = os.environ | {"PYTHONPATH": f"{Path.cwd()}:{Path.cwd() / 'tests'}"}
    run = [sys.executable, "-c", HOST, kind, url, str(folder), str(slow)]
    process = subprocess.Popen(
        ["sh", "-c", 'until "$@"; do sleep 0.2; done', "sh", *run], env=environment, start_new_session=True
    )
    try:
        yield
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def until(holds: Callable[[], bool], what: str, limit_s: float = 240) -> None:
    """Wait until something holds."""
    end = time.monotonic() + limit_s
    while not holds():
        assert time.monotonic() < end, f"never: {what}"
        time.sleep(0.1)


def taken(folder: Path) -> int:
    """Records that the host was given."""
    return int((folder / "beat").read_text().split()[0]) if (folder / "beat").exists() else 0


def reached(folder: Path) -> int:
    """The sum of its positions."""
    return int((folder / "beat").read_text().split()[1]) if (folder / "beat").exists() else 0


@pytest.fixture
def url(broker: Broker) -> str:
    return f"kafka://{broker.address}/outside{next(SERIAL)}"


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> list[Proposal]:
    """What the in-process fold of the same bars proposes."""
    with bar_log(f"sqlite:{tmp_path_factory.mktemp('same') / 'log'}") as log:
        run_to_end(log)
        return proposals(log)


def run_to_end(log: EventLog) -> None:
    """The transactional host over all there is."""
    total = sum(log.bounds("market.bars", p)[1] for p in range(log.partitions("market.bars")))
    seen = [0]
    run_keyed(
        log,
        strategy(),
        name="revert",
        beats=lambda beat: seen.__setitem__(0, beat.processed),
        stop=lambda: seen[0] >= total,
    )


@pytest.mark.parametrize("kind", HOSTS)
def test_kills_at_any_moment_lose_no_proposal(
    kind: str, url: str, tmp_path: Path, expected: list[Proposal]
) -> None:
    """Killed four times; on Faust at least once, in transactions exactly once, in the same order."""
    wanted = by_source(expected)
    assert len(expected) > 50
    with bar_log(url) as log:
        for kill in range(4):
            had = len(proposals(log))
            with host(kind, url, tmp_path, slow=0.01) as process:
                until(lambda: len(proposals(log)) >= had + 5 + 3 * kill, "more proposals", 300)  # noqa: B023
                assert process.poll() is None
                assert len({p.id for p in proposals(log)}) < len(expected), "it was over before the kill"
        with host(kind, url, tmp_path) as process:
            until(lambda: by_source(proposals(log)) == wanted, "all proposals")
            (tmp_path / "stop").touch()
            assert process.wait(120) == 0
        made = proposals(log)
        assert by_source(made) == wanted
        if kind == "transactional":
            assert len(made) == len(expected)


def test_what_was_done_is_not_done_again_after_a_good_end(
    url: str, tmp_path: Path, expected: list[Proposal]
) -> None:
    """Faust goes on behind the table: the state survives, and more bars lead to what one fold makes."""
    made = bars()
    with bar_log(url, made[:450]) as log:
        for part, limit in ((made[450:700], 450), (made[700:], 700), ([], len(made))):
            with host("faust", url, tmp_path) as process:
                until(lambda: reached(tmp_path) == limit, f"{limit} bars taken")  # noqa: B023
                (tmp_path / "stop").touch()
                assert process.wait(120) == 0
            with log.writer("feed") as writer:
                if part:
                    writer.append(records(log, part))
        assert by_source(proposals(log)) == by_source(expected)


@pytest.mark.parametrize("kind", HOSTS)
def test_the_core_makes_the_same_fills_of_either_host(kind: str, url: str, tmp_path: Path) -> None:
    """All bars in one partition, so that the account's proposals have one order."""
    with bar_log(f"sqlite:{tmp_path / 'log'}", market_partitions=1) as other:
        open_account(other)
        run_to_end(other)
        expected, fills = proposals(other), decided(other)
    with bar_log(url, market_partitions=1) as log:
        open_account(log)
        for _ in range(2):
            had = len(proposals(log))
            with supervised(kind, url, tmp_path, slow=0.003):
                until(lambda: len(proposals(log)) > had + 5, "more proposals", 300)  # noqa: B023
        with supervised(kind, url, tmp_path):
            until(lambda: by_source(proposals(log)) == by_source(expected), "all proposals")
        assert decided(log) == fills
    assert len(fills) > 20


def open_account(log: EventLog) -> None:
    """The account of the strategy, and a session to trade in."""
    account = opening("one", at("09:00"), day_loss="0.5", day_loss_reduce="0.4")
    session = evolve(session_opened(), source="sessions", row=1)
    place = partition_of("*", log.partitions("market.status"))
    with log.writer("feed") as writer:
        writer.append([command_record(account, log), new_record(session, place, "*")])


def decided(log: EventLog) -> list[Fill]:
    """The fills that the core makes."""
    found: list[Fill] = []
    for partition in range(log.partitions("fills")):
        settings = core(latency=0, stale_after=MINUTE * 600)
        InProcessHost(log, partition, configured(log, settings, partition), build).run()
        for record in log.read("fills", partition, gte=0, limit=1 << 30):
            event = decode("fills", record.value)
            if isinstance(event, Fill):
                found.append(event)
    return found


@pytest.mark.parametrize("kind", HOSTS)
def test_what_was_aborted_is_never_seen(
    kind: str, url: str, tmp_path: Path, expected: list[Proposal]
) -> None:
    """Bars of an aborted transaction stand between the others: neither host folds them."""
    made = bars()
    with bar_log(url, made[:300]) as log:
        producer = Producer({"bootstrap.servers": log.url.split("/")[2], "transactional.id": "aborter"})
        producer.init_transactions(30)
        producer.begin_transaction()
        for record in records(log, made[300:330]):
            name = f"{url.rpartition('/')[2]}.{record.topic}"
            producer.produce(name, record.value, record.key, record.partition)
        producer.flush(30)
        producer.abort_transaction(30)
        with log.writer("feed") as writer:
            writer.append(records(log, made[300:]))
        with host(kind, url, tmp_path):
            until(lambda: taken(tmp_path) >= len(made), "all bars taken")
            assert taken(tmp_path) == len(made)
        features = [(p.symbol, p.ts, p.weight, p.features) for p in proposals(log)]
        assert sorted(features) == sorted((p.symbol, p.ts, p.weight, p.features) for p in expected)


@pytest.mark.parametrize("kind", HOSTS)
def test_what_cannot_be_read_goes_to_the_dead_letters(kind: str, url: str, tmp_path: Path) -> None:
    made = bars(30)
    with bar_log(url, made) as log:
        with log.writer("feed") as writer:
            writer.append([NewRecord("market.bars", 1, b"AAA", b"{broken")])
            writer.append(records(log, bars(60)[len(made) :]))
        with host(kind, url, tmp_path):
            until(lambda: taken(tmp_path) >= len(bars(60)) + 1, "all taken")
        letters = [decode("dead-letters", r.value) for r in log.read("dead-letters", 1, gte=0)]
        assert len(letters) == 1
        assert isinstance(letters[0], DeadLetter)
        assert letters[0].place.startswith("market.bars/1/")
        assert proposals(log)


def test_an_unknown_error_ends_the_role_and_loses_nothing(
    url: str, tmp_path: Path, expected: list[Proposal]
) -> None:
    """A processor that raises: the process ends with its error, and the next one takes that very record."""
    broken = HOST.replace("time.sleep(slow)", "assert self.n < 200, 'no more'; self.n += 1").replace(
        "made = strategy()", "Slow.n = 0; made = strategy()"
    )
    with bar_log(url) as log:
        environment = os.environ | {"PYTHONPATH": f"{Path.cwd()}:{Path.cwd() / 'tests'}"}
        failed = subprocess.run(
            [sys.executable, "-c", broken, "faust", url, str(tmp_path), "0"],
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert failed.returncode == 1
        assert failed.stderr.rstrip().endswith("AssertionError: no more")
        with host("faust", url, tmp_path):
            until(lambda: by_source(proposals(log)) == by_source(expected), "all proposals")
