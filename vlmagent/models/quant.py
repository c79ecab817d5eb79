"""Weights in 8 or 4 bits: loading them so with bitsandbytes, or saying in a sentence why that cannot be.

The only file that knows bitsandbytes, and what a checkpoint's own ``quantization_config`` means for training.
"""

from __future__ import annotations

import logging
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from transformers import BitsAndBytesConfig

from vlmagent.config import ModelConfig
from vlmagent.errors import UsageError
from vlmagent.models.device import choose_device


def quantization_options(config: ModelConfig) -> dict[str, Any]:
    """What ``from_pretrained`` needs for ``model.quantization``; nothing for ``none``.

    Raises:
        UsageError: it cannot run here or with these settings.
    """
    if config.quantization == "none":
        return {}
    wanted = f"model.quantization = {config.quantization}"
    config.check_trainable()
    if find_spec("bitsandbytes") is None:
        raise UsageError(f"{wanted} needs the package bitsandbytes: pip install 'vlmagent[quant]'.")
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it tells of every cast, at every layer
    if config.quantization == "8bit":
        settings = BitsAndBytesConfig(load_in_8bit=True)
    else:
        # as QLoRA (Dettmers et al. 2023): normal-float numbers, whose scales are quantised once more
        settings = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.bfloat16,
        )
    # the whole model on its device at once: quantised weights are not moved there later
    return {"quantization_config": settings, "device_map": {"": choose_device(config.device)}}


PLAIN_TYPES = {"F64", "F32", "F16", "BF16", "I64", "BOOL"}
"""Types of tensors in ordinary checkpoints, position ids and masks among them. Quantised ones pack numbers into I32, I8
or U8, or hold 8-bit floats."""


def drop_stale_quantization(saved: Any, folder: Path) -> bool:
    """Remove a ``quantization_config`` that the weights in ``folder`` no longer are of.

    Tools that write quantised weights back as plain ones leave it behind. With it transformers opens such a model, lets
    it be trained, and refuses to save it.

    Args:
        saved: the folder's config, which is changed.

    Returns:
        Whether there was one.
    """
    if getattr(saved, "quantization_config", None) is None or _holds_quantised(folder):
        return False
    del saved.quantization_config
    return True


def _holds_quantised(folder: Path) -> bool:
    """Whether any tensor in a folder's weights is of a type that plain weights never have."""
    # only the files' headers are read
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, "pt") as tensors:
            if any(tensors.get_slice(name).get_dtype() not in PLAIN_TYPES for name in list(tensors.keys())):
                return True
    return False


def check_trainable_whole(saved: Any, folder: Path, config: ModelConfig) -> None:
    """Whether a checkpoint that holds quantised weights is to be trained in a way that can be.

    Raises:
        UsageError: its weights cannot learn, and no adapters were asked for.
    """
    if getattr(saved, "quantization_config", None) is not None and not config.lora.enabled:
        raise UsageError(
            f"The weights in {folder} are quantised (quantization_config in config.json) and cannot learn themselves: "
            "set model.lora.enabled=true to train adapters beside them, or give the model that they were made from."
        )
