"""``vlmagent runs``: list, show, stop, follow and export."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vlmagent.cli import completion
from vlmagent.cli.examples import examples
from vlmagent.cli.options import SHOWN_ROWS, JsonOption, print_out
from vlmagent.paths import Run
from vlmagent.text import command

runs_app = typer.Typer(help="List, show, stop, follow and export runs.", no_args_is_help=True)
RunArgument = Annotated[
    str | None,
    typer.Argument(
        help="A run's name or path. Default: runs/latest.", metavar="[RUN]", autocompletion=completion.runs
    ),
]

OutOption = Annotated[Path, typer.Option("--out", help="A new folder.")]
KindOption = Annotated[
    str, typer.Option("--as", help="run: a copy. sft: the steps played beside it, as training data.")
]
ActorOption = Annotated[
    str, typer.Option("--actor", help="Whose steps: human, model, expert, another baseline, or all.")
]
SuccessesOption = Annotated[bool, typer.Option("--successes", help="Only episodes that succeeded.")]
MergeOption = Annotated[
    Path | None,
    typer.Option(
        "--merge",
        help="Write the newest checkpoint here as a plain Hugging Face model, adapters merged, with a card.",
        metavar="DIR",
    ),
]

QuestionArgument = Annotated[
    str | None,
    typer.Argument(
        help="A SELECT statement; - reads it from standard input. Without one: the tables and their columns.",
        metavar="[QUERY]",
    ),
]
LimitOption = Annotated[
    int | None,
    typer.Option(
        "--limit",
        "-n",
        min=1,
        help=f"Rows at most. Default: {SHOWN_ROWS} for a table, all for --json and --csv.",
    ),
]


@runs_app.command("list", epilog=examples("runs list"))
def runs_list(as_json: JsonOption = False) -> None:
    """All runs, newest first."""
    from vlmagent.cli.tables import runs_table
    from vlmagent.runs import status

    runs = status.list_runs()
    print_out(runs, as_json, lambda: runs_table(runs))


@runs_app.command("show", epilog=examples("runs show"))
def runs_show(run: RunArgument = None, as_json: JsonOption = False) -> None:
    """One run: state, progress, newest numbers, checkpoints and evaluations."""
    from vlmagent.cli.tables import run_panel
    from vlmagent.runs import folders, status

    path = folders.resolve_run(run)
    row = status.show_run(path)
    print_out(row, as_json, lambda: run_panel(path, row))


@runs_app.command("stop", epilog=examples("runs stop"))
def runs_stop(
    run: RunArgument = None,
    timeout: Annotated[
        float, typer.Option("--timeout", min=1, help="Seconds to wait for the run to end.")
    ] = 600,
) -> None:
    """Ask a run to stop: it finishes its step, writes a checkpoint and closes its database."""
    from vlmagent.runs import folders, launch, status

    path = folders.resolve_run(run)
    if status.is_alive(path):
        typer.echo(f"Stopping {path} ...", err=True)
    state = launch.stop_run(path, timeout)
    typer.echo(f"{path}: {state}. Continue with: {command('vlmagent', 'train', '--resume', path)}")


@runs_app.command("attach", epilog=examples("runs attach"))
def runs_attach(run: RunArgument = None) -> None:
    """Watch a run as `train` shows it; ctrl-c leaves it running."""
    from vlmagent.cli.attach import watch
    from vlmagent.cli.options import stderr_console
    from vlmagent.runs import folders

    raise typer.Exit(watch(folders.resolve_run(run), stderr_console()))


@runs_app.command("logs", epilog=examples("runs logs"))
def runs_logs(
    run: RunArgument = None,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="Last lines to print.")] = 50,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as the log grows.")] = False,
) -> None:
    """The daemon's log."""
    from vlmagent.runs import export, folders

    for line in export.log_tail(folders.resolve_run(run), lines, follow):
        typer.echo(line)


@runs_app.command("export", epilog=examples("runs export"))
def runs_export(
    run: RunArgument = None,
    out: OutOption = Path("export"),
    kind: KindOption = "run",
    actor: ActorOption = "human",
    successes: SuccessesOption = False,
    merge: MergeOption = None,
) -> None:
    """Copy a run, also a live one: databases, config, newest checkpoint. Or write what was played as SFT data."""
    from vlmagent.errors import unknown_choice
    from vlmagent.runs import export, folders

    if kind not in ("run", "sft"):
        raise unknown_choice("value of --as", kind, ("run", "sft"))
    path = folders.resolve_run(run)
    if merge is not None:
        from vlmagent.runs.merge import merge_run

        typer.echo(f"A plain model was written to {merge_run(path, merge)}")
    elif kind == "run":
        typer.echo(f"{path} exported to {export.export_run(path, out).describe()}")
    else:
        _export_sft(path, out, actor, successes)


@runs_app.command("sql", epilog=examples("runs sql"))
def runs_sql(
    question: QuestionArgument = None,
    run: RunArgument = None,
    as_json: JsonOption = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV and nothing else.")] = False,
    limit: LimitOption = None,
) -> None:
    """Ask a run's database a question in SQL, also while it trains; nothing can be changed."""
    from vlmagent.cli.sql import sql_command
    from vlmagent.runs import folders

    # a database may be named itself: evaluations and games played have one each
    named = Path(run) if run is not None and run.endswith(".db") else None
    database = named if named is not None and named.is_file() else folders.resolve_run(run).database
    sql_command(database, question, as_json=as_json, as_csv=as_csv, limit=limit)


def _export_sft(run: Run, out: Path, actor: str, successes: bool) -> None:
    from vlmagent.play.samples import export_sft

    exported = export_sft(run, out, actor=actor, successes=successes)
    for reason in exported.left_out:
        typer.echo(f"Left out: {reason}", err=True)
    typer.echo(f"{exported.samples} samples written: {exported.data}")


def add_commands(app: typer.Typer) -> None:
    """Add these commands to the program's."""
    app.add_typer(runs_app, name="runs")
