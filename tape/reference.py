"""The page docs/reference/settings.md, made of the models themselves: `python -m tape.reference`."""

from __future__ import annotations

import types
from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from schemas import CoreSettings, plain
from tape.config import SECTIONS, LiveConfig

HEAD = """# Settings of the live plane

Made from `tape/config.py` and `schemas/journal.py` by `make docs`; do not edit it by hand.

`tape up`, `tape run` and `tape config` read a TOML file ([an example](../../deploy/tape.toml)). The
environment goes over it: `TAPE_` and the key, `TAPE_LOG`, `TAPE_POSTGRES_DSN`; of a key in a table with two
underscores, `TAPE_CORE__FEE`; lists and tables are JSON. `--log` and `--postgres` go over both. Relative
paths in the file are relative to its folder. `tape config check FILE` says whether it can be used,
`tape config show FILE` what it comes to, without passwords.

`time`, the partitions, and what an account is opened with are for good: they are recorded when the log is
made and when the account is opened. Everything else may be changed between two starts; a change of `[core]`
or of a strategy inside the core begins an epoch.
"""
CORE = """## What `Configured` records

Each core partition writes the settings it decides by into topic `configuration`. Times are nanoseconds there.
"""
KINDS = {
    str: "text",
    int: "whole number",
    float: "number",
    Decimal: "number",
    bool: "true or false",
    Path: "file",
    date: "date",
    dict: "table",
    tuple: "list",
}
OWN = {
    "log_prefix": "the first characters of the log's id, which begin every client order id",
    "strategies": "the strategies inside the core, of this partition's accounts: `[[strategies]]`",
}


def settings_page() -> str:
    """The page, in Markdown."""
    return "\n".join([HEAD, *_sections(), CORE, *_core_settings(), ""])


def _sections() -> Iterator[str]:
    yield from _section("At the top of the file", "", LiveConfig)
    for name, model in SECTIONS.items():
        many = "[[{}]]" if get_origin(LiveConfig.model_fields[name].annotation) is tuple else "[{}]"
        yield from _section(f"`{many.format(name)}`", (model.__doc__ or "").strip(), model)


def _section(title: str, text: str, model: type[BaseModel]) -> Iterator[str]:
    yield f"## {title}\n"
    if text:
        yield f"{text}\n"
    yield "| key | type | default | meaning |\n|---|---|---|---|"
    for name, field in model.model_fields.items():
        if field.description is not None:
            default = "required" if field.is_required() else _shown(field.default)
            kind = _kind(field.annotation)
            yield f"| `{field.alias or name}` | {kind} | {default} | {_cell(field.description)} |"
    yield ""


def _core_settings() -> Iterator[str]:
    yield "| field | type | default | key, or meaning |\n|---|---|---|---|"
    keys = SECTIONS["core"].model_fields
    for name, field in CoreSettings.model.model_fields.items():
        default = "" if field.default is PydanticUndefined else _shown(field.default)
        key = next((key for key in (name, f"{name}_ms") if key in keys), None)
        meaning = f"`core.{key}`" if key else OWN[name]
        yield f"| `{name}` | {_kind(field.annotation)} | {default} | {meaning} |"


def _kind(annotation: Any) -> str:
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return ", ".join(f"`{part}`" for part in parts)
    if origin in (Union, types.UnionType):
        return " or ".join(_kind(part) for part in parts if part is not types.NoneType)
    if hasattr(annotation, "__metadata__"):
        return _kind(parts[0])
    return KINDS[origin or annotation]


def _shown(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, Decimal):
        return f"`{plain(value)}`"
    return f"`{value}`" if value not in ((), {}) else "none"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    print(settings_page(), end="")
