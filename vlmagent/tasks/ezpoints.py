"""EZPoints' text side: prompt (paper, Figure 11), supervised responses (Figures 26 and 27)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import BaseModel, Field, field_validator

from vlmagent.config import Section
from vlmagent.errors import UsageError
from vlmagent.tasks.points import PointsTask
from vlmagent_envs.ezpoints import OPERATORS, is_possible
from vlmagent_envs.holdout import LARGEST_SHARE


class EZPointsOptions(Section):
    """Options of the environment."""

    target: int = Field(12, ge=1, le=100)
    """What the formula should equal."""
    holdout: float = Field(0.0, ge=0, le=LARGEST_SHARE)
    """Share of the deals, by their values, that training never has and evaluation begins with."""

    @field_validator("target")
    @classmethod
    def _possible(cls, target: int) -> int:
        if not is_possible(target):
            raise ValueError(f"no two cards can make {target} by + or *")
        return target


class EZPointsTask(PointsTask):
    """Make 12 from two cards; see ``vlmagent_envs.ezpoints`` for the rules."""

    name: ClassVar[str] = "ezpoints"
    env_id: ClassVar[str] = "vlmagent/EZPoints-v0"
    options: ClassVar[type[BaseModel]] = EZPointsOptions
    operators = OPERATORS
    card_count = 2
    introduction: ClassVar[dict[str, str]] = {"game": "", "cards": "two"}
    reasoning = (
        '"cards": [x, y],\n'
        "\"current formula\": '{formula}',\n"
        "\"thoughts\": {{First check whether the current formula 'z' is complete. If the current formula 'z' "
        "is complete, output '='. Otherwise consider which number or operator should be appended to the "
        "current formula to make it equal {target}.}}\n"
    )

    def __init__(
        self, *, cot: bool = True, rule_set: str = "paper", env: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(cot=cot, rule_set=rule_set, env=env)
        if rule_set == "released" and self.target != 12:
            raise UsageError(
                f"env.target = {self.target}: the rule set 'released' deals for 12 only. Use rule_set=paper."
            )
