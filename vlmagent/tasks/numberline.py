"""NumberLine's text side: prompt (paper, Figure 9), expert and supervised responses (Figures 22 and 23).

Knows nothing of pixels; the environment draws them.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic import BaseModel, Field

from vlmagent.config import Section
from vlmagent.tasks.game import GameTask
from vlmagent.tasks.responses import lines, response
from vlmagent.types import Observation
from vlmagent_envs.holdout import LARGEST_SHARE
from vlmagent_envs.numberline import ACTIONS, LARGEST_N_MAX, NumberLineInfo

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
    holdout: float = Field(0.0, ge=0, le=LARGEST_SHARE)
    """Share of the starting states (target and current number) that training never has and evaluation begins in."""


class NumberLineTask(GameTask[NumberLineInfo]):
    """Move the current number to the target; see ``vlmagent_envs.numberline`` for the rules."""

    name: ClassVar[str] = "numberline"
    env_id: ClassVar[str] = "vlmagent/NumberLine-v0"
    rule_sets: ClassVar[tuple[str, ...]] = ("paper",)
    options: ClassVar[type[BaseModel]] = NumberLineOptions
    actions = ACTIONS

    @property
    def n_max(self) -> int:
        """The largest number."""
        return int(self.env_options["n_max"])

    def prompt(self, observation: Observation) -> str:
        """Figure 9, without its reasoning keys when ``cot`` is off (Figure 23)."""
        return _INTRODUCTION + "{\n" + (_COT if self.cot else "") + _ACTION + "}"

    def expert_action(self, state: NumberLineInfo, rng: np.random.Generator) -> str:
        """One step towards the target."""
        # at the target the episode has ended, so equality does not come up
        return "+" if state["current"] < state["target"] else "-"

    def expert_response(self, state: NumberLineInfo, action: str) -> str:
        """Figures 22 and 23, to the letter."""
        if not self.cot:
            return response({"action": action})
        current, target = state["current"], state["target"]
        # the expert's words stay true for an action that is not its own: only the verb follows the action
        relation = "smaller" if current < target else "larger"
        verb = "increase" if action == "+" else "decrease"
        thoughts = (
            f"The current number is {current}, which is {relation} than the target number is {target}. "
            "To move the current number closer to the target, "
            f"I should {verb} the current number by choosing {action}."
        )
        return response({**_read(state), "thoughts": thoughts, "action": action})

    def caption(self, state: NumberLineInfo) -> str:
        """Both numbers, as the expert reads them out."""
        return lines(_read(state))


def _read(state: NumberLineInfo) -> dict[str, str]:
    """Both numbers, as texts: so the paper's figures have them."""
    return {"current number": str(state["current"]), "target number": str(state["target"])}
