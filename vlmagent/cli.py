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
from vlmagent.errors import UsageError, VlmAgentError

if TYPE_CHECKING:
    from vlmagent.config import Config
    from vlmagent.evaluate import EvalResult

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

TaskArgument = Annotated[
    str, typer.Argument(help="numberline, or module:EnvId of a registered task.", metavar="TASK")
]
ConfigOption = Annotated[
    str | None,
    typer.Option("--config", help="A YAML file, or the name of a shipped one. Default: the task's own."),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set", help="Override a config value, such as --set ppo.lr=1e-4. Repeatable.", metavar="KEY=VALUE"
    ),
]
ModelOption = Annotated[
    str | None,
    typer.Option("--model", help="'tiny', or a folder in Hugging Face format.", metavar="NAME|PATH"),
]
RunDirOption = Annotated[
    Path | None, typer.Option("--run-dir", help="Where the run goes. Default: runs/<time>-<task>.")
]
RunArgument = Annotated[
    str | None, typer.Argument(help="A run's name or path. Default: runs/latest.", metavar="[RUN]")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]
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
    run_dir: RunDirOption = None,
    resume: Annotated[str | None, typer.Option("--resume", help="Continue this run.", metavar="RUN")] = None,
    detach: DetachOption = False,
) -> None:
    """Train an agent: SFT on solver samples, then PPO. Starts a daemon and shows its progress; ctrl-c detaches."""
    from vlmagent import launch

    if resume is not None:
        if task or config or model or run_dir:
            raise UsageError(
                "--resume continues a run with its own config: give only --set and --detach beside it."
            )
        run = launch.resolve_run(resume)
        launch.update_config(run, set_ or [])
    else:
        run = launch.create_run(_build_config(task, config, set_, model), run_dir)
    _start(run, detach)


