"""``vlmagent tui``: the dashboard."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vlmagent.cli import completion
from vlmagent.cli.examples import examples


def tui(
    run: Annotated[
        str | None,
        typer.Argument(
            help="A run's name or path. Default: the list of all runs.",
            metavar="[RUN]",
            autocompletion=completion.runs,
        ),
    ] = None,
    images: Annotated[
        str,
        typer.Option("--images", help="How pictures are drawn: auto, kitty, sixel, quadrant, half or off."),
    ] = "auto",
    screenshot: Annotated[
        Path | None,
        typer.Option("--screenshot", help="Write SVG pictures of the screens here and end.", metavar="DIR"),
    ] = None,
    serve: Annotated[
        bool, typer.Option("--serve", help="Show it in a browser: prints an address on this machine.")
    ] = False,
    port: Annotated[
        int | None,
        typer.Option(
            "--port", min=0, max=65535, help="For --serve. Default: the first free one from 8000 on."
        ),
    ] = None,
    keys: Annotated[
        bool, typer.Option("--keys", help="Print all keys, their ids, and where to change them, and end.")
    ] = False,
) -> None:
    """The dashboard: all runs, or one of them, live."""
    if keys:
        _print_keys()
        return
    from vlmagent.runs import folders

    # pictures are taken of one run: without a name, of the newest
    folder = None if run is None and screenshot is None else folders.resolve_run(run)
    from vlmagent.tui.start import run_dashboard, take_screenshots

    if screenshot is not None and folder is not None:
        for file in take_screenshots(screenshot, folder):
            typer.echo(str(file))
        return
    if serve:
        from vlmagent.tui.serve import serve_dashboard

        serve_dashboard(folder, port, lambda line: typer.echo(line, err=True))
        return
    run_dashboard(folder, images)


def _print_keys() -> None:
    from vlmagent.tui.keymap import read_keys, table_of_keys

    own = read_keys()
    for line in table_of_keys(own):
        typer.echo(line)
    there = "is read from" if own.path.is_file() else "would be read from"
    typer.echo(f"\nKeys of your own {there} {own.path}, a line each, such as `train.smooth: m` or")
    typer.echo("`train.page: [n, ctrl+right]`. Keys with a star come from there.")
    for problem in own.problems:
        typer.echo(f"{own.path.name}: {problem}.", err=True)


def add_commands(app: typer.Typer) -> None:
    """Add these commands to the program's."""
    app.command(epilog=examples("tui"))(tui)
