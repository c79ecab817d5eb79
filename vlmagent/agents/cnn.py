"""The agent without language: chooses among the task's actions by name, writes nothing else (paper, C.2).

An action is an output of one token, all of it action and none of it thought, so that the same store and the same PPO
serve both kinds of agent. Knows nothing of environments, rewards or optimisers.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from vlmagent.models.batching import Size
from vlmagent.models.cnn import CnnPolicy
from vlmagent.models.logprob import Scores
from vlmagent.tasks.base import Task
from vlmagent.types import Decision, Generation, Observation, ParsedAction, Transition


class CnnAgent:
    """Implements ``types.Learner`` and ``rl.ppo.Scorer``.

    Args:
        policy: the network.
        task: says what the actions mean; its prompt is not used.
    """

    name = "cnn"

    def __init__(self, policy: CnnPolicy, task: Task) -> None:
        self.policy = policy
        self.task = task

    def act(
        self, observations: Sequence[Observation], states: Sequence[Mapping[str, Any]], seed: int
    ) -> list[Decision]:
        """One sampled action per observation; the true states are not looked at."""
        chosen, logprobs, values = self.policy.choose([self._features(o) for o in observations], seed)
        # as in `VlmAgent.act`: a stream apart from that of the network's own draws
        rng = np.random.default_rng([seed, 1])
        return [
            self._decide(observation, int(slot), logprob, float(value), rng)
            for observation, slot, logprob, value in zip(observations, chosen, logprobs, values, strict=True)
        ]

    def _decide(
        self, observation: Observation, slot: int, logprob: np.float32, value: float, rng: np.random.Generator
    ) -> Decision:
        # where names are hashed, a slot may stand for no legal action, or for two that cannot be told apart
        named = [a for a in observation.legal_actions if action_slot(a, self.policy) == slot]
        legal = len(named) == 1
        drawn = observation.legal_actions[int(rng.integers(len(observation.legal_actions)))]
        text = named[0] if legal else ""
        tokens = np.array([slot], dtype=np.int64)
        return Decision(
            prompt=text_of(observation),
            output=text,
            thoughts="",
            parsed=ParsedAction(text if legal else drawn, legal, text, None),
            logprob=float(logprob),
            # nothing is thought, so lambda has nothing to weigh and the log-prob of the whole is the action's
            thought_logprob=0.0,
            action_logprob=float(logprob),
            # `action_start` 0: the single token is the action
            generation=Generation(text, tokens, np.array([logprob], dtype=np.float32), 0, value),
        )

    def action_probs(self, observation: Observation) -> dict[str, float]:
        """Each legal action's share in the probability of those that name one."""
        probabilities = self.policy.probabilities(self._features(observation))
        shares = {a: probabilities[action_slot(a, self.policy)] for a in observation.legal_actions}
        total = sum(shares.values()) or 1.0
        return {action: share / total for action, share in shares.items()}

    def values(self, observations: Sequence[Observation]) -> NDArray[np.float32]:
        """V(s) per observation, float32 (B,)."""
        values: NDArray[np.float32] = (
            self.policy.values([self._features(o) for o in observations]).cpu().numpy()
        )
        return values

    def calibrate(self, observations: Sequence[Observation]) -> None:
        """Standardise the features over these states; before the first update, never after."""
        self.policy.calibrate([self._features(observation) for observation in observations])

    def score(self, transitions: Sequence[Transition]) -> Scores:
        """Scores of logged actions in the states that they were chosen in."""
        chosen = []
        for transition in transitions:
            if transition.decision.generation is None:
                raise ValueError(f"transition {transition.id} has no action index")
            # the place among the actions was logged in the place of a token's id
            chosen.append(int(transition.decision.generation.token_ids[0]))
        features = [self.policy.features(t.image, t.decision.prompt) for t in transitions]
        return self.policy.score(features, chosen)

    def sizes(self, transitions: Sequence[Transition]) -> list[Size]:
        """One vector in, one action out."""
        return [Size(1, 1)] * len(transitions)

    def _features(self, observation: Observation) -> Tensor:
        return self.policy.features(observation.image, text_of(observation))


def text_of(observation: Observation) -> str:
    """What this agent reads beside the picture: the state's text, without any instructions."""
    return observation.state_text or ""


def action_slot(action: str, policy: CnnPolicy) -> int:
    """The network's output that stands for an action: its place among the names, or a hash where names vary."""
    if policy.names:
        # two actions of one state may share a slot: `_decide` then takes neither. crc32 and not `hash`, which differs
        # from process to process
        return policy.names.index(action)
    return zlib.crc32(action.encode()) % policy.actions
