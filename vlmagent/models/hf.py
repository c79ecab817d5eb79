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
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import AutoConfig
from transformers.utils import logging as hf_logging

from vlmagent.config import ModelConfig
from vlmagent.errors import UsageError
from vlmagent.models import lora, recompute, tiny
from vlmagent.models.families import family_of
from vlmagent.models.fitting import check_vocabulary, compare, fingerprint, read_tensors, shapes_of
from vlmagent.models.locate import (
    VALUE_HEAD_CONFIG,
    base_of,
    check_checkpoint,
    is_adapter,
    is_hub_name,
    locate,
    read_json,
)
from vlmagent.models.policy import Policy
from vlmagent.models.quant import check_trainable_whole, drop_stale_quantization, quantization_options

VALUE_HEAD = "value_head.safetensors"
READING = "vlmagent.json"
"""Beside adapters: how pictures were read when they were trained, and the fingerprint of the weights under them."""
VIDEO_PART = "video_preprocessor_config.json"
_FRESH_HEAD = (
    f"Copy the checkpoint again, or remove {VALUE_HEAD} and {VALUE_HEAD_CONFIG} there for a fresh critic."
)


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
    """The network that a training starts from: the tiny one from scratch, or a checkpoint's.

    Args:
        texts: what the tiny model's tokenizer is trained on; unused for a checkpoint.
        seed: of the fresh weights.

    Raises:
        UsageError: the checkpoint cannot be opened, or cannot learn as ``config`` asks.
    """
    quiet()
    config.check_trainable()
    if config.name != "tiny":
        return load_policy(locate(config.name), config, seed)
    tokenizer = tiny.tokenizer_of(config.tiny, texts)
    backbone = tiny.build_model(config.tiny, tokenizer, seed)
    processor = tiny.build_processor(config.tiny, tokenizer)
    return _policy(backbone, processor, config, config.value_head, seed)


def save_policy(policy: Policy, folder: Path, *, value_head: bool = True) -> None:
    """Write backbone, processor and, unless told otherwise, the value head into an existing folder."""
    if policy.has_adapters:
        # "auto" would ask the hub whether the vocabulary grew
        policy.backbone.save_pretrained(folder, save_embedding_layers=False)
        reading = {"tiles": policy.tiles, "base": policy.base_fingerprint}
        (folder / READING).write_text(json.dumps(reading), encoding="utf-8")
        policy.processor.save_pretrained(folder)
    else:
        save_plain(policy, folder)
    if value_head:
        save_file(policy.value_head.state_dict(), folder / VALUE_HEAD)
        widths = json.dumps({"hidden": list(policy.value_head.hidden)})
        (folder / VALUE_HEAD_CONFIG).write_text(widths, encoding="utf-8")


def save_plain(policy: Policy, folder: Path) -> None:
    """Write network and processor alone, as transformers does.

    The processor gets the video part of the model it came from, which may have been left out when it was opened.
    """
    policy.backbone.save_pretrained(folder)
    policy.processor.save_pretrained(folder)
    video = policy.source / VIDEO_PART if policy.source else None
    if video is not None and video.is_file() and not (folder / VIDEO_PART).exists():
        shutil.copyfile(video, folder / VIDEO_PART)


def load_policy(
    folder: Path, config: ModelConfig | None = None, seed: int = 0, *, base: str | None = None
) -> Policy:
    """The policy in a folder; a plain Hugging Face checkpoint gets a fresh value head.

    Args:
        config: precision, adapters, tiles and widths of a fresh value head; None takes everything as it was saved.
        seed: of fresh weights.
        base: name of the model that adapters are opened on, if it is no longer where they say; None takes
            ``config.name`` where that names another folder or model.

    Raises:
        UsageError: the folder is missing or holds no image-text-to-text checkpoint, or something in it does not fit
            the rest: weights, adapters, value head, tokenizer.
    """
    quiet()
    check_checkpoint(folder)
    settings = config or ModelConfig()
    # the adapters learnt from pictures that were read so: later settings do not change that
    if (folder / READING).is_file():
        settings = settings.model_copy(update={"tiles": bool(read_json(folder / READING)["tiles"])})
    if is_adapter(folder):
        opened = _open_adapter(folder, base or (config.name if config else None), settings, config)
    else:
        opened = _open(folder, settings, keep_precision=config is None)
        if settings.lora.enabled:
            opened = _with_fresh_adapters(opened, settings, seed)
    # the saved widths count for more than the config's: other ones would not take the weights
    hidden, head = _saved_value_head(folder)
    policy = _policy(opened.backbone, opened.processor, settings, hidden or settings.value_head, seed)
    policy.source, policy.notes = opened.folder, opened.notes
    if policy.has_adapters:
        policy.base_fingerprint = fingerprint(opened.folder)
    if head is not None:
        _restore_value_head(policy, head, folder)
    return policy


@dataclass(frozen=True, slots=True)
class _Opened:
    """Network and processor as they came from ``folder``, and what is worth telling about how."""

    backbone: Any
    processor: Any
    folder: Path
    notes: tuple[str, ...] = ()


