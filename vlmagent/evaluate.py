"""``vlmagent eval``: the same episodes for every system, counted honestly.

Episodes come from seeds that no training run uses (see ``seeding``); outputs are sampled at the configured temperature;
success is the task's. Transitions go into a database of their own beside the run's, so that they can be replayed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from vlmagent import paths
from vlmagent.agents.simple import BASELINES
from vlmagent.config import Config
from vlmagent.errors import unknown_choice
from vlmagent.rollout import Rollout
from vlmagent.seeding import derive, evaluation_episode_seed
from vlmagent.store.writer import StoreWriter, add_evaluation
from vlmagent.tasks.base import Task
from vlmagent.tasks.registry import task_from_config
from vlmagent.types import Agent, EpisodeEnd, EpisodeStart, Sink, Transition

OnProgress = Callable[[int, int], None]
"""(episodes done, transitions so far)."""
BOOTSTRAP_RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class EvalResult:
    """One system on one task. Rates are fractions; intervals are 95 %.

    Attributes:
        success_ci: Wilson interval over episodes.
        return_ci: percentile bootstrap interval of the mean over episodes.
        goal_rate: share of episodes that reached the goal, whatever they cost.
        legal_rate: share of outputs that named one legal action.
        seed: chooses the episodes.
        checkpoint: name of the checkpoint, None for a baseline.
        seconds: wall-clock time of the episodes.
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


class _Tally:
    """A sink that counts episodes and legal outputs."""

    def __init__(self, on_progress: OnProgress) -> None:
        self.ended: list[EpisodeEnd] = []
        self.transitions = 0
        self.legal = 0
        self._on_progress = on_progress

    def episode_started(self, episode: EpisodeStart) -> None:
        """Nothing to count."""

    def transition(self, transition: Transition) -> None:
        """Count the output."""
        self.transitions += 1
        self.legal += transition.decision.parsed.legal_output

    def episode_ended(self, episode: EpisodeEnd) -> None:
        """Count the episode."""
        self.ended.append(episode)
        self._on_progress(len(self.ended), self.transitions)


@dataclass(frozen=True, slots=True)
class System:
    """Something to evaluate: its agent and where it came from."""

    name: str
    agent: Agent
    checkpoint: str | None = None
    env_steps: int | None = None
    model: str | None = None


def checkpoint_system(config: Config, task: Task, folder: Path, temperature: float) -> System:
    """A run's checkpoint as a system: ``sft`` before the first PPO update, ``rl`` after."""
    from vlmagent.agents.vlm import VlmAgent
    from vlmagent.checkpoint import load_checkpoint
    from vlmagent.train import choose_device

    policy, state = load_checkpoint(folder)
    policy.to(choose_device(config.model.device))
    agent = VlmAgent(
        policy,
        task,
        temperature=temperature,
        max_new_tokens=config.rollout.max_new_tokens,
        thought_weight=config.ppo.thought_weight,
        name="rl" if state.env_steps else "sft",
    )
    suffix = "" if config.cot else " without CoT"
    return System(agent.name + suffix, agent, folder.name, state.env_steps, config.model.name)


def baseline_system(name: str, task: Task) -> System:
    """A system that needs no training.

    Raises:
        UsageError: unknown name.
    """
    if name not in BASELINES:
        raise unknown_choice("baseline", name, BASELINES)
    return System(name, BASELINES[name](task))


def evaluate(
    config: Config,
    system: System,
    *,
    episodes: int,
    seed: int,
    temperature: float | None,
    run: Path | None = None,
    on_progress: OnProgress = lambda _done, _steps: None,
) -> EvalResult:
    """Play ``episodes`` episodes and count.

    Args:
        config: task, rules and batch size.
        system: who plays.
        seed: chooses the episodes: equal seeds give equal episodes for every system.
        temperature: recorded with the result; None for systems that do not sample tokens.
        run: if given, transitions go to ``evaluations/`` in it and the result into its database.
        on_progress: called after every finished episode.
    """
    task = task_from_config(config)
    tally = _Tally(on_progress)
    database = _database(run, system) if run else None
    writer = StoreWriter(database, journal_mode=config.store.journal_mode) if database else None
    started = time.monotonic()
    try:
        if writer:
            writer.start_run(
                str(run), config.task, system.model or system.name, config.model_dump_json(), seed
            )
            writer.set_status("running")
        _play(config, task, system, episodes, seed, tally, writer)
        result = _result(config, system, tally, seed, temperature, run, database, time.monotonic() - started)
        if writer:
            writer.evaluation(evaluation_row(result))
            writer.set_status("done")
    finally:
        if writer:
            writer.close()
    if run:
        add_evaluation(run / paths.DATABASE, evaluation_row(result))
    return result


