"""The simulated broker with its market on Kafka: killed, it goes on where it stood."""

from __future__ import annotations

import secrets
from pathlib import Path

import pytest

from eventlog import LogSpec, create_log
from eventlog.kafka.broker import Broker
from support.market import at, quote, session_opened
from support.simbroker import Desk, free_port, start_process

pytestmark = pytest.mark.kafka


def test_killed_it_fills_on_what_it_had_not_seen(broker: Broker, tmp_path: Path) -> None:
    url, port = f"kafka://{broker.address}/{secrets.token_hex(4)}", free_port()
    with create_log(url, LogSpec(secrets.token_hex(16), "data", 1, 2)) as log:
        d = Desk(log, port)
        d.write(session_opened())
        process = start_process(url, tmp_path / "broker", port, {})
        try:
            d.wait_ready()
            d.see(quote(at("09:31"), 10, "10.02"))
            assert d.order("a", "buy 10 market").status == "filled"
            assert d.order("b", "buy 10 limit 9").status == "new"
            process.kill()
            process.wait()
            d.write(quote(at("09:32"), "8.90", 9), quote(at("09:33"), 10, "10.02"))
            process = start_process(url, tmp_path / "broker", port, {})
            d.wait_ready()
            assert d.look_up("b").filled_notional == 90
            d.check_books()
        finally:
            process.kill()
            process.wait()
            d.close()
