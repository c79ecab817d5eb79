"""The critic: a small MLP from one hidden state to V(s) (paper, C.3)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn


class ValueHead(nn.Module):
    """MLP with ReLU in float32, whatever the backbone's precision.

    Args:
        width: size of the hidden state it reads.
        hidden: widths of the hidden layers (released code: 1024, 512).
    """

    def __init__(self, width: int, hidden: Sequence[int]) -> None:
        super().__init__()
        sizes = [width, *hidden]
        layers: list[nn.Module] = []
        for before, after in pairwise(sizes):
            layers += [nn.Linear(before, after), nn.ReLU()]
        last = nn.Linear(sizes[-1], 1)
        nn.init.zeros_(last.weight)  # V(s) = 0 everywhere at the start: advantages are then plain returns
        nn.init.zeros_(last.bias)
        self.layers = nn.Sequential(*layers, last)

    def forward(self, hidden: Tensor) -> Tensor:
        """V(s), float32 (B,), from hidden states (B, width)."""
        values: Tensor = self.layers(hidden.to(torch.float32))
        return values.squeeze(-1)
