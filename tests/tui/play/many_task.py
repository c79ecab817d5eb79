"""A task with more actions than keys, as a household in text has them."""

from __future__ import annotations

from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from pydantic import BaseModel

from vlmagent.config import Section
from vlmagent.types import ImageArray, Observation

ACTIONS = (
    *(f"go to shelf {n}" for n in range(1, 20)),
    "open drawer 1",
    "take lamp 7",
    "look",
    "take [b]book[/b] 2",
)
GOAL = "take lamp 7"


class ManyEnv(gym.Env[ImageArray, int]):
    """Over once the lamp is taken."""

    action_space = gym.spaces.Discrete(len(ACTIONS))  # type: ignore[assignment]
    observation_space = gym.spaces.Box(0, 255, (8, 8, 3), np.uint8)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[ImageArray, dict[str, Any]]:
        super().reset(seed=seed)
        self.moves = 0
        return np.zeros((8, 8, 3), np.uint8), {"moves": 0, "goal": False}

    def step(self, action: int) -> tuple[ImageArray, float, bool, bool, dict[str, Any]]:
        self.moves += 1
        done = ACTIONS[action] == GOAL
        state = {"moves": self.moves, "goal": done}
        return np.full((8, 8, 3), self.moves, np.uint8), float(done), done, False, state


class Options(Section):
    """None."""


class ManyTask:
    """See ``tasks.base.Task``."""

    name: ClassVar[str] = "many"
    env_id: ClassVar[str] = "tests/Many-v0"
    rule_sets: ClassVar[tuple[str, ...]] = ("paper",)
    options: ClassVar[type[BaseModel]] = Options

    def __init__(self, *, cot: bool = True, rule_set: str = "paper", env: object = None) -> None:
        self.cot, self.rule_set = cot, rule_set

    def make_env(self) -> ManyEnv:
        return ManyEnv()

    make_sft_env = make_env

    def observe(self, image: ImageArray, state: Any) -> Observation:
        legal = ACTIONS if state["moves"] == 0 else ACTIONS[-4:]
        return Observation(image, f"You have made {state['moves']} moves. [red]A shelf[/red].", legal)

    def prompt(self, observation: Observation) -> str:
        return f"What next? {observation.state_text}"

    def env_action(self, action: str, observation: Observation) -> int:
        return ACTIONS.index(action)

    def expert_action(self, state: Any, rng: np.random.Generator) -> str:
        raise NotImplementedError

    def expert_response(self, state: Any, action: str) -> str:
        return f'{{"action": "{action}"}}'

    def success(self, episode_return: float, state: Any) -> bool:
        return episode_return > 0

    def goal(self, state: Any) -> bool:
        return bool(state["goal"])
