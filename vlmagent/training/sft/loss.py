"""What supervised fine-tuning minimises: the negative log-prob of responses, and of prompts that teach language."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from vlmagent.models.logprob import Scores
from vlmagent.models.policy import Policy
from vlmagent.types import SftSample


def response_loss(policy: Policy, batch: list[SftSample]) -> torch.Tensor:
    """Mean negative log-prob of the response tokens, the end token included, in nats per token."""
    scores = response_scores(policy, batch)
    return -scores.token_logprobs.sum() / scores.mask.sum()


def response_scores(policy: Policy, batch: Sequence[SftSample]) -> Scores:
    """The responses scored in their states, with gradients."""
    return policy.score(
        [policy.encode(sample.prompt, sample.image) for sample in batch],
        [policy.tokenize_output(sample.response) for sample in batch],
        temperature=1.0,
        entropy="none",
    )


def text_scores(policy: Policy, batch: Sequence[SftSample]) -> Scores:
    """Prompts without pictures and the responses to them, scored from the second token on, with gradients.

    Tokens that the policy never writes (those that open a turn) are masked.
    """
    states = [policy.encode(sample.prompt, None) for sample in batch]
    # the first token as the state, all others as what was written after it: one pass scores prompt and response
    begins = [
        replace(
            state, input_ids=state.input_ids[:1], token_types={k: v[:1] for k, v in state.token_types.items()}
        )
        for state in states
    ]
    texts = [
        [*state.input_ids[1:].tolist(), *policy.tokenize_output(sample.response)]
        for state, sample in zip(states, batch, strict=True)
    ]
    scores = policy.score(begins, texts, temperature=1.0, entropy="none")
    # banned tokens have the log-prob -inf
    written = scores.mask & scores.token_logprobs.isfinite()
    return replace(scores, token_logprobs=scores.token_logprobs.where(written, 0.0), mask=written)


def split_loss(scores: Scores, lengths: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Negative log-probs in nats of the responses' tokens and of the prompts' scored before them, both divided by the
    number of the responses' tokens, so that the parts of a batch add up.

    Args:
        lengths: tokens of each response, the last of its row.
    """
    columns = torch.arange(scores.mask.shape[1], device=scores.mask.device)
    # one past each row's last token; outputs are padded on the right
    ends = torch.where(scores.mask, columns + 1, 0).amax(1, keepdim=True)  # (B, 1)
    # true in the padding too, where losses are zero
    response = columns >= ends - torch.tensor(lengths, device=columns.device).unsqueeze(1)
    losses = -scores.token_logprobs / max(sum(lengths), 1)  # zero outside of the mask
    return losses[response].sum(), losses[~response].sum()
