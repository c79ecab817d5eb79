"""Runs to play beside, with a real checkpoint of a tiny random policy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.conftest import SMALL
from vlmagent.config import Config
from vlmagent.paths import Run
from vlmagent.play.plan import PlayRequest, SessionPlan, plan_session
from vlmagent.runs import folders
from vlmagent.seeding import play_episode_seed
from vlmagent.tasks.registry import build_task

EASY = 11
"""A seed of play whose first NumberLine episode takes two steps or more."""


def config(task: str = "numberline") -> Config:
    """A recipe for a tiny model."""
    return Config.model_validate({**SMALL, "task": task})


def plan_play(task: str, **wishes: Any) -> SessionPlan:
    """What ``vlmagent play TASK`` decides, with these options."""
    return plan_session(PlayRequest(task, **wishes))


def make_run(task: str = "numberline", checkpoint: bool = True) -> Run:
    """A run under the runs folder."""
    run = folders.create_run(config(task))
    if checkpoint:
        add_checkpoint(run, task)
    return run


def add_checkpoint(run: Run, task: str = "numberline", env_steps: int = 0, seed: int = 1) -> Path:
    """Write a checkpoint of a fresh policy into a run."""
    from vlmagent.models.hf import build_policy
    from vlmagent.training.checkpoint import TrainerState, save_checkpoint
    from vlmagent.training.sft.samples import corpus

    policy = build_policy(config(task).model, corpus(build_task(task)), seed)
    return save_checkpoint(run, policy, TrainerState(0, env_steps, None, None))


def first_state(task: str, seed: int) -> dict[str, object]:
    """The true state that a session's first episode begins in."""
    return dict(build_task(task).make_env().reset(seed=play_episode_seed(seed, 0))[1])
