"""LEAN folders for tests: the sample, and made ones."""

from __future__ import annotations

import zipfile
from pathlib import Path

SAMPLE = Path(__file__).parents[2] / "data" / "sample"


def lean_folder(folder: Path, files: dict[str, str], factors: dict[str, str] | None = None) -> Path:
    """Write zips of one CSV, named like "minute/spy/20131007_trade", and factor files by symbol."""
    usa = folder / "equity" / "usa"
    for name, text in files.items():
        path = usa / f"{name}.zip"
        path.parent.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(f"{path.stem}.csv", text)
    for symbol, text in (factors or {}).items():
        path = usa / "factor_files" / f"{symbol}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder
