"""Golden files: the exact bytes of one event of every version ever written.

    .venv/bin/python -m tests.support.golden [--force]

writes the files of current versions that are missing. One that is there is proof that bytes written
long ago are still read, so it is only written again with `--force`.
"""

from __future__ import annotations

import sys
from pathlib import Path

from schemas import encode
from schemas.declare import VERSIONS

from .examples import EXAMPLES

FOLDER = Path(__file__).parent.parent / "schemas" / "golden"


def write(folder: Path, *, force: bool = False) -> list[Path]:
    """Write NAME.vN.json for the example of every current version where there is none; which were written."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, event in sorted(EXAMPLES.items()):
        path = folder / f"{name}.v{VERSIONS[name]}.json"
        if force or not path.exists():
            path.write_bytes(encode(event))
            written.append(path)
    return written


if __name__ == "__main__":
    for made in write(FOLDER, force="--force" in sys.argv[1:]):
        print(made.name)
