"""What a long-running role tells of itself while it runs, and how it is asked to end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from eventlog.contract import Stream


@dataclass(frozen=True)
class Beat:
    """How far a role is: inputs taken since it started, the next offset of each input, what went wrong last.

    A role gives one at least once a second, from the loop that does its work: one that hangs gives none.
    How far it is behind is for others to measure, at the log's ends.
    """

    processed: int
    positions: Mapping[Stream, int] = field(default_factory=dict)
    error: str = ""


Beats = Callable[[Beat], None]
"""Takes beats; may be called as often as one likes."""

Stop = Callable[[], bool]
"""Whether the role is asked to end. Looked at a few times a second."""
