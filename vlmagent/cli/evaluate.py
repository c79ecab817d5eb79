"""``vlmagent eval``: parse, resolve the jobs, evaluate one system after the other, print."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vlmagent import paths
from vlmagent.cli.options import JsonOption, SetOption, print_out, stderr_console
from vlmagent.cli.waiting import interruptible, progress_bars
from vlmagent.errors import RunFailedError, UsageError
from vlmagent.evaluation.jobs import EvalRequest, Job, _Item, _items, _seed, plan_jobs
from vlmagent.paths import Run

if TYPE_CHECKING:
    from rich.console import Console

    from vlmagent.agents.api.cost import Budget, Estimate
    from vlmagent.evaluation.evaluate import Plan
    from vlmagent.evaluation.results import Evaluation
    from vlmagent.evaluation.systems import System


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
    with interruptible(console) as asked:
        for item in items:
            _evaluate_one(item, request, budget, console, asked.is_set, found)
            if found.interrupted:
                break
    return found


def _announce_costs(jobs: Sequence[Job], request: EvalRequest, console: Console) -> None:
    """What asking APIs is going to cost, before the first request."""
    from vlmagent.evaluation.evaluate import default_episodes
    from vlmagent.evaluation.systems import check_baseline, forecast
    from vlmagent.tasks.registry import task_from_config

    for job in jobs:
        for name in job.baselines:
            endpoint = check_baseline(name, request.endpoints, request.max_cost, request.max_output_tokens)
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

    with progress_bars(console) as progress:
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
        folder=(job.run or Run(paths.runs_dir())).evaluations,
    )


def _earlier(plan: Plan) -> Path | None:
    from vlmagent.evaluation.evaluate import find_earlier

    return find_earlier(plan)


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
    max_output_tokens: Annotated[
        int | None,
        typer.Option(
            "--max-output-tokens",
            min=1,
            help="Limit of each API answer, thinking included. Default: the endpoint's own (1024).",
            metavar="N",
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
    from vlmagent.cli.evaluate import eval_command
    from vlmagent.evaluation.jobs import EvalRequest

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
        max_output_tokens=max_output_tokens,
        resume=resume,
    )
    found = eval_command(request, stderr_console())
    _print_results(found, "json" if as_json else "csv" if as_csv else "markdown" if as_markdown else "table")


def _print_results(found: Evaluations, form: str) -> None:
    """What was found in the form asked for; what went wrong on standard error, with the exit code."""
    from vlmagent.cli.tables import eval_table
    from vlmagent.evaluation import formats

    document = formats.document(found.done)
    if form != "table":
        write = {"json": formats.as_json, "csv": formats.as_csv, "markdown": formats.as_markdown}[form]
        typer.echo(write(document))
    elif found.done:
        print_out(
            document,
            False,
            lambda: eval_table(document["results"], document["over_runs"], document["comparisons"]),
        )
    for problem in found.problems:
        typer.echo(problem if found.interrupted else f"Error: {problem}", err=True)
    if found.problems:
        raise typer.Exit(130 if found.interrupted else 1)


def add_commands(app: typer.Typer) -> None:
    """Add the command to the program's."""
    app.command("eval")(eval_)
