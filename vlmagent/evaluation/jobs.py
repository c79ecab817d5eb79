"""``vlmagent eval`` and ``vlmagent reproduce`` put together: what is to be done, its price, its progress."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
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
from vlmagent.errors import RunFailedError, UsageError
from vlmagent.runs import folders as runs_folders
from vlmagent.text import duration

if TYPE_CHECKING:
    from rich.console import Console

    from vlmagent.agents.api.cost import Budget, Estimate
    from vlmagent.evaluation.evaluate import Plan
    from vlmagent.evaluation.report.collect import Options
    from vlmagent.evaluation.reproduce import Work
    from vlmagent.evaluation.results import Evaluation
    from vlmagent.evaluation.systems import System


@dataclass(frozen=True, slots=True)
class EvalRequest:
    """What somebody wants evaluated.

    Attributes:
        endpoints: the user's own file of API endpoints.
        max_cost: US dollars that all API answers of this command may cost together; None leaves each endpoint its own
            limit.
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
    resume: bool = False


@dataclass(slots=True)
class Evaluations:
    """What an evaluation command came to.

    Attributes:
        problems: why some systems have no result.
        interrupted: whether the reader pressed ctrl-c.
    """

    done: list[Evaluation] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    interrupted: bool = False


@dataclass(frozen=True, slots=True)
class Job:
    """Some systems on one task: a run's checkpoints, or baselines.

    Attributes:
        run: gets the results; None for baselines of a task without a run.
    """

    config: Config
    run: Path | None
    checkpoints: tuple[str, ...]
    baselines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Item:
    """One system, not loaded yet."""

    job: Job
    title: str
    load: Callable[[], System]


def eval_command(request: EvalRequest, console: Console) -> Evaluations:
    """Evaluate every system asked for on every task asked for, with a progress bar.

    Raises:
        UsageError: a task, run, checkpoint, baseline or key does not exist; before anything was played.
    """
    from vlmagent.agents.api.cost import Budget

    jobs = plan_jobs(request)
    budget = None if request.max_cost is None else Budget(request.max_cost)
    items = [item for job in jobs for item in _items(job, request, budget)]
    _announce_costs(jobs, request, console)
    found = Evaluations()
    with _interruptible(console) as asked:
        for item in items:
            _evaluate_one(item, request, budget, console, asked.is_set, found)
            if found.interrupted:
                break
    return found


def plan_jobs(request: EvalRequest) -> list[Job]:
    """Decide what is to be evaluated, before anything heavy is imported.

    Without a task, the runs'; without a run, the newest of the task. Baselines alone need no run.
    """
    from vlmagent.evaluation.systems import check_baseline
    from vlmagent.tasks.registry import build_task

    for baseline in request.baselines:
        check_baseline(baseline, request.endpoints, request.max_cost)
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
) -> Iterator[tuple[Config, Path | None]]:
    """A config per run asked for, or per task where none was named."""
    if request.runs:
        runs = [runs_folders.resolve_run(name) for name in request.runs]
        configs = [load_config(run / paths.CONFIG, over) for run in dict.fromkeys(runs)]
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
        yield (load_config(newest / paths.CONFIG, over) if newest else _recipe(str(name), over)), newest


def _recipe(task: str, over: dict[str, Any]) -> Config:
    """The task's shipped recipe, or the defaults."""
    if task in available_configs():
        return load_config(find_config(task), over)
    return validate(Config, merge({"task": task}, over))


def _newest_run(task: str | None, optional: bool) -> Path | None:
    """The newest run of the task, or the newest of all."""
    if task is None:
        return runs_folders.resolve_run(None)
    for folder in runs_folders.run_folders():
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
        load = partial(baseline_system, name, task, extra=request.endpoints, budget=budget)
        items.append(_Item(job, name, load))
    return items


def _temperature(config: Config) -> float:
    return config.rollout.temperature if config.eval.temperature is None else config.eval.temperature


def _announce_costs(jobs: Sequence[Job], request: EvalRequest, console: Console) -> None:
    """What asking APIs is going to cost, before the first request."""
    from vlmagent.evaluation.evaluate import default_episodes
    from vlmagent.evaluation.systems import check_baseline, forecast
    from vlmagent.tasks.registry import task_from_config

    for job in jobs:
        for name in job.baselines:
            endpoint = check_baseline(name, request.endpoints, request.max_cost)
            if endpoint is None:
                continue
            task = task_from_config(job.config)
            episodes = request.episodes or default_episodes(job.config, task)
            expected = forecast(task, endpoint, episodes, _seed(job, request))
            limit = endpoint.max_cost if request.max_cost is None else request.max_cost
            text = f"{name} ({endpoint.model}) on {job.config.task}: {_price(expected, limit)}"
            console.print(text, highlight=False, markup=False, soft_wrap=True)


def _price(expected: Estimate, limit: float | None) -> str:
    requests = f"{expected.low:,} to {expected.high:,} requests"
    if expected.low_cost is None or expected.high_cost is None:
        return f"{requests}, cost unknown: the endpoint has no prices"
    bound = "no budget" if limit is None else f"budget {limit:.2f} $"
    costs = f"about {expected.low_cost:.2f} to {expected.high_cost:.2f} $"
    return f"{requests}, {costs} by the prices of its entry; {bound}"


def _seed(job: Job, request: EvalRequest) -> int:
    return job.config.eval.seed if request.seed is None else request.seed


