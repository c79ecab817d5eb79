"""What several files of the command line share. Imports nothing heavy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set", help="Override a config value, such as --set ppo.lr=1e-4. Repeatable.", metavar="KEY=VALUE"
    ),
]


def stderr_console() -> Console:
    """Where progress goes, so that standard output holds results alone."""
    from rich.console import Console

    return Console(stderr=True)
