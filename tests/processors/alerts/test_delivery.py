"""Alerts from the log to a webhook and a file: over failures, ends, kills and repeats."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from eventlog import EventLog, LogSpec, create_log, open_log
from eventlog.roles import Beat
from producers.alerts import FileSink, NotDelivered, WebhookSink, run_delivery
from schemas import Alert, RoleHeartbeat, new_record
from support.market import SECOND
from tape.alerting import AlertsError, rules_named, run_alerts, sinks_of
from tape.config import AlertsConfig, LiveConfig
from tape.roles import Task, run_task

SPEC = LogSpec("0123456789abcdef", "data", account_partitions=2, market_partitions=2)
QUICK = (0.05,)


class Hook:
    """A webhook that answers `status`, and keeps what was posted to it well."""

    def __init__(self) -> None:
        self.status, self.asked = 200, 0
        self.taken: list[dict[str, Any]] = []
        self.tokens: set[str | None] = set()


@contextmanager
def served(hook: Hook) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            hook.asked += 1
            if hook.status == 200:
                hook.taken.append(json.loads(body))
                hook.tokens.add(self.headers["Authorization"])
            self.send_response(hook.status)
            self.end_headers()

        def log_message(self, *args: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/hook"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def log(tmp_path: Path) -> Iterator[EventLog]:
    with create_log(f"sqlite:{tmp_path / 'log'}", SPEC) as made:
        yield made


def alert(n: int) -> Alert:
    return Alert(id=f"rule/{n}", rule="rule", ts=n * SECOND, cause=str(n), text=f"number {n}")


def write(log: EventLog, *alerts: Alert) -> None:
    with log.writer("test") as writer:
        writer.append([new_record(one, 0, one.rule) for one in alerts])


def deliver(log: EventLog, folder: Path, *sinks: Any, stop: Callable[[], bool]) -> list[Beat]:
    beats: list[Beat] = []
    end = time.monotonic() + 120

    def over() -> bool:
        assert time.monotonic() < end, "never delivered"
        return stop()

    run_delivery(
        lambda: open_log(log.url, read_only=True),
        sinks,
        folder,
        beats=beats.append,
        stop=over,
        backoff_s=QUICK,
    )
    return beats


def ids(path: Path) -> list[str]:
    return [json.loads(line)["id"] for line in path.read_text().splitlines()] if path.exists() else []


def test_a_webhook_that_is_down_delays_and_loses_nothing(log: EventLog, tmp_path: Path) -> None:
    """The file is not held up; with the webhook back, everything comes, in order."""
    hook, out = Hook(), tmp_path / "alerts.jsonl"
    hook.status = 503
    write(log, *(alert(n) for n in range(5)))
    with served(hook) as url:

        def mended() -> bool:
            if len(ids(out)) == 5 and hook.asked > 2:
                hook.status = 200
            return len(hook.taken) == 5

        beats = deliver(log, tmp_path / "at", WebhookSink(url, "geheim"), FileSink(out), stop=mended)
    assert [one["id"] for one in hook.taken] == ids(out) == [f"rule/{n}" for n in range(5)]
    assert hook.taken[1] == {
        "id": "rule/1",
        "rule": "rule",
        "time": "1970-01-01T00:00:01.000+00:00",
        "text": "number 1",
        "cause": "1",
    }
    assert hook.tokens == {"Bearer geheim"}
    errors = {beat.error for beat in beats}
    assert "rule/0 is not delivered yet: the webhook answered 503" in errors
    assert not any("geheim" in error for error in errors)


def test_it_goes_on_where_it_ended_and_passes_over_repeats(log: EventLog, tmp_path: Path) -> None:
    out = tmp_path / "alerts.jsonl"
    write(log, alert(1), alert(2))
    deliver(log, tmp_path / "at", FileSink(out), stop=lambda: len(ids(out)) == 2)
    write(log, alert(2), alert(1), alert(3))
    deliver(log, tmp_path / "at", FileSink(out), stop=lambda: "rule/3" in ids(out))
    assert ids(out) == ["rule/1", "rule/2", "rule/3"]


def test_a_webhook_that_is_not_there_is_told_and_the_role_ends_when_asked(
    log: EventLog, tmp_path: Path
) -> None:
    write(log, alert(1))
    left = iter(range(20))
    beats = deliver(
        log,
        tmp_path / "at",
        WebhookSink("http://127.0.0.1:9/hook"),
        stop=lambda: next(left, None) is None,
    )
    assert beats[-1].error == "rule/1 is not delivered yet: the webhook did not answer (ConnectError)"
    assert not (tmp_path / "at" / "webhook.json").exists()


def test_a_token_in_a_webhooks_url_is_told_nowhere(caplog: pytest.LogCaptureFixture) -> None:
    hook = Hook()
    with caplog.at_level(logging.DEBUG), served(hook) as url:
        logging.getLogger(__name__).info("heard")
        WebhookSink(f"{url.replace('//', '//me:geheim@')}?token=geheim").deliver(alert(1))
        hook.status = 500
        with pytest.raises(NotDelivered) as refused:
            WebhookSink(f"{url}?token=geheim").deliver(alert(1))
    with pytest.raises(NotDelivered) as unusable:
        WebhookSink("http://127.0.0.1:geheim/hook").deliver(alert(1))
    assert len(hook.taken) == 1
    assert "heard" in caplog.text
    assert "geheim" not in f"{caplog.text}{refused.value}{unusable.value}"


def test_a_line_that_a_kill_cut_off_hides_no_other(tmp_path: Path) -> None:
    out = tmp_path / "alerts.jsonl"
    out.write_text('{"id": "rul')
    FileSink(out).deliver(alert(1))
    assert json.loads(out.read_text().splitlines()[1])["id"] == "rule/1"


ROLE = """
import sys
from pathlib import Path
from tape.alerting import rules_named, run_alerts, sinks_of
folder = Path(sys.argv[2])
run_alerts(sys.argv[1], rules_named([]), sinks_of(None, folder / "alerts.jsonl"), host="transactional",
           places=folder / "at", beats=lambda beat: None, stop=(folder / "stop").exists)
