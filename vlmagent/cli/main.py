"""The ``vlmagent`` command: parses, builds the config, calls one function per verb.

Heavy imports stand inside the functions: ``--help`` must not wait for torch.
"""

from __future__ import annotations

import contextlib
import os
from typing import Annotated

import typer

from vlmagent import __version__
from vlmagent.cli import dashboard, evaluate, play, processes, report, runs, train
from vlmagent.cli.doctor import command
from vlmagent.cli.output import OutputError, broken_output, flush_output, is_of_output, prepare_output
from vlmagent.errors import VlmAgentError
from vlmagent.runs.threads import WAITING

app = typer.Typer(
    name="vlmagent",
    help="Train vision-language models to act, and watch, replay, play and evaluate them.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        typer.echo(f"vlmagent {__version__}")
        raise typer.Exit


# each part adds its own verbs; the order is that of --help
for part in (train, evaluate, runs, dashboard, play, processes, report, command):
    part.add_commands(app)


def main() -> None:
    """Entry point: our errors become one message and an exit code; a reader who has gone is no error of ours."""
    # before anything loads torch
    for name, value in WAITING.items():
        os.environ.setdefault(name, value)
    # before anything is printed, an error message included
    prepare_output()
    try:
        _run()
    except OutputError as error:
        _say(f"Error: standard output could not be written: {error}.")
        raise SystemExit(1) from None


def _run() -> None:
    try:
        app()
    except SystemExit:
        # typer ends every command that way; what is still in the buffer may fail to be written
        flush_output()
        raise
    except VlmAgentError as error:
        flush_output()
        _say(f"Error: {error}")
        raise SystemExit(error.exit_code) from None
    except KeyboardInterrupt:
        # 128 + 2, SIGINT's number: what shells expect of an interrupted command
        raise SystemExit(130) from None
    except OSError as error:
        # an error of some other file is a mistake of the program and deserves its traceback
        if is_of_output(error):
            raise broken_output(error) from None
        raise


def _say(text: str) -> None:
    with contextlib.suppress(OSError):  # standard error may be broken too: the exit code then says all
        typer.echo(text, err=True)
