"""Which weights learn: low-rank adapters on linear layers (paper, C.1), or the weights themselves.

    y = W x + (alpha / r) B A x        with A (r, in), B (out, r) trained and W frozen

Knows nothing of tasks or training; adapters are PEFT's and are saved in its format. PEFT is imported when the first
adapter is needed: that takes two seconds.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from vlmagent.config import LoraConfig
from vlmagent.models.families import family_of

LANGUAGE = ("language_model", "text_model")
"""Names that the architectures give to their decoder; everything else beside the output layer is vision."""


def add_adapters(model: Any, config: LoraConfig, *, train_vision: bool, base: str) -> Any:
    """A PEFT model around ``model`` with fresh adapters; the output starts unchanged.

    Args:
        base: name of the model, which a saved adapter points to.
    """
    import peft

    excluded = [] if train_vision else [rf".*\b{name}\..*" for name in vision_modules(model)]
    unused = family_of(model.config.model_type).unused_modules(model.config) if config.skip_unused else None
    settings = peft.LoraConfig(
        r=config.r,
        lora_alpha=config.alpha,
        lora_dropout=config.dropout,
        target_modules="all-linear",
        exclude_modules="|".join([*excluded, *([unused] if unused else [])]) or None,
    )
    model.name_or_path = base
    adapted = peft.get_peft_model(model, settings)
    _match_precision(adapted)
    return adapted


def load_adapters(model: Any, folder: Path, *, trainable: bool) -> Any:
    """A PEFT model around ``model`` with the adapters in ``folder``."""
    import peft

    adapted = peft.PeftModel.from_pretrained(model, folder, is_trainable=trainable)
    _match_precision(adapted)
    return adapted


def merge_adapters(adapted: Any) -> Any:
    """The plain network with the adapters added to its weights, all of which can learn."""
    return adapted.merge_and_unload().requires_grad_(True)


def _match_precision(adapted: Any) -> None:
    """Let bfloat16 activations reach float32 adapters as they are: autocast then multiplies in bfloat16.

    PEFT would turn them to float32 first, which doubles their memory.
    """
    if any(p.dtype == torch.bfloat16 for p in adapted.parameters()):
        for module in adapted.modules():
            if hasattr(module, "cast_input_dtype_enabled"):
                module.cast_input_dtype_enabled = False


def vision_modules(model: Any) -> list[str]:
    """Names of the parts that turn a picture into tokens."""
    core = getattr(model, "model", model)
    return [name for name, _ in core.named_children() if name not in LANGUAGE]


def vision_parameters(model: Any) -> list[nn.Parameter]:
    """Parameters that only a picture's tokens go through, adapters among them."""
    core = getattr(model, "model", model)
    return [p for name, p in core.named_parameters() if name.partition(".")[0] not in LANGUAGE]


def freeze_vision(model: Any) -> None:
    """Keep vision encoder and projector as they are."""
    core = getattr(model, "model", model)
    for name in vision_modules(model):
        core.get_submodule(name).requires_grad_(False)


@dataclass(frozen=True, slots=True)
class Part:
    """Parameters of one part of a network; of ``total``, which leaves adapters out, ``trained`` or beside it."""

    name: str
    trained: int
    total: int


def count_parts(model: nn.Module, others: Iterable[tuple[str, nn.Module]] = ()) -> list[Part]:
    """Trained and all parameters by part: the network's own parts in order, then ``others``.

    Args:
        model: the network, with any adapters inside it.
    """
    sizes: dict[str, list[int]] = {}
    named = [(_part_of(name), name, p) for name, p in model.named_parameters()]
    named += [(part, name, p) for part, module in others for name, p in module.named_parameters()]
    for part, name, parameter in named:
        counts = sizes.setdefault(part, [0, 0])
        size = _size(parameter)
        counts[0] += size if parameter.requires_grad else 0
        counts[1] += 0 if "lora_" in name else size
    return [Part(name, trained, total) for name, (trained, total) in sizes.items()]


def _part_of(name: str) -> str:
    """``model.vision_tower.encoder...`` belongs to ``vision_tower``."""
    first, _, rest = name.partition(".")
    return rest.partition(".")[0] if first == "model" else first


def _size(parameter: nn.Parameter) -> int:
    """Numbers in a parameter; quantised ones hold several in a byte and remember their shape."""
    shape = getattr(getattr(parameter, "quant_state", None), "shape", None)
    return parameter.numel() if shape is None else int(torch.Size(shape).numel())


def describe_parts(parts: Iterable[Part]) -> str:
    """One line for the log: what is trained, with counts."""
    rows = list(parts)
    trained, total = sum(row.trained for row in rows), sum(row.total for row in rows)
    named = ", ".join(f"{row.name} {row.trained:,}" for row in rows if row.trained)
    return f"{trained:,} parameters are trained ({named}) beside {total:,} of the model"
