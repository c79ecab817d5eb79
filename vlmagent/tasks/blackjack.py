"""Blackjack's text side: prompt (paper, Figure 15), expert, supervised responses (Figures 24 and 25)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from pydantic import BaseModel, Field

from vlmagent.config import Section
from vlmagent.tasks.game import GameTask
from vlmagent.tasks.responses import response
from vlmagent.types import Observation
from vlmagent_envs.blackjack import ACTIONS, BlackjackInfo, hand_total
from vlmagent_envs.blackjack_solver import should_hit
from vlmagent_envs.cards import parse_card
from vlmagent_envs.holdout import LARGEST_SHARE

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
    holdout: float = Field(0.0, ge=0, le=LARGEST_SHARE)
    """Share of the starting states (the open card and the own two) that training never has and evaluation begins in."""


class BlackjackTask(GameTask[BlackjackInfo]):
    """Beat the dealer; see ``vlmagent_envs.blackjack`` for the rules."""

    name: ClassVar[str] = "blackjack"
    env_id: ClassVar[str] = "vlmagent/Blackjack-v0"
    options: ClassVar[type[BaseModel]] = BlackjackOptions
    actions = ACTIONS
    eval_episodes: ClassVar[int] = 1000
    """The cards are dealt at random, so that more episodes are needed than elsewhere (paper, C.2)."""

    def prompt(self, observation: Observation) -> str:
        """Figure 15, without its reasoning key when ``cot`` is off (Figure 25)."""
        return _INTRODUCTION + "{\n" + (_COT if self.cot else "") + _ACTION + "}"

    def expert_action(self, state: BlackjackInfo, rng: np.random.Generator) -> str:
        """The action of the highest expected reward; it sees what the player sees."""
        hit = should_hit(state["player_total"], state["usable_ace"], state["dealer_shows"])
        return "hit" if hit else "stand"

    def expert_response(self, state: BlackjackInfo, action: str) -> str:
        """Figures 24 and 25, the cards read out; the dealer's points are those of the open card."""
        if not self.cot:
            return response({"action": action})
        thoughts = f"{self.caption(state)} I think I should {action}."
        return response({"thoughts": thoughts, "action": action})

    def caption(self, state: BlackjackInfo) -> str:
        """Card by card what the hand makes, as the expert's thoughts begin: ``A + 9 = soft 20, + 5 = 15``.

        A: an ace; soft: it counts 11 there.
        """
        # in the game's rank: ace 1, faces 11 to 13, which count ten
        points = [min(parse_card(name).rank, 10) for name in state["player"]]
        names = ["A" if value == 1 else str(value) for value in points]
        # totals after two, three, ... cards: the hand begins with two
        totals = [_total(points[:count]) for count in range(2, len(points) + 1)]
        more = "".join(f", + {name} = {total}" for name, total in zip(names[2:], totals[1:], strict=True))
        hand = f"{names[0]} + {names[1]} = {totals[0]}{more}"
        return f"I have {hand} points and the dealer has {state['dealer_shows']} points."


def _total(points: Sequence[int]) -> str:
    """What cards make, aces being 1 in ``points``."""
    total, soft = hand_total(points)
    return f"soft {total}" if soft else str(total)
