"""Finished runs with their evaluations, written straight into the store: nothing is trained."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np

from vlmagent import paths
from vlmagent.config import Config
from vlmagent.evaluation.report.catalogue import Variant, expected_config
from vlmagent.evaluation.report.sources import temperature_of
from vlmagent.evaluation.results import EvalResult, Outcome, evaluation_row, summary
from vlmagent.paths import Run
from vlmagent.runs import folders
from vlmagent.store.writer import StoreWriter
from vlmagent.types import Decision, EpisodeEnd, EpisodeStart, Generation, ParsedAction, Transition

IMAGE = np.zeros((4, 4, 3), dtype=np.uint8)
OVERRIDES = {"ppo": {"env_steps": 5120}}


def transition(number: int, episode: int, thought: float, action: float) -> Transition:
    generation = Generation("x", np.array([1, 2]), np.array([thought, action], dtype=np.float32), 1, 0.0)
    decision = Decision(
        "p", "x", "", ParsedAction("+", True, "+", None), 0.5 * thought + action, thought, action, generation
    )
    return Transition(number, episode, 1, 0, 0, IMAGE, decision, 0.0, True, False, 0.0)


def episode(writer: StoreWriter, number: int, won: bool, thought: float = -3.0, action: float = -0.1) -> None:
    writer.episode_started(EpisodeStart(number, "train", 0, number))
    writer.transition(transition(number, number, thought, action))
    return_ = 1.0 if won else -1.0
    writer.episode_ended(EpisodeEnd(number, 1, return_, won, won, "terminated"))


def result(config: Config, system: str, wins: int, of: int, **changes) -> EvalResult:
    outcomes = [Outcome(i, i < wins, 1.0 if i < wins else -1.0, True, 2) for i in range(of)]
    values = {
        "task": config.task, "system": system, "rule_set": config.rule_set, "legal_rate": 1.0, "seed": 0,
        "checkpoint": None, "env_steps": None, "model": None, "temperature": None, "run": None, "database": None,
        "seconds": 1.0,
    }  # fmt: skip
    return EvalResult(**{**values, **summary(outcomes, 0), **changes})


def finished_run(
    task: str,
    variant: Variant,
    seed: int,
    wins: tuple[int, int],
    *,
    of: int = 10,
    rising: bool = True,
    by_type: tuple[dict, dict] | None = None,
    episodes: int = 100,
) -> Run:
    """A run that is done, with training episodes (the first half lost) and an evaluation of its start and its end.

    Args:
        by_type: of the two evaluations.
    """
    config = expected_config(task, variant, seed, OVERRIDES)
    assert config is not None
    run = folders.create_run(config, paths.runs_dir() / f"{task}-{variant.name}-{seed}")
    end = config.num_updates * config.ppo.steps_per_update
    temperature = temperature_of(config)
    with StoreWriter(run.database) as writer:
        writer.start_run(run.name, task, "tiny", json.dumps(config.model_dump(mode="json")), seed)
        for number in range(1, episodes + 1):
            episode(writer, number, won=number > episodes / 2 if rising else number % 4 == 0)
        writer.commit()
        seconds = {"time/collect_seconds": 3.0, "time/update_seconds": 1.0}
        writer.metrics(1, end, seconds)
        kinds = by_type or (None, None)
        for name, steps, count, types in (("sft", 0, wins[0], kinds[0]), ("rl", end, wins[1], kinds[1])):
            database = write_evaluation(run, config, name, steps)
            row = result(
                config, name, count, of, checkpoint=f"step-{steps}", env_steps=steps, temperature=temperature,
                run=str(run), database=str(database.relative_to(run.path)), training_seed=seed, by_type=types,
            )  # fmt: skip
            writer.evaluation(evaluation_row(row))
        writer.set_status("done")
    return run


def write_evaluation(run: Run, config: Config, name: str, steps: int) -> Path:
    """An evaluation's own database, with outputs of known log-probs."""
    folder = run.evaluations
    folder.mkdir(exist_ok=True)
    database = folder / f"{name}-{steps}.db"
    with StoreWriter(database) as writer:
        for number in range(1, 5):
            episode(writer, number, True, thought=-4.0 if name == "sft" else -2.0, action=-0.5)
        writer.commit()
    return database


def baseline(config: Config, name: str, wins: int, of: int = 10, **changes) -> None:
    """A finished evaluation of a system without a run."""
    folder = Run(paths.runs_dir()).evaluations
    folder.mkdir(parents=True, exist_ok=True)
    with StoreWriter(folder / f"{time.time_ns()}-{name}.db") as writer:
        document = {**config.model_dump(mode="json"), "evaluation": {}}
        writer.start_run("x", config.task, name, json.dumps(document), 0)
        writer.evaluation(evaluation_row(result(config, name, wins, of, **changes)))
        writer.set_status("done")
