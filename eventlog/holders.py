"""Who holds a writer id: a process, told apart from a later one with the same number."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Self
from weakref import WeakSet

_SERIAL = count(1)


@dataclass(frozen=True)
class Holder:
    """One holding of an id. `started` is when the process started, in the system's own units."""

    host: str
    pid: int
    started: str
    serial: int

    @classmethod
    def new(cls) -> Self:
        """This process, once more; it lives until it is let go, or forgotten."""
        made = cls(socket.gethostname(), os.getpid(), _started(os.getpid()), next(_SERIAL))
        _HELD.add(made)
        return made

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """What `str` made; None for anything else."""
        parts = text.rsplit(":", 3)
        if len(parts) != 4 or not parts[1].isdecimal() or not parts[3].isdecimal():
            return None
        return cls(parts[0], int(parts[1]), parts[2], int(parts[3]))

    def __str__(self) -> str:
        return f"{self.host}:{self.pid}:{self.started}:{self.serial}"

    def let_go(self) -> None:
        """Hold no longer, whatever the log still says."""
        _HELD.discard(self)

    def is_alive(self) -> bool:
        """Whether the holder still holds; one on another host is taken to."""
        if self.host != socket.gethostname():
            return True
        if self.pid == os.getpid():
            return self in _HELD
        try:
            os.kill(self.pid, 0)
        except (ProcessLookupError, OverflowError):
            return False
        except PermissionError:
            pass  # it is another user's, and it is there
        return _started(self.pid) in (self.started, "")


_HELD: WeakSet[Holder] = WeakSet()
"""What this process holds."""


def _started(pid: int) -> str:
    """When a process started; "ended" where only its parent has not noticed; "" where it cannot be told."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    state, *_ = rest = fields.rpartition(")")[2].split()
    return "ended" if state in ("Z", "X") else rest[19]
