"""How much of what is slow a run of the tests does."""

import os

ALL = bool(os.environ.get("TAPE_ALL"))
"""Set by `make soak`: every test does as much as it says; else some of it, so that CI is short."""


def many(times: int) -> int:
    """So many times, or two in five of them."""
    return times if ALL else times * 2 // 5
