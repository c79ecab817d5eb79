"""Points24's text side: prompt (paper, Figure 13), supervised responses (Figures 28 and 29)."""

from __future__ import annotations

from typing import ClassVar, Literal

import gymnasium as gym
from pydantic import BaseModel, Field

from vlmagent.config import Section
from vlmagent.tasks.points import PointsTask
from vlmagent.types import EnvAction, ImageArray
from vlmagent_envs.holdout import LARGEST_SHARE
from vlmagent_envs.points24 import OPERATORS


class Points24Options(Section):
    """Options of the environment."""

    target: int = Field(24, ge=1, le=1000)
    """What the formula should equal."""
    holdout: float = Field(0.0, ge=0, le=LARGEST_SHARE)
    """Share of the deals, by their values, that training never has and evaluation begins with."""
    face_cards: Literal[10, "11-12-13"] = 10
    """What J, Q and K count as."""
    solvable_only: bool = False
    """Whether only deals that have a solution are dealt (73.1 % of all, with the defaults)."""


class Points24Task(PointsTask):
    """Make 24 from four cards; see ``vlmagent_envs.points24`` for the rules."""

    name: ClassVar[str] = "points24"
    env_id: ClassVar[str] = "vlmagent/Points24-v0"
    options: ClassVar[type[BaseModel]] = Points24Options
    operators = OPERATORS
    card_count = 4
    introduction: ClassVar[dict[str, str]] = {"game": "{target} points ", "cards": "these four"}
    reasoning = (
        '"cards": [x, y, z, w],\n'
        "\"current formula\": '{formula}'\n"
        '"thoughts": {{First check whether the current formula equals {target}. If the current formula '
        "equals {target}, output '='. Otherwise consider which number or operator should be appended to the "
        "current formula to make it equal {target}.}}\n"
    )

    # a deal without a solution has no demonstration: the expert could only say that there is none
    def make_sft_env(self) -> gym.Env[ImageArray, EnvAction]:
        """The environment of supervised samples: only deals with a solution (paper, appendix D.4)."""
        return self._make({**self.env_options, "solvable_only": True})
