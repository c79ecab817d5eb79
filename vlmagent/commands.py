"""``vlmagent eval`` put together: which run, which checkpoints, which baselines, with progress."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlmagent import launch, paths
from vlmagent.config import Config, find_config, load_config, parse_overrides
from vlmagent.errors import UsageError, unknown_choice

if TYPE_CHECKING:
    from rich.console import Console

    from vlmagent.evaluate import EvalResult, System


@dataclass(frozen=True, slots=True)
class Job:
    """One task to evaluate: its config, the run it belongs to (if any) and who is to play."""

    config: Config
    run: Path | None
    checkpoints: tuple[str, ...]
    baselines: tuple[str, ...]


def eval_command(
    *,
    tasks: Sequence[str],
    run_name: str | None,
    checkpoints: Sequence[str],
    baselines: Sequence[str],
    episodes: int | None,
    seed: int | None,
    overrides: Sequence[str],
    console: Console,
) -> list[EvalResult]:
    """Evaluate every system asked for on every task asked for, with a progress bar.

    Raises:
        UsageError: a task, run, checkpoint or baseline does not exist; before anything was played.
    """
    jobs = plan_jobs(tasks, run_name, checkpoints, baselines, overrides)
    results: list[EvalResult] = []
    for job in jobs:
        count = episodes or job.config.eval.episodes
        chosen = job.config.eval.seed if seed is None else seed
        results += [_evaluate_one(job, load, count, chosen, console) for load in _systems(job)]
    return results


def plan_jobs(
    tasks: Sequence[str],
    run_name: str | None,
    checkpoints: Sequence[str],
    baselines: Sequence[str],
    overrides: Sequence[str],
) -> list[Job]:
    """Decide what is to be evaluated, before anything heavy is imported.

    Without a task, the run's; without a run, the newest of the task. Baselines alone need no run.
    """
    from vlmagent.agents.simple import BASELINES
    from vlmagent.tasks.registry import build_task

    for baseline in baselines:
        if baseline not in BASELINES:
            raise unknown_choice("baseline", baseline, BASELINES)
    for task in tasks:
        build_task(task)
    over = parse_overrides(overrides)
    only_baselines = bool(baselines) and not checkpoints and run_name is None
    jobs = []
    wanted: Sequence[str | None] = tasks or [None]
    for name in wanted:
        run = _find_run(name, run_name, optional=only_baselines and name is not None)
        config = load_config(run / paths.CONFIG if run else find_config(str(name)), over)
        if name is not None and config.task != name:
            raise UsageError(f"The run {run} was trained on '{config.task}', not on '{name}'.")
        which = () if only_baselines else tuple(checkpoints) or (paths.LATEST,)
        jobs.append(Job(config, run, which, tuple(baselines)))
    return jobs


def _find_run(task: str | None, name: str | None, optional: bool) -> Path | None:
    """The run that is meant: by name, the newest of the task, or the newest of all."""
    if name is not None or task is None:
        return launch.resolve_run(name)
    for folder in launch.run_folders():
        try:
            if load_config(folder / paths.CONFIG).task == task:
                return folder
        except UsageError:
            continue  # a broken run must not hide the others
    if optional:
        return None
    raise UsageError(
        f"There is no run of the task '{task}' yet. Train one: vlmagent train {task}. "
        f"Without a run: vlmagent eval {task} --baseline expert"
    )


def _systems(job: Job) -> list[Callable[[], System]]:
    """One loader per system; all checkpoints are found before the first one is loaded."""
    from vlmagent.evaluate import baseline_system, checkpoint_system
    from vlmagent.tasks.registry import task_from_config

    task = task_from_config(job.config)
    loaders: list[Callable[[], System]] = []
    if job.checkpoints and job.run is not None:
        from vlmagent.checkpoint import find_checkpoint

        temperature = _temperature(job.config)
        folders = [find_checkpoint(job.run, name) for name in job.checkpoints]
        loaders += [partial(checkpoint_system, job.config, task, folder, temperature) for folder in folders]
    loaders += [partial(baseline_system, name, task) for name in job.baselines]
    return loaders


def _temperature(config: Config) -> float:
    return config.rollout.temperature if config.eval.temperature is None else config.eval.temperature


def _evaluate_one(
    job: Job, load: Callable[[], System], episodes: int, seed: int, console: Console
) -> EvalResult:
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        SpinnerColumn,
        TextColumn,
        TimeRemainingColumn,
    )

    from vlmagent.evaluate import evaluate

    columns: list[Any] = [
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    ]
    with Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task("loading", total=episodes)
        system = load()
        where = f" {system.checkpoint}" if system.checkpoint else ""
        progress.update(bar, description=f"{job.config.task}: {system.name}{where}")
        return evaluate(
            job.config,
            system,
            episodes=episodes,
            seed=seed,
            temperature=_temperature(job.config) if system.checkpoint else None,
            run=job.run,
            on_progress=lambda done, _steps: progress.update(bar, completed=done),
        )
