"""What evaluations come to: one system's result, several training runs together, two systems on the same episodes.

Deliberately knows neither agents nor databases: episodes in, numbers out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from vlmagent.evaluation.statistics import Pairing, bootstrap_mean, bootstrap_runs, paired, spread, wilson
from vlmagent.training.tally import Outcome


@dataclass(frozen=True, slots=True)
class EvalResult:
    """One system on one task. Rates are fractions; intervals are 95 %.

    Attributes:
        episodes: those that have a result; ``errors`` more do not: an API failed or an environment's process died.
        success_ci: Wilson interval over episodes.
        return_ci: percentile bootstrap interval of the mean over episodes.
        goal_rate: share of episodes that reached the goal, whatever they cost.
        legal_rate: share of outputs that named one legal action.
        seed: chooses the episodes.
        checkpoint: name of the checkpoint, None for a baseline.
        training_seed: of the run that made the checkpoint.
        seconds: wall-clock time of the episodes.
        errors: episodes without a result.
        refusals, cut, empty: answers of an API in which it declined, that ended before the model did (its limit of
            tokens), and with nothing in them. Each counts once, and as an illegal output in the result: its action
            was drawn at random.
        requests, cost: answers of an API and what they cost in US dollars; None for other systems.
        by_type: the same for each kind of episode, where the task has kinds.
    """

    task: str
    system: str
    rule_set: str
    episodes: int
    success: float
    success_ci: tuple[float, float]
    mean_return: float
    return_ci: tuple[float, float]
    goal_rate: float
    legal_rate: float
    mean_length: float
    seed: int
    checkpoint: str | None
    env_steps: int | None
    model: str | None
    temperature: float | None
    run: str | None
    database: str | None
    seconds: float
    training_seed: int | None = None
    errors: int = 0
    refusals: int | None = None
    cut: int | None = None
    empty: int | None = None
    requests: int | None = None
    cost: float | None = None
    by_type: dict[str, dict[str, Any]] | None = None


@dataclass(frozen=True, slots=True)
class FinishedEvaluation:
    """A finished evaluation: its result and every episode of it."""

    result: EvalResult
    outcomes: tuple[Outcome, ...]


def summary(outcomes: Sequence[Outcome], seed: int) -> dict[str, Any]:
    """Counts and intervals of some episodes, under the names of ``EvalResult``."""
    returns = [o.episode_return for o in outcomes]
    successes = sum(o.success for o in outcomes)
    return {
        "episodes": len(outcomes),
        "success": successes / len(outcomes),
        "success_ci": wilson(successes, len(outcomes)),
        "mean_return": float(np.mean(returns)),
        "return_ci": bootstrap_mean(returns, seed),
        "goal_rate": sum(o.goal for o in outcomes) / len(outcomes),
        "mean_length": float(np.mean([o.length for o in outcomes])),
    }


def result_of(row: Mapping[str, Any]) -> EvalResult:
    """A stored row as a result; columns of other versions are left out or take their defaults."""
    known = {field.name for field in fields(EvalResult)}
    values: dict[str, Any] = {
        # JSON knows no tuples: intervals come back as lists
        name: tuple(v) if name.endswith("_ci") else v
        for name, v in row.items()
        if name in known
    }
    return EvalResult(**values)


def evaluation_row(result: EvalResult) -> dict[str, Any]:
    """The result as a row of the ``evaluations`` table and of ``--json``."""
    return asdict(result)


@dataclass(frozen=True, slots=True)
class OverRuns:
    """One system trained several times, each time with another seed. Rates are fractions.

    Attributes:
        runs: how many.
        success, mean_return: means over the runs of each run's mean over its episodes.
        success_std, return_std: standard deviations over the runs.
        success_ci, return_ci: bootstrap over runs and, within each, over episodes (95 %).
    """

    task: str
    system: str
    rule_set: str
    model: str | None
    runs: int
    episodes: int
    success: float
    success_std: float
    success_ci: tuple[float, float]
    mean_return: float
    return_std: float
    return_ci: tuple[float, float]
    goal_rate: float
    legal_rate: float
    seed: int
    training_seeds: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two systems on the episodes that both played: the second against the first."""

    task: str
    first: str
    second: str
    pairing: Pairing


