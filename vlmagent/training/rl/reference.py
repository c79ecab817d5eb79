"""A penalty on leaving the policy that RL started from, as in RL from human feedback.

    r'(s, a) = r(s, a) - kl_coef * clip(log pi(v_out) - log pi_start(v_out), -20, 20)

Reward alone lets thoughts decay: what is written before the action costs nothing as long as the action pays. The paper
has no such term (kl_coef = 0). Knows nothing of environments, prompts or files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from vlmagent.training.rl.ppo import Scorer
from vlmagent.types import Transition

MAX_DRIFT = 20.0
"""Nats beyond which a single output costs no more: one garbled output of a thousand nats would otherwise outweigh all
others once advantages are normalised."""


@dataclass(frozen=True, slots=True)
class Penalties:
    """What is taken off each transition's reward, and the mean of log pi - log pi_start in nats per output."""

    values: list[float]
    drift: float


class Reference:
    """The starting policy and how much leaving it costs.

    Args:
        scorer: an agent with the weights that RL started from.
        coef: ``ppo.kl_coef``.
        micro_batch_size: transitions per forward pass.
    """

    def __init__(self, scorer: Scorer, coef: float, micro_batch_size: int) -> None:
        self._scorer = scorer
        self._coef = coef
        self._size = micro_batch_size

    def penalties(self, transitions: Sequence[Transition]) -> Penalties:
        """Of outputs just sampled; their log-probs are those they were sampled with."""
        drifts: list[float] = []
        with torch.no_grad():
            for start in range(0, len(transitions), self._size):
                part = transitions[start : start + self._size]
                reference = self._scorer.score(part).token_logprobs.sum(1).tolist()
                drifts += [_logprob(t) - value for t, value in zip(part, reference, strict=True)]
        bounded = np.clip(drifts, -MAX_DRIFT, MAX_DRIFT)
        return Penalties((self._coef * bounded).tolist(), float(np.mean(drifts)))


def _logprob(transition: Transition) -> float:
    """log pi of the whole output, thoughts and action alike, in nats."""
    generation = transition.decision.generation
    if generation is None:
        raise ValueError(f"transition {transition.id} has no tokens")
    return float(generation.token_logprobs.sum(dtype=np.float64))
