"""Saving and loading policies in Hugging Face format, and building the one a config asks for.

A policy's folder holds the backbone and processor as ``save_pretrained`` writes them, or adapters in PEFT format that
name their base, plus ``value_head.safetensors``; transformers' Auto classes open it as it is.
"""

from __future__ import annotations

import json
import logging
import shutil
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig
from transformers.utils import logging as hf_logging

from vlmagent.config import ModelConfig
from vlmagent.errors import UsageError
from vlmagent.models import lora, recompute, tiny
from vlmagent.models.families import family_of
from vlmagent.models.locate import (
    VALUE_HEAD_CONFIG,
    base_name,
    check_checkpoint,
    is_adapter,
    is_hub_name,
    locate,
    read_json,
)
from vlmagent.models.policy import Policy
from vlmagent.models.quant import quantization_options

VALUE_HEAD = "value_head.safetensors"
READING = "vlmagent.json"
"""Beside adapters: how pictures were read when they were trained."""
VIDEO_PART = "video_preprocessor_config.json"


def quiet() -> None:
    """Keep progress bars and advice out of the log, and DeepSpeed's, where it is installed, off standard output."""
    hf_logging.set_verbosity_error()
    hf_logging.disable_progress_bar()
    logging.getLogger("DeepSpeed").addFilter(_is_error)
    # PEFT asks transformers by an old name, once for each adapted model
    warnings.filterwarnings("ignore", message="`is_gradient_checkpointing`", category=FutureWarning)