def over_runs(evaluations: Sequence[FinishedEvaluation]) -> list[OverRuns]:
    """Every system of which several training runs were evaluated on the same episodes."""
    groups: dict[tuple[Any, ...], list[FinishedEvaluation]] = {}
    for evaluation in evaluations:
        result = evaluation.result
        if result.checkpoint is not None:
            # not the training seed: that is what the runs of a group differ in; the evaluation's seed, so that they met
            # the same episodes
            key = (result.task, result.rule_set, result.system, result.model, result.seed)
            groups.setdefault(key, []).append(evaluation)
    found = [_newest_of_each_run(group) for group in groups.values()]
    return [pool(group) for group in found if len(group) > 1]


def _newest_of_each_run(group: Sequence[FinishedEvaluation]) -> list[FinishedEvaluation]:
    """One checkpoint a run, the furthest: an average must not count a run twice."""
    best: dict[str | None, FinishedEvaluation] = {}
    for evaluation in group:
        run = evaluation.result.run
        # >=: of two evaluations of one checkpoint the later one counts
        if run not in best or (evaluation.result.env_steps or 0) >= (best[run].result.env_steps or 0):
            best[run] = evaluation
    return list(best.values())


def pool(group: Sequence[FinishedEvaluation]) -> OverRuns:
    """Several runs of one system as one row."""
    results = [evaluation.result for evaluation in group]
    first = results[0]
    successes = [[float(o.success) for o in evaluation.outcomes] for evaluation in group]
    returns = [[o.episode_return for o in evaluation.outcomes] for evaluation in group]
    return OverRuns(
        task=first.task,
        system=first.system,
        rule_set=first.rule_set,
        model=first.model,
        runs=len(group),
        episodes=sum(result.episodes for result in results),
        success=float(np.mean([result.success for result in results])),
        success_std=spread([result.success for result in results]),
        success_ci=bootstrap_runs(successes, first.seed),
        mean_return=float(np.mean([result.mean_return for result in results])),
        return_std=spread([result.mean_return for result in results]),
        return_ci=bootstrap_runs(returns, first.seed),
        goal_rate=float(np.mean([result.goal_rate for result in results])),
        legal_rate=float(np.mean([result.legal_rate for result in results])),
        seed=first.seed,
        training_seeds=tuple(result.training_seed for result in results if result.training_seed is not None),
    )


def comparisons(evaluations: Sequence[FinishedEvaluation]) -> list[Comparison]:
    """Each checkpoint against the first one of its run, each baseline against the first system of its task."""
    found: list[Comparison] = []
    firsts: dict[tuple[str | None, ...], FinishedEvaluation] = {}
    for evaluation in evaluations:
        result = evaluation.result
        of_task = firsts.setdefault((result.task, result.rule_set), evaluation)
        # a checkpoint is compared with where its run began, a baseline with whatever comes first
        of_run = firsts.setdefault((result.task, result.rule_set, result.run, "run"), evaluation)
        first = of_run if result.checkpoint else of_task
        pairing = pair(first, evaluation) if first is not evaluation else None
        if pairing is not None:
            found.append(Comparison(result.task, label(first.result), label(result), pairing))
    return found


def pair(first: FinishedEvaluation, second: FinishedEvaluation) -> Pairing | None:
    """Two evaluations episode by episode; None when they share no episode."""
    # by seed, which names an episode whatever order it was played in
    mine = {o.seed: (o.success, o.episode_return) for o in first.outcomes}
    theirs = {o.seed: (o.success, o.episode_return) for o in second.outcomes}
    # episodes that an error cost one of the systems are left out for both
    shared = sorted(mine.keys() & theirs.keys())
    return paired([mine[s] for s in shared], [theirs[s] for s in shared], first.result.seed)


def label(result: EvalResult) -> str:
    """A system's name with what tells it from others of the same name."""
    parts = [result.system, result.checkpoint or ""]
    if result.training_seed is not None:
        parts.append(f"seed {result.training_seed}")
    return " ".join(part for part in parts if part)
