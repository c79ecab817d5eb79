"""What a task is: the text side of an environment.

A task writes the prompt h(o), reads the action f(v_out), names the actions and knows an expert. It owns no
pixels and no dynamics (those are the environment's) and knows nothing of models.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Protocol

import gymnasium as gym
import numpy as np
from pydantic import BaseModel

from vlmagent.types import EnvAction, ImageArray, Observation

State = Mapping[str, Any]
"""An environment's ``info``: its true, symbolic state."""


class Task(Protocol):
    """The text side of one environment.

    A class that implements it is built as ``TaskClass(cot=True, rule_set="paper", env={...})`` and registered
    under the entry-point group ``vlmagent.tasks``.

    It may also have the parts of ``TeachingTask``.
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
        """A new environment whose observation is an RGB picture and whose ``info`` is the true state."""

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


class TeachingTask(Task, Protocol):
    """What a task may offer to supervised fine-tuning beside samples; each part may be missing. See ``SftConfig``."""

    exchangeable: ClassVar[tuple[str, ...]]
    """Names that may stand for each other in a text."""

    def primer(self, rng: np.random.Generator) -> tuple[str, str]:
        """Prompt and response of a short text without a picture."""

    def drill(self, state: State, rng: np.random.Generator) -> tuple[str, str] | None:
        """Prompt and response of another goal in a true state; None if the state offers none."""
