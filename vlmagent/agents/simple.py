"""Agents without a network: the task's expert, and chance. The ceiling and the floor of every table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from vlmagent.tasks.base import Task
from vlmagent.types import Agent, Decision, Observation, ParsedAction


class ExpertAgent:
    """Plays the task's expert, which sees the true state."""

    name = "expert"

    def __init__(self, task: Task) -> None:
        self.task = task

    def act(
        self, observations: Sequence[Observation], states: Sequence[Mapping[str, Any]], seed: int
    ) -> list[Decision]:
        """The expert's action and the whole output it would write."""
        rng = np.random.default_rng(seed)
        decisions = []
        for observation, state in zip(observations, states, strict=True):
            action = self.task.expert_action(state, rng)
            output = self.task.expert_response(state, action)
            decisions.append(_decision(self.task, observation, output, action))
        return decisions


class RandomAgent:
    """Draws uniformly among the legal actions."""

    name = "random"

    def __init__(self, task: Task) -> None:
        self.task = task

    def act(
        self, observations: Sequence[Observation], states: Sequence[Mapping[str, Any]], seed: int
    ) -> list[Decision]:
        """A uniform random legal action; nothing is written."""
        rng = np.random.default_rng(seed)
        return [_decision(self.task, o, "", str(rng.choice(list(o.legal_actions)))) for o in observations]


BASELINES: dict[str, Callable[[Task], Agent]] = {"expert": ExpertAgent, "random": RandomAgent}
"""Baselines by the name that ``vlmagent eval --baseline`` takes."""


def _decision(task: Task, observation: Observation, output: str, action: str) -> Decision:
    # no span: an expert's action does not come out of its output by parsing
    parsed = ParsedAction(action=action, legal_output=True, action_text=action, span=None)
    return Decision(prompt=task.prompt(observation), output=output, thoughts="", parsed=parsed)
