"""Opening a checkpoint's processor, also where the library that its video part needs is not installed.

Agents look at single pictures; a processor that insists on torchvision for films is built without that part.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from transformers import AutoProcessor
from transformers.models.auto.processing_auto import PROCESSOR_MAPPING_NAMES
from transformers.processing_utils import ProcessorMixin
from transformers.utils import is_torchvision_available


def load_processor(folder: Path, model_type: str) -> Any:
    """The processor in ``folder``; without its video part if torchvision is missing."""
    name = PROCESSOR_MAPPING_NAMES.get(model_type)
    if name is None or is_torchvision_available():
        return AutoProcessor.from_pretrained(folder, local_files_only=True)
    module = importlib.import_module(f"transformers.models.{model_type}")
    kind = getattr(module, name, None)
    if kind is None or "video_processor" not in kind.get_attributes():
        return AutoProcessor.from_pretrained(folder, local_files_only=True)
    return pictures_only(kind).from_pretrained(folder, local_files_only=True)


def pictures_only(kind: Any) -> Any:
    """A processor class without its ``video_processor``; its files still name ``kind``, so that they open anywhere."""
    module = importlib.import_module(kind.__module__)
    # SmolVLM's refuses to be made without the package
    if getattr(module, "num2words", ...) is None:
        module.num2words = str  # type: ignore[attr-defined]  # spells out a film's number of frames; never reached

    # transformers reads the names of these arguments to learn what a processor consists of
    def build(
        self: Any,
        image_processor: Any = None,
        tokenizer: Any = None,
        image_seq_len: int | None = None,
        chat_template: Any = None,
    ) -> None:
        more: dict[str, int] = {}
        if image_seq_len is not None:  # Idefics3 and SmolVLM have it, Qwen's refuses it
            more["image_seq_len"] = image_seq_len
        kind.__init__(
            self, image_processor, tokenizer, video_processor=None, chat_template=chat_template, **more
        )

    members = {"__init__": build, "__module__": kind.__module__}
    members["apply_chat_template"] = (
        ProcessorMixin.apply_chat_template
    )  # SmolVLM's asks for the film's frame rate
    # under the same name: saved files name it, and open wherever torchvision is installed
    return type(kind.__name__, (kind,), members)