def _is_error(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.ERROR


def build_policy(config: ModelConfig, texts: Iterable[str], seed: int) -> Policy:
    """The network that a config names: the tiny one from scratch, or a checkpoint's.

    Args:
        texts: what the tiny model's tokenizer is trained on; unused for a checkpoint.
        seed: of the fresh weights.
    """
    quiet()
    if config.name != "tiny":
        return load_policy(locate(config.name), config, seed)
    tokenizer = tiny.build_tokenizer(
        texts, config.tiny.vocab_size, fold=config.tiny.fold_prompts, words=config.tiny.whole_words
    )
    backbone = tiny.build_model(config.tiny, tokenizer, seed)
    processor = tiny.build_processor(config.tiny, tokenizer)
    return _policy(backbone, processor, config, config.value_head, seed)


def save_policy(policy: Policy, folder: Path, *, value_head: bool = True) -> None:
    """Write backbone, processor and, unless told otherwise, the value head into an existing folder."""
    if hasattr(policy.backbone, "peft_config"):
        # "auto" would ask the hub whether the vocabulary grew
        policy.backbone.save_pretrained(folder, save_embedding_layers=False)
        (folder / READING).write_text(json.dumps({"tiles": policy.tiles}))
        policy.processor.save_pretrained(folder)
    else:
        save_plain(policy, folder)
    if not value_head:
        return
    save_file(policy.value_head.state_dict(), folder / VALUE_HEAD)
    hidden = [layer.out_features for layer in policy.value_head.layers if hasattr(layer, "out_features")][:-1]
    (folder / VALUE_HEAD_CONFIG).write_text(json.dumps({"hidden": hidden}))


def save_plain(policy: Policy, folder: Path) -> None:
    """Write network and processor alone, as transformers does.

    The processor gets the video part of the model it came from, which may have been left out when it was opened.
    """
    policy.backbone.save_pretrained(folder)
    policy.processor.save_pretrained(folder)
    video = policy.source / VIDEO_PART if policy.source else None
    if video is not None and video.is_file() and not (folder / VIDEO_PART).exists():
        shutil.copyfile(video, folder / VIDEO_PART)


def load_policy(folder: Path, config: ModelConfig | None = None, seed: int = 0) -> Policy:
    """The policy in a folder; a plain Hugging Face checkpoint gets a fresh value head.

    Args:
        config: precision, adapters, tiles and widths of a fresh value head; None takes everything as it was saved.
        seed: of fresh weights.

    Raises:
        UsageError: the folder is missing or holds no image-text-to-text checkpoint.
    """
    quiet()
    check_checkpoint(folder)
    settings = config or ModelConfig()
    adapted = is_adapter(folder)
    name = base_name(folder) if adapted else str(folder)
    base = locate(name) if adapted else folder
    if (folder / READING).is_file():
        settings = settings.model_copy(update={"tiles": bool(read_json(folder / READING)["tiles"])})
    backbone, processor = _open(base, settings, keep_precision=config is None)
    if adapted:
        backbone = lora.load_adapters(backbone, folder, trainable=settings.lora.enabled)
        if config is not None and not settings.lora.enabled:
            backbone = lora.merge_adapters(backbone)  # to be trained whole
    elif settings.lora.enabled:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            shown = settings.name if is_hub_name(settings.name) else str(folder.resolve())
            backbone = lora.add_adapters(
                backbone, settings.lora, train_vision=settings.train_vision, base=shown
            )
    hidden, head = _saved_value_head(folder)
    policy = _policy(backbone, processor, settings, hidden or settings.value_head, seed)
    policy.source = base
    if head is not None:
        _restore_value_head(policy, head, folder)
    return policy


def _policy(
    backbone: Any, processor: Any, config: ModelConfig, value_hidden: tuple[int, ...], seed: int
) -> Policy:
    """A policy in eval mode, set up to train what ``config`` wants trained."""
    network = backbone.get_base_model() if hasattr(backbone, "peft_config") else backbone
    if not config.train_vision:
        lora.freeze_vision(network)
    if config.activation_checkpointing:
        recompute.enable(network)
    policy = Policy(
        backbone,
        processor,
        value_hidden,
        seed,
        frozen_vision=not config.train_vision,
        recompute=config.activation_checkpointing,
    )
    policy.tiles = config.tiles
    return policy.eval()


def _open(folder: Path, config: ModelConfig, *, keep_precision: bool) -> tuple[Any, Any]:
    """Network and processor in a folder.

    Raises:
        UsageError: transformers cannot open them.
    """
    options: dict[str, Any] = {"dtype": "auto" if keep_precision else weights_dtype(config)}
    options |= quantization_options(config)
    try:
        saved = AutoConfig.from_pretrained(folder, local_files_only=True)
        family = family_of(saved.model_type)
        backbone = family.load_model(folder, family.model_config(saved, config.tiles), **options)
        processor = family.load_processor(folder, saved, config.tiles)
    except UsageError:
        raise
    except Exception as error:  # transformers raises many kinds; each means the same to the user
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UsageError(f"The model at {folder} could not be opened: {first}") from error
    return backbone, processor


def weights_dtype(config: ModelConfig) -> torch.dtype:
    """The precision of a checkpoint's weights under ``config``."""
    if config.name == "tiny":
        return torch.float32
    if config.dtype != "auto":
        return torch.float32 if config.dtype == "float32" else torch.bfloat16
    gpu = config.device != "cpu" and torch.cuda.is_available() and torch.cuda.is_bf16_supported()
    return torch.bfloat16 if gpu and config.lora.enabled else torch.float32


def _saved_value_head(folder: Path) -> tuple[tuple[int, ...] | None, dict[str, torch.Tensor] | None]:
    """Widths and weights of a saved value head, if there is one."""
    if not ((folder / VALUE_HEAD).is_file() and (folder / VALUE_HEAD_CONFIG).is_file()):
        return None, None
    return tuple(read_json(folder / VALUE_HEAD_CONFIG)["hidden"]), load_file(folder / VALUE_HEAD)


def _restore_value_head(policy: Policy, weights: dict[str, torch.Tensor], folder: Path) -> None:
    try:
        policy.value_head.load_state_dict(weights)
    except RuntimeError:
        raise UsageError(
            f"The value head in {folder} was written by another version of vlmagent. "
            f"Remove {VALUE_HEAD} there to start with a fresh one."
        ) from None