def _play(
    config: Config,
    task: Task,
    system: System,
    episodes: int,
    seed: int,
    tally: _Tally,
    writer: StoreWriter | None,
) -> None:
    """Step until every episode has ended. Episode k goes to environment k mod N."""
    num_envs = min(config.eval.num_envs, episodes)

    def episode_seed(env_index: int, count: int) -> int | None:
        number = env_index + count * num_envs
        return evaluation_episode_seed(seed, number) if number < episodes else None

    sinks: list[Sink] = [tally, writer] if writer else [tally]
    rollout = Rollout(
        task,
        system.agent,
        num_envs=num_envs,
        split="eval",
        seed=derive(seed, "evaluation sampling"),
        episode_seeds=episode_seed,
        sinks=sinks,
    )
    try:
        rollout.start()
        while rollout.active:
            rollout.step()
            if writer:
                writer.commit()
    finally:
        rollout.close()


def _database(run: Path, system: System) -> Path:
    """A new file for one evaluation's transitions."""
    folder = run / paths.EVALUATIONS
    folder.mkdir(exist_ok=True)
    stem = (
        f"{time.strftime('%Y%m%d-%H%M%S')}-{system.name.replace(' ', '-')}-{system.checkpoint or 'baseline'}"
    )
    candidates = (folder / f"{stem}{suffix}.db" for suffix in ("", *(f"-{n}" for n in range(2, 1000))))
    return next(path for path in candidates if not path.exists())


def _result(
    config: Config,
    system: System,
    tally: _Tally,
    seed: int,
    temperature: float | None,
    run: Path | None,
    database: Path | None,
    seconds: float,
) -> EvalResult:
    ended = tally.ended
    returns = [e.episode_return for e in ended]
    successes = sum(e.success for e in ended)
    return EvalResult(
        task=config.task,
        system=system.name,
        rule_set=config.rule_set,
        episodes=len(ended),
        success=successes / len(ended),
        success_ci=wilson(successes, len(ended)),
        mean_return=float(np.mean(returns)),
        return_ci=bootstrap_mean(returns, seed),
        goal_rate=sum(e.goal for e in ended) / len(ended),
        legal_rate=tally.legal / tally.transitions,
        mean_length=float(np.mean([e.length for e in ended])),
        seed=seed,
        checkpoint=system.checkpoint,
        env_steps=system.env_steps,
        model=system.model,
        temperature=temperature,
        run=str(run) if run else None,
        database=str(database.relative_to(run)) if run and database else None,
        seconds=seconds,
    )


def evaluation_row(result: EvalResult) -> dict[str, Any]:
    """The result as a row of the ``evaluations`` table and of ``--json``."""
    return asdict(result)


def wilson(successes: int, trials: int) -> tuple[float, float]:
    """95 % Wilson interval of a rate."""
    interval = stats.binomtest(successes, trials).proportion_ci(0.95, method="wilson")
    return float(interval.low), float(interval.high)


def bootstrap_mean(values: Sequence[float], seed: int) -> tuple[float, float]:
    """95 % percentile bootstrap interval of a mean; the value itself when all are equal or there is one."""
    if len(values) < 2 or min(values) == max(values):
        return float(np.mean(values)), float(np.mean(values))
    result = stats.bootstrap(
        (np.asarray(values, dtype=float),),
        np.mean,
        n_resamples=BOOTSTRAP_RESAMPLES,
        method="percentile",
        rng=np.random.default_rng(seed),
    )
    return float(result.confidence_interval.low), float(result.confidence_interval.high)
