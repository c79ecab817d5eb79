"""Recognising a checkpoint folder without loading anything heavy, so that a wrong path is told at once."""

from __future__ import annotations

from pathlib import Path

from vlmagent.errors import UsageError


def check_checkpoint(folder: Path) -> None:
    """Cheap test, without loading anything heavy, that a folder looks like a checkpoint.

    Raises:
        UsageError: names what is missing.
    """
    if not folder.exists():
        raise UsageError(
            f"--model '{folder}' does not exist. Give 'tiny' or a folder in Hugging Face format "
            "(config.json, *.safetensors and the processor's files)."
        )
    if not (folder / "config.json").is_file() or not any(folder.glob("*.safetensors")):
        raise UsageError(
            f"--model '{folder}' is no checkpoint: config.json or *.safetensors is missing. Give 'tiny' or a folder "
            "written by save_pretrained, such as runs/latest/checkpoints/latest."
        )
