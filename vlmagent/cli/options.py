"""What several files of the command line share. Imports nothing heavy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vlmagent.cli import completion

if TYPE_CHECKING:
    from rich.console import Console

TaskArgument = Annotated[
    str,
    typer.Argument(
        help="numberline, ezpoints, points24, blackjack, alfworld, or module:EnvId of a registered task.",
        metavar="TASK",
        autocompletion=completion.tasks,
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        help="Override a config value, such as --set ppo.lr=1e-4. Repeatable.",
        metavar="KEY=VALUE",
        autocompletion=completion.config_keys,
    ),
]
GpusOption = Annotated[
    int | None,
    typer.Option("--gpus", min=1, help="Train in as many processes, one on each GPU of this machine."),
]
ProcessesOption = Annotated[
    int | None,
    typer.Option("--processes", min=1, help="Train in as many processes on the CPU of this machine."),
]
HostfileOption = Annotated[
    Path | None,
    typer.Option("--hostfile", help="Train on several machines: a file with a line 'HOST slots=N' for each."),
]
DeepspeedOption = Annotated[
    str | None,
    typer.Option(
        "--deepspeed",
        help="How processes divide the work: zero0 to zero3, or a JSON file of DeepSpeed's. Default: zero1.",
        metavar="NAME|FILE",
    ),
]
SHOWN_ROWS = 50
"""Rows of an answer in SQL on a terminal, unless --limit says otherwise."""
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]


def stderr_console() -> Console:
    """Where progress goes, so that standard output holds results alone."""
    from rich.console import Console

    return Console(stderr=True)


def print_out(document: Any, as_json: bool, render: Any) -> None:
    """JSON on standard output and nothing else, or what ``render`` makes of it."""
    if as_json:
        typer.echo(json.dumps(document, indent=2, default=str))
        return
    from rich.console import Console

    Console().print(render())
