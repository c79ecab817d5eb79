"""The distribution that outputs are sampled from and scored under: one definition for both.

    p(token) = softmax over allowed tokens of (logits / temperature), in float32

Knows nothing of networks: it is handed logits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

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


class ChosenLogprobs:
    """Writes down the log-prob of every token that ``generate`` chooses, instead of all tokens' scores at every step.

    Its scores, 256 x (B, V) in float32, take 10 GB with 64 rows and a vocabulary of 152,000; one number a token is
    needed. ``transformers`` calls ``warp`` with a step's logits and ``look`` once their tokens are chosen.

    Args:
        banned: ids that are never written.
        temperature: as in ``tempered``.
        prompt: ids before the first one that is written.
        on_tokens: called with all ids written so far, int64 (B, n), after each step; what it raises ends the call.
    """

    def __init__(
        self,
        banned: Sequence[int],
        temperature: float,
        prompt: int,
        on_tokens: Callable[[Tensor], None] | None = None,
    ) -> None:
        self._banned = banned
        self._temperature = temperature
        self._prompt = prompt
        self._on_tokens = on_tokens
        self._scores: Tensor | None = None
        self._kept: list[Tensor] = []

    def warp(self, _input_ids: Tensor, logits: Tensor) -> Tensor:
        """A logits processor: what the next tokens are drawn from, (B, V)."""
        mask = banned_mask(self._banned, logits.shape[-1], logits.device)
        # kept until `look` is told which tokens were drawn from it
        self._scores = tempered(logits, mask, self._temperature)
        return self._scores

    def look(self, input_ids: Tensor, _scores: Any, **_: Any) -> Tensor:
        """A stopping criterion that stops nothing: all it does is to look at the tokens that were chosen."""
        assert self._scores is not None
        logprobs = torch.log_softmax(self._scores, -1)
        self._kept.append(logprobs.gather(1, input_ids[:, -1:])[:, 0])
        self._scores = None  # one step's scores at a time
        if self._on_tokens is not None:
            self._on_tokens(input_ids[:, self._prompt :])
        # never true: what ends a row is for `eos_token_id` and `max_new_tokens`
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)

    def table(self) -> Tensor:
        """The log-probs so far, float32 (B, L)."""
        return torch.stack(self._kept, dim=1)
