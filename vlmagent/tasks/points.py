"""What the text sides of EZPoints and Points24 share: prompts, the expert and supervised responses.

The prompt depends on the state through the formula alone. Knows nothing of pixels.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from pydantic import BaseModel

import vlmagent_envs
from vlmagent.tasks.base import State
from vlmagent.types import EnvAction, ImageArray, Observation
from vlmagent_envs.cards import deal
from vlmagent_envs.solver import complete

_PROMPT = (
    "You are an expert {game}card game player. You are observing {cards} cards in the image. You are "
    "observing the current formula: '{formula}'. You can choose between [{actions}]. The number or operator "
    "you choose will be appended to the current formula. Note that 'J', 'Q', and 'K' count as {faces}. Your "
    "goal is to output a formula that evaluates to {target}, and each number can only be used once. Your "
    "response should be a valid json file in the following format:\n"
    '{{\n{reasoning}"action": "{{number}}" or "{{operator}}"\n}}'
)


class PointsTask:
    """The parts of ``Task`` that EZPoints and Points24 have in common."""

    name: ClassVar[str]
    env_id: ClassVar[str]
    rule_sets: ClassVar[tuple[str, ...]] = ("paper", "released")
    options: ClassVar[type[BaseModel]]
    operators: ClassVar[tuple[str, ...]]
    card_count: ClassVar[int]
    introduction: ClassVar[Mapping[str, str]]
    """What the prompt says of the ``game`` and of its ``cards``."""
    reasoning: ClassVar[str]
    """The blue part of the paper's prompt, with fields ``formula`` and ``target``."""

    def __init__(
        self, *, cot: bool = True, rule_set: str = "paper", env: Mapping[str, Any] | None = None
    ) -> None:
        self.cot = cot
        self.rule_set = rule_set
        self.env_options = self.options.model_validate(env or {}).model_dump()
        self.target = int(self.env_options["target"])
        self.high_faces = self.env_options.get("face_cards", 10) != 10
        numbers = map(str, range(1, 14 if self.high_faces else 11))
        self.actions = (*numbers, *self.operators, "=")
        self._search = "".join(self.operators).replace(")", "")

    def make_env(self) -> gym.Env[ImageArray, EnvAction]:
        """A new environment; pictures are uint8 (300, 300, 3)."""
        return self._make(self.env_options)

    def make_sft_env(self) -> gym.Env[ImageArray, EnvAction]:
        """The environment of supervised samples: the same as for training."""
        return self.make_env()

    def _make(self, options: Mapping[str, Any]) -> gym.Env[ImageArray, EnvAction]:
        vlmagent_envs.register_envs()
        return gym.make(self.env_id, rules=self.rule_set, disable_env_checker=True, **options)

    def observe(self, image: ImageArray, state: State) -> Observation:
        """The picture and the formula so far. Every token may be tried, so every action is legal here."""
        return Observation(image, str(state["formula_text"]), self.actions)

    def prompt(self, observation: Observation) -> str:
        """Figure 11 or 13; without its reasoning keys when ``cot`` is off."""
        formula = observation.state_text or ""
        blue = self.reasoning.format(formula=formula, target=self.target) if self.cot else ""
        return _PROMPT.format(
            game=self.introduction["game"].format(target=self.target),
            cards=self.introduction["cards"],
            formula=formula,
            actions=", ".join(f"'{action}'" for action in self.actions),
            faces="'11', '12', and '13'" if self.high_faces else "'10'",
            target=self.target,
            reasoning=blue,
        )

    def env_action(self, action: str, observation: Observation) -> EnvAction:
        """The action's place among the names."""
        return self.actions.index(action)

    def expert_action(self, state: State, rng: np.random.Generator) -> str:
        """The next token of the simplest completion; "=" when the formula is complete or has none."""
        rest = self._completion(state)
        return rest[0] if rest else "="

    def expert_response(self, state: State, action: str) -> str:
        """Figures 26 to 29: the cards, the formula so far, and the whole formula that ``action`` leads to."""
        if not self.cot:
            return f'{{\n"action": "{action}"\n}}'
        formula = state["formula_text"]
        thoughts = f"{self._reason(state, action)}, I should append '{action}' to the current formula"
        return (
            f'{{\n"cards": {list(state["numbers"])},\n"formula": "{formula}",\n'
            f'"thoughts": "{thoughts}",\n"action": "{action}"\n}}'
        )

    def caption(self, state: State) -> str:
        """The cards' numbers, as the expert reads them out."""
        return f'"cards": {list(state["numbers"])}'

    def caption_options(self, rng: np.random.Generator) -> dict[str, Any]:
        """Any cards, whether they can make the target or not."""
        return {"cards": [card.name for card in deal(rng, self.card_count)]}

    def success(self, episode_return: float, state: State) -> bool:
        """The paper's count: the episode's return is positive."""
        return episode_return > 0

    def goal(self, state: State) -> bool:
        """Whether the formula was right, whatever it cost to write."""
        return bool(state["goal"])

    def _reason(self, state: State, action: str) -> str:
        formula = state["formula_text"]
        if action == "=":
            if self._completion(state) == ():
                return f"'{formula}' is a complete formula, since '{formula}={self.target}'"
        else:
            rest = self._completion(state, action)
            if rest is not None:
                whole = f"{formula}{action}{''.join(rest)}={self.target}"
                return f"'{formula}' is an incomplete formula, since '{whole}'"
        return f"'{formula}' cannot become a formula that equals {self.target}"

    def _completion(self, state: State, action: str | None = None) -> tuple[str, ...] | None:
        """The tokens still missing before "=" (after ``action``), or None if no few enough complete it."""
        tokens = [token for token in state["formula"] if token != " "]
        remaining = list(state["remaining"])
        if action is not None:
            if action.isdecimal() and int(action) not in remaining:
                return None
            if action.isdecimal():
                remaining.remove(int(action))
            tokens.append(action)
        limit = int(state["steps_left"]) - 1 - (action is not None)
        return complete(tokens, remaining, self.target, self._search, limit)