@app.command()
def sft(
    task: TaskArgument,
    config: ConfigOption = None,
    set_: SetOption = None,
    model: ModelOption = None,
    run_dir: RunDirOption = None,
    detach: DetachOption = False,
) -> None:
    """Only the supervised start: fine-tune on solver samples. The result is cached; `train` takes it from there."""
    from vlmagent import launch

    resolved = _build_config(task, config, [*(set_ or []), "ppo.env_steps=0"], model)
    _start(launch.create_run(resolved, run_dir, suffix="-sft"), detach)


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

    from vlmagent.data import write_dataset
    from vlmagent.tasks.registry import task_from_config

    overrides = [*(set_ or []), *([] if cot else ["cot=false"])]
    resolved = _build_config(task, config, overrides, None)
    with Progress(console=_stderr(), transient=True) as progress:
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
        str | None, typer.Option("--run", help="A run's name or path. Default: the latest.")
    ] = None,
    checkpoint: Annotated[
        list[str] | None,
        typer.Option(
            "--checkpoint", help="latest, start (before RL) or step-N. Repeatable. Default: start and latest."
        ),
    ] = None,
    baseline: Annotated[
        list[str] | None, typer.Option("--baseline", help="expert or random, instead of a run. Repeatable.")
    ] = None,
    episodes: Annotated[int | None, typer.Option("--episodes", min=1, help="Episodes per system.")] = None,
    seed: Annotated[
        int | None, typer.Option("--seed", min=0, max=2**20 - 1, help="Chooses the episodes.")
    ] = None,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Evaluate checkpoints and baselines on the same episodes, which no training run ever uses."""
    from vlmagent.commands import eval_command

    results = eval_command(
        tasks=task or [],
        run_name=run,
        checkpoints=checkpoint or [],
        baselines=baseline or [],
        episodes=episodes,
        seed=seed,
        overrides=set_ or [],
        console=_stderr(),
    )
    _print_results(results, as_json)


@runs_app.command("list")
def runs_list(as_json: JsonOption = False) -> None:
    """All runs, newest first."""
    from vlmagent import launch
    from vlmagent.tables import runs_table

    runs = launch.list_runs()
    _out(runs, as_json, lambda: runs_table(runs))


@runs_app.command("show")
def runs_show(run: RunArgument = None, as_json: JsonOption = False) -> None:
    """One run: state, progress, newest numbers, checkpoints and evaluations."""
    from vlmagent import launch
    from vlmagent.tables import run_panel

    path = launch.resolve_run(run)
    row = launch.show_run(path)
    _out(row, as_json, lambda: run_panel(path, row))


@runs_app.command("stop")
def runs_stop(
    run: RunArgument = None,
    timeout: Annotated[
        float, typer.Option("--timeout", min=1, help="Seconds to wait for the run to end.")
    ] = 600,
) -> None:
    """Ask a run to stop: it finishes its step, writes a checkpoint and closes its database."""
    from vlmagent import launch

    path = launch.resolve_run(run)
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
    from vlmagent import launch

    for line in launch.log_tail(launch.resolve_run(run), lines, follow):
        typer.echo(line)


@runs_app.command("export")
def runs_export(
    run: RunArgument = None,
    out: Annotated[Path, typer.Option("--out", help="A new folder.")] = Path("export"),
) -> None:
    """Copy a run, also a live one: a consistent database, its config and its newest checkpoint."""
    from vlmagent import launch

    path = launch.resolve_run(run)
    launch.export_run(path, out)
    typer.echo(f"{path} exported to {out}")


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
    from vlmagent import launch

    folder = None if run is None and screenshot is None else launch.resolve_run(run)
    from vlmagent.tui.run import run_dashboard, take_screenshots

    if screenshot is not None and folder is not None:
        for file in take_screenshots(screenshot, folder):
            typer.echo(str(file))
        return
    run_dashboard(folder, images)


@app.command("_daemon", hidden=True)
def _daemon(run: Path) -> None:
    """What the detached process runs."""
    from vlmagent import launch

    with launch.daemon_session(run) as stop:
        from vlmagent.train import train as run_training

        run_training(run, stop.is_set)


def _build_config(
    task: str | None, config: str | None, overrides: list[str] | None, model: str | None
) -> Config:
    """Recipe, overrides and --model as one validated config; the task and the model's folder are checked too."""
    from vlmagent.config import (
        Config,
        available_configs,
        find_config,
        load_config,
        merge,
        parse_overrides,
        validate,
    )
    from vlmagent.models.locate import check_checkpoint
    from vlmagent.tasks.registry import task_from_config, task_names

    if task is None and config is None:
        raise UsageError(
            f"Which task? Valid choices: {', '.join(task_names())}. Example: vlmagent train numberline"
        )
    over: dict[str, Any] = parse_overrides(overrides or [])
    if model is not None:
        over = merge(over, {"model": {"name": model}})
    if task is not None:
        over = merge({"task": task}, over)
    if config is not None:
        resolved = load_config(find_config(config), over)
    elif task in available_configs():
        resolved = load_config(find_config(str(task)), over)
    else:
        resolved = validate(Config, over)
    task_from_config(resolved)
    if resolved.model.name != "tiny":
        check_checkpoint(Path(resolved.model.name))
    return resolved


def _start(run: Path, detach: bool) -> None:
    """Start the daemon and stay with it, unless told to detach."""
    from vlmagent import launch

    pid = launch.start_daemon(run)
    typer.echo(f"Run {run} started (pid {pid}). Log: {run}/log.txt", err=True)
    if detach:
        typer.echo(str(run))
        return
    from vlmagent.progress import attach

    state = attach(run, _stderr())
    if state == "detached":
        typer.echo(
            f"\nDetached; the run goes on. Come back: vlmagent runs show {run}   Stop it: vlmagent runs stop {run}",
            err=True,
        )
    elif state != "done":
        raise typer.Exit(1 if state in ("failed", "lost") else 0)
    else:
        typer.echo(f"Next: vlmagent eval --run {run}   vlmagent runs show {run}", err=True)


def _print_results(results: list[EvalResult], as_json: bool) -> None:
    from vlmagent.evaluate import evaluation_row
    from vlmagent.tables import eval_table

    rows = [evaluation_row(result) for result in results]
    _out({"results": rows}, as_json, lambda: eval_table(rows))


def _out(document: Any, as_json: bool, render: Any) -> None:
    """JSON on standard output and nothing else, or what ``render`` makes of it."""
    if as_json:
        typer.echo(json.dumps(document, indent=2, default=str))
        return
    from rich.console import Console

    Console().print(render())


def _stderr() -> Any:
    from rich.console import Console

    return Console(stderr=True)


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
