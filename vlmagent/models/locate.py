"""Finding the files of a model before loading anything heavy, so that a wrong name is told at once.

A model's name is a folder, the folder of an adapter, or a name on the Hugging Face hub. Never imports torch.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from vlmagent.errors import UsageError

ADAPTER = "adapter_config.json"
VALUE_HEAD_CONFIG = "value_head.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
LORA = "LORA"
"""PEFT's name of the only type of adapter that is opened: low-rank matrices beside a layer's own weights."""
TIMEOUT_SECONDS = 10  # for the hub: a command without a network says so soon
FILES = ["*.json", "*.safetensors", "*.jinja", "*.model", "*.txt"]
"""What is fetched from the hub: weights in one open format, configs, templates and tokenizers; never code."""


def check_model(name: str) -> None:
    """Whether ``--model name`` could be opened: its files exist, or the hub knows it. Fetches no weights.

    Raises:
        UsageError: names what is missing.
    """
    if not is_hub_name(name):
        check_checkpoint(Path(name))
        # of an adapter the model under it has to be there too
        if is_adapter(Path(name)):
            check_model(base_of(Path(name)))
    elif _cached(name) is None:
        try:
            from huggingface_hub import HfApi

            HfApi().model_info(name, timeout=TIMEOUT_SECONDS)
        except Exception as error:
            raise _not_fetched(name, error) from None


def locate(name: str) -> Path:
    """The folder that holds a model's files, fetched from the hub if that is where it is.

    Raises:
        UsageError: it is missing or could not be fetched.
    """
    if not is_hub_name(name):
        check_checkpoint(Path(name))
        return Path(name).resolve()
    from huggingface_hub import snapshot_download

    cached = _cached(name)
    try:
        folder = cached or snapshot_download(name, allow_patterns=FILES, etag_timeout=TIMEOUT_SECONDS)
    except Exception as error:
        raise _not_fetched(name, error) from None
    check_checkpoint(Path(folder))
    return Path(folder)


def is_hub_name(name: str) -> bool:
    """Whether a name means the hub: ``owner/name``, and no such folder here."""
    # a letter, digit, _ or - first, then also dots: "owner/name", but neither "./name" nor "/name" nor "a/b/c"
    return re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", name) is not None and not Path(name).exists()


def _cached(name: str) -> str | None:
    """Folder of a hub model that was fetched whole before, or None. The cache is asked first: no network needed."""
    from huggingface_hub import snapshot_download

    try:
        folder: str = snapshot_download(name, allow_patterns=FILES, local_files_only=True)
        check_checkpoint(Path(folder))
    except Exception:  # not there, or not all of it
        return None
    return folder if _whole(Path(folder)) else None


def cached_file(name: str, file: str) -> Path | None:
    """A file of a hub model that was fetched before, or None."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(name, file)
    # it may also be a mark that the hub has no such file
    return Path(found) if isinstance(found, str) else None


def _whole(folder: Path) -> bool:
    """Whether every file that the index of weights names is there."""
    # small models are one file, without an index
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        return True
    wanted = set(json.loads(index.read_text())["weight_map"].values())
    return all((folder / file).is_file() for file in wanted)


def _not_fetched(name: str, error: Exception) -> UsageError:
    # names, not classes: the library is imported only where the hub is asked
    kind = type(error).__name__
    if "GatedRepo" in kind:
        why = "its owner asks for an agreement first: accept it on the model's page, then log in with `hf auth login`"
    elif "RepositoryNotFound" in kind:
        why = "the hub knows no such model, or it is private"
    elif isinstance(error, UsageError):
        why = str(error)
    else:
        why = "the hub could not be reached"
    return UsageError(
        f"--model '{name}' is no folder here, and could not be fetched from the Hugging Face hub: {why}. "
        "Give 'tiny', a folder in Hugging Face format or a hub name such as 'llava-hf/llava-v1.6-mistral-7b-hf'."
    )


def is_pretrained(name: str) -> bool:
    """Whether a name means a model from elsewhere, rather than ``tiny`` or a checkpoint that this program wrote."""
    # value_head.json is written by this program alone
    return name != "tiny" and not (Path(name) / VALUE_HEAD_CONFIG).is_file()


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds an adapter (PEFT format) rather than a whole model."""
    return (folder / ADAPTER).is_file()


def base_name(folder: Path) -> str:
    """The name of the model that an adapter belongs to.

    Raises:
        UsageError: the adapter does not say.
    """
    name = read_json(folder / ADAPTER).get("base_model_name_or_path")
    if not isinstance(name, str) or not name:
        raise UsageError(f"The adapter in {folder} does not name the model it belongs to ({ADAPTER}).")
    return name


def base_of(folder: Path, wanted: str | None = None) -> str:
    """The name of the model that the adapter in ``folder`` is to be opened on.

    An adapter holds its base's path as it was when it was saved. Folders get moved, so that a path said now counts for
    more: ``wanted``, unless it is the adapter itself or is not there while the stored one is.

    Args:
        wanted: ``model.name`` of the run, which names the base or an adapter that was trained further, or None.

    Raises:
        UsageError: there is no base; says how to name one.
    """
    stored = base_name(folder)
    if wanted is not None and wanted != "tiny" and Path(wanted).resolve() != folder.resolve():
        # an adapter that was trained further: its base is meant
        if is_adapter(Path(wanted)):
            wanted = base_name(Path(wanted))
        if Path(wanted).is_dir() or (is_hub_name(wanted) and not Path(stored).is_dir()):
            return wanted
    if not is_hub_name(stored) and not Path(stored).is_dir():
        raise UsageError(
            f"The adapter in {folder} belongs to the model '{stored}', which is not there. If it was moved, say where "
            "it is now: with --set model.name=NEW when a run goes on or is evaluated, else by writing the new path to "
            f"base_model_name_or_path in {folder / ADAPTER}."
        )
    return stored


def read_json(file: Path) -> dict[str, Any]:
    """A JSON file that holds a mapping.

    Raises:
        UsageError: it does not.
    """
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{file} could not be read: {error}") from None
    if not isinstance(data, dict):
        raise UsageError(f"{file} should hold a mapping, but holds {type(data).__name__}.")
    return data


def check_checkpoint(folder: Path) -> None:
    """Cheap test, without loading anything heavy, that a folder looks like a checkpoint or an adapter.

    Raises:
        UsageError: names what is missing.
    """
    if not folder.exists():
        raise UsageError(
            f"--model '{folder}' does not exist. Give 'tiny', a folder in Hugging Face format "
            "(config.json, *.safetensors and the processor's files) or a hub name."
        )
    if is_adapter(folder):
        if not (folder / ADAPTER_WEIGHTS).is_file():
            raise UsageError(
                f"--model '{folder}' is an adapter without its weights: {ADAPTER_WEIGHTS} is missing."
            )
        kind = read_json(folder / ADAPTER).get("peft_type", LORA)
        if kind != LORA:
            raise UsageError(
                f"--model '{folder}' is an adapter of the type {kind}, which this program cannot train on or merge. "
                f"Valid choices: adapters of the type {LORA}, or a whole model."
            )
    elif not (folder / "config.json").is_file() or not any(folder.glob("*.safetensors")):
        raise UsageError(
            f"--model '{folder}' is no checkpoint: config.json or *.safetensors is missing. Give 'tiny' or a folder "
            "written by save_pretrained, such as runs/latest/checkpoints/latest."
        )