def _open_adapter(
    folder: Path, wanted: str | None, settings: ModelConfig, config: ModelConfig | None
) -> _Opened:
    """An adapter on its base: ready to be trained further, only to be used, or merged into weights to be trained."""
    name = base_of(folder, wanted)
    opened = _open(locate(name), settings, keep_precision=config is None)
    check_base(folder, opened.folder)
    shown = name if is_hub_name(name) else str(opened.folder)
    backbone, note = lora.load_adapters(opened.backbone, folder, trainable=settings.lora.enabled, base=shown)
    # without a config it is opened only to act: adapters then stay beside the weights
    if config is not None and not settings.lora.enabled:
        backbone = lora.merge_adapters(backbone)  # to be trained whole
    return replace(opened, backbone=backbone, notes=(*opened.notes, *([note] if note else [])))


def check_base(folder: Path, base: Path) -> None:
    """Whether the weights in ``base`` are those that the adapter in ``folder`` was trained on, where it says so.

    A base of the same architecture takes any of its adapters; on other weights they do something else.

    Raises:
        UsageError: they are others.
    """
    trained_on = read_json(folder / READING).get("base") if (folder / READING).is_file() else None
    if trained_on is not None and trained_on != fingerprint(base):
        raise UsageError(
            f"The adapter in {folder} was trained on other weights than those in {base}. Give the folder of the model "
            "that it was trained on with --set model.name=FOLDER."
        )


def _with_fresh_adapters(opened: _Opened, settings: ModelConfig, seed: int) -> _Opened:
    shown = settings.name if is_hub_name(settings.name) else str(opened.folder.resolve())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        backbone = lora.add_adapters(
            opened.backbone, settings.lora, train_vision=settings.train_vision, base=shown
        )
    return replace(opened, backbone=backbone)


def _policy(
    backbone: Any, processor: Any, config: ModelConfig, value_hidden: tuple[int, ...], seed: int
) -> Policy:
    """A policy in eval mode, set up to train what ``config`` wants trained."""
    network = lora.network_of(backbone)
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


def _open(folder: Path, config: ModelConfig, *, keep_precision: bool) -> _Opened:
    """Network and processor in a folder.

    Raises:
        UsageError: transformers cannot open them, or they do not belong together.
    """
    # "auto" is transformers' word for the precision of the file
    options: dict[str, Any] = {"dtype": "auto" if keep_precision else weights_dtype(config)}
    options |= quantization_options(config)
    notes: tuple[str, ...] = ()
    try:
        saved = AutoConfig.from_pretrained(folder, local_files_only=True)
        if drop_stale_quantization(saved, folder):
            notes = (f"config.json in {folder} speaks of quantised weights, but they are not: left out",)
        elif not keep_precision:
            check_trainable_whole(saved, folder, config)
        family = family_of(saved.model_type)
        backbone = family.load_model(folder, family.model_config(saved, config.tiles), **options)
        processor = family.load_processor(folder, saved, config.tiles)
    except UsageError:
        raise
    except Exception as error:  # transformers raises many kinds; each means the same to the user
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UsageError(f"The model at {folder} could not be opened: {first}") from error
    check_vocabulary(processor, backbone, folder)
    return _Opened(backbone, processor, folder, notes)


def weights_dtype(config: ModelConfig) -> torch.dtype:
    """The precision of a checkpoint's weights under ``config``."""
    if config.name == "tiny":
        return torch.float32
    if config.dtype != "auto":
        return torch.float32 if config.dtype == "float32" else torch.bfloat16
    gpu = config.device != "cpu" and torch.cuda.is_available() and torch.cuda.is_bf16_supported()
    # bfloat16 weights beside float32 adapters; whole weights have to be float32 to learn (`check_trainable`)
    return torch.bfloat16 if gpu and config.lora.enabled else torch.float32


def _saved_value_head(folder: Path) -> tuple[tuple[int, ...] | None, dict[str, torch.Tensor] | None]:
    """Widths and weights of a saved value head, if there is one.

    Raises:
        UsageError: one of its two files is missing, or the first does not say widths. A fresh critic in its place
            would be noticed by nobody.
    """
    files = (folder / VALUE_HEAD_CONFIG, folder / VALUE_HEAD)
    missing = [file.name for file in files if not file.is_file()]
    # both or none: one alone is a copy that was cut off
    if len(missing) == len(files):
        return None, None
    if missing:
        raise UsageError(f"The value head in {folder} is not whole: {missing[0]} is missing. {_FRESH_HEAD}")
    hidden = read_json(folder / VALUE_HEAD_CONFIG).get("hidden")
    if not isinstance(hidden, list) or not all(isinstance(width, int) and width > 0 for width in hidden):
        raise UsageError(
            f"{folder / VALUE_HEAD_CONFIG} does not say the widths of the hidden layers, but {hidden!r}. {_FRESH_HEAD}"
        )
    return tuple(hidden), read_tensors(folder / VALUE_HEAD)


def _restore_value_head(policy: Policy, weights: dict[str, torch.Tensor], folder: Path) -> None:
    """Put saved weights into the critic, all of them.

    Raises:
        UsageError: they are of another shape, as those of another model's critic.
    """
    expected = shapes_of(policy.value_head.state_dict())
    if "scale" not in weights:  # earlier versions had none
        del expected["scale"]
    compare(shapes_of(weights), expected).check(f"The value head in {folder}", _FRESH_HEAD)
    policy.value_head.load_state_dict(weights)
