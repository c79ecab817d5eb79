"""Gathers what one table or figure needs, over tasks, variants and seeds, and says what is missing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vlmagent.config import Config
from vlmagent.evaluation.evaluate import default_episodes
from vlmagent.evaluation.report.catalogue import RL, Item, Variant, chosen_tasks, expected_config
from vlmagent.evaluation.report.runs import Library
from vlmagent.evaluation.report.sources import Conditions, Curve, Source, evaluated
from vlmagent.evaluation.results import EvalResult
from vlmagent.tasks.registry import task_from_config


@dataclass(frozen=True, slots=True)
class Options:
    """What a report or a reproduction is asked for.

    Attributes:
        seeds: training seeds 0, 1, ....
        tasks: some of the item's; empty for all.
        episodes: per evaluation; None takes the paper's number.
        eval_seed: chooses the evaluation episodes.
        overrides: applied to every recipe.
        records: folder of records that count like the runs they stand for.
    """

    seeds: int
    tasks: tuple[str, ...] = ()
    episodes: int | None = None
    eval_seed: int = 0
    overrides: Mapping[str, Any] = field(default_factory=dict)
    records: Path | None = None


@dataclass(frozen=True, slots=True)
class Trained:
    """One finished run with its evaluations, None where they are missing."""

    seed: int
    source: Source
    start: EvalResult | None
    end: EvalResult | None
    curve: Curve | None


@dataclass(frozen=True, slots=True)
class Study:
    """A variant on a task: a run a seed, in the order of the seeds."""

    task: str
    variant: Variant
    runs: tuple[Trained, ...]


@dataclass(frozen=True, slots=True)
class Collection:
    """Everything a table or figure is made of.

    Attributes:
        recipes: tasks that have a recipe.
        baselines: by task and system.
        missing: what is not there, one line each.
    """

    item: Item
    options: Options
    tasks: tuple[str, ...]
    recipes: tuple[str, ...]
    studies: tuple[Study, ...]
    baselines: Mapping[str, Mapping[str, EvalResult]]
    missing: tuple[str, ...]

    def study(self, task: str, variant: Variant) -> Study | None:
        """A variant's runs on a task."""
        return next((s for s in self.studies if s.task == task and s.variant.name == variant.name), None)


def conditions(config: Config, options: Options) -> Conditions:
    """How checkpoints of a config are evaluated."""
    episodes = options.episodes or default_episodes(config, task_from_config(config))
    return Conditions(episodes, options.eval_seed)


def collect(item: Item, options: Options, library: Library | None = None) -> Collection:
    """Look up every run and evaluation of a table or figure."""
    library = library or Library(options.records)
    tasks = chosen_tasks(item, options.tasks)
    missing: list[str] = []
    studies: list[Study] = []
    baselines: dict[str, Mapping[str, EvalResult]] = {}
    recipes: list[str] = []
    for task in tasks:
        # any variant would do for baselines, which depend on task, rules and options alone
        reference = expected_config(task, RL, 0, options.overrides)
        if reference is None:
            missing.append(f"{task}: no recipe ships for it yet")
            continue
        recipes.append(task)
        baselines[task] = library.baselines(reference, conditions(reference, options))
        missing += [
            f"{task}: {name}, not evaluated" for name in item.baselines if name not in baselines[task]
        ]
        for variant in item.variants:
            runs = [
                _trained(item, task, variant, seed, options, library, missing)
                for seed in range(options.seeds)
            ]
            studies.append(Study(task, variant, tuple(run for run in runs if run is not None)))
    return Collection(item, options, tuple(tasks), tuple(recipes), tuple(studies), baselines, tuple(missing))


def _trained(
    item: Item, task: str, variant: Variant, seed: int, options: Options, library: Library, missing: list[str]
) -> Trained | None:
    config = expected_config(task, variant, seed, options.overrides)
    assert config is not None
    wanted = conditions(config, options)
    source = library.source(config, wanted, start=item.start)
    what = f"{task}: {variant.label}, seed {seed}"
    if source is None:
        missing.append(f"{what}, not trained")
        return None
    end = evaluated(source, wanted, start=False)
    start = evaluated(source, wanted, start=True) if item.start else None
    # a run that is trained and not evaluated still has its curve
    if end is None or (start is None and item.start):
        missing.append(f"{what}, not evaluated")
    return Trained(seed, source, start, end, source.curve(item.measure))
