"""``vlmagent play``: parse, plan the session, call one function.

Heavy imports stand inside the function: ``--help`` must not wait for them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vlmagent.cli import completion
from vlmagent.cli.examples import examples
from vlmagent.cli.options import SetOption, TaskArgument

HumanOption = Annotated[bool, typer.Option("--human", help="You play; the opponent gives hints.")]
VersusOption = Annotated[bool, typer.Option("--versus", help="You and the opponent play the same deals.")]
RunOption = Annotated[
    str | None,
    typer.Option(
        "--run",
        help="Whose newest checkpoint plays. Default: the task's newest run.",
        autocompletion=completion.runs,
    ),
]
OpponentOption = Annotated[
    str | None, typer.Option("--opponent", help="run, expert, random or another baseline. Default: run.")
]
SeedOption = Annotated[
    int | None, typer.Option("--seed", min=0, max=2**31 - 1, help="Chooses the deals. Default: new ones.")
]
HintsOption = Annotated[
    str, typer.Option("--hints", help="What the opponent would do: off, ask (with x) or on.")
]
ImagesOption = Annotated[
    str, typer.Option("--images", help="How pictures are drawn: auto, kitty, sixel, quadrant, half or off.")
]
ScreenshotOption = Annotated[
    Path | None,
    typer.Option("--screenshot", help="Write an SVG picture of the table here and end.", metavar="DIR"),
]


def play(
    task: TaskArgument,
    human: HumanOption = False,
    versus: VersusOption = False,
    run: RunOption = None,
    opponent: OpponentOption = None,
    seed: SeedOption = None,
    set_: SetOption = None,
    hints: HintsOption = "ask",
    images: ImagesOption = "auto",
    screenshot: ScreenshotOption = None,
) -> None:
    """Play a task, or watch a checkpoint play and take over. Every step is kept and can be replayed."""
    from vlmagent.play.plan import PlayRequest, plan_session

    plan = plan_session(PlayRequest(task, human, versus, run, opponent, seed, set_ or (), hints))
    # Textual is loaded only when the plan holds: mistakes are said at once
    from vlmagent.tui.play_app import photograph_play, run_play

    if screenshot is not None:
        typer.echo(str(photograph_play(plan, screenshot)))
        return
    run_play(plan, images)


def add_commands(app: typer.Typer) -> None:
    """Add the command to the program's."""
    app.command(epilog=examples("play"))(play)
