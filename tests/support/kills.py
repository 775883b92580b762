"""How often tests kill what they watch."""

import os

ALL = "TAPE_ALL_KILLS"
"""Set by `make soak`: every test kills as often as it says; else some of it, so that CI is short."""


def many(kills: int) -> int:
    """So many kills, or two in five of them."""
    return kills if os.environ.get(ALL) else kills * 2 // 5
