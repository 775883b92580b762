"""How `--help` looks: options in sections, and what there is to choose from below them."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperCommand

EXIT_CODES = "0 done, 1 the run failed, 2 wrong input, 130 stopped by Ctrl-C"


class Sectioned(TyperCommand):
    """A command whose options stand under their `rich_help_panel`."""

    def format_options(self, ctx: typer.Context, formatter: Any) -> None:  # type: ignore[override]
        """Write each section's options, in the order of their first."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            if (record := param.get_help_record(ctx)) is not None:
                name = getattr(param, "rich_help_panel", None) or "Other"
                sections.setdefault(name, []).append(record)
        for name, records in sections.items():
            with formatter.section(name):
                formatter.write_dl(records)


class BacktestCommand(Sectioned):
    """`tape backtest`: its help lists the built-in strategies and their parameters."""

    def format_epilog(self, ctx: typer.Context, formatter: Any) -> None:  # type: ignore[override]
        """Write what can be chosen, and how to give what is one's own."""
        from tape.strategies import builtin_strategies

        with formatter.section("Strategies"):
            formatter.write_dl(
                [(b.name, f"{b.summary} Parameters: {'; '.join(b.params)}.") for b in builtin_strategies()]
                + [("FILE.py:Class", "A class of yours that extends tape.Strategy.")]
            )
        with formatter.section("Exit codes"):
            formatter.write_text(EXIT_CODES)
