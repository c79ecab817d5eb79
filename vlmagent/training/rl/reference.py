"""A penalty on leaving the policy that RL started from, as in RL from human feedback.

    r'(s, a) = r(s, a) - kl_coef * clip(log pi(v_out) - log pi_start(v_out), -20, 20)

Reward alone lets thoughts decay: what is written before the action costs nothing as long as the action pays. The paper
has no such term (kl_coef = 0). Knows nothing of environments, prompts or files.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import numpy as np
import torch

from vlmagent.models.batching import MicroBatcher, in_micro_batches
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
        scorer: scores with the weights that RL started from, within ``switched``.
        coef: ``ppo.kl_coef``.
        batcher: cuts the transitions into forward passes, and makes these smaller when memory runs out.
        switched: while open, ``scorer`` has those weights; where it always has them there is nothing to switch.
    """

    def __init__(
        self,
        scorer: Scorer,
        coef: float,
        batcher: MicroBatcher,
        switched: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self._scorer = scorer
        self._coef = coef
        self._batcher = batcher
        self._switched = switched

    def penalties(self, transitions: Sequence[Transition]) -> Penalties:
        """Of outputs just sampled; their log-probs are those they were sampled with."""

        def score(group: Sequence[int]) -> list[float]:
            scores = self._scorer.score([transitions[index] for index in group])
            # zero behind an output's end
            sums: list[float] = scores.token_logprobs.sum(1).tolist()
            return sums

        with torch.no_grad(), self._switched():
            reference = in_micro_batches(self._batcher, self._scorer.sizes(transitions), score)
        drifts = [_logprob(t) - value for t, value in zip(transitions, reference, strict=True)]
        bounded = np.clip(drifts, -MAX_DRIFT, MAX_DRIFT)
        # the drift that is reported is not clipped: an explosion has to be seen
        return Penalties((self._coef * bounded).tolist(), float(np.mean(drifts)))


def _logprob(transition: Transition) -> float:
    """log pi of the whole output, thoughts and action alike, in nats."""
    generation = transition.decision.generation
    if generation is None:
        raise ValueError(f"transition {transition.id} has no tokens")
    # float64: two sums over hundreds of tokens, of which the difference is wanted
    return float(generation.token_logprobs.sum(dtype=np.float64))
