"""Evaluates one job after the other: what stops one becomes a sentence, and the next one has its turn.

Knows nothing of consoles; whoever waits is told how far it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from vlmagent.errors import RunFailedError
from vlmagent.evaluation.evaluate import (
    EvaluationPlan,
    InterruptedEvaluationError,
    evaluation_steps,
    find_earlier,
    finished,
)
from vlmagent.evaluation.jobs import EvaluationJob
from vlmagent.evaluation.results import FinishedEvaluation
from vlmagent.evaluation.systems import System


@dataclass(slots=True)
class Evaluations:
    """What several jobs came to.

    Attributes:
        problems: why some systems have no result.
        interrupted: whether somebody asked to stop.
    """

    done: list[FinishedEvaluation] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    interrupted: bool = False


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a job is.

    Attributes:
        done: episodes that have ended.
        total: episodes that are to be played; None while the system is loaded.
    """

    title: str
    done: int = 0
    total: int | None = None


def evaluate_jobs(
    jobs: Sequence[EvaluationJob], found: Evaluations, should_stop: Callable[[], bool]
) -> Iterator[Progress]:
    """Evaluate all jobs; a generator, so that whoever waits can show how far it is.

    Args:
        found: gets results and problems as they come.
        should_stop: asked after every step; once it answers True, nothing more is begun.
    """
    for job in jobs:
        yield Progress(job.title)
        # only now: one system's network after the other
        system = job.load()
        try:
            yield from _evaluate_job(job, system, found, should_stop)
        finally:
            system.close()
        if found.interrupted:
            return


def _evaluate_job(
    job: EvaluationJob, system: System, found: Evaluations, should_stop: Callable[[], bool]
) -> Iterator[Progress]:
    plan = EvaluationPlan(job.config, job.task, system, job.episodes, job.seed, job.run, job.folder)
    where = f" {system.checkpoint}" if system.checkpoint else ""
    title = f"{job.config.task}: {system.name}{where}"
    # by fingerprint: a system that has changed since begins anew
    earlier = find_earlier(plan) if job.resume else None
    taken = finished(earlier) if earlier else None
    if taken is not None:
        if job.budget is not None:  # what it cost then counts: the limit is for everything that is asked for
            job.budget.spent += taken.result.cost or 0.0
        found.done.append(taken)
        return
    yield Progress(title, 0, plan.episodes)
    steps = evaluation_steps(plan, resume=earlier, should_stop=should_stop)
    try:
        # by hand and not with `yield from`: what the steps return and raise is needed here
        while True:
            yield Progress(title, next(steps), plan.episodes)
    except StopIteration as end:
        found.done.append(end.value)
    except InterruptedEvaluationError as error:
        found.interrupted = True
        kept = "They are kept: repeat the command with --resume."
        found.problems.append(f"{title}: {error} of {plan.episodes}. {kept}")
    except RunFailedError as error:
        # what stops one system (a refused key, a crashed environment) need not stop the others
        found.problems.append(f"{title}: {error}")
    finally:
        steps.close()  # whoever waited may have gone: environments and database are given back now, not some time
