"""What a task is: the text side of an environment.

A task writes the prompt h(o), reads the action f(v_out), names the actions and knows an expert. It owns no
pixels and no dynamics (those are the environment's) and knows nothing of models.

``Task`` is what every task has. What only some have is a protocol of its own below it, each part optional by itself;
``offers_of`` is the one place that looks for them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, runtime_checkable

import gymnasium as gym
import numpy as np
from pydantic import BaseModel

from vlmagent.types import EnvAction, ImageArray, Observation

State = Mapping[str, Any]
"""An environment's ``info``: its true, symbolic state. A task is only ever handed its own environment's, so it may
declare that as a ``TypedDict``, as the built-in ones do (``vlmagent_envs.numberline.NumberLineInfo``)."""


class Task(Protocol):
    """The text side of one environment.

    A class that implements it is built as ``TaskClass(cot=True, rule_set="paper", env={...})`` and registered
    under the entry-point group ``vlmagent.tasks``.
    """

    name: ClassVar[str]
    """What users type, such as ``numberline``."""
    env_id: ClassVar[str]
    """The Gymnasium id, such as ``vlmagent/NumberLine-v0``."""
    rule_sets: ClassVar[tuple[str, ...]]
    """Named sets of rules that the environment offers; the first is the default."""
    options: ClassVar[type[BaseModel]]
    """Validates the ``env`` section of a config."""
    cot: bool
    rule_set: str

    def make_env(self) -> gym.Env[ImageArray, EnvAction]:
        """A new environment whose observation is an RGB picture and whose ``info`` is the true state.

        What it may offer beside Gymnasium's interface: see ``tasks.environments``.
        """

    def make_sft_env(self) -> gym.Env[ImageArray, EnvAction]:
        """The environment that supervised samples come from; ``make_env`` unless the paper says otherwise."""

    def observe(self, image: ImageArray, state: State) -> Observation:
        """What an agent may know of the state: picture, state text and legal actions."""

    def prompt(self, observation: Observation) -> str:
        """v_in = h(o)."""

    def env_action(self, action: str, observation: Observation) -> EnvAction:
        """The environment's action for an action's name."""

    def expert_action(self, state: State, rng: np.random.Generator) -> str:
        """The expert's action in a true state; ties may be broken with ``rng``."""

    def expert_response(self, state: State, action: str) -> str:
        """The whole output v_out that an expert would write when choosing ``action``; honours ``cot``."""

    def caption(self, state: State) -> str | None:
        """What the picture of a true state shows, in the words of ``expert_response``; None if there is no such text.

        A model built from nothing learns to see from it before it learns to act.
        """

    def caption_options(self, rng: np.random.Generator) -> dict[str, Any] | None:
        """Reset options of an episode to learn seeing from; None: the environment deals as it does in training.

        What is seen must not follow from the rest of the picture: where the game's own deals are few, half of each
        can be guessed from the other half, and a model that guesses never learns to look.
        """

    def success(self, episode_return: float, state: State) -> bool:
        """Whether a finished episode counts as a success (paper: its return is positive)."""

    def goal(self, state: State) -> bool:
        """Whether the final state is the task's goal, however it was reached."""


@runtime_checkable
class PricesIllegalOutputs(Protocol):
    """A task in which an output that names no legal action costs something of its own."""

    illegal_reward: float
    """Added to the reward of the action that was drawn instead."""


@runtime_checkable
class SetsEvalEpisodes(Protocol):
    """A task whose evaluations need another number of episodes than most."""

    eval_episodes: int


@runtime_checkable
class HasKinds(Protocol):
    """A task whose episodes are of several kinds, which results are also given for one by one."""

    def episode_kind(self, state: State) -> str | None:
        """The kind of the episode that a state belongs to."""


@runtime_checkable
class HasPrimer(Protocol):
    """A task with short texts to learn its language from; see ``SftConfig.primer_samples``."""

    def primer(self, rng: np.random.Generator) -> tuple[str, str]:
        """Prompt and response of a short text without a picture."""


@runtime_checkable
class HasDrills(Protocol):
    """A task with other goals in the expert's states; see ``SftConfig.drill_share``."""

    def drill(self, state: State, rng: np.random.Generator) -> tuple[str, str] | None:
        """Prompt and response of another goal in a true state; None if the state offers none."""


@runtime_checkable
class HasNames(Protocol):
    """A task whose texts hold names that may stand for each other; see ``SftConfig.language_renamed``."""

    exchangeable: tuple[str, ...]


class TeachingTask(Task, HasPrimer, HasDrills, HasNames, Protocol):
    """A task with all that supervised fine-tuning may ask of one beside samples; each part may be missing."""


@dataclass(frozen=True, slots=True)
class Offers:
    """What a task offers beside ``Task``, or what holds where it does not.

    Attributes:
        illegal_reward: see ``PricesIllegalOutputs``; 0 without.
        eval_episodes: see ``SetsEvalEpisodes``; None without.
        kind: see ``HasKinds``; without, the ``task_type`` of the state if the environment gives one, else None.
        primer: see ``HasPrimer``; None without.
        drill: see ``HasDrills``; None without.
        exchangeable: see ``HasNames``; () without.
    """

    illegal_reward: float
    eval_episodes: int | None
    kind: Callable[[State], str | None]
    primer: Callable[[np.random.Generator], tuple[str, str]] | None
    drill: Callable[[State, np.random.Generator], tuple[str, str] | None] | None
    exchangeable: tuple[str, ...]


def offers_of(task: Task) -> Offers:
    """What a task offers. Looked up once, where whoever needs it is made."""
    # `isinstance` with these protocols asks only whether the members are there
    return Offers(
        illegal_reward=float(task.illegal_reward) if isinstance(task, PricesIllegalOutputs) else 0.0,
        eval_episodes=int(task.eval_episodes) if isinstance(task, SetsEvalEpisodes) else None,
        kind=task.episode_kind if isinstance(task, HasKinds) else _task_type,
        primer=task.primer if isinstance(task, HasPrimer) else None,
        drill=task.drill if isinstance(task, HasDrills) else None,
        exchangeable=tuple(task.exchangeable) if isinstance(task, HasNames) else (),
    )


def _task_type(state: State) -> str | None:
    """The kind of an episode by its environment's ``info``, for tasks that were written before ``HasKinds``."""
    kind = state.get("task_type")
    return None if kind is None else str(kind)
