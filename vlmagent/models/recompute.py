"""Activation checkpointing with dropout off: recompute layers in the backward pass, yet score deterministically.

transformers ties recomputing to training mode, which would switch dropout on. Here only the flag of the layers that
recompute is set, and only while gradients are taken, so that generation keeps its cache.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers.modeling_layers import GradientCheckpointingLayer


def enable(model: Any) -> None:
    """Let the model's layers recompute; nothing happens outside of ``recomputing``."""
    switch = getattr(model, "activation_checkpointing_enable", None)
    if switch is None:  # its name before transformers 5.2x; goes away in 6
        switch = model.gradient_checkpointing_enable
    # the reentrant kind finds no gradient to give where a layer's input has none: that of the first, frozen embedding
    switch({"use_reentrant": False})


@contextmanager
def recomputing(model: Any, active: bool) -> Iterator[None]:
    """While open, a forward pass with gradients keeps only the inputs of layers."""
    # without gradients nothing is kept anyway, and generation would lose its cache
    if not active or not torch.is_grad_enabled():
        yield
        return
    # transformers asks a layer whether it trains before recomputing it; its dropout modules stay as they are
    layers = [layer for layer in model.modules() if isinstance(layer, GradientCheckpointingLayer)]
    before = [layer.training for layer in layers]
    for layer in layers:
        layer.training = True
    try:
        yield
    finally:
        for layer, training in zip(layers, before, strict=True):
            layer.training = training
