"""One process, one device: a torch optimiser with clipping."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from vlmagent.training.engines.fits import check_optimizer


class LocalEngine:
    """Implements ``engines.base.Engine`` with a torch optimiser.

    Args:
        groups: parameter groups, each with its initial ``lr``.
        max_grad_norm: clip to this global norm over all groups.
        weight_decay: AdamW's.
    """

    averages_each_pass = False

    def __init__(self, groups: list[dict[str, Any]], max_grad_norm: float, weight_decay: float = 0.0) -> None:
        # one kernel for all: on a CPU a small model's step takes a fifth of the time that a call for each tensor takes
        self.optimizer = torch.optim.AdamW(groups, weight_decay=weight_decay, fused=True)
        self.max_grad_norm = max_grad_norm
        self._initial = [float(group["lr"]) for group in self.optimizer.param_groups]
        self._parameters = [p for group in self.optimizer.param_groups for p in group["params"]]

    @property
    def learning_rate(self) -> float:
        """Current learning rate of the first parameter group."""
        return float(self.optimizer.param_groups[0]["lr"])

    def backward(self, loss: Tensor) -> None:
        """Add a loss's gradients."""
        loss.backward()  # type: ignore[no-untyped-call]

    def step(self) -> float:
        """Clip, step, clear; a norm that is not finite leaves weights and optimiser untouched."""
        norm = float(clip_grad_norm_(self._parameters, self.max_grad_norm))
        # a norm that is no number has spoilt the gradients themselves: clipping divides by it
        if math.isfinite(norm):
            self.optimizer.step()
        self.discard()
        return norm

    def discard(self) -> None:
        """Clear the accumulated gradients."""
        # None, not zeros: AdamW passes over parameters without a gradient, weight decay included
        self.optimizer.zero_grad(set_to_none=True)

    def set_lr_factor(self, factor: float) -> None:
        """Scale every group's initial learning rate."""
        for group, initial in zip(self.optimizer.param_groups, self._initial, strict=True):
            group["lr"] = initial * factor

    def freeze(self, group: int, frozen: bool) -> None:
        """A frozen group gets no gradients, so that neither weights nor moments change."""
        for parameter in self.optimizer.param_groups[group]["params"]:
            parameter.requires_grad_(not frozen)

    def restart(self, lr: float) -> None:
        """Begin anew at ``lr``."""
        self.optimizer.state.clear()
        # what `set_lr_factor` scales from here on
        self._initial = [lr for _ in self._initial]
        self.set_lr_factor(1.0)

    def whole(self) -> AbstractContextManager[None]:
        """Nothing to do: the weights are all here."""
        return nullcontext()

    def state_dict(self) -> Mapping[str, Any]:
        """The torch optimiser's state, whichever of its kernels steps."""
        return _by_kernel(self.optimizer.state_dict(), fused=None)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the torch optimiser's state.

        Raises:
            UsageError: it is of other parameters.
        """
        check_optimizer(state, [group["params"] for group in self.optimizer.param_groups])
        # said in the state: torch puts its counters where the kernel that is named there reads them
        self.optimizer.load_state_dict(_by_kernel(state, fused=True))

    def close(self) -> None:
        """Nothing to do: the network was never changed."""


def _by_kernel(state: Mapping[str, Any], *, fused: bool | None) -> dict[str, Any]:
    """An optimiser's state with another kernel named in it."""
    return {**state, "param_groups": [{**group, "fused": fused} for group in state["param_groups"]]}
