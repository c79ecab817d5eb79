"""Intervals and tests, all through scipy and numpy: Wilson, bootstrap over episodes and over runs, McNemar.

Deliberately knows no task and no file: numbers in, numbers out. Every interval covers 95 %.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy  # its stats take a second to import, which it does at their first use

from vlmagent.evaluation.mcnemar import mcnemar

RESAMPLES = 2000


def wilson(successes: int, trials: int) -> tuple[float, float]:
    """Wilson interval of a rate."""
    interval = scipy.stats.binomtest(successes, trials).proportion_ci(0.95, method="wilson")
    return float(interval.low), float(interval.high)


def bootstrap_mean(values: Sequence[float], seed: int) -> tuple[float, float]:
    """Percentile bootstrap interval of a mean; the value itself when all are equal or there is one."""
    if len(values) < 2 or min(values) == max(values):
        return float(np.mean(values)), float(np.mean(values))
    result = scipy.stats.bootstrap(
        (np.asarray(values, dtype=float),),
        np.mean,
        n_resamples=RESAMPLES,
        method="percentile",
        rng=np.random.default_rng(seed),
    )
    return float(result.confidence_interval.low), float(result.confidence_interval.high)


def bootstrap_runs(runs: Sequence[Sequence[float]], seed: int) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean over training runs of each run's mean over episodes.

    Two levels: runs are drawn with replacement, then episodes within each drawn run, so that the interval holds the
    luck of the training seed as well as that of the episodes. With few runs it is a rough one.

    Args:
        runs: one sequence of episode values per training run, none of them empty.
    """
    rng = np.random.default_rng(seed)
    tables = [np.asarray(values, dtype=float) for values in runs]
    means = np.empty(RESAMPLES)
    for index in range(RESAMPLES):
        # as many runs as there are, some of them several times
        drawn = rng.integers(len(tables), size=len(tables))
        means[index] = np.mean([_resampled_mean(tables[run], rng) for run in drawn])
    # the middle 95 %
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def _resampled_mean(values: np.ndarray, rng: np.random.Generator) -> float:
    return float(values[rng.integers(len(values), size=len(values))].mean())


def spread(values: Sequence[float]) -> float:
    """Standard deviation over runs (n - 1 in the denominator); NaN for a single one."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")


@dataclass(frozen=True, slots=True)
class Pairing:
    """Two systems on the same episodes: the second against the first.

    Attributes:
        episodes: how many both played.
        only_first, only_second: episodes in which only one of them succeeded.
        success_difference: second minus first, a fraction.
        p_value: McNemar's exact test of equal success.
        return_difference: mean of second minus first.
        return_difference_ci: paired bootstrap interval.
    """

    episodes: int
    only_first: int
    only_second: int
    success_difference: float
    p_value: float
    return_difference: float
    return_difference_ci: tuple[float, float]


def paired(
    first: Sequence[tuple[bool, float]], second: Sequence[tuple[bool, float]], seed: int
) -> Pairing | None:
    """Compare two systems episode by episode; None when they share none.

    Args:
        first, second: (success, return) of the same episodes in the same order.
    """
    if len(first) != len(second):
        raise ValueError(f"{len(first)} episodes cannot be paired with {len(second)}")
    if not first:
        return None
    only_first = sum(a[0] and not b[0] for a, b in zip(first, second, strict=True))
    only_second = sum(b[0] and not a[0] for a, b in zip(first, second, strict=True))
    differences = [b[1] - a[1] for a, b in zip(first, second, strict=True)]
    return Pairing(
        episodes=len(first),
        only_first=only_first,
        only_second=only_second,
        success_difference=(only_second - only_first) / len(first),
        p_value=mcnemar(only_first, only_second),
        return_difference=float(np.mean(differences)),
        return_difference_ci=bootstrap_mean(differences, seed),
    )
