"""Finds the runs and evaluations that a table or figure is made of. Only finished ones of exactly the recipe count."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vlmagent import launch, paths
from vlmagent.config import Config, load_config
from vlmagent.errors import StoreError, UsageError
from vlmagent.report.catalogue import Measure, same_study
from vlmagent.results import EvalResult, result_of
from vlmagent.store.reader import StoreReader
from vlmagent.store.study import LogprobSums, ended_episodes, logprob_sums

REPRODUCED = "reproduce"
"""The folder under the runs folder that ``vlmagent reproduce`` fills."""
WINDOW = 200
"""A training curve averages over this many episodes that ended last (paper, C.3)."""
FEWEST = 20
"""A curve begins when so many episodes have ended."""


@dataclass(frozen=True, slots=True)
class Conditions:
    """How a checkpoint must have been evaluated to count."""

    episodes: int
    seed: int


@dataclass(frozen=True, slots=True)
class Curve:
    """A training curve: env steps (K,) and the moving average at them (K,)."""

    steps: NDArray[np.float64]
    values: NDArray[np.float64]

    @property
    def peak(self) -> float:
        """The paper's way to sum up a curve."""
        return float(self.values.max())


class Library:
    """All runs under the runs folder, and under the folder that ``reproduce`` fills."""

    def __init__(self) -> None:
        self.folders = [*_folders(paths.runs_dir()), *_folders(paths.runs_dir() / REPRODUCED)]

    @cached_property
    def _configs(self) -> list[tuple[Path, Config]]:
        found = []
        for folder in self.folders:
            try:
                found.append((folder, load_config(folder / paths.CONFIG)))
            except UsageError:
                continue  # a broken run must not hide the others
        return found

    def find(self, expected: Config) -> Path | None:
        """The newest finished run of a config."""
        for folder, config in self._configs:
            if same_study(config, expected) and launch.run_state(folder) == "done":
                return folder
        return None

    def baselines(self, expected: Config, conditions: Conditions) -> dict[str, EvalResult]:
        """Newest results of systems that were not trained, by name, on this config's task, rules and options."""
        found: dict[str, EvalResult] = {}
        for config, result in self._evaluations:
            same = (config.get("task"), config.get("rule_set"), config.get("env")) == (
                expected.task,
                expected.rule_set,
                expected.env,
            )
            prompted = result.requests is None or config.get("cot") == expected.cot
            if same and prompted and result.checkpoint is None and _meets(result, conditions):
                found.setdefault(result.system, result)
        return found

    @cached_property
    def _evaluations(self) -> list[tuple[dict[str, Any], EvalResult]]:
        """Configs and results of all finished evaluations, newest first."""
        places = [paths.runs_dir(), *self.folders]
        files = [file for place in places for file in (place / paths.EVALUATIONS).glob("*.db")]
        return list(_read_all(sorted(files, key=lambda file: file.name, reverse=True)))


def _folders(root: Path) -> list[Path]:
    """Runs in a folder, newest first."""
    try:
        found = [entry for entry in root.iterdir() if not entry.is_symlink() and launch.is_run(entry)]
    except OSError:
        return []
    return sorted(found, key=lambda folder: folder.stat().st_mtime, reverse=True)


def _read_all(files: list[Path]) -> Iterator[tuple[dict[str, Any], EvalResult]]:
    for file in files:
        try:
            with StoreReader(file) as reader:
                run, row = reader.run(), next(iter(reader.evaluations()), None)
            if run is not None and row is not None:
                yield json.loads(run.config_json), result_of(row.more)
        except (StoreError, ValueError, TypeError):
            continue  # an evaluation that was only begun, or of an old version


def _meets(result: EvalResult, conditions: Conditions) -> bool:
    return (result.episodes + result.errors, result.seed) == (conditions.episodes, conditions.seed)


def temperature_of(config: Config) -> float:
    """At which a run's checkpoints are evaluated."""
    if config.agent == "cnn":
        return 1.0
    return config.rollout.temperature if config.eval.temperature is None else config.eval.temperature


def evaluated(run: Path, config: Config, conditions: Conditions, *, start: bool) -> EvalResult | None:
    """The newest evaluation of a run's start or end that meets the conditions; None without one."""
    end = config.num_updates * config.ppo.steps_per_update
    with StoreReader(run / paths.DATABASE) as reader:
        rows = reader.evaluations()
    for row in reversed(rows):
        result = result_of(row.more)
        at_right_step = result.checkpoint is not None and result.env_steps == (0 if start else end)
        if at_right_step and _meets(result, conditions) and result.temperature == temperature_of(config):
            return replace(result, database=str(run / result.database) if result.database else None)
    return None


def training_curve(run: Path, measure: Measure) -> Curve | None:
    """Moving average over the last episodes at the end of each one; None before there are enough."""
    with StoreReader(run / paths.DATABASE) as reader:
        episodes = ended_episodes(reader)
    if len(episodes) < FEWEST:
        return None
    values = [float(e.success) if measure == "success" else e.episode_return for e in episodes]
    sums = np.concatenate([[0.0], np.cumsum(values)])
    counts = np.arange(FEWEST, len(values) + 1)
    window = np.minimum(counts, WINDOW)
    averages = (sums[counts] - sums[counts - window]) / window
    steps = np.array([episodes[count - 1].env_steps for count in counts], dtype=float)
    return Curve(steps, averages)


def logprobs(result: EvalResult, samples: int) -> LogprobSums | None:
    """Mean log-prob sums of an evaluation's outputs; None when its transitions are gone."""
    if result.database is None or not Path(result.database).is_file():
        return None
    with StoreReader(Path(result.database)) as reader:
        return logprob_sums(reader, samples)
