"""A run over the busy market in many small batches, which the tests here project."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from eventlog import EventLog
from support.runs import busy_log, busy_settings, run


@pytest.fixture(scope="session")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EventLog]:
    """Three accounts in two partitions, in batches of 20 inputs; not to be written to."""
    with busy_log(tmp_path_factory.mktemp("busy")) as log:
        for partition in (0, 1):
            run(log, busy_settings(), partition, batch=20)
        yield log
