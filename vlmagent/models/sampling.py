"""Two loops that write outputs token by token: our own over a decoder's layers, and transformers' ``generate``.

Both draw the same tokens from the same logits (``distribution.Draw``). Ours fits Llama decoders whose pictures stand
among the embeddings; ``generate`` knows every architecture. Knows nothing of states, values or training.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vlmagent.models.decoder import Decoder, StepCache
from vlmagent.models.distribution import Draw

OnTokens = Callable[[Tensor], None]
"""Called after every token with all ids so far, int64 (B, n); what it raises ends the writing."""
FEWER = 0.5
"""Finished rows are taken out of the cache when this share or less is left: that copies the others."""


@dataclass(frozen=True, slots=True)
class Written:
    """What was written; behind a row's end token stands anything.

    Attributes:
        ids: int64 (B, L).
        logprobs: of each token, float32 (B, L).
    """

    ids: Tensor
    logprobs: Tensor


@dataclass(frozen=True, slots=True)
class Start:
    """Prompts that were read.

    Attributes:
        logits: of each row's first token, (B, V).
        positions: of each row's first token, int64 (B,).
        cache: holds the prompts, with room for all tokens.
    """

    logits: Tensor
    positions: Tensor
    cache: StepCache


def write(
    network: Any,
    decoder: Decoder,
    start: Start,
    draw: Draw,
    *,
    ends: Sequence[int],
    max_new_tokens: int,
    on_tokens: OnTokens | None = None,
) -> Written:
    """Write every row to its end token, or ``max_new_tokens`` long.

    Args:
        network: whose embeddings and output layer are used.
        ends: ids that end a row; the first stands behind it.
    """
    device, rows = start.logits.device, len(start.logits)
    ids = torch.full((rows, max_new_tokens), ends[0], device=device)
    logprobs = torch.zeros((rows, max_new_tokens), device=device)
    final = torch.tensor(list(ends), device=device)
    embed, output = network.get_input_embeddings(), network.get_output_embeddings()
    # the rows that are in the cache, and which of them still write
    active = torch.arange(rows, device=device)
    writing = torch.ones(rows, dtype=torch.bool, device=device)
    logits, positions = start.logits, start.positions
    for step in range(max_new_tokens):
        tokens, chosen = draw(logits, step, active)
        # a row that has ended goes along until it is taken out; nothing of that is kept
        ids[active[writing], step] = tokens[writing]
        logprobs[active[writing], step] = chosen[writing]
        if on_tokens is not None:
            on_tokens(ids[:, : step + 1])
        writing &= ~torch.isin(tokens, final)
        left = int(writing.sum())
        if not left or step + 1 == max_new_tokens:
            return Written(ids[:, : step + 1], logprobs[:, : step + 1])
        if left <= FEWER * len(writing):
            start.cache.keep(writing.nonzero()[:, 0])
            active, tokens, positions = active[writing], tokens[writing], positions[writing]
            writing = writing[writing]
        logits = output(decoder.step(embed(tokens), positions, start.cache))
        positions = positions + 1
    raise ValueError("max_new_tokens must be positive")


def generate(
    network: Any,
    inputs: dict[str, Any],
    draw: Draw,
    *,
    ends: Sequence[int],
    pad_id: int,
    max_new_tokens: int,
    on_tokens: OnTokens | None = None,
) -> Written:
    """The same through transformers' ``generate``: the token is drawn where it asks for scores.

    Args:
        inputs: of the network, prompts padded on the left.
    """
    # with embeddings instead of ids `generate` returns the written tokens alone
    prompt = inputs["input_ids"].shape[1] if "input_ids" in inputs else 0
    kept: list[Tensor] = []

    def process(_input_ids: Tensor, logits: Tensor) -> Tensor:
        """A logits processor: 0 at the token that was drawn, -inf at all others, of which greedy search takes it."""
        tokens, logprobs = draw(logits, len(kept))
        kept.append(logprobs)
        return torch.full_like(logits, -torch.inf).scatter_(1, tokens.unsqueeze(1), 0.0)

    def look(input_ids: Tensor, _scores: Any, **_: Any) -> Tensor:
        """A stopping criterion that stops nothing: all it does is to show the tokens that were chosen."""
        if on_tokens is not None:
            on_tokens(input_ids[:, prompt:])
        # never true: what ends a row is for `eos_token_id` and `max_new_tokens`
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)

    sequences = network.generate(
        **inputs,
        max_new_tokens=max_new_tokens,
        logits_processor=[process],
        stopping_criteria=[look],
        eos_token_id=list(ends),
        pad_token_id=pad_id,
        do_sample=False,
    )
    ids = sequences[:, prompt:]
    # a device may run one step ahead of its stopping rule
    return Written(ids, torch.stack(kept, dim=1)[:, : ids.shape[1]])
