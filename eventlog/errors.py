"""What can go wrong with a log. Each message names the thing and the remedy."""

from __future__ import annotations


class LogError(Exception):
    """Something about a log is not as it should be."""


class LogNotFound(LogError):
    """There is no log where one was named."""


class LogUnreachable(LogNotFound):
    """The broker of a log does not answer."""


class NotInLog(LogError):
    """A log has no such topic, partition or record."""


class LogExists(LogError):
    """A log stands where a new one should go."""


class LogMismatch(LogError):
    """The log is another one than was expected, or of a layout that this Tape does not read."""


class WriterBusy(LogError):
    """Another writer of the same id is alive."""


class WriterFenced(LogError):
    """A newer writer of the same id has taken over; this one may write no more."""


class LogFull(LogError):
    """There is no room for what was to be appended; nothing of it was written."""


class LogDamaged(LogError):
    """What is stored cannot be what was written."""
