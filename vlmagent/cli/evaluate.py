"""``vlmagent eval``: parse, evaluate, print."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vlmagent.cli import completion
from vlmagent.cli.examples import examples
from vlmagent.cli.options import JsonOption, SetOption, print_out, stderr_console
from vlmagent.cli.waiting import interruptible, progress_bars
from vlmagent.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from vlmagent.evaluation.batch import Evaluations
    from vlmagent.evaluation.jobs import EvalRequest

TasksArgument = Annotated[
    list[str] | None,
    typer.Argument(
        help="Default: the latest run's.",
        metavar="[TASK]...",
        autocompletion=completion.tasks,
    ),
]
RunsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--run",
        help="A run's name or path. Repeatable: several are averaged. Default: the latest.",
        autocompletion=completion.runs,
    ),
]
CheckpointsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--checkpoint",
        help="latest, start (before RL) or step-N. Repeatable. Default: latest.",
        autocompletion=completion.checkpoints,
    ),
]
BaselinesOption = Annotated[
    list[str] | None,
    typer.Option(
        "--baseline",
        help="expert, random, gpt4v, gemini or openai:MODEL@URL; alone it stands instead of a run. Repeatable.",
        metavar="NAME",
        autocompletion=completion.baselines,
    ),
]
EpisodesOption = Annotated[
    int | None,
    typer.Option(
        "--episodes", min=1, help="Episodes per system. Default: as in the paper, 200 (Blackjack 1000)."
    ),
]
SeedOption = Annotated[int | None, typer.Option("--seed", min=0, max=2**20 - 1, help="Chooses the episodes.")]
MaxCostOption = Annotated[
    float | None,
    typer.Option(
        "--max-cost", min=0, help="Hard budget in US dollars for everything asked of APIs.", metavar="USD"
    ),
]
MaxOutputTokensOption = Annotated[
    int | None,
    typer.Option(
        "--max-output-tokens",
        min=1,
        help="Limit of each API answer, thinking included. Default: the endpoint's own (1024).",
        metavar="N",
    ),
]
EndpointsOption = Annotated[
    Path | None,
    typer.Option("--endpoints", help="Your own file of API endpoints, over configs/baselines.yaml."),
]
ResumeOption = Annotated[
    bool, typer.Option("--resume", help="Continue what was interrupted; take what is finished as it is.")
]
CsvOption = Annotated[bool, typer.Option("--csv", help="Print CSV and nothing else.")]
MarkdownOption = Annotated[bool, typer.Option("--markdown", help="Print Markdown and nothing else.")]


def eval_(
    task: TasksArgument = None,
    run: RunsOption = None,
    checkpoint: CheckpointsOption = None,
    baseline: BaselinesOption = None,
    episodes: EpisodesOption = None,
    seed: SeedOption = None,
    max_cost: MaxCostOption = None,
    max_output_tokens: MaxOutputTokensOption = None,
    endpoints: EndpointsOption = None,
    resume: ResumeOption = False,
    set_: SetOption = None,
    as_json: JsonOption = False,
    as_csv: CsvOption = False,
    as_markdown: MarkdownOption = False,
) -> None:
    """Evaluate checkpoints and baselines on the same episodes, whose seeds no training run ever uses."""
    from vlmagent.evaluation.jobs import EvalRequest

    chosen = [
        form for form, wanted in (("json", as_json), ("csv", as_csv), ("markdown", as_markdown)) if wanted
    ]
    if len(chosen) > 1:
        raise UsageError("Choose one of --json, --csv and --markdown.")
    request = EvalRequest(
        tasks=task or (),
        runs=run or (),
        checkpoints=checkpoint or (),
        baselines=baseline or (),
        episodes=episodes,
        seed=seed,
        overrides=set_ or (),
        endpoints=endpoints,
        max_cost=max_cost,
        max_output_tokens=max_output_tokens,
        resume=resume,
    )
    _print_results(eval_command(request, stderr_console()), chosen[0] if chosen else "table")


def eval_command(request: EvalRequest, console: Console) -> Evaluations:
    """Evaluate every system asked for on every task asked for, with a progress bar.

    Raises:
        UsageError: a task, run, checkpoint, baseline or key does not exist; before anything was played.
    """
    from vlmagent.evaluation.batch import Evaluations, evaluate_jobs
    from vlmagent.evaluation.jobs import resolve_jobs

    jobs = resolve_jobs(request)
    for job in jobs:  # all prices before the first request: one may still stop here
        if job.cost:
            console.print(job.cost, highlight=False, markup=False, soft_wrap=True)
    found = Evaluations()
    with interruptible(console) as asked, progress_bars(console) as bars:
        bar = bars.add_task("loading", total=None)
        for progress in evaluate_jobs(jobs, found, asked.is_set):
            if progress.total is None:  # another system is being loaded; a bar cannot take back its total
                bars.remove_task(bar)
                bar = bars.add_task(progress.title, total=None)
            bars.update(bar, description=progress.title, total=progress.total, completed=progress.done)
    return found


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
        # an interruption names what is left to do; it is no error
        typer.echo(problem if found.interrupted else f"Error: {problem}", err=True)
    if found.problems:
        # 130 as for any interrupted command
        raise typer.Exit(130 if found.interrupted else 1)


def add_commands(app: typer.Typer) -> None:
    """Add the command to the program's."""
    app.command("eval", epilog=examples("eval"))(eval_)
