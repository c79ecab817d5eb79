"""The output layer in float32, whatever precision the rest of a network is held in.

    logits = W h        products of bfloat16 numbers, summed and kept in float32

In bfloat16 a logit of 20 is off by up to 0.06, and dividing by a temperature of 0.2 makes that 0.3 nats a token: more
than PPO's clip range, before any step. Sampler and scorer go through the same layer, so that one change serves both.
Knows nothing of sampling or scoring.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

SLICE_NUMBERS = 64 * 2**20
"""Weights turned to float32 at a time: 256 MiB instead of 2.2 GB for a vocabulary of 152,000 and a width of 3584."""


@contextmanager
def float32_output(network: Any) -> Iterator[None]:
    """While open, the output layer of ``network`` gives float32 logits if its weights are of less precision.

    Only the weights' own rounding is left. ``forward`` is replaced on the instance: models call it in ``generate`` and
    in training alike, for the positions they keep and no others.
    """
    layers: list[Any] = [
        layer
        for layer in network.get_output_embeddings().modules()  # adapters put the layer itself one level down
        if type(layer) is nn.Linear and layer.weight.dtype in (torch.bfloat16, torch.float16)
    ]
    for layer in layers:
        # an attribute of the instance hides the class's method; deleting it brings that back
        layer.forward = _Forward(layer)
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward


class _Forward:
    """``nn.Linear.forward`` for weights of less precision, in float32."""

    def __init__(self, layer: nn.Linear) -> None:
        self._layer = layer

    def __call__(self, hidden: Tensor) -> Tensor:
        with torch.autocast(hidden.device.type, enabled=False):  # it would round the float32 product again
            logits: Tensor = _Float32Product.apply(hidden, self._layer.weight)  # type: ignore[no-untyped-call]
            bias = self._layer.bias
            return logits if bias is None else logits + bias.to(torch.float32)


class _Float32Product(torch.autograd.Function):
    """W h in float32 without a float32 copy of W, neither going forward nor kept for going back."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor) -> Tensor:
        """Logits, float32 (..., V), of hidden states (..., width) and weights (V, width)."""
        # the bfloat16 weights, not their float32 slices, of which none outlives its product
        ctx.save_for_backward(hidden, weight)
        inputs = hidden.to(torch.float32)
        logits = inputs.new_empty((*hidden.shape[:-1], weight.shape[0]))
        for part in _slices(weight):
            # (..., width) times (width, part of V)
            logits[..., part] = inputs @ weight[part].to(torch.float32).T
        return logits

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """Gradients of hidden states and weights, in their own precision."""
        (grad,) = grads
        hidden, weight = ctx.saved_tensors
        for_hidden = for_weight = None
        if ctx.needs_input_grad[0]:
            # float32 until all slices are added up: in bfloat16 each addition would round
            total = torch.zeros(hidden.shape, device=hidden.device)
            for part in _slices(weight):
                total += grad[..., part] @ weight[part].to(torch.float32)
            for_hidden = total.to(hidden.dtype)
        if ctx.needs_input_grad[1]:
            # (B, T, width) as (B * T, width): the sum over positions is a product
            rows = hidden.flatten(0, -2).to(torch.float32)
            for_weight = (grad.flatten(0, -2).T @ rows).to(weight.dtype)
        return for_hidden, for_weight


def _slices(weight: Tensor) -> Iterator[slice]:
    """Rows of a weight matrix (V, width), as many at a time as ``SLICE_NUMBERS`` allows."""
    # at least one row, however wide
    rows = max(1, SLICE_NUMBERS // weight.shape[1])
    for start in range(0, weight.shape[0], rows):
        yield slice(start, min(start + rows, weight.shape[0]))
