"""One undisturbed run over the busy market, which the tests of this folder compare with."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from eventlog import EventLog, fingerprint
from support.runs import busy_log, busy_settings, run


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EventLog]:
    """A log on which both partitions have run in batches of 50; not to be written to."""
    with busy_log(tmp_path_factory.mktemp("finished")) as log:
        for partition in (0, 1):
            run(log, busy_settings(), partition, batch=50)
        yield log


@pytest.fixture(scope="session")
def undisturbed(finished: EventLog) -> str:
    """Its fingerprint."""
    return fingerprint(finished)
