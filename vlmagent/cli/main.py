"""The ``vlmagent`` command: parses, builds the config, calls one function per verb.

Heavy imports stand inside the functions: ``--help`` must not wait for torch.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vlmagent import __version__
from vlmagent.cli import play, report
from vlmagent.cli import processes as cli_processes
from vlmagent.cli.doctor import command
from vlmagent.cli.options import (
    DeepspeedOption,
    GpusOption,
    HostfileOption,
    JsonOption,
    ProcessesOption,
    SetOption,
    TaskArgument,
    stderr_console,
)
from vlmagent.cli.recipe import build_config
from vlmagent.errors import UsageError, VlmAgentError

if TYPE_CHECKING:
    from vlmagent.config import Config
    from vlmagent.evaluation.jobs import Evaluations

app = typer.Typer(
    name="vlmagent",
    help="Train vision-language models to act, and watch, replay, play and evaluate them.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
runs_app = typer.Typer(help="List, show, stop, follow and export runs.", no_args_is_help=True)
app.add_typer(runs_app, name="runs")

ConfigOption = Annotated[
    str | None,
    typer.Option("--config", help="A YAML file, or the name of a shipped one. Default: the task's own."),
]
ModelOption = Annotated[
    str | None,
    typer.Option(
        "--model",
        help="'tiny', a folder in Hugging Face format (a model or an adapter), or a name on the hub.",
        metavar="NAME|PATH",
    ),
]
RunDirOption = Annotated[
    Path | None, typer.Option("--run-dir", help="Where the run goes. Default: runs/<time>-<task>.")
]
RunArgument = Annotated[
    str | None, typer.Argument(help="A run's name or path. Default: runs/latest.", metavar="[RUN]")
]
DetachOption = Annotated[
    bool, typer.Option("--detach", help="Return at once; the run goes on in the background.")
]


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        typer.echo(f"vlmagent {__version__}")
        raise typer.Exit


@app.command()
def train(
    task: Annotated[str | None, typer.Argument(help="The task to train on.", metavar="[TASK]")] = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    model: ModelOption = None,
    agent: Annotated[
        str | None,
        typer.Option(
            "--agent", help="vlm writes thoughts and actions; cnn is the paper's baseline without language."
        ),
    ] = None,
    run_dir: RunDirOption = None,
    resume: Annotated[str | None, typer.Option("--resume", help="Continue this run.", metavar="RUN")] = None,
    detach: DetachOption = False,
    gpus: GpusOption = None,
    processes: ProcessesOption = None,
    hostfile: HostfileOption = None,
    deepspeed: DeepspeedOption = None,
    plan: Annotated[
        bool,
        typer.Option("--plan", help="Only say what it would train and take: no weights, no network, no run."),
    ] = False,
) -> None:
    """Train an agent: SFT on solver samples, then PPO. Starts a daemon and shows its progress; ctrl-c detaches."""
    from vlmagent.runs import folders, launch
    from vlmagent.training.distributed.hosts import check_distributed, check_resumed, distributed_overrides

    where = distributed_overrides(gpus, processes, hostfile, deepspeed, must_exist=not plan)
    overrides = [*(set_ or []), *where]
    if plan:
        _print_plan(build_config(task, config, overrides, model, fetch=False))
        return
    if resume is not None:
        if task or config or model or agent or run_dir:
            raise UsageError(
                "--resume continues a run with its own config: beside it go --set, --detach and where to run it."
            )
        run = folders.resolve_run(resume)
        check_resumed(run, overrides)
        launch.update_config(run, overrides)
    else:
        overrides += [f"agent={agent}"] if agent else []
        resolved = build_config(task, config, overrides, model)
        check_distributed(resolved)
        run = folders.create_run(resolved, run_dir, suffix="-cnn" if resolved.agent == "cnn" else "")
    _start(run, detach)


@app.command()
def sft(
    task: TaskArgument,
    config: ConfigOption = None,
    set_: SetOption = None,
    model: ModelOption = None,
    run_dir: RunDirOption = None,
    detach: DetachOption = False,
    gpus: GpusOption = None,
    processes: ProcessesOption = None,
    hostfile: HostfileOption = None,
    deepspeed: DeepspeedOption = None,
) -> None:
    """Only the supervised start: fine-tune on solver samples. The result is cached; `train` takes it from there."""
    from vlmagent.runs import folders
    from vlmagent.training.distributed.hosts import check_distributed, distributed_overrides

    where = distributed_overrides(gpus, processes, hostfile, deepspeed)
    resolved = build_config(task, config, [*(set_ or []), *where, "ppo.env_steps=0"], model)
    check_distributed(resolved)
    _start(folders.create_run(resolved, run_dir, suffix="-sft"), detach)


@app.command()
def data(
    task: TaskArgument,
    samples: Annotated[int, typer.Option("--samples", min=1, help="Number of samples.")],
    out: Annotated[Path, typer.Option("--out", help="A new folder.")],
    config: ConfigOption = None,
    set_: SetOption = None,
    cot: Annotated[bool, typer.Option("--cot/--no-cot", help="With or without thoughts.")] = True,
) -> None:
    """Write solver samples as a data set: pictures and a JSON file in LLaVA's conversation format."""
    from rich.progress import Progress

    from vlmagent.tasks.registry import task_from_config
    from vlmagent.training.sft.dataset import write_dataset

    overrides = [*(set_ or []), *([] if cot else ["cot=false"])]
    resolved = build_config(task, config, overrides, None, trains=False)
    with Progress(console=stderr_console(), transient=True) as progress:
        bar = progress.add_task("Writing samples", total=samples)
        path = write_dataset(
            task_from_config(resolved),
            samples,
            out,
            resolved.seed,
            lambda done: progress.update(bar, completed=done),
        )
    typer.echo(f"{samples} samples written: {path}")


