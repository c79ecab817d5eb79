"""``vlmagent train``, ``sft`` and ``data``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vlmagent.cli import completion
from vlmagent.cli.examples import examples
from vlmagent.cli.options import (
    DeepspeedOption,
    GpusOption,
    HostfileOption,
    ProcessesOption,
    SetOption,
    TaskArgument,
    stderr_console,
)
from vlmagent.cli.recipe import TrainRequest, build_config
from vlmagent.errors import UsageError
from vlmagent.paths import Run

ConfigOption = Annotated[
    str | None,
    typer.Option(
        "--config",
        help="A YAML file, or the name of a shipped one. Default: the task's own.",
        autocompletion=completion.recipes,
    ),
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
DetachOption = Annotated[
    bool, typer.Option("--detach", help="Return at once; the run goes on in the background.")
]

TrainedTaskArgument = Annotated[
    str | None,
    typer.Argument(
        help="The task to train on.",
        metavar="[TASK]",
        autocompletion=completion.tasks,
    ),
]
AgentOption = Annotated[
    str | None,
    typer.Option(
        "--agent", help="vlm writes thoughts and actions; cnn is the paper's baseline without language."
    ),
]
ResumeOption = Annotated[
    str | None,
    typer.Option(
        "--resume",
        help="Continue this run.",
        metavar="RUN",
        autocompletion=completion.runs,
    ),
]
PlanOption = Annotated[
    bool,
    typer.Option("--plan", help="Only say what it would train and take: no weights, no network, no run."),
]


def train(
    task: TrainedTaskArgument = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    model: ModelOption = None,
    agent: AgentOption = None,
    run_dir: RunDirOption = None,
    resume: ResumeOption = None,
    detach: DetachOption = False,
    gpus: GpusOption = None,
    processes: ProcessesOption = None,
    hostfile: HostfileOption = None,
    deepspeed: DeepspeedOption = None,
    plan: PlanOption = False,
) -> None:
    """Train an agent: SFT on solver samples, then PPO. Starts a daemon and shows its progress; ctrl-c detaches."""
    from vlmagent.training.distributed.hosts import distributed_overrides

    # a plan may be made for machines that are not here, so their files need not exist
    where = distributed_overrides(gpus, processes, hostfile, deepspeed, must_exist=not plan)
    request = TrainRequest(task, config, (*(set_ or ()), *where), model, agent, run_dir, resume)
    if plan:
        _print_plan(request)
    else:
        _start(_run_of(request), detach)


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
    from vlmagent.training.distributed.hosts import distributed_overrides

    where = distributed_overrides(gpus, processes, hostfile, deepspeed)
    # no RL: a run that only makes its supervised start, which goes into the cache
    overrides = (*(set_ or ()), *where, "ppo.env_steps=0")
    _start(_run_of(TrainRequest(task, config, overrides, model, run_dir=run_dir, suffix="-sft")), detach)


def _run_of(request: TrainRequest) -> Run:
    """The run that is asked for, new or to be continued, with everything decided and written: it only has to start."""
    from vlmagent.runs import folders, launch
    from vlmagent.training.distributed.hosts import check_distributed

    if request.resume is not None:
        if request.task or request.config or request.model or request.agent or request.run_dir:
            raise UsageError(
                "--resume continues a run with its own config: beside it go --set, --detach and where to run it."
            )
        run = folders.resolve_run(request.resume)
        launch.update_config(run, request.overrides)
        return run
    config = build_config(request)
    check_distributed(config)
    # the two agents' runs of one task lie side by side; their names tell them apart
    suffix = "-cnn" if config.agent == "cnn" and not request.suffix else request.suffix
    return folders.create_run(config, request.run_dir, suffix=suffix)


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

    # last, so that --no-cot goes over what --set says of cot
    overrides = (*(set_ or ()), *(() if cot else ("cot=false",)))
    resolved = build_config(TrainRequest(task, config, overrides), trains=False)
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


def _print_plan(request: TrainRequest) -> None:
    # the hub is not asked: a plan can be made offline, and of a model that nobody has downloaded
    config = build_config(request, fetch=False)  # first: what is wrong with it is said before torch is loaded
    from rich.console import Console

    from vlmagent.cli.plan_view import plan_view
    from vlmagent.training.plan.plan import make_plan

    Console().print(plan_view(make_plan(config, request.run_dir)))


def _start(run: Run, detach: bool) -> None:
    """Start the daemon and stay with it, unless told to detach."""
    from vlmagent.runs import launch

    pid = launch.start_daemon(run)  # a process of its own: closing this terminal does not end the training
    # on standard error: with --detach the run's path is all of standard output, for scripts
    typer.echo(f"Run {run} started (pid {pid}). Log: {run.log}", err=True)
    if detach:
        typer.echo(str(run))
        return
    from vlmagent.cli.attach import watch

    raise typer.Exit(watch(run, stderr_console()))


def add_commands(app: typer.Typer) -> None:
    """Add these commands to the program's."""
    app.command(epilog=examples("train"))(train)
    app.command(epilog=examples("sft"))(sft)
    app.command(epilog=examples("data"))(data)
