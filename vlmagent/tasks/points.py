"""What the text sides of EZPoints and Points24 share: prompts, the expert and supervised responses.

The prompt depends on the state through the formula alone. Knows nothing of pixels.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from vlmagent.tasks.game import GameTask
from vlmagent.tasks.responses import lines, response
from vlmagent.types import ImageArray, Observation
from vlmagent_envs.cards import deal
from vlmagent_envs.points import PointsInfo, action_names
from vlmagent_envs.solver import complete, operators_of

_PROMPT = (
    "You are an expert {game}card game player. You are observing {cards} cards in the image. You are "
    "observing the current formula: '{formula}'. You can choose between [{actions}]. The number or operator "
    "you choose will be appended to the current formula. Note that 'J', 'Q', and 'K' count as {faces}. Your "
    "goal is to output a formula that evaluates to {target}, and each number can only be used once. Your "
    "response should be a valid json file in the following format:\n"
    '{{\n{reasoning}"action": "{{number}}" or "{{operator}}"\n}}'
)


class PointsTask(GameTask[PointsInfo]):
    """The parts of ``Task`` that EZPoints and Points24 have in common."""

    operators: ClassVar[tuple[str, ...]]
    card_count: ClassVar[int]
    introduction: ClassVar[Mapping[str, str]]
    """What the prompt says of the ``game`` and of its ``cards``."""
    reasoning: ClassVar[str]
    """The blue part of the paper's prompt, with fields ``formula`` and ``target``."""

    def __init__(
        self, *, cot: bool = True, rule_set: str = "paper", env: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(cot=cot, rule_set=rule_set, env=env)
        self.target = int(self.env_options["target"])
        # EZPoints has no such option: its faces always count 10
        face_cards = self.env_options.get("face_cards", 10)
        self.high_faces = face_cards != 10
        self.actions = action_names(self.operators, face_cards)
        self._operators = operators_of(self.operators)

    def observe(self, image: ImageArray, state: PointsInfo) -> Observation:
        """The picture and the formula so far. Every token may be tried, so every action is legal here."""
        return Observation(image, state["formula_text"], self.actions)

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

    def expert_action(self, state: PointsInfo, rng: np.random.Generator) -> str:
        """The next token of the simplest completion; "=" when the formula is complete or has none."""
        rest = self._completion(state)
        return rest[0] if rest else "="

    def expert_response(self, state: PointsInfo, action: str) -> str:
        """Figures 26 to 29: the cards, the formula so far, and the whole formula that ``action`` leads to."""
        if not self.cot:
            return response({"action": action})
        thoughts = f"{self._reason(state, action)}, I should append '{action}' to the current formula"
        read = {**_read(state), "formula": state["formula_text"]}
        return response({**read, "thoughts": thoughts, "action": action})

    def caption(self, state: PointsInfo) -> str:
        """The cards' numbers, as the expert reads them out."""
        return lines(_read(state))

    def caption_options(self, rng: np.random.Generator) -> dict[str, Any]:
        """Any cards, whether they can make the target or not."""
        return {"cards": [card.name for card in deal(rng, self.card_count)]}

    def _reason(self, state: PointsInfo, action: str) -> str:
        """What the formula lacks, by the whole formula that ``action`` leads to; that there is none, if so."""
        formula, finished = state["formula_text"], action == "="
        # "=" leads to no further formula; it is judged by the formula as it stands
        rest = self._completion(state, None if finished else action)
        # `()`: complete, nothing is missing; None: no completion is short enough
        if finished and rest == ():
            return f"'{formula}' is a complete formula, since '{formula}={self.target}'"
        if rest is not None and not finished:
            whole = f"{formula}{action}{''.join(rest)}={self.target}"
            return f"'{formula}' is an incomplete formula, since '{whole}'"
        return f"'{formula}' cannot become a formula that equals {self.target}"

    def _completion(self, state: PointsInfo, action: str | None = None) -> tuple[str, ...] | None:
        """The tokens still missing before "=" (after ``action``), or None if no few enough complete it."""
        # by the released rules an illegal number leaves a blank, which means nothing
        tokens = [token for token in state["formula"] if token != " "]
        remaining = list(state["remaining"])
        limit = state["steps_left"] - 1  # the last step is for "="
        if action is not None:
            tokens.append(action)
            # the action takes one of the steps that are left
            limit -= 1
            # a number takes a card; an operator or bracket takes none
            if action.isdecimal():
                if int(action) not in remaining:
                    return None
                remaining.remove(int(action))
        return complete(tokens, remaining, self.target, self._operators, limit)


def _read(state: PointsInfo) -> dict[str, object]:
    """The cards' numbers."""
    return {"cards": state["numbers"]}
