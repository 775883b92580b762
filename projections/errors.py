"""What can go wrong with a read model. Each message names the thing and the remedy."""

from __future__ import annotations


class ProjectionError(Exception):
    """A read model could not be brought on; what was committed stands."""


class Hole(ProjectionError):
    """A decision is missing in the log, or stands there where it cannot."""


class Moved(ProjectionError):
    """Another projector has moved the position; nothing of this transaction was kept."""


class ServerLost(ProjectionError):
    """The server ended the connection."""


class Refused(ProjectionError):
    """What was asked for cannot be done; nothing was changed."""


class NoServer(Refused):
    """No server can be reached, or it does not let the user in."""


class Busy(Refused):
    """Another projector fills the same read model from the same log."""


class OtherSchema(Refused):
    """The tables are of another version than this Tape writes."""


class OtherLog(Refused):
    """The rows are of another log, or of another course of it."""