"""


def test_killed_at_any_moment_every_alert_stands_once_and_is_told(log: EventLog, tmp_path: Path) -> None:
    """Rules and delivery in one process, killed five times while errors come."""
    out = tmp_path / "alerts.jsonl"
    wanted = [f"roles/core/{n}/error/{n * SECOND}" for n in range(120)]
    for kill in range(6):
        with log.writer("roles") as writer:
            for n in range(kill * 20, kill * 20 + 20):
                beat = RoleHeartbeat(
                    role="core", instance=str(n), ts=n * SECOND, processed=0, behind=0, error=f"error {n}"
                )
                writer.append([new_record(beat, 0, "core")])
        process = subprocess.Popen([sys.executable, "-c", ROLE, log.url, str(tmp_path)], env={**os.environ})
        end = time.monotonic() + 120
        due = wanted[kill * 20 + (19 if kill == 5 else kill * 3)]
        while due not in ids_of_whole_lines(out):
            assert time.monotonic() < end, f"{due} never came"
            time.sleep(0.01)
        if kill == 5:
            (tmp_path / "stop").touch()
            assert process.wait(60) == 0
        process.send_signal(signal.SIGKILL)
        process.wait()
    errors = [one for one in ids_of_whole_lines(out) if "/error/" in one]
    assert set(errors) == set(wanted)
    assert list(dict.fromkeys(errors)) == wanted
    stored = [json.loads(r.value)["id"] for r in log.read("alerts", 0, gte=0)]
    assert len(stored) == len(set(stored))
    assert set(wanted) <= set(stored)


def ids_of_whole_lines(path: Path) -> list[str]:
    found = []
    for line in path.read_text().splitlines() if path.exists() else ():
        if line.endswith("}"):
            found.append(json.loads(line)["id"])
    return found


def test_the_role_keeps_to_its_configuration(log: EventLog, tmp_path: Path) -> None:
    out, end = tmp_path / "alerts.jsonl", time.monotonic() + 120
    alerts = AlertsConfig(
        silent_s=3, behind=50, behind_s=2, rules=("roles",), file=out, places=tmp_path / "at"
    )
    with log.writer("roles") as writer:
        for n in range(1, 5):
            beats = [("core", 0), ("feed", 51)] if n == 1 else [("feed", 51)]
            for role, behind in beats:
                beat = RoleHeartbeat(
                    role=role, instance="a", ts=n * SECOND, processed=0, behind=behind, error=""
                )
                writer.append([new_record(beat, 0, role)])

    def told() -> bool:
        assert time.monotonic() < end, "never told"
        return len(ids_of_whole_lines(out)) == 2

    run_task("alerts", Task(LiveConfig(alerts=alerts), log.url, "", lambda beat: None, told, lambda: None))
    assert ids_of_whole_lines(out) == [f"roles/feed/a/behind/{SECOND}", f"roles/core/a/silent/{SECOND}"]


def test_what_is_wrong_is_refused(log: EventLog, tmp_path: Path) -> None:
    with pytest.raises(AlertsError, match="no alert rule brekaer; there are breaker, orders, roles, feed"):
        rules_named(["brekaer"])
    with pytest.raises(AlertsError, match="no URL"):
        sinks_of("example.org", None)
    with pytest.raises(AlertsError, match="Faust takes Kafka"):
        run_alerts(
            log.url,
            rules_named([]),
            [],
            host="faust",
            places=tmp_path,
            beats=lambda beat: None,
            stop=lambda: True,
        )
