"""Which encoders the baseline ``cnn`` is to use, checked without loading anything heavy."""

from __future__ import annotations

from pathlib import Path

from vlmagent.config import CnnConfig
from vlmagent.errors import UsageError

# made by this program: no folder to look at
BUILT_IN = ("tiny", "sft")


def check_encoders(config: CnnConfig) -> None:
    """Cheap test that the folders a config names look like checkpoints.

    Raises:
        UsageError: names the key, the folder and what is missing.
    """
    for key, value in (("cnn.vision", config.vision), ("cnn.text", config.text)):
        if value in BUILT_IN:
            continue
        folder = Path(value)
        if not (folder / "config.json").is_file():
            what = "holds no config.json" if folder.is_dir() else "does not exist"
            raise UsageError(
                f"{key} = '{value}' {what}. Valid choices: {', '.join(BUILT_IN)}, or a folder in Hugging Face format "
                "(config.json, *.safetensors and the processor's or tokenizer's files)."
            )
