"""Decides, before anything heavy is imported, who plays what against whom and where the log goes.

Knows nothing of screens and starts nothing.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from vlmagent.config import Config, load_config, merge, parse_overrides
from vlmagent.config.validation import validate
from vlmagent.errors import StoreError, UsageError, unknown_choice
from vlmagent.evaluation.systems import baseline_names, check_baseline
from vlmagent.paths import Run
from vlmagent.runs.find import newest_run_of, same_task
from vlmagent.runs.folders import resolve_run
from vlmagent.store.reader import StoreReader
from vlmagent.tasks.recipes import recipe_of
from vlmagent.tasks.registry import build_task, task_from_config
from vlmagent.text import command
from vlmagent.training.saved import newest_checkpoint

Mode = Literal["human", "watch", "versus"]
Hints = Literal["off", "ask", "on"]
HINTS: tuple[Hints, ...] = get_args(Hints)
RUN = "run"
# as many as training and evaluation have for a half of their seeds (`seeding.EVALUATION_BIT`)
SEEDS = 2**31


@dataclass(frozen=True, slots=True)
class Opponent:
    """Whoever thinks beside the person: a run's newest checkpoint, or a baseline."""

    run: Run | None = None
    baseline: str | None = None

    @property
    def name(self) -> str:
        """For people."""
        return self.baseline or (self.run.name if self.run else "")


@dataclass(frozen=True, slots=True)
class Continuation:
    """A state to play on from: before step ``step`` of a logged episode."""

    database: Path
    episode_id: int
    step: int


@dataclass(frozen=True, slots=True)
class PlayRequest:
    """What somebody wants to play.

    Attributes:
        task: its name, or ``module:EnvId``.
        human, versus: who acts: a person, or a person and the opponent on the same deals; neither lets them watch.
        run: whose newest checkpoint is the opponent; None for the task's newest run.
        opponent: ``run`` (the default) or a baseline's name.
        seed: chooses the episodes; None takes one that nobody chose.
        overrides: ``key=value`` pairs over the run's config or the task's recipe.
        hints: one of ``HINTS``.
    """

    task: str
    human: bool = False
    versus: bool = False
    run: str | None = None
    opponent: str | None = None
    seed: int | None = None
    overrides: Sequence[str] = ()
    hints: str = "ask"


@dataclass(frozen=True, slots=True)
class SessionPlan:
    """A session that can begin.

    Attributes:
        opponent: None when there is nobody; ``advice`` then says what to do about it.
        run: whose ``plays/`` the log goes to; None gives the session a folder of its own.
        seed: chooses the episodes.
        start: where the first episode begins, None for a new one.
    """

    config: Config
    mode: Mode
    opponent: Opponent | None
    advice: str
    run: Run | None
    seed: int
    hints: Hints
    start: Continuation | None = None


def plan_session(request: PlayRequest) -> SessionPlan:
    """Decide everything about a session.

    Raises:
        UsageError: names what does not exist or does not go together.
    """
    if request.human and request.versus:
        raise UsageError("--human and --versus exclude each other: --versus is a person against an opponent.")
    if request.hints not in HINTS:
        raise unknown_choice("value of --hints", request.hints, HINTS)
    task = request.task
    over = parse_overrides(request.overrides)
    # raises for an unknown task before anything is looked for
    build_task(task)
    baseline = None if request.opponent in (None, RUN) else request.opponent
    if baseline is not None:
        _check_opponent(baseline)
    mode: Mode = "watch"
    if request.human or request.versus:
        mode = "human" if request.human else "versus"
    found = None
    if request.run is not None:
        found = _given_run(task, request.run)
    elif baseline is None:
        found = newest_run_of(task)
    config = run_config(found, over) if found else recipe_of(task, over)
    # options of the config that this task does not take
    task_from_config(config)
    # a person who named no run can play without an opponent, who joins once there is a checkpoint
    must_act = request.run is not None or mode != "human"
    if found and baseline is None and must_act and newest_checkpoint(found) is None:
        raise _no_checkpoint(found, task)
    return _plan(config, mode, found, baseline, request.seed, request.hints)


def plan_run(run: Run, mode: Mode, *, hints: Hints = "ask", start: Continuation | None = None) -> SessionPlan:
    """Play beside a run, as the dashboard offers it.

    Raises:
        UsageError: the run has no config or no task of this installation, or no checkpoint where one must act.
    """
    config = run_config(run, {})
    task_from_config(config)
    if mode != "human" and newest_checkpoint(run) is None:
        raise _no_checkpoint(run, config.task)
    return _plan(config, mode, run, None, None, hints, start)


def _plan(
    config: Config,
    mode: Mode,
    run: Run | None,
    baseline: str | None,
    seed: int | None,
    hints: str,
    start: Continuation | None = None,
) -> SessionPlan:
    opponent, advice = None, ""
    if baseline is not None:
        opponent = Opponent(baseline=baseline)
    elif run is not None and newest_checkpoint(run) is not None:
        opponent = Opponent(run=run)
    elif mode != "human":
        raise _nobody(config.task)
    else:
        advice = str(_no_checkpoint(run, config.task) if run else _nobody(config.task))
    # checked by the caller; this only tells the type checker
    chosen: Hints = next(known for known in HINTS if known == hints)
    return SessionPlan(
        config,
        mode,
        opponent,
        advice,
        run,
        # from the system's randomness: a seed that nobody chose should not be that of a training
        secrets.randbelow(SEEDS) if seed is None else seed,
        chosen,
        start,
    )


def find_opponent(plan: SessionPlan) -> Opponent | None:
    """Whoever could think by now in a session that began without anybody: a run may have got a checkpoint since."""
    run = plan.run or newest_run_of(plan.config.task)
    return Opponent(run=run) if run is not None and newest_checkpoint(run) is not None else None


def run_config(run: Run, overrides: Mapping[str, Any]) -> Config:
    """The config of a run, or of a session of play that lies in a folder of its own.

    Raises:
        UsageError: it has none that can be read, or an override is not valid.
    """
    if run.config_file.is_file():
        return load_config(run.config_file, overrides)
    try:
        with StoreReader(run.database) as reader:
            row = reader.run()
        # a session of play without a run has its config only in its database
        data = json.loads(row.config_json) if row else None
    except (StoreError, ValueError) as error:
        raise UsageError(f"The run {run} cannot be played: {error}") from None
    if not isinstance(data, dict):
        raise UsageError(f"The run {run} cannot be played: its database says nothing of its config.")
    return validate(Config, merge(data, overrides))


def _check_opponent(name: str) -> None:
    try:
        check_baseline(name, None, None)
    except UsageError as error:
        known = [RUN, *baseline_names()]
        raise (unknown_choice("opponent", name, known) if name not in known else error) from None


def _given_run(task: str, run: str) -> Run:
    given = resolve_run(run)
    found = run_config(given, {}).task
    if not same_task(found, task):
        raise UsageError(
            f"The run {given} was trained on '{found}', not on '{task}'. "
            f"Play that: {command('vlmagent', 'play', found)}"
        )
    return given


def _nobody(task: str) -> UsageError:
    return UsageError(
        f"There is no run of the task '{task}' yet that could play. Train one: `{command('vlmagent', 'train', task)}`. "
        "Until then the expert can stand in: --opponent expert."
    )


def _no_checkpoint(run: Run, task: str) -> UsageError:
    return UsageError(
        f"The run {run} has no checkpoint yet. Wait until `{command('vlmagent', 'runs', 'show', run)}` lists one, "
        f"or let the expert stand in: {command('vlmagent', 'play', task, '--opponent', 'expert')}"
    )
