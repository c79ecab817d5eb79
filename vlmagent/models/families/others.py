"""Families that differ from the shared path by a value or two, and the fallback for unknown ones."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

from vlmagent.errors import UsageError
from vlmagent.models.families.base import EncodedState, Family, collate, join_pictures, patches, positions
from vlmagent.models.features import PictureFeatures, to_model


class Qwen(Family):
    """Positions have three axes, which the model derives from the token types: 0 for text, so for its own output."""

    model_types: ClassVar[tuple[str, ...]] = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")
    first_position: ClassVar[int | None] = None

    def image_tokens(self, config: Any, pictures: Mapping[str, int], height: int, width: int) -> int:
        """Merged patches of the picture at about its own size, and the two tokens around it."""
        vision = config.vision_config
        # a merged patch is the least unit of a side
        side = vision.patch_size * vision.spatial_merge_size
        rows, columns = smart_resize(
            height, width, side, min_pixels=pictures["min_pixels"], max_pixels=pictures["max_pixels"]
        )
        # + 2: the tokens that begin and end a picture
        return int(rows * columns // side**2) + 2


class Idefics3(Family):
    """A picture is cut into tiles beside a small version of the whole, unless told otherwise."""

    model_types: ClassVar[tuple[str, ...]] = ("idefics3", "smolvlm")

    def load_processor(self, folder: Path, config: Any, tiles: bool) -> Any:
        """The checkpoint's own, with tiles switched off if wanted."""
        processor = super().load_processor(folder, config, tiles)
        if not tiles:
            processor.image_processor.do_image_splitting = False
        return processor

    def image_tokens(self, config: Any, pictures: Mapping[str, int], height: int, width: int) -> int:
        """Every tile with the tokens that frame it, and the whole picture; ``longest_edge`` 0 means no tiles."""
        side = int(config.vision_config.image_size)
        # scale_factor^2 patches become one token; + 2: a token before each tile, and one that says which it is
        each: int = patches(config.vision_config) // int(config.scale_factor) ** 2 + 2
        if pictures.get("longest_edge", 0) <= side:
            # + 1: the token behind the picture
            return each + 1
        scale = pictures["longest_edge"] / max(height, width)
        rows, columns = (math.ceil(round(edge * scale) / side) for edge in (height, width))
        # a line feed behind each row of tiles; one before the whole picture, and the token behind it
        return (rows * columns + 1) * each + rows + 2


class PaliGemma(Family):
    """Picture and prompt see each other both ways (type 0), the output is causal (type 1); positions start at 1."""

    model_types: ClassVar[tuple[str, ...]] = ("paligemma",)
    output_type: ClassVar[int] = 1
    first_position: ClassVar[int | None] = 1

    def render(self, processor: Any, prompt: str, *, picture: bool = True) -> str:
        """It has no chat template: the processor itself puts the start token and a line break around the prompt."""
        # the processor repeats it for every token of the picture
        return f"{processor.image_token}{prompt}" if picture else f"{prompt}\n"

    def encode_text(self, processor: Any, prompt: str) -> EncodedState:
        """A prompt alone is seen both ways too."""
        state = super().encode_text(processor, prompt)
        return replace(state, token_types={"token_type_ids": torch.zeros_like(state.input_ids)})


class Gemma3(Family):
    """Picture tokens see each other both ways, which the token types tell: 0 for its own output."""

    model_types: ClassVar[tuple[str, ...]] = ("gemma3",)

    def image_tokens(self, config: Any, pictures: Mapping[str, int], height: int, width: int) -> int:
        """A fixed number, and the tokens and line breaks around it."""
        # + 4: begin, end, and a blank line on both sides
        return int(config.mm_tokens_per_image) + 4


class Generic(Family):
    """Any other architecture: everything the processor returns goes to the model as it is."""

    def render(self, processor: Any, prompt: str, *, picture: bool = True) -> str:
        """The processor's own chat template, which a checkpoint of an unknown family must have."""
        if not getattr(processor, "chat_template", None):
            raise UsageError(
                "The model has no chat template, so that its prompt format is unknown. Give a checkpoint that was "
                "trained on conversations (often named -it, -chat or -instruct)."
            )
        return super().render(processor, prompt, picture=picture)

    def inputs(
        self,
        model: Any,
        states: Sequence[EncodedState],
        outputs: Sequence[Sequence[int]],
        pad_id: int,
        features: PictureFeatures,
    ) -> dict[str, Tensor]:
        """Ids, mask, pictures and token types; positions unless the model derives ones with several axes itself."""
        batch = collate(states, outputs, pad_id, self.output_type)
        if not _several_axes(model.config.get_text_config()):
            batch["position_ids"] = positions(batch["attention_mask"])
        return to_model(model, batch | join_pictures(states))

    def serving(
        self, model: Any, states: Sequence[EncodedState], features: PictureFeatures
    ) -> AbstractContextManager[None]:
        """The model computes its features itself, every time."""
        return nullcontext()


def _several_axes(config: Any) -> bool:
    """Whether positions have several axes (M-RoPE)."""
    return "mrope_section" in (getattr(config, "rope_parameters", None) or {})
