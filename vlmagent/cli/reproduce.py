"""``vlmagent reproduce``: train and evaluate what a table of the paper lacks, then build it."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlmagent.cli.waiting import interruptible, progress_bars
from vlmagent.text import duration

if TYPE_CHECKING:
    from rich.console import Console

    from vlmagent.evaluation.report.collect import Options
    from vlmagent.evaluation.reproduce import Work


@dataclass(frozen=True, slots=True)
class ReproduceRequest:
    """What somebody wants reproduced.

    Attributes:
        name: of a table or figure.
        jobs: how many runs at the same time.
        out: folder for text and pictures.
        dry_run: only say what would be done and how long it would take.
    """

    name: str
    options: Options
    jobs: int
    out: Path
    dry_run: bool = False


def reproduce_command(request: ReproduceRequest, console: Console) -> ReproduceResult:
    """Train and evaluate what a table or figure lacks, then build it.

    Raises:
        UsageError: an unknown name or task, or a folder that holds something else.
    """
    from vlmagent.evaluation import reproduce
    from vlmagent.evaluation.report.archive import write_records
    from vlmagent.evaluation.report.build import build
    from vlmagent.evaluation.report.catalogue import find_item
    from vlmagent.evaluation.report.collect import collect
    from vlmagent.evaluation.report.runs import Library
    from vlmagent.evaluation.runtime import seconds_needed

    item = find_item(request.name)
    options = request.options
    library = Library(options.records)
    works = reproduce.plan(item, options, library)
    jobs = reproduce.usable_jobs(request.jobs)
    console.print(_workload(works, jobs), highlight=False)
    if works:
        seconds = reproduce.waited(seconds_needed(works, library), works, jobs)
        console.print(f"Time needed: about {duration(seconds)}.", highlight=False)
    if request.dry_run:
        for work in works:
            console.print(f"  {work.title}", highlight=False, markup=False)
        return ReproduceResult("", (), False)
    problems: list[str] = []
    with interruptible(console) as cancelled:
        if works:
            problems = _show_works(works, jobs, console, cancelled)
        interrupted = cancelled.is_set()
    library = Library(options.records)  # looked up anew: what was missing before is there now
    if options.records:
        kept = write_records(collect(item, options, library), options.records)
        console.print(
            f"Records of {len(kept)} runs and evaluations: {options.records}", highlight=False, markup=False
        )
    report = build(item, options, request.out, library)
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

    with progress_bars(console) as progress:
        everything = progress.add_task("all", total=len(works))
        lines: dict[str, Any] = {}

        def changed(work: Work, state: str) -> None:
            if work.title not in lines:
                # no total: how long one work takes is not known, so its bar only moves
                lines[work.title] = progress.add_task(work.title, total=None)
            progress.update(lines[work.title], description=f"{work.title}: {state}")
            if state in ("done", "failed", "stopped"):
                # a finished line goes, and stays above the bars as text
                progress.remove_task(lines[work.title])
                progress.advance(everything)
                progress.console.print(f"{work.title}: {state}", highlight=False, markup=False)

        return reproduce.run_all(works, jobs, changed, cancelled)
