"""``vlmagent eval`` and ``vlmagent reproduce`` put together: what is to be done, its price, its progress."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlmagent import paths
from vlmagent.config import (
    Config,
    available_configs,
    find_config,
    load_config,
    merge,
    parse_overrides,
)
from vlmagent.config.validation import validate
from vlmagent.errors import UsageError
from vlmagent.paths import Run
from vlmagent.runs import folders as runs_folders
from vlmagent.text import command

if TYPE_CHECKING:
    from vlmagent.agents.api.cost import Budget
    from vlmagent.evaluation.systems import System


@dataclass(frozen=True, slots=True)
class EvalRequest:
    """What somebody wants evaluated.

    Attributes:
        endpoints: the user's own file of API endpoints.
        max_cost: US dollars that all API answers of this command may cost together; None leaves each endpoint its own
            limit.
        max_output_tokens: limit of each API answer; None leaves each endpoint its own.
        resume: continue interrupted evaluations of the same kind, and take finished ones as they are.
    """

    tasks: Sequence[str] = ()
    runs: Sequence[str] = ()
    checkpoints: Sequence[str] = ()
    baselines: Sequence[str] = ()
    episodes: int | None = None
    seed: int | None = None
    overrides: Sequence[str] = ()
    endpoints: Path | None = None
    max_cost: float | None = None
    max_output_tokens: int | None = None
    resume: bool = False


@dataclass(frozen=True, slots=True)
class Job:
    """Some systems on one task: a run's checkpoints, or baselines.

    Attributes:
        run: gets the results; None for baselines of a task without a run.
    """

    config: Config
    run: Run | None
    checkpoints: tuple[str, ...]
    baselines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Item:
    """One system, not loaded yet."""

    job: Job
    title: str
    load: Callable[[], System]


def plan_jobs(request: EvalRequest) -> list[Job]:
    """Decide what is to be evaluated, before anything heavy is imported.

    Without a task, the runs'; without a run, the newest of the task. Baselines alone need no run.
    """
    from vlmagent.evaluation.systems import check_baseline
    from vlmagent.tasks.registry import build_task

    asked = [
        check_baseline(name, request.endpoints, request.max_cost, request.max_output_tokens)
        for name in request.baselines
    ]
    if request.max_output_tokens is not None and not any(asked):
        raise UsageError(
            f"--max-output-tokens {request.max_output_tokens} limits the answers of an API, and no --baseline names "
            "one. For a run's checkpoint: --set rollout.max_new_tokens=N"
        )
    for task in request.tasks:
        build_task(task)
    only_baselines = bool(request.baselines) and not request.checkpoints and not request.runs
    over = parse_overrides(request.overrides)
    jobs: list[Job] = []
    for config, run in _configs(request, over, only_baselines):
        first = not any(job.config.task == config.task for job in jobs)
        checkpoints = () if only_baselines else tuple(request.checkpoints) or (paths.LATEST,)
        jobs.append(Job(config, run, checkpoints, tuple(request.baselines) if first else ()))
    return jobs


def _configs(
    request: EvalRequest, over: dict[str, Any], only_baselines: bool
) -> Iterator[tuple[Config, Run | None]]:
    """A config per run asked for, or per task where none was named."""
    if request.runs:
        runs = [runs_folders.resolve_run(name) for name in request.runs]
        configs = [load_config(run.config_file, over) for run in dict.fromkeys(runs)]
        trained = {config.task for config in configs}
        for task in request.tasks:
            if task not in trained:
                raise UsageError(f"The run {runs[0]} was trained on '{configs[0].task}', not on '{task}'.")
        wanted = set(request.tasks) or trained
        for config, run in zip(configs, dict.fromkeys(runs), strict=True):
            if config.task in wanted:
                yield config, run
        return
    names: Sequence[str | None] = request.tasks or [None]
    for name in names:
        newest = _newest_run(name, optional=only_baselines and name is not None)
        yield (load_config(newest.config_file, over) if newest else _recipe(str(name), over)), newest


def _recipe(task: str, over: dict[str, Any]) -> Config:
    """The task's shipped recipe, or the defaults."""
    if task in available_configs():
        return load_config(find_config(task), over)
    return validate(Config, merge({"task": task}, over))


def _newest_run(task: str | None, optional: bool) -> Run | None:
    """The newest run of the task, or the newest of all."""
    if task is None:
        return runs_folders.resolve_run(None)
    for folder in runs_folders.all_runs():
        try:
            if load_config(folder.config_file).task == task:
                return folder
        except UsageError:
            continue  # a broken run must not hide the others
    if optional:
        return None
    raise UsageError(
        f"There is no run of the task '{task}' yet. Train one: `{command('vlmagent', 'train', task)}`. "
        f"Without a run: {command('vlmagent', 'eval', task, '--baseline', 'expert')}"
    )


def _items(job: Job, request: EvalRequest, budget: Budget | None) -> list[_Item]:
    """One loader per system; all checkpoints are found before the first one is loaded."""
    from vlmagent.evaluation.systems import baseline_system, checkpoint_system
    from vlmagent.tasks.registry import task_from_config

    task = task_from_config(job.config)
    items: list[_Item] = []
    if job.checkpoints and job.run is not None:
        from vlmagent.training.checkpoint import find_checkpoint

        temperature = _temperature(job.config)
        folders = [find_checkpoint(job.run, name) for name in job.checkpoints]
        for folder in dict.fromkeys(folders):
            load = partial(checkpoint_system, job.config, task, folder, temperature)
            items.append(_Item(job, f"{job.run.name} {folder.name}", load))
    for name in job.baselines:
        load = partial(
            baseline_system,
            name,
            task,
            extra=request.endpoints,
            budget=budget,
            max_output_tokens=request.max_output_tokens,
        )
        items.append(_Item(job, name, load))
    return items


def _temperature(config: Config) -> float:
    return config.rollout.temperature if config.eval.temperature is None else config.eval.temperature


def _seed(job: Job, request: EvalRequest) -> int:
    return job.config.eval.seed if request.seed is None else request.seed
