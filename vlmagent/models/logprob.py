"""Splitting an output's log-probability into thoughts and action (paper, section 4.3).

    log pi(a | o, v_in) = thought_weight * sum_i log p(thought token i) + sum_j log p(action token j)   (4.3)

Pure functions. They know nothing of prompts, models or devices: the caller says where the ``"action"`` key
stands in the decoded text, and ``first_action_token`` maps that to a token of this very row.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor


class SplitLogprob(NamedTuple):
    """Log-probs in nats, one entry per sample, each of shape (B,)."""

    thought: Tensor
    action: Tensor
    weighted: Tensor


@dataclass(frozen=True, slots=True)
class Scores:
    """Scored outputs of a batch.

    Attributes:
        token_logprobs: float32 (B, L), zero where ``mask`` is False.
        entropies: float32 (B, L), of the distribution at each output token, in nats.
        mask: bool (B, L), True at output tokens.
        values: float32 (B,), V(s).
    """

    token_logprobs: Tensor
    entropies: Tensor
    mask: Tensor
    values: Tensor

    def take(self, rows: Sequence[int]) -> Scores:
        """Those of some rows, in the order given, each as often as it is named."""
        index = torch.tensor(rows, device=self.values.device)
        return Scores(
            *(tensor[index] for tensor in (self.token_logprobs, self.entropies, self.mask, self.values))
        )


def first_action_token(
    token_ids: Sequence[int], key_offset: int | None, decode: Callable[[Sequence[int]], str]
) -> int:
    """Index of the first token that writes a character at or after ``key_offset``.

    A token that straddles the offset holds the beginning of the key and counts as action. A prefix reaches the key if
    its text agrees with the whole output's up to the key's first character. Its length alone says nothing: where a
    tokenizer falls back to bytes, an unfinished character shows one replacement sign a byte, and so does every
    finished one in a row with it, so that a prefix can be longer than one that goes on. Found by bisection: O(log L)
    decodings, for any tokenizer.

    Args:
        token_ids: the output's ids, length L.
        key_offset: character offset of the last ``"action"`` key in the decoded output; None when it has none.
        decode: maps ids to text, without special tokens.

    Returns:
        An index in [0, L]; L when there is no key: every token then counts as thought.
    """
    if key_offset is None:
        return len(token_ids)
    whole = decode(token_ids)
    if key_offset >= len(whole):
        return len(token_ids)
    # up to and with the key's first character
    wanted = whole[: key_offset + 1]
    low, high = 0, len(token_ids)  # the first ``low`` tokens do not reach the key, the first ``high`` do
    while high - low > 1:
        middle = (low + high) // 2
        if decode(token_ids[:middle]).startswith(wanted):
            high = middle
        else:
            low = middle
    # Where the key itself is written in bytes, an unfinished character behind it hides it again: shorter prefixes may
    # have reached it, but none that is shorter than a prefix of the output itself.
    for count in range(low, 0, -1):
        text = decode(token_ids[:count])
        if text.startswith(wanted):
            high = count
        elif whole.startswith(text):
            break
    # the last token of the shortest prefix that reaches the key
    return high - 1


def split_logprob(
    token_logprobs: Tensor, mask: Tensor, action_start: Tensor, thought_weight: float
) -> SplitLogprob:
    """Equation 4.3 for a batch.

    Args:
        token_logprobs: float32, (B, L); entries where ``mask`` is False are ignored.
        mask: bool, (B, L), True at sampled tokens (explicit lengths: token id 0 is a token like any other).
        action_start: int, (B,), index of the first action token.
        thought_weight: the paper's lambda.
    """
    if token_logprobs.shape != mask.shape or action_start.shape != mask.shape[:1]:
        raise ValueError(
            f"shapes differ: {tuple(token_logprobs.shape)}, {tuple(mask.shape)}, {tuple(action_start.shape)}"
        )
    position = torch.arange(mask.shape[1], device=mask.device)
    is_action = position[None, :] >= action_start[:, None]  # (B, L)
    # where, not a product: entries outside of the mask may be infinite
    kept = torch.where(mask, token_logprobs, torch.zeros_like(token_logprobs))
    thought = torch.where(is_action, torch.zeros_like(kept), kept).sum(1)
    action = torch.where(is_action, kept, torch.zeros_like(kept)).sum(1)
    return SplitLogprob(thought, action, thought_weight * thought + action)
