"""The critic: a small MLP from one hidden state to V(s) (paper, C.3)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

# features that never vary in the first states would be divided by about nothing
MIN_STD = 1e-3


class ValueHead(nn.Module):
    """MLP with ReLU in float32, whatever the backbone's precision.

    Args:
        width: size of the hidden state it reads.
        hidden: widths of the hidden layers (released code: 1024, 512).

    Attributes:
        hidden: the same.
        mean, std: of the features, (width,) each; see ``calibrate``.
        scale: unit of the output, (); V(s) = scale * MLP(standardised features).
    """

    mean: Tensor
    std: Tensor
    scale: Tensor

    def __init__(self, width: int, hidden: Sequence[int]) -> None:
        super().__init__()
        self.hidden = tuple(hidden)
        sizes = [width, *hidden]
        layers: list[nn.Module] = []
        for before, after in pairwise(sizes):
            layers += [nn.Linear(before, after), nn.ReLU()]
        last = nn.Linear(sizes[-1], 1)
        nn.init.zeros_(last.weight)  # V(s) = 0 everywhere at the start: advantages are then plain returns
        nn.init.zeros_(last.bias)
        self.layers = nn.Sequential(*layers, last)
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("std", torch.ones(width))
        self.register_buffer("scale", torch.ones(()))

    @torch.no_grad()
    def calibrate(self, hidden: Tensor) -> None:
        """Standardise the features as they are spread in ``hidden``, (B, width), from now on.

        What tells states apart is small beside what all of them share (0.06 against 0.9 in the tiny model's last hidden
        state): without this the critic needs hundreds of steps before it explains anything.
        """
        hidden = hidden.to(torch.float32)
        self.mean.copy_(hidden.mean(0))
        self.std.copy_(hidden.std(0, correction=0).clamp(min=MIN_STD))

    def forward(self, hidden: Tensor) -> Tensor:
        """V(s), float32 (B,), from hidden states (B, width)."""
        values: Tensor = self.layers((hidden.to(torch.float32) - self.mean) / self.std)
        return values.squeeze(-1) * self.scale

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        """Also of earlier versions, whose unit was 1."""
        # 1 is what the unit was before it was saved
        state_dict.setdefault(f"{prefix}scale", torch.ones(()))
        super()._load_from_state_dict(state_dict, prefix, *rest)
