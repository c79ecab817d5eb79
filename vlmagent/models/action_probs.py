"""The probability of each legal action, by scoring the output that names it.

    P(a | s, thoughts) = pi(v_out(a) | s) / sum_b pi(v_out(b) | s)

where v_out(a) is one output with ``a`` as its action: the outputs differ in nothing else, so the thoughts' own
probability cancels. Scored by teacher forcing under the sampling distribution. Knows nothing of tasks: the caller
writes the outputs.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from vlmagent.models.policy import EncodedState, Policy

BATCH_SIZE = 16  # outputs a pass: a game may offer a hundred actions


@torch.no_grad()
def action_probs(
    policy: Policy,
    state: EncodedState,
    outputs: Sequence[str],
    *,
    temperature: float,
    batch_size: int = BATCH_SIZE,
) -> NDArray[np.float64]:
    """The share of each output in the probability of all of them, float64 (N,); sums to 1.

    Args:
        state: what all outputs answer to.
        outputs: N texts, each scored with the end token after it.
        temperature: as used when sampling; 0 scores at temperature 1.
        batch_size: outputs scored together.
    """
    rows = [policy.tokenize_output(output) for output in outputs]
    logprobs: list[float] = []
    for start in range(0, len(rows), batch_size):
        batch = rows[start : start + batch_size]
        scores = policy.score([state] * len(batch), batch, temperature=temperature, entropy="none")
        logprobs += scores.token_logprobs.double().sum(1).tolist()
    # softmax over log-probs is the formula above, without tiny numbers in between
    probabilities: NDArray[np.float64] = torch.tensor(logprobs, dtype=torch.float64).softmax(0).numpy()
    return probabilities
