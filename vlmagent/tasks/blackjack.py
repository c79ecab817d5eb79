"""Blackjack's text side: prompt (paper, Figure 15), expert, supervised responses (Figures 24 and 25)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from pydantic import BaseModel, Field

import vlmagent_envs
from vlmagent.config import Section
from vlmagent.tasks.base import State
from vlmagent.types import EnvAction, ImageArray, Observation
from vlmagent_envs.blackjack import ACTIONS
from vlmagent_envs.blackjack_solver import should_hit
from vlmagent_envs.cards import parse_card

_INTRODUCTION = (
    "You are a blackjack player. You are observing the current game state, you can choose between "
    "['stand', 'hit']. Your response should be a valid json file in the following format:\n"
)
_COT = (
    '"thoughts": "{first describe your total points and the dealer\'s total points then think about which '
    'action to choose}",\n'
)
_ACTION = '"action": "stand" or "hit"\n'


class BlackjackOptions(Section):
    """Options of the environment."""

    natural: float = Field(1.0, ge=1, le=10)
    """The reward for winning with an ace and a card worth ten (the paper's option: 1.5)."""


class BlackjackTask:
    """Beat the dealer; see ``vlmagent_envs.blackjack`` for the rules."""

    name: ClassVar[str] = "blackjack"
    env_id: ClassVar[str] = "vlmagent/Blackjack-v0"
    rule_sets: ClassVar[tuple[str, ...]] = ("paper", "released")
    options: ClassVar[type[BaseModel]] = BlackjackOptions
    eval_episodes: ClassVar[int] = 1000
    """The cards are dealt at random, so that more episodes are needed than elsewhere (paper, C.2)."""

    def __init__(
        self, *, cot: bool = True, rule_set: str = "paper", env: Mapping[str, Any] | None = None
    ) -> None:
        self.cot = cot
        self.rule_set = rule_set
        self.natural = BlackjackOptions.model_validate(env or {}).natural

    def make_env(self) -> gym.Env[ImageArray, EnvAction]:
        """A new environment; pictures are uint8 (300, 300, 3)."""
        vlmagent_envs.register_envs()
        return gym.make(self.env_id, natural=self.natural, rules=self.rule_set, disable_env_checker=True)

    def make_sft_env(self) -> gym.Env[ImageArray, EnvAction]:
        """The environment of supervised samples: the same as for training."""
        return self.make_env()

    def observe(self, image: ImageArray, state: State) -> Observation:
        """The picture alone: no part of the prompt depends on the state."""
        return Observation(image, None, ACTIONS)

    def prompt(self, observation: Observation) -> str:
        """Figure 15, without its reasoning key when ``cot`` is off (Figure 25)."""
        return _INTRODUCTION + "{\n" + (_COT if self.cot else "") + _ACTION + "}"

    def env_action(self, action: str, observation: Observation) -> EnvAction:
        """0 for "stand", 1 for "hit"."""
        return ACTIONS.index(action)

    def expert_action(self, state: State, rng: np.random.Generator) -> str:
        """The action of the highest expected reward; it sees what the player sees."""
        return ACTIONS[should_hit(state["player_total"], state["usable_ace"], state["dealer_shows"])]

    def expert_response(self, state: State, action: str) -> str:
        """Figures 24 and 25, the cards read out; the dealer's points are those of the open card."""
        if not self.cot:
            return f'{{\n"action": "{action}"\n}}'
        thoughts = f"{self.caption(state)} I think I should {action}."
        return f'{{\n"thoughts": "{thoughts}",\n"action": "{action}"\n}}'

    def caption(self, state: State) -> str:
        """Card by card what the hand makes, as the expert's thoughts begin: ``A + 9 = soft 20, + 5 = 15``.

        A: an ace; soft: it counts 11 there.
        """
        points = [min(parse_card(name).rank, 10) for name in state["player"]]
        names = ["A" if value == 1 else str(value) for value in points]
        totals = [_total(points[:count]) for count in range(2, len(points) + 1)]
        more = "".join(f", + {name} = {total}" for name, total in zip(names[2:], totals[1:], strict=True))
        hand = f"{names[0]} + {names[1]} = {totals[0]}{more}"
        return f"I have {hand} points and the dealer has {state['dealer_shows']} points."

    def caption_options(self, rng: np.random.Generator) -> None:
        """The environment's own deals."""
        return

    def success(self, episode_return: float, state: State) -> bool:
        """The paper's count: the episode's return is positive, so a draw is none."""
        return episode_return > 0

    def goal(self, state: State) -> bool:
        """Whether the hand was won."""
        return bool(state["goal"])


def _total(points: Sequence[int]) -> str:
    """What cards make, aces being 1 in ``points``."""
    hard = sum(points)
    return f"soft {hard + 10}" if 1 in points and hard + 10 <= 21 else str(hard)
