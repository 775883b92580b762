"""Appending while the next inputs are decided on: one append at a time, in a thread of its own."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Self

from eventlog.contract import Writer
from schemas import NewRecord


class BackgroundWriter:
    """Appends in order; an append that failed is raised by the next one, by `wait` or by `close`."""

    def __init__(self, writer: Writer) -> None:
        self.id = writer.id
        self._writer = writer
        self._thread = ThreadPoolExecutor(1, f"writer-{writer.id}")
        self._pending: Future[None] | None = None

    @property
    def is_busy(self) -> bool:
        """Whether an append is on its way."""
        return self._pending is not None and not self._pending.done()

    def append(self, records: Sequence[NewRecord], /) -> None:
        """Wait for the append before, and begin this one. `records` must not change any more."""
        self.wait()
        self._pending = self._thread.submit(self._writer.append, records)

    def wait(self) -> None:
        """Until everything is appended. Raises what the append raised."""
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def close(self) -> None:
        """Wait, and let go of the thread; the writer is closed by who made it."""
        try:
            self.wait()
        finally:
            self._thread.shutdown()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