@app.command("eval")
def eval_(
    task: Annotated[
        list[str] | None, typer.Argument(help="Default: the latest run's.", metavar="[TASK]...")
    ] = None,
    run: Annotated[
        list[str] | None,
        typer.Option(
            "--run", help="A run's name or path. Repeatable: several are averaged. Default: the latest."
        ),
    ] = None,
    checkpoint: Annotated[
        list[str] | None,
        typer.Option(
            "--checkpoint", help="latest, start (before RL) or step-N. Repeatable. Default: latest."
        ),
    ] = None,
    baseline: Annotated[
        list[str] | None,
        typer.Option(
            "--baseline",
            help="expert, random, gpt4v, gemini or openai:MODEL@URL; alone it stands instead of a run. Repeatable.",
            metavar="NAME",
        ),
    ] = None,
    episodes: Annotated[
        int | None,
        typer.Option(
            "--episodes", min=1, help="Episodes per system. Default: as in the paper, 200 (Blackjack 1000)."
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option("--seed", min=0, max=2**20 - 1, help="Chooses the episodes.")
    ] = None,
    max_cost: Annotated[
        float | None,
        typer.Option(
            "--max-cost", min=0, help="Hard budget in US dollars for everything asked of APIs.", metavar="USD"
        ),
    ] = None,
    endpoints: Annotated[
        Path | None,
        typer.Option("--endpoints", help="Your own file of API endpoints, over configs/baselines.yaml."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue what was interrupted; take what is finished as it is.")
    ] = False,
    set_: SetOption = None,
    as_json: JsonOption = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV and nothing else.")] = False,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown and nothing else.")] = False,
) -> None:
    """Evaluate checkpoints and baselines on the same episodes, which no training run ever uses."""
    from vlmagent.evaluation.jobs import EvalRequest, eval_command

    if as_json + as_csv + as_markdown > 1:
        raise UsageError("Choose one of --json, --csv and --markdown.")
    request = EvalRequest(
        tasks=task or [],
        runs=run or [],
        checkpoints=checkpoint or [],
        baselines=baseline or [],
        episodes=episodes,
        seed=seed,
        overrides=set_ or [],
        endpoints=endpoints,
        max_cost=max_cost,
        resume=resume,
    )
    found = eval_command(request, stderr_console())
    _print_results(found, "json" if as_json else "csv" if as_csv else "markdown" if as_markdown else "table")


@runs_app.command("list")
def runs_list(as_json: JsonOption = False) -> None:
    """All runs, newest first."""
    from vlmagent.cli.tables import runs_table
    from vlmagent.runs import status

    runs = status.list_runs()
    _out(runs, as_json, lambda: runs_table(runs))


@runs_app.command("show")
def runs_show(run: RunArgument = None, as_json: JsonOption = False) -> None:
    """One run: state, progress, newest numbers, checkpoints and evaluations."""
    from vlmagent.cli.tables import run_panel
    from vlmagent.runs import folders, status

    path = folders.resolve_run(run)
    row = status.show_run(path)
    _out(row, as_json, lambda: run_panel(path, row))


@runs_app.command("stop")
def runs_stop(
    run: RunArgument = None,
    timeout: Annotated[
        float, typer.Option("--timeout", min=1, help="Seconds to wait for the run to end.")
    ] = 600,
) -> None:
    """Ask a run to stop: it finishes its step, writes a checkpoint and closes its database."""
    from vlmagent.runs import folders, launch

    path = folders.resolve_run(run)
    typer.echo(f"Stopping {path} ...", err=True)
    state = launch.stop_run(path, timeout)
    typer.echo(f"{path}: {state}. Continue with: vlmagent train --resume {path}")


