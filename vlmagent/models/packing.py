"""Rows without padding: all tokens of a batch behind one another, a prompt that several rows share only once.

A row is a prompt and the outputs's tokens that are read. What is computed token by token (norms, projections, MLPs)
runs over the packed tokens; attention alone needs rows, which are gathered from them. Knows nothing of networks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Ids = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Packed:
    """Where the tokens of a batch are; N tokens, B rows of at most T tokens, M tokens whose hidden states are wanted.

    Attributes:
        ids: the tokens, int64 (N,).
        positions: of each in its row, from 0, int64 (N,).
        rows: a row's tokens as indices into the N, int64 (B, T); what stands behind a row's end is arbitrary: causal
            attention never looks at it from within the row.
        places: where each token's result stands among the B * T, int64 (N,); in the first of the rows that share it.
        dense: whether the N tokens are the B * T themselves, in order: nothing needs to be gathered.
        kept: the tokens whose last hidden states are wanted, int64 (M,).
        ends: each row's last prompt token among the M, int64 (B,).
        predictors: the token among the M that predicts each output token, row by row, int64 (sum of lengths,).
    """

    ids: Tensor
    positions: Tensor
    rows: Tensor
    places: Tensor
    dense: bool
    kept: Tensor
    ends: Tensor
    predictors: Tensor

    def to(self, device: torch.device) -> Packed:
        """The same on another device."""
        if device.type == "cpu":
            return self
        return Packed(
            ids=self.ids.to(device),
            positions=self.positions.to(device),
            rows=self.rows.to(device),
            places=self.places.to(device),
            dense=self.dense,
            kept=self.kept.to(device),
            ends=self.ends.to(device),
            predictors=self.predictors.to(device),
        )


def pack(prompts: Sequence[Ids], which: Sequence[int], outputs: Sequence[Ids]) -> Packed:
    """Lay out one row per output.

    Args:
        prompts: D different ones, in the order in which rows first name them.
        which: each row's prompt.
        outputs: each row's output, of at least one token; the last token of each predicts nothing and is not read.
            Empty: one row per prompt and nothing behind it.
    """
    read = [output[:-1] for output in outputs] if len(outputs) else [prompts[0][:0]] * len(which)
    lengths = [len(prompts[prompt]) + len(tail) for prompt, tail in zip(which, read, strict=True)]
    width = max(lengths)
    rows = np.zeros((len(which), width), dtype=np.int64)
    ids: list[Ids] = []
    positions: list[Ids] = []
    places: list[Ids] = []
    kept: list[Ids] = []
    predictors: list[Ids] = []
    starts: dict[int, int] = {}
    # of the last prompt token of each prompt, among the tokens that are kept
    ends: dict[int, int] = {}
    total = wanted = 0
    for row, (prompt, tail) in enumerate(zip(which, read, strict=True)):
        head = len(prompts[prompt])
        columns = np.arange(lengths[row])
        if prompt not in starts:
            starts[prompt], ends[prompt] = total, wanted
            ids.append(prompts[prompt])
            positions.append(columns[:head])
            places.append(row * width + columns[:head])
            kept.append(np.array([total + head - 1]))
            total, wanted = total + head, wanted + 1
        rows[row, :head] = starts[prompt] + columns[:head]
        rows[row, head : lengths[row]] = total + np.arange(len(tail))
        ids.append(tail)
        positions.append(columns[head:])
        places.append(row * width + columns[head:])
        kept.append(total + np.arange(len(tail)))
        predictors.append(np.array([ends[prompt]]))
        predictors.append(wanted + np.arange(len(tail)))
        total, wanted = total + len(tail), wanted + len(tail)

    def joined(parts: list[Ids]) -> Tensor:
        return torch.from_numpy(np.concatenate(parts).astype(np.int64, copy=False))

    return Packed(
        ids=joined(ids),
        positions=joined(positions),
        rows=torch.from_numpy(rows),
        places=joined(places),
        dense=total == rows.size,
        kept=joined(kept),
        ends=torch.tensor([ends[prompt] for prompt in which]),
        predictors=joined(predictors),
    )
