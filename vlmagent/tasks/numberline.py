"""NumberLine's text side: prompt (paper, Figure 9), expert and supervised responses (Figures 22 and 23).

Knows nothing of pixels; the environment draws them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from pydantic import BaseModel, Field

import vlmagent_envs
from vlmagent.config import Section
from vlmagent.tasks.base import State
from vlmagent.types import EnvAction, ImageArray, Observation
from vlmagent_envs.numberline import ACTIONS, LARGEST_N_MAX

_INTRODUCTION = (
    "You are playing a game called number line. You will see a target number and a current number in the "
    "image. And your goal is to move the current number closer to the target by choosing either adding or "
    "subtracting one to the current number. "
    "Your response should be a valid json file in the following format:\n"
)
_COT = """\
"current number": "x",
"target number": "x",
"thoughts": {first read out the current and target number, then think carefully about which action to choose},
"""
_ACTION = '"action": "-" or "+"\n'


class NumberLineOptions(Section):
    """Options of the environment."""

    n_max: int = Field(5, ge=1, le=LARGEST_N_MAX)
    """The largest number; episodes are truncated after twice as many steps."""


class NumberLineTask:
    """Move the current number to the target; see ``vlmagent_envs.numberline`` for the rules."""

    name: ClassVar[str] = "numberline"
    env_id: ClassVar[str] = "vlmagent/NumberLine-v0"
    rule_sets: ClassVar[tuple[str, ...]] = ("paper",)
    options: ClassVar[type[BaseModel]] = NumberLineOptions

    def __init__(
        self, *, cot: bool = True, rule_set: str = "paper", env: Mapping[str, Any] | None = None
    ) -> None:
        self.cot = cot
        self.rule_set = rule_set
        self.n_max = NumberLineOptions.model_validate(env or {}).n_max

    def make_env(self) -> gym.Env[ImageArray, EnvAction]:
        """A new environment; pictures are uint8 (300, 300, 3)."""
        vlmagent_envs.register_envs()
        return gym.make(self.env_id, n_max=self.n_max, disable_env_checker=True)

    def make_sft_env(self) -> gym.Env[ImageArray, EnvAction]:
        """The environment of supervised samples: the same as for training."""
        return self.make_env()

    def observe(self, image: ImageArray, state: State) -> Observation:
        """The picture alone: no part of the prompt depends on the state."""
        return Observation(image, None, ACTIONS)

    def prompt(self, observation: Observation) -> str:
        """Figure 9, without its reasoning keys when ``cot`` is off (Figure 23)."""
        return _INTRODUCTION + "{\n" + (_COT if self.cot else "") + _ACTION + "}"

    def env_action(self, action: str, observation: Observation) -> EnvAction:
        """0 for "+", 1 for "-"."""
        return ACTIONS.index(action)

    def expert_action(self, state: State, rng: np.random.Generator) -> str:
        """One step towards the target."""
        return "+" if state["current"] < state["target"] else "-"

    def expert_response(self, state: State, action: str) -> str:
        """Figures 22 and 23, to the letter."""
        if not self.cot:
            return f'{{\n"action": "{action}"\n}}'
        current, target = state["current"], state["target"]
        relation = "smaller" if current < target else "larger"
        verb = "increase" if action == "+" else "decrease"
        thoughts = (
            f"The current number is {current}, which is {relation} than the target number is {target}. "
            "To move the current number closer to the target, "
            f"I should {verb} the current number by choosing {action}."
        )
        return (
            f'{{\n"current number": "{current}",\n"target number": "{target}",\n'
            f'"thoughts": "{thoughts}",\n"action": "{action}"\n}}'
        )

    def caption(self, state: State) -> str:
        """Both numbers, as the expert reads them out."""
        return f'"current number": "{state["current"]}",\n"target number": "{state["target"]}"'

    def caption_options(self, rng: np.random.Generator) -> None:
        """The environment's own deals."""
        return

    def success(self, episode_return: float, state: State) -> bool:
        """The paper's count: the episode's return is positive."""
        return episode_return > 0

    def goal(self, state: State) -> bool:
        """Whether the target was reached, with or without wrong steps."""
        return bool(state["goal"])
