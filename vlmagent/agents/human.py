"""A person as an agent: decides what the keys said. Knows nothing of keys or screens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vlmagent.tasks.base import Task
from vlmagent.types import Decision, Observation, ParsedAction


class HumanAgent:
    """Implements ``types.Agent`` for one environment."""

    name = "human"

    def __init__(self, task: Task) -> None:
        self.task = task
        self._chosen: str | None = None

    def choose(self, action: str) -> None:
        """What the next ``act`` decides."""
        self._chosen = action

    def act(
        self, observations: Sequence[Observation], states: Sequence[Mapping[str, Any]], seed: int
    ) -> list[Decision]:
        """The chosen action; a person writes no output.

        Raises:
            ValueError: nothing was chosen since the last call, the choice is not legal here, or there are
                several observations.
        """
        # a person plays one environment; more are a mistake of the caller, and raise
        (observation,) = observations
        # taken once: a key that was pressed for one state must not act in the next one, too
        action, self._chosen = self._chosen, None
        if action not in observation.legal_actions:
            raise ValueError(f"{action!r} is not among the legal actions {observation.legal_actions}")
        parsed = ParsedAction(action=action, legal_output=True, action_text=action, span=None)
        return [Decision(prompt=self.task.prompt(observation), output="", thoughts="", parsed=parsed)]
