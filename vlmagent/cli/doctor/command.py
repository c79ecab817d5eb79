"""``vlmagent doctor``: look at everything, show it, say by the exit code whether training works.

Heavy imports stand inside the function: ``--help`` must not wait for them.
"""

from __future__ import annotations

import json

import typer

from vlmagent.cli.examples import examples
from vlmagent.cli.options import JsonOption, stderr_console


def doctor(as_json: JsonOption = False) -> None:
    """What this installation can do on this machine, what is missing, and how to get it. Needs no network.

    Exit code 0: the built-in model can be trained here. 1: something that it needs is broken.
    """
    from rich.console import Console

    from vlmagent.cli.doctor import view
    from vlmagent.cli.doctor.checks import diagnose

    waiting = stderr_console()
    # a spinner belongs to a terminal; in a log it would be noise
    if waiting.is_terminal:
        with waiting.status("Looking; torch takes a few seconds ..."):
            diagnosis = diagnose()
    else:
        diagnosis = diagnose()
    if as_json:
        typer.echo(json.dumps(view.document(diagnosis), indent=2))
    else:
        view.show(diagnosis, Console())
    if not diagnosis.ready:
        raise typer.Exit(1)


def add_commands(app: typer.Typer) -> None:
    """Add the command to the program's."""
    app.command(epilog=examples("doctor"))(doctor)
