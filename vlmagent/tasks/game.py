"""What the text sides of NumberLine, EZPoints, Points24 and Blackjack share: named actions that are always legal, the
paper's count of successes. Knows nothing of pixels.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Generic, TypedDict, TypeVar

import gymnasium as gym
import numpy as np
from pydantic import BaseModel

import vlmagent_envs
from vlmagent.types import EnvAction, ImageArray, Observation


class GameInfo(TypedDict):
    """The part of the true state that all four games have."""

    goal: bool


Info = TypeVar("Info", bound=GameInfo)


class GameTask(Generic[Info]):
    """The parts of ``Task`` that the four games have in common; subclasses add the words.

    Args:
        cot: whether prompts and responses hold thoughts.
        rule_set: one of ``rule_sets``.
        env: options of the environment, valid by ``options``.
    """

    name: ClassVar[str]
    env_id: ClassVar[str]
    rule_sets: ClassVar[tuple[str, ...]] = ("paper", "released")
    options: ClassVar[type[BaseModel]]
    actions: tuple[str, ...]
    """Names of the actions, by index."""

    def __init__(
        self, *, cot: bool = True, rule_set: str = "paper", env: Mapping[str, Any] | None = None
    ) -> None:
        self.cot = cot
        self.rule_set = rule_set
        self.env_options: dict[str, Any] = self.options.model_validate(env or {}).model_dump()

    def make_env(self) -> gym.Env[ImageArray, EnvAction]:
        """A new environment; pictures are uint8 (300, 300, 3)."""
        return self._make(self.env_options)

    def make_sft_env(self) -> gym.Env[ImageArray, EnvAction]:
        """The environment of supervised samples: the same as for training."""
        return self.make_env()

    def _make(self, options: Mapping[str, Any]) -> gym.Env[ImageArray, EnvAction]:
        vlmagent_envs.register_envs()
        # an environment with a single set of rules has no argument for it
        rules: dict[str, Any] = {"rules": self.rule_set} if len(self.rule_sets) > 1 else {}
        # Gymnasium's checker would look at the first steps of each; the environments' own tests do so once for all
        return gym.make(self.env_id, disable_env_checker=True, **rules, **options)

    def observe(self, image: ImageArray, state: Info) -> Observation:
        """The picture alone: no part of the prompt depends on the state."""
        return Observation(image, None, self.actions)

    def env_action(self, action: str, observation: Observation) -> EnvAction:
        """The action's place among the names."""
        return self.actions.index(action)

    def caption_options(self, rng: np.random.Generator) -> dict[str, Any] | None:
        """The environment's own deals."""
        return None

    def success(self, episode_return: float, state: Info) -> bool:
        """The paper's count: the episode's return is positive, so a draw is none."""
        return episode_return > 0

    def goal(self, state: Info) -> bool:
        """Whether the game was won, whatever it cost: also with wrong steps on the way."""
        return bool(state["goal"])