def _evaluate_one(
    item: _Item,
    request: EvalRequest,
    budget: Budget | None,
    console: Console,
    should_stop: Callable[[], bool],
    found: Evaluations,
) -> None:
    """Evaluate one system; what stops it becomes a problem, and the next one has its turn."""
    from vlmagent.evaluation.evaluate import InterruptedEvaluationError, finished

    with _progress(console) as progress:
        bar, title = progress.add_task("loading", total=None), item.title
        system = item.load()
        try:
            plan = _plan(item, system, request)
            earlier = _earlier(plan) if request.resume else None
            done = finished(earlier) if earlier else None
            if done is not None:
                if budget is not None:
                    budget.spent += done.result.cost or 0.0
                found.done.append(done)
                return
            where = f" {system.checkpoint}" if system.checkpoint else ""
            title = f"{item.job.config.task}: {system.name}{where}"
            progress.update(bar, description=title, total=plan.episodes)
            found.done.append(_play(plan, earlier, progress, bar, should_stop))
        except InterruptedEvaluationError as error:
            found.interrupted = True
            kept = f"{title}: {error} of {plan.episodes}. They are kept: repeat the command with --resume."
            found.problems.append(kept)
        except RunFailedError as error:
            found.problems.append(f"{title}: {error}")
        finally:
            system.close()


def _play(
    plan: Plan, earlier: Path | None, progress: Any, bar: Any, should_stop: Callable[[], bool]
) -> Evaluation:
    from vlmagent.evaluation.evaluate import evaluate

    return evaluate(
        plan,
        resume=earlier,
        on_progress=lambda done, _steps: progress.update(bar, completed=done),
        should_stop=should_stop,
    )


def _plan(item: _Item, system: System, request: EvalRequest) -> Plan:
    from vlmagent.evaluation.evaluate import Plan, default_episodes
    from vlmagent.tasks.registry import task_from_config

    job = item.job
    return Plan(
        config=job.config,
        system=system,
        episodes=request.episodes or default_episodes(job.config, task_from_config(job.config)),
        seed=_seed(job, request),
        run=job.run,
        folder=(job.run or paths.runs_dir()) / paths.EVALUATIONS,
    )


def _earlier(plan: Plan) -> Path | None:
    from vlmagent.evaluation.evaluate import find_earlier

    return find_earlier(plan)


def _progress(console: Console) -> Any:
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        SpinnerColumn,
        TextColumn,
        TimeRemainingColumn,
    )

    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    )


def reproduce_command(
    name: str, options: Options, jobs: int, out: Path, dry_run: bool, console: Console
) -> ReproduceResult:
    """Train and evaluate what a table or figure lacks, then build it.

    Args:
        dry_run: only say what would be done and how long it would take.

    Raises:
        UsageError: an unknown name or task, or a folder that holds something else.
    """
    from vlmagent.evaluation import reproduce
    from vlmagent.evaluation.forecast import seconds_needed
    from vlmagent.evaluation.report.archive import write_records
    from vlmagent.evaluation.report.build import build
    from vlmagent.evaluation.report.catalogue import find_item
    from vlmagent.evaluation.report.collect import collect
    from vlmagent.evaluation.report.runs import Library

    item, library = find_item(name), Library(options.records)
    works, jobs = reproduce.plan(item, options, library), reproduce.usable_jobs(jobs)
    console.print(_workload(works, jobs), highlight=False)
    if works:
        seconds = reproduce.waited(seconds_needed(works, library), works, jobs)
        console.print(f"Time needed: about {duration(seconds)}.", highlight=False)
    if dry_run:
        for work in works:
            console.print(f"  {work.title}", highlight=False, markup=False)
        return ReproduceResult("", (), False)
    problems: list[str] = []
    with _interruptible(console) as cancelled:
        if works:
            problems = _show_works(works, jobs, console, cancelled)
        interrupted = cancelled.is_set()
    library = Library(options.records)
    if options.records:
        kept = write_records(collect(item, options, library), options.records)
        console.print(f"Records of {len(kept)} runs and evaluations: {options.records}", highlight=False)
    report = build(item, options, out, library)
    for problem in problems:
        console.print(f"Error: {problem}", style="red", highlight=False, markup=False)
    for file in report.files:
        console.print(f"Written: {file}", highlight=False, markup=False)
    return ReproduceResult(report.markdown, tuple(problems), interrupted)


@dataclass(frozen=True, slots=True)
class ReproduceResult:
    """The built text, why some works failed, and whether the reader pressed ctrl-c."""

    markdown: str
    problems: tuple[str, ...]
    interrupted: bool


def _workload(works: Sequence[Work], jobs: int) -> str:
    if not works:
        return "Everything is there already."
    trainings = sum(work.train for work in works)
    evaluations = sum(len(work.checkpoints) + len(work.baselines) for work in works)
    return f"{trainings} runs to train, {evaluations} evaluations, {jobs} at a time."


def _show_works(works: Sequence[Work], jobs: int, console: Console, cancelled: threading.Event) -> list[str]:
    """Do the works with a bar for all and a line for each that is under way."""
    from vlmagent.evaluation import reproduce

    with _progress(console) as progress:
        everything = progress.add_task("all", total=len(works))
        lines: dict[str, Any] = {}

        def changed(work: Work, state: str) -> None:
            if work.title not in lines:
                lines[work.title] = progress.add_task(work.title, total=None)
            progress.update(lines[work.title], description=f"{work.title}: {state}")
            if state in ("done", "failed", "stopped"):
                progress.remove_task(lines[work.title])
                progress.advance(everything)
                progress.console.print(f"{work.title}: {state}", highlight=False, markup=False)

        return reproduce.run_all(works, jobs, changed, cancelled)


@contextmanager
def _interruptible(console: Console) -> Iterator[threading.Event]:
    """The first ctrl-c asks to stop after the step under way, the second one stops at once."""
    asked = threading.Event()

    def interrupt(*_: object) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()
        console.print("Stopping after this step; ctrl-c again stops at once.", highlight=False)

    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield asked
    finally:
        signal.signal(signal.SIGINT, before)