@runs_app.command("logs")
def runs_logs(
    run: RunArgument = None,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="Last lines to print.")] = 50,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as the log grows.")] = False,
) -> None:
    """The daemon's log."""
    from vlmagent.runs import export, folders

    for line in export.log_tail(folders.resolve_run(run), lines, follow):
        typer.echo(line)


@runs_app.command("export")
def runs_export(
    run: RunArgument = None,
    out: Annotated[Path, typer.Option("--out", help="A new folder.")] = Path("export"),
    kind: Annotated[
        str, typer.Option("--as", help="run: a copy. sft: the steps played beside it, as training data.")
    ] = "run",
    actor: Annotated[
        str, typer.Option("--actor", help="Whose steps: human, model, expert, another baseline, or all.")
    ] = "human",
    successes: Annotated[bool, typer.Option("--successes", help="Only episodes that succeeded.")] = False,
    merge: Annotated[
        Path | None,
        typer.Option(
            "--merge",
            help="Write the newest checkpoint here as a plain Hugging Face model, adapters merged, with a card.",
            metavar="DIR",
        ),
    ] = None,
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
        return
    if kind == "run":
        export.export_run(path, out)
        typer.echo(f"{path} exported to {out}")
        return
    from vlmagent.play.export import export_sft

    exported = export_sft(path, out, actor=actor, successes=successes)
    for reason in exported.left_out:
        typer.echo(f"Left out: {reason}", err=True)
    typer.echo(f"{exported.samples} samples written: {exported.data}")


@app.command()
def tui(
    run: Annotated[
        str | None,
        typer.Argument(help="A run's name or path. Default: the list of all runs.", metavar="[RUN]"),
    ] = None,
    images: Annotated[
        str, typer.Option("--images", help="How pictures are drawn: auto, kitty, sixel, half or off.")
    ] = "auto",
    screenshot: Annotated[
        Path | None,
        typer.Option("--screenshot", help="Write SVG pictures of the screens here and end.", metavar="DIR"),
    ] = None,
) -> None:
    """The dashboard: all runs, or one of them, live."""
    from vlmagent.runs import folders

    folder = None if run is None and screenshot is None else folders.resolve_run(run)
    from vlmagent.tui.start import run_dashboard, take_screenshots

    if screenshot is not None and folder is not None:
        for file in take_screenshots(screenshot, folder):
            typer.echo(str(file))
        return
    run_dashboard(folder, images)


for part in (play, cli_processes, report, command):
    part.add_commands(app)


def _print_plan(config: Config) -> None:
    from rich.console import Console

    from vlmagent.cli.plan_view import plan_view
    from vlmagent.training.plan.plan import make_plan

    Console().print(plan_view(make_plan(config)))


def _start(run: Path, detach: bool) -> None:
    """Start the daemon and stay with it, unless told to detach."""
    from vlmagent.runs import launch

    pid = launch.start_daemon(run)
    typer.echo(f"Run {run} started (pid {pid}). Log: {run}/log.txt", err=True)
    if detach:
        typer.echo(str(run))
        return
    from vlmagent.cli.attach import attach

    state = attach(run, stderr_console())
    if state == "detached":
        typer.echo(
            f"\nDetached; the run goes on. Come back: vlmagent runs show {run}   Stop it: vlmagent runs stop {run}",
            err=True,
        )
    elif state != "done":
        raise typer.Exit(1 if state in ("failed", "lost") else 0)
    else:
        typer.echo(f"Next: vlmagent eval --run {run}   vlmagent runs show {run}", err=True)


def _print_results(found: Evaluations, form: str) -> None:
    """What was found in the form asked for; what went wrong on standard error, with the exit code."""
    from vlmagent.cli.tables import eval_table
    from vlmagent.evaluation import formats

    document = formats.document(found.done)
    if form != "table":
        write = {"json": formats.as_json, "csv": formats.as_csv, "markdown": formats.as_markdown}[form]
        typer.echo(write(document))
    elif found.done:
        _out(
            document,
            False,
            lambda: eval_table(document["results"], document["over_runs"], document["comparisons"]),
        )
    for problem in found.problems:
        typer.echo(problem if found.interrupted else f"Error: {problem}", err=True)
    if found.problems:
        raise typer.Exit(130 if found.interrupted else 1)


def _out(document: Any, as_json: bool, render: Any) -> None:
    """JSON on standard output and nothing else, or what ``render`` makes of it."""
    if as_json:
        typer.echo(json.dumps(document, indent=2, default=str))
        return
    from rich.console import Console

    Console().print(render())


def main() -> None:
    """Entry point: our errors become one message and an exit code; a broken pipe is no error."""
    try:
        app()
    except VlmAgentError as error:
        typer.echo(f"Error: {error}", err=True)
        raise SystemExit(error.exit_code) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from None
