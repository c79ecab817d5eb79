"""Loading frozen weights in 8 or 4 bits with bitsandbytes, or saying in a sentence why that cannot be.

The only file that knows bitsandbytes.
"""

from __future__ import annotations

import logging
from importlib.util import find_spec
from typing import Any

import torch
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
    if not config.lora.enabled:
        raise UsageError(
            f"{wanted} freezes the weights, so that only adapters can learn: set model.lora.enabled=true as well."
        )
    if find_spec("bitsandbytes") is None:
        raise UsageError(f"{wanted} needs the package bitsandbytes: pip install 'vlmagent[quant]'.")
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it tells of every cast, at every layer
    if config.quantization == "8bit":
        settings = BitsAndBytesConfig(load_in_8bit=True)
    else:
        settings = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.bfloat16,
        )
    return {"quantization_config": settings, "device_map": {"": choose_device(config.device)}}
