"""Micro-batches: how many samples go through the network together, and what happens when memory runs out.

Pure but for the memory that is given back; knows nothing of what a sample is beside its number of tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch


class Size(NamedTuple):
    """Tokens of one sample: prompt (its picture included) and output."""

    prompt: int
    output: int


class MicroBatcher:
    """Splits a batch into micro-batches; after running out of memory into smaller ones, for good.

    Args:
        max_rows: samples per micro-batch at most.
        max_tokens: if positive, tokens per micro-batch at most, padding included; samples of like length then go
            together. If 0, samples stay in order.
        section: of the config, where both are set.
    """

    def __init__(self, max_rows: int, max_tokens: int = 0, section: str = "ppo") -> None:
        self.max_rows = max_rows
        self.max_tokens = max_tokens
        self.section = section
        self.shrunk = 0
        """How often memory ran out."""

    def split(self, sizes: Sequence[Size]) -> list[list[int]]:
        """Indices of every sample, by micro-batch."""
        if not self.max_tokens:
            every = range(len(sizes))
            return [list(every[start : start + self.max_rows]) for start in every[:: self.max_rows]]
        order = sorted(range(len(sizes)), key=lambda index: (-sum(sizes[index]), index))
        groups: list[list[int]] = []
        for index in order:
            candidate = [*groups[-1], index] if groups else [index]
            fits = (
                len(candidate) <= self.max_rows and padded([sizes[i] for i in candidate]) <= self.max_tokens
            )
            if groups and fits:
                groups[-1] = candidate
            else:
                groups.append([index])
        return groups

    def shrink(self, sizes: Sequence[Size]) -> bool:
        """Halve what may go together, since a micro-batch of these ``sizes`` ran out of memory.

        Returns:
            False if it cannot be made smaller.
        """
        if len(sizes) < 2:
            return False
        if self.max_tokens:
            self.max_tokens = min(self.max_tokens, padded(sizes)) // 2
        else:
            self.max_rows = min(self.max_rows, len(sizes)) // 2
        self.shrunk += 1
        return True

    def advice(self, sizes: Sequence[Size]) -> str:
        """What to set when a micro-batch of these ``sizes`` ran out of memory and cannot be tried again."""
        if len(sizes) < 2:
            return "model.activation_checkpointing=true, since it held a single sample"
        if self.max_tokens:
            tokens = padded(sizes)
            return f"{self.section}.max_tokens_per_micro_batch={tokens // 2} (it held {tokens:,} tokens)"
        return f"{self.section}.micro_batch_size={len(sizes) // 2} (it held {len(sizes):,} samples)"

    def describe(self) -> str:
        """What a micro-batch holds at most."""
        tokens = f"{self.max_tokens:,} tokens and " if self.max_tokens else ""
        return f"{tokens}{self.max_rows:,} samples"


def padded(sizes: Sequence[Size]) -> int:
    """Tokens that samples take as one batch: prompts are padded on the left, outputs on the right."""
    width = max(size.prompt for size in sizes) + max(size.output for size in sizes)
    return len(sizes) * width


def free_memory() -> None:
    """Give cached blocks back to the device, so that a smaller batch finds room."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
