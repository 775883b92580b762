"""The event log: one contract, its stores, its seals."""

from eventlog.contract import EventLog, Follower, LogReader, LogSpec, Stream, Writer
from eventlog.heads import check_heads, fingerprint, heads
from eventlog.positions import last_of, last_of_source, last_rows
from eventlog.urls import create_log, open_log
from eventlog.verify import Fault, SealReport, check_seals

__all__ = [
    "EventLog",
    "Fault",
    "Follower",
    "LogReader",
    "LogSpec",
    "SealReport",
    "Stream",
    "Writer",
    "check_heads",
    "check_seals",
    "create_log",
    "fingerprint",
    "heads",
    "last_of",
    "last_of_source",
    "last_rows",
    "open_log",
]
