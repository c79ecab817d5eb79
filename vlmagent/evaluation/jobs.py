"""From what somebody wants evaluated to finished jobs: everything is decided, and found to exist, before one begins."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from vlmagent import paths
from vlmagent.agents.api.cost import Budget, Estimate
from vlmagent.agents.api.endpoints import Endpoint
from vlmagent.config import Config, load_config, parse_overrides
from vlmagent.errors import UsageError
from vlmagent.evaluation.evaluate import default_episodes
from vlmagent.evaluation.systems import (
    System,
    baseline_system,
    check_baseline,
    checkpoint_system,
    estimate_cost,
)
from vlmagent.paths import Run
from vlmagent.runs.find import newest_run_of, same_task
from vlmagent.runs.folders import resolve_run
from vlmagent.tasks.base import Task
from vlmagent.tasks.recipes import recipe_of
from vlmagent.tasks.registry import build_task, task_from_config
from vlmagent.text import command


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
class EvaluationJob:
    """One system on one task: everything is decided, nothing is loaded yet.

    Attributes:
        title: for people, before the system's own name is known.
        load: opens the system, at the temperature that its config decides.
        episodes: how many it plays.
        seed: chooses them.
        run: gets the result; None for baselines of a task without a run.
        folder: where the database of its transitions goes.
        resume: whether it goes on where one like it was interrupted, or takes its result.
        budget: what asking an API may cost, shared by all jobs of a request; None leaves it to the endpoint.
        cost: what asking an API is expected to take and cost, in a sentence; "" where nothing is asked.
    """

    title: str
    config: Config
    task: Task
    load: Callable[[], System]
    episodes: int
    seed: int
    run: Run | None
    folder: Path
    resume: bool
    budget: Budget | None
    cost: str


@dataclass(frozen=True, slots=True)
class _Player:
    """A system that is not loaded yet, and the endpoint that it asks, if any."""

    title: str
    load: Callable[[], System]
    endpoint: Endpoint | None = None


@dataclass(frozen=True, slots=True)
class _Subject:
    """A run, or a task without one, and what is to be evaluated there."""

    config: Config
    run: Run | None
    checkpoints: tuple[str, ...]
    baselines: tuple[str, ...]


def resolve_jobs(request: EvalRequest) -> list[EvaluationJob]:
    """One job for each system on each task, in the order in which they are asked for; nothing heavy is loaded.

    Without a task, the runs'; without a run, the newest of the task. Baselines alone need no run.

    Raises:
        UsageError: a task, run, checkpoint, baseline or key does not exist, or does not go with the others.
    """
    # all keys, prices and names first: a batch must not stop in the middle for a typing error
    endpoints = _endpoints(request)
    for name in request.tasks:
        build_task(name)
    # one budget for all jobs of the command, which they spend together
    budget = None if request.max_cost is None else Budget(request.max_cost)
    jobs: list[EvaluationJob] = []
    for subject in _subjects(request):
        config = subject.config
        task = task_from_config(config)
        # asked for here, else the config's, else the paper's
        episodes = request.episodes or default_episodes(config, task)
        seed = config.eval.seed if request.seed is None else request.seed
        players = [*_checkpoints(subject, task), *_baselines(subject, task, request, endpoints, budget)]
        jobs += [
            EvaluationJob(
                title=player.title,
                config=config,
                task=task,
                load=player.load,
                episodes=episodes,
                seed=seed,
                run=subject.run,
                # baselines without a run lie beside the runs
                folder=(subject.run or Run(paths.runs_dir())).evaluations,
                resume=request.resume,
                budget=budget,
                cost=_cost(player, task, episodes, seed, budget),
            )
            for player in players
        ]
    return jobs


def _endpoints(request: EvalRequest) -> dict[str, Endpoint | None]:
    """The endpoint of each baseline, None where it has none."""
    found = {
        name: check_baseline(name, request.endpoints, request.max_cost, request.max_output_tokens)
        for name in request.baselines
    }
    if request.max_output_tokens is not None and not any(found.values()):
        raise UsageError(
            f"--max-output-tokens {request.max_output_tokens} limits the answers of an API, and no --baseline names "
            "one. For a run's checkpoint: --set rollout.max_new_tokens=N"
        )
    return found


def _subjects(request: EvalRequest) -> list[_Subject]:
    only_baselines = bool(request.baselines) and not request.checkpoints and not request.runs
    # a run's checkpoint unless only baselines were named
    checkpoints = () if only_baselines else tuple(request.checkpoints) or (paths.LATEST,)
    over = parse_overrides(request.overrides)
    pairs = _named_runs(request, over) if request.runs else _newest_runs(request, over, only_baselines)
    found: list[_Subject] = []
    for config, run in pairs:
        first = not any(subject.config.task == config.task for subject in found)
        # baselines play the same episodes beside every run of a task: once is enough
        found.append(_Subject(config, run, checkpoints, tuple(request.baselines) if first else ()))
    return found


def _named_runs(request: EvalRequest, over: Mapping[str, Any]) -> Iterator[tuple[Config, Run]]:
    """The runs asked for, of the tasks asked for."""
    # several names may mean one run
    runs = list(dict.fromkeys(resolve_run(name) for name in request.runs))
    configs = [load_config(run.config_file, over) for run in runs]
    for task in request.tasks:
        if not any(same_task(config.task, task) for config in configs):
            raise UsageError(f"The run {runs[0]} was trained on '{configs[0].task}', not on '{task}'.")
    for config, run in zip(configs, runs, strict=True):
        if not request.tasks or any(same_task(config.task, task) for task in request.tasks):
            yield config, run


def _newest_runs(
    request: EvalRequest, over: Mapping[str, Any], only_baselines: bool
) -> Iterator[tuple[Config, Run | None]]:
    """The newest run of each task asked for, or of all where none was named."""
    if not request.tasks:
        # no task and no run: whatever was trained last, its task included
        run = resolve_run(None)
        yield load_config(run.config_file, over), run
    for task in request.tasks:
        newest = newest_run_of(task)
        if newest is not None:
            yield load_config(newest.config_file, over), newest
        elif only_baselines:
            yield recipe_of(task, over), None
        else:
            raise _no_run(task)


def _no_run(task: str) -> UsageError:
    return UsageError(
        f"There is no run of the task '{task}' yet. Train one: `{command('vlmagent', 'train', task)}`. "
        f"Without a run: {command('vlmagent', 'eval', task, '--baseline', 'expert')}"
    )


def _checkpoints(subject: _Subject, task: Task) -> list[_Player]:
    """All checkpoints are found before the first one is loaded."""
    if subject.run is None or not subject.checkpoints:
        return []
    from vlmagent.training.saved import find_checkpoint

    # a dict keeps the order: "latest" and its step, both asked for, are one system
    # `latest` is resolved here: a run that goes on training must not change what is evaluated halfway
    folders = dict.fromkeys([find_checkpoint(subject.run, name) for name in subject.checkpoints])
    # a function and not a system: only one network is in memory at a time
    load = partial(checkpoint_system, subject.config, task)
    return [_Player(f"{subject.run.name} {folder.name}", partial(load, folder)) for folder in folders]


def _baselines(
    subject: _Subject,
    task: Task,
    request: EvalRequest,
    endpoints: Mapping[str, Endpoint | None],
    budget: Budget | None,
) -> list[_Player]:
    load = partial(
        baseline_system,
        task=task,
        extra=request.endpoints,
        budget=budget,
        max_output_tokens=request.max_output_tokens,
    )
    return [_Player(name, partial(load, name), endpoints[name]) for name in subject.baselines]


def _cost(player: _Player, task: Task, episodes: int, seed: int, budget: Budget | None) -> str:
    """What asking an API is going to take, said before the first request; "" for a player that asks none."""
    endpoint = player.endpoint
    if endpoint is None:
        return ""
    expected = estimate_cost(task, endpoint, episodes, seed)
    limit = endpoint.max_cost if budget is None else budget.limit
    return f"{player.title} ({endpoint.model}) on {task.name}: {_price(expected, limit)}"


def _price(expected: Estimate, limit: float | None) -> str:
    requests = f"{expected.low:,} to {expected.high:,} requests"
    if expected.low_cost is None or expected.high_cost is None:
        return f"{requests}, cost unknown: the endpoint has no prices"
    bound = "no budget" if limit is None else f"budget {limit:.2f} $"
    costs = f"about {expected.low_cost:.2f} to {expected.high_cost:.2f} $"
    return f"{requests}, {costs} by the prices of its entry; {bound}"
