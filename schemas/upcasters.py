"""From each older schema version to the next.

An upcaster takes the JSON object of version n and gives that of version n + 1, `v` included.
Every event stands at version 1 so far, so the table is empty; a test holds that there is an
entry for each version below the current one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

UPCASTERS: dict[tuple[str, int], Callable[[dict[str, Any]], dict[str, Any]]] = {}
