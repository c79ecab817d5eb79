"""Saving and loading policies in Hugging Face format, and building the one a config asks for.

A policy's folder holds the backbone and processor as ``save_pretrained`` writes them, plus ``value_head.safetensors``;
transformers' Auto classes open it as it is.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText, AutoProcessor
from transformers.utils import logging as hf_logging

from vlmagent.config import ModelConfig
from vlmagent.errors import UsageError
from vlmagent.models import tiny
from vlmagent.models.locate import check_checkpoint
from vlmagent.models.policy import Policy

VALUE_HEAD = "value_head.safetensors"
VALUE_HEAD_CONFIG = "value_head.json"


def quiet() -> None:
    """Keep transformers' progress bars and advice out of the log."""
    hf_logging.set_verbosity_error()
    hf_logging.disable_progress_bar()


def build_policy(config: ModelConfig, texts: Iterable[str], seed: int) -> Policy:
    """The network that a config names: the tiny one from scratch, or a checkpoint's.

    Args:
        texts: what the tiny model's tokenizer is trained on; unused for a checkpoint.
        seed: of the fresh weights.
    """
    quiet()
    if config.name != "tiny":
        return load_policy(Path(config.name), config.value_head, seed)
    tokenizer = tiny.build_tokenizer(texts, config.tiny.vocab_size)
    backbone = tiny.build_model(config.tiny, tokenizer, seed)
    return Policy(backbone, tiny.build_processor(config.tiny, tokenizer), config.value_head, seed).eval()


def save_policy(policy: Policy, folder: Path, *, value_head: bool = True) -> None:
    """Write backbone, processor and, unless told otherwise, the value head into an existing folder."""
    policy.backbone.save_pretrained(folder, safe_serialization=True)
    policy.processor.save_pretrained(folder)
    if not value_head:
        return
    save_file(policy.value_head.state_dict(), folder / VALUE_HEAD)
    hidden = [layer.out_features for layer in policy.value_head.layers if hasattr(layer, "out_features")][:-1]
    (folder / VALUE_HEAD_CONFIG).write_text(json.dumps({"hidden": hidden}))


def load_policy(folder: Path, value_hidden: tuple[int, ...] = (1024, 512), seed: int = 0) -> Policy:
    """The policy in a folder; a plain Hugging Face checkpoint gets a fresh value head of ``value_hidden`` widths.

    Raises:
        UsageError: the folder is missing or holds no image-text-to-text checkpoint.
    """
    quiet()
    check_checkpoint(folder)
    try:
        backbone: Any = AutoModelForImageTextToText.from_pretrained(folder, local_files_only=True)
        processor: Any = AutoProcessor.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # transformers raises many kinds; each means the same to the user
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UsageError(f"The model at {folder} could not be opened: {first}") from error
    if getattr(backbone.config, "model_type", "") != "llava":
        raise UsageError(
            f"The model at {folder} is of the family '{backbone.config.model_type}'; this version trains 'llava'."
        )
    head_config = folder / VALUE_HEAD_CONFIG
    saved = (folder / VALUE_HEAD).is_file() and head_config.is_file()
    hidden = tuple(json.loads(head_config.read_text())["hidden"]) if saved else value_hidden
    policy = Policy(backbone, processor, hidden, seed)
    if saved:
        try:
            policy.value_head.load_state_dict(load_file(folder / VALUE_HEAD))
        except RuntimeError:
            raise UsageError(
                f"The value head in {folder} was written by another version of vlmagent. "
                f"Remove {VALUE_HEAD} there to start with a fresh one."
            ) from None
    return policy.eval()
