"""``vlmagent report`` and ``vlmagent reproduce``: parse, build the options, call one function.

Heavy imports stand inside the functions: ``--help`` must not wait for them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vlmagent.cli import completion
from vlmagent.cli.examples import examples
from vlmagent.cli.options import SetOption, stderr_console

ItemArgument = Annotated[
    str,
    typer.Argument(
        help="table1 to table4, figure5, figure6, figure7 or figure18 of the paper.",
        metavar="NAME",
        autocompletion=completion.artefacts,
    ),
]
SeedsOption = Annotated[
    int, typer.Option("--seeds", min=1, max=64, help="Training seeds 0, 1, ... (paper: 4).")
]
OnlyTasksOption = Annotated[
    list[str] | None,
    typer.Option(
        "--task",
        help="Only these of its tasks; alfworld only if named. Repeatable.",
        metavar="TASK",
        autocompletion=completion.tasks,
    ),
]
OutOption = Annotated[
    Path | None,
    typer.Option("--out", help="Folder for Markdown and pictures. Default: runs/reports.", metavar="DIR"),
]
RecordsOption = Annotated[
    Path | None,
    typer.Option(
        "--records",
        help="Folder of records, small files that stand for finished runs: they count, and `reproduce` adds its own.",
        metavar="DIR",
    ),
]
EpisodesOption = Annotated[
    int | None, typer.Option("--episodes", min=1, help="Per evaluation. Default: as in the paper.")
]
EvalSeedOption = Annotated[
    int, typer.Option("--eval-seed", min=0, max=2**20 - 1, help="Chooses the evaluation episodes.")
]


def report(
    name: ItemArgument,
    seeds: SeedsOption = 4,
    task: OnlyTasksOption = None,
    episodes: EpisodesOption = None,
    eval_seed: EvalSeedOption = 0,
    set_: SetOption = None,
    out: OutOption = None,
    records: RecordsOption = None,
) -> None:
    """Build a table or figure of the paper from finished runs: Markdown on standard output, files in a folder."""
    from vlmagent.config import parse_overrides
    from vlmagent.evaluation.report.build import build, command_for
    from vlmagent.evaluation.report.catalogue import find_item
    from vlmagent.evaluation.report.collect import Options

    over = parse_overrides(set_ or ())
    item = find_item(name)
    options = Options(seeds, tuple(task or ()), episodes, eval_seed, over, records)
    built = build(item, options, _report_folder(out))
    typer.echo(built.markdown)
    for file in built.files:
        typer.echo(f"Written: {file}", err=True)
    if built.missing:
        typer.echo(
            f"{len(built.missing)} parts are missing. Make them: {command_for(item, options, 'reproduce')}",
            err=True,
        )


def reproduce(
    name: ItemArgument,
    seeds: SeedsOption = 4,
    jobs: Annotated[
        int, typer.Option("--jobs", min=1, help="Runs at the same time, at most one a core.")
    ] = 1,
    task: OnlyTasksOption = None,
    episodes: EpisodesOption = None,
    eval_seed: EvalSeedOption = 0,
    set_: SetOption = None,
    out: OutOption = None,
    records: RecordsOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what is missing and how long it takes.")
    ] = False,
) -> None:
    """Train and evaluate what a table or figure of the paper lacks, then build it. Resumable; ctrl-c stops it."""
    from vlmagent.cli.reproduce import ReproduceRequest, reproduce_command
    from vlmagent.config import parse_overrides
    from vlmagent.evaluation.report.collect import Options

    over = parse_overrides(set_ or ())
    options = Options(seeds, tuple(task or ()), episodes, eval_seed, over, records)
    request = ReproduceRequest(name, options, jobs, _report_folder(out), dry_run)
    done = reproduce_command(request, stderr_console())
    if done.markdown:
        typer.echo(done.markdown)
    if done.interrupted:
        typer.echo("Interrupted. The same command goes on where it stopped.", err=True)
        raise typer.Exit(130)
    if done.problems:
        raise typer.Exit(1)


def _report_folder(out: Path | None) -> Path:
    from vlmagent import paths

    return out or paths.runs_dir() / "reports"


def add_commands(app: typer.Typer) -> None:
    """Add these commands to the program's."""
    app.command(epilog=examples("report"))(report)
    app.command(epilog=examples("reproduce"))(reproduce)
