"""The distribution that outputs are sampled from and scored under: one definition for both.

    p(token) = softmax over allowed tokens of (logits / temperature), in float32

Knows nothing of networks: it is handed logits.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def banned_mask(banned: Sequence[int], vocabulary: int, device: torch.device) -> Tensor:
    """bool (V,), True at tokens that are never written."""
    mask = torch.zeros(vocabulary, dtype=torch.bool, device=device)
    mask[list(banned)] = True
    return mask


def tempered(logits: Tensor, banned: Tensor, temperature: float) -> Tensor:
    """What the softmax goes over, float32 (..., V): -inf at banned tokens.

    Args:
        temperature: 0 stands for the likeliest token, whose log-probs are those at temperature 1.
    """
    # float32 before dividing: at a temperature of 0.2 rounding counts five times
    return (logits.to(torch.float32) / (temperature or 1.0)).masked_fill(banned, -torch.inf)


def entropies(logprobs: Tensor, banned: Tensor) -> Tensor:
    """Entropy of each distribution, nats (...,), of log-probs (..., V)."""
    # -inf at banned tokens, whose probability is 0: 0 * inf would be no number
    return -(logprobs.exp() * logprobs.masked_fill(banned, 0.0)).sum(-1)


class Draw:
    """Draws tokens, and writes down the log-prob of each.

    Every row has random numbers of its own, one a token, so that what it draws depends neither on the other rows nor on
    how its logits were computed: a loop that leaves finished rows out draws what one that keeps them draws.

    Args:
        banned: ids that are never written.
        temperature: as in ``tempered``; 0 takes the likeliest token.
        rows: B, how many outputs are written side by side.
        tokens: how long each may become.
        seed: of all randomness.
    """

    def __init__(
        self,
        banned: Sequence[int],
        temperature: float,
        rows: int,
        tokens: int,
        seed: int,
        device: torch.device,
    ) -> None:
        self._banned = banned
        self._mask: Tensor | None = None
        self._temperature = temperature
        # on the CPU: the same numbers whatever the device. float64: a vocabulary has tokens of one in a million
        generator = torch.Generator().manual_seed(seed)
        self._numbers = torch.rand((rows, tokens), generator=generator, dtype=torch.float64).to(device)

    def __call__(self, logits: Tensor, step: int, rows: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The next token of some rows, int64 (b,), and its log-prob, float32 (b,).

        Args:
            logits: (b, V).
            step: how many tokens each row has so far.
            rows: which they are, int64 (b,); None for all.
        """
        if self._mask is None:
            self._mask = banned_mask(self._banned, logits.shape[-1], logits.device)
        logprobs = torch.log_softmax(tempered(logits, self._mask, self._temperature), -1)
        if self._temperature > 0:
            # the inverse of the distribution function: the first token whose cumulated probability exceeds the number
            cumulated = logprobs.exp().cumsum(-1, dtype=torch.float64)
            numbers = self._numbers[:, step] if rows is None else self._numbers[rows, step]
            # float32 probabilities do not add up to 1 exactly
            target = numbers.unsqueeze(1) * cumulated[:, -1:]
            tokens = torch.searchsorted(cumulated, target, right=True)
        else:
            tokens = logprobs.argmax(-1, keepdim=True)
        return tokens[:, 0], logprobs.gather(1, tokens)[:, 0]
