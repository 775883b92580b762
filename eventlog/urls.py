"""A log by its name: sqlite:PATH or kafka://HOST:PORT/NAME."""

from __future__ import annotations

from pathlib import Path

from eventlog.contract import EventLog, LogSpec
from eventlog.errors import LogError, LogMismatch
from eventlog.sqlite import SqliteLog


def create_log(url: str, spec: LogSpec) -> EventLog:
    """Make a new log. Raises `LogExists`."""
    if is_kafka(url):
        from eventlog.kafka.store import KafkaLog

        return KafkaLog.create(url, spec)
    return SqliteLog.create(_path(url), spec)


def open_log(url: str, *, read_only: bool = False, expect: LogSpec | None = None) -> EventLog:
    """Open a log; one that is not as expected is refused with `LogMismatch`."""
    log = _open(url, read_only)
    if expect is not None and log.spec != expect:
        problem = _difference(log.spec, expect)
        log.close()
        raise LogMismatch(f"{url} is not the log that was expected: {problem}; name another place")
    return log


def is_kafka(url: str) -> bool:
    """Whether a name is that of a log on Kafka."""
    return url.startswith("kafka:")


def _open(url: str, read_only: bool) -> EventLog:
    if is_kafka(url):
        from eventlog.kafka.store import KafkaLog

        return KafkaLog(url, read_only=read_only)
    return SqliteLog(_path(url), read_only=read_only)


def _difference(found: LogSpec, expected: LogSpec) -> str:
    names = ("id", "time", "account_partitions", "market_partitions")
    return ", ".join(
        f"{name} is {getattr(found, name)}, not {getattr(expected, name)}"
        for name in names
        if getattr(found, name) != getattr(expected, name)
    )


def _path(url: str) -> Path:
    scheme, colon, path = url.partition(":")
    if scheme != "sqlite" or not colon or not path:
        raise LogError(
            f"{url} is not the name of a log that this Tape opens; use sqlite:PATH or kafka://HOST:PORT/NAME"
        )
    return Path(path)
