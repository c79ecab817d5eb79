"""What tables and figures ask of one finished run, answered by its databases or by a record of it.

Knows nothing of tables and figures, and nothing of where runs and records lie.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from vlmagent.config import Config
from vlmagent.evaluation.report.catalogue import Measure
from vlmagent.evaluation.results import EvalResult, result_of
from vlmagent.evaluation.systems import temperature_of
from vlmagent.paths import Run
from vlmagent.store.reader import StoreReader
from vlmagent.store.study import LogprobSums, ended_episodes, logprob_sums

WINDOW = 200
"""A training curve averages over this many episodes that ended last (paper, C.3)."""
FEWEST = 20
"""Where a run has fewer than two windows of episodes, its curve begins when so many have ended."""
LOGPROB_SAMPLES = 1000
"""Outputs behind each sum of log-probs (paper, Table 1)."""


@dataclass(frozen=True, slots=True)
class Conditions:
    """How a checkpoint must have been evaluated to count."""

    episodes: int
    seed: int

    def met_by(self, result: EvalResult) -> bool:
        """Whether a result came about like this; episodes that were lost count as played."""
        # errors count as played: an evaluation of 200 with one failure is one of 200
        return (result.episodes + result.errors, result.seed) == (self.episodes, self.seed)


@dataclass(frozen=True, slots=True)
class Curve:
    """A training curve: env steps (K,) and the moving average at them (K,)."""

    steps: NDArray[np.float64]
    values: NDArray[np.float64]

    @property
    def peak(self) -> float:
        """The paper's way to sum up a curve."""
        return float(self.values.max())

    def reaches(self, bar: float) -> float | None:
        """Env steps at its first point that is at least ``bar``; None if there is none."""
        high = self.values >= bar
        return float(self.steps[high.argmax()]) if high.any() else None


class Source(Protocol):
    """A finished run, as far as tables and figures look at it."""

    @property
    def config(self) -> Config:
        """What it was trained with."""

    @property
    def end(self) -> int:
        """Environment steps of its last checkpoint."""

    def results(self) -> Iterable[EvalResult]:
        """Every evaluation of its checkpoints, oldest first."""

    def curve(self, measure: Measure) -> Curve | None:
        """Moving average over the last episodes of training at the end of each one; None before there are enough."""

    def logprobs(self, result: EvalResult) -> LogprobSums | None:
        """Mean log-prob sums of an evaluation's first outputs; None when they are gone."""


def counts(result: EvalResult, source: Source) -> bool:
    """Whether a result is of the start or the end of a run, at the temperature of its config."""
    at_end = result.checkpoint is not None and result.env_steps in (0, source.end)
    return at_end and result.temperature == temperature_of(source.config)


def planned_end(config: Config) -> int:
    """Environment steps of a whole run; the last update may end it a little short of ``env_steps``."""
    return config.num_updates * config.ppo.steps_per_update


def evaluated(source: Source, conditions: Conditions, *, start: bool) -> EvalResult | None:
    """The newest evaluation of a run's start or end that meets the conditions; None without one."""
    found = [r for r in source.results() if counts(r, source) and (r.env_steps == 0) == start]
    # of several evaluations the last one
    return next((r for r in reversed(found) if conditions.met_by(r)), None)


class RunSource:
    """A run folder.

    Args:
        run: its folder.
        config: what it was trained with.
    """

    def __init__(self, run: Run, config: Config) -> None:
        self.run = run
        self._config = config

    @property
    def config(self) -> Config:
        """What it was trained with."""
        return self._config

    @cached_property
    def end(self) -> int:
        """Environment steps of its last checkpoint."""
        if not self._config.ppo.stop_when.success:
            return planned_end(self._config)
        # it ended where it had learnt its task, and a finished run has no steps beyond its last checkpoint
        with StoreReader(self.run.database) as reader:
            return reader.env_steps()

    def results(self) -> list[EvalResult]:
        """Every evaluation of its checkpoints, oldest first; with absolute paths."""
        with StoreReader(self.run.database) as reader:
            found = [result_of(row.more) for row in reader.evaluations()]
        # stored relative to the run, which may have been moved
        return [replace(r, database=str(self.run.path / r.database) if r.database else None) for r in found]

    @cached_property
    def _episodes(self) -> list[tuple[int, float, float]]:
        """Env steps when it ended, success and return of every finished episode."""
        with StoreReader(self.run.database) as reader:
            return [(e.env_steps, float(e.success), e.episode_return) for e in ended_episodes(reader)]

    def curve(self, measure: Measure) -> Curve | None:
        """Moving average over the last episodes of training at the end of each one; None before there are enough.

        It begins with a whole window: the first episodes to end are the short ones, and most of these are won.
        """
        if len(self._episodes) < FEWEST:
            return None
        table = np.array(self._episodes, dtype=float)  # (E, 3)
        first = WINDOW if len(table) >= 2 * WINDOW else FEWEST
        # sums up to each episode, a zero in front: the difference of two is the sum between them
        sums = np.concatenate([[0.0], np.cumsum(table[:, 1 if measure == "success" else 2])])
        counts = np.arange(first, len(table) + 1)
        window = np.minimum(counts, WINDOW)
        # the k-th point averages the last min(k, WINDOW) episodes
        return Curve(table[first - 1 :, 0], (sums[counts] - sums[counts - window]) / window)

    def logprobs(self, result: EvalResult) -> LogprobSums | None:
        """Mean log-prob sums of an evaluation's first outputs; None when its transitions are gone."""
        if result.database is None or not Path(result.database).is_file():
            return None
        with StoreReader(Path(result.database)) as reader:
            return logprob_sums(reader, LOGPROB_SAMPLES)
