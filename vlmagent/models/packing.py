"""Rows without padding: all tokens of a batch behind one another, a prompt that several rows share only once.

A row is a prompt and those tokens of its output that are read. What is computed token by token (norms, projections,
MLPs) runs over the packed tokens; attention alone needs rows, which are gathered from them, in groups of like length.
Knows nothing of networks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Ids = NDArray[np.int64]
GROUP = 8
"""Rows of different lengths that attention takes together at least: padding costs with the square of the length, each
group a call."""


@dataclass(frozen=True, slots=True)
class Packed:
    """Where the tokens of a batch are: N tokens, B rows, M tokens whose hidden states are wanted.

    Attributes:
        ids: the tokens, int64 (N,).
        positions: of each in its row, from 0, int64 (N,).
        shapes: (rows, columns) of each group of rows.
        cells: all groups' cells behind one another, as indices into the N, int64 (C,). What stands behind a row's end
            is arbitrary: causal attention never looks at it from within the row.
        places: where each token's result stands among the cells, int64 (N,); in the first of the rows that share it.
        dense: whether the N tokens are the cells themselves, in order: nothing needs to be gathered.
        kept: the tokens whose last hidden states are wanted, int64 (M,).
        ends: each row's last prompt token among the M, int64 (B,).
        predictors: the token among the M that predicts each output token, row by row, int64 (sum of lengths,).
    """

    ids: Tensor
    positions: Tensor
    shapes: tuple[tuple[int, int], ...]
    cells: Tensor
    places: Tensor
    dense: bool
    kept: Tensor
    ends: Tensor
    predictors: Tensor

    def to(self, device: torch.device) -> Packed:
        """The same on another device."""
        return Packed(
            ids=self.ids.to(device),
            positions=self.positions.to(device),
            shapes=self.shapes,
            cells=self.cells.to(device),
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
    firsts, widths, shapes = _grouped(lengths)
    cells = np.zeros(sum(rows * width for rows, width in shapes), dtype=np.int64)
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
        head, columns = len(prompts[prompt]), np.arange(lengths[row])
        if prompt not in starts:
            starts[prompt], ends[prompt] = total, wanted
            ids.append(prompts[prompt])
            positions.append(columns[:head])
            places.append(firsts[row] + columns[:head])
            kept.append(np.array([total + head - 1]))
            total, wanted = total + head, wanted + 1
        own = cells[firsts[row] : firsts[row] + widths[row]]
        own[:head] = starts[prompt] + columns[:head]
        own[head : lengths[row]] = total + np.arange(len(tail))
        ids.append(tail)
        positions.append(columns[head:])
        places.append(firsts[row] + columns[head:])
        kept.append(total + np.arange(len(tail)))
        predictors += [np.array([ends[prompt]]), wanted + np.arange(len(tail))]
        total, wanted = total + len(tail), wanted + len(tail)
    return Packed(
        ids=_joined(ids),
        positions=_joined(positions),
        shapes=shapes,
        cells=torch.from_numpy(cells),
        places=_joined(places),
        dense=total == len(cells) and bool((cells == np.arange(total)).all()),
        kept=_joined(kept),
        ends=torch.tensor([ends[prompt] for prompt in which]),
        predictors=_joined(predictors),
    )


def _grouped(lengths: Sequence[int]) -> tuple[list[int], list[int], tuple[tuple[int, int], ...]]:
    """Rows of like length together: each row's first cell and its group's width, and the groups' shapes."""
    # a stable sort: rows of one length stay in their order
    order = sorted(range(len(lengths)), key=lambda row: -lengths[row])
    firsts, widths = [0] * len(lengths), [0] * len(lengths)
    shapes: list[tuple[int, int]] = []
    start = 0
    for row in order:
        if not shapes or (shapes[-1][0] >= GROUP and lengths[row] < shapes[-1][1]):
            shapes.append((0, lengths[row]))
        rows, width = shapes[-1]
        shapes[-1] = rows + 1, width
        firsts[row], widths[row] = start, width
        start += width
    return firsts, widths, tuple(shapes)


def _joined(parts: Sequence[Ids]) -> Tensor:
    return torch.from_numpy(np.concatenate(parts).astype(np.int64, copy=False))
