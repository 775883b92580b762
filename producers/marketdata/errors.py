"""What can be wrong with market data. Each message names the place, the value and the remedy."""

from __future__ import annotations


class DataError(Exception):
    """Market data that cannot be imported as it is."""


class BadRequest(DataError):
    """What was asked for makes no sense: an empty range, an unknown resolution, no symbol."""


class MissingFolder(DataError):
    """There is no data folder where one was named."""


class UnknownSymbol(DataError):
    """The folder has nothing of a symbol."""


class MissingDay(DataError):
    """A file of a session in the range is not there."""


class MissingFactors(DataError):
    """Adjusted prices were asked for, and no factor holds for the day."""


class DamagedFile(DataError):
    """A file is there and cannot be read."""


class BadRow(DataError):
    """A row of a file does not say what it should."""
