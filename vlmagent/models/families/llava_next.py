"""LLaVA-1.6: tiles as its processor cuts them, or the one tile of 576 tokens that the paper's code feeds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from transformers import LlavaConfig, LlavaProcessor
from transformers.image_processing_utils import select_best_resolution
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from vlmagent.models.families.base import Family
from vlmagent.models.families.llava import unused_tower_layers


class LlavaNext(Family):
    """Without tiles it becomes a LLaVA-1.5 with the same weights (only the row separator between tiles is left out)."""

    model_types: ClassVar[tuple[str, ...]] = ("llava_next",)
    unread_tensors: ClassVar[tuple[str, ...]] = ("image_newline",)  # the separator, where there are no tiles

    def model_config(self, config: Any, tiles: bool) -> Any:
        """A LLaVA config with the same sizes when there are to be no tiles."""
        if tiles:
            return config
        return LlavaConfig(
            vision_config=config.vision_config,
            text_config=config.text_config,
            image_token_index=config.image_token_id,
            projector_hidden_act=config.projector_hidden_act,
            vision_feature_select_strategy=config.vision_feature_select_strategy,
            vision_feature_layer=config.vision_feature_layer,
            multimodal_projector_bias=config.multimodal_projector_bias,
            # 336 / 14 = 24 patches a side: 576 tokens
            image_seq_length=(config.vision_config.image_size // config.vision_config.patch_size) ** 2,
            tie_word_embeddings=config.tie_word_embeddings,
        )

    def load_processor(self, folder: Path, config: Any, tiles: bool) -> Any:
        """The checkpoint's own, or a LLaVA processor with its tokenizer, template and picture statistics."""
        own = super().load_processor(folder, config, tiles)
        if tiles:
            return own
        side = config.vision_config.image_size
        pictures = CLIPImageProcessorPil(
            # the shorter side to the tower's, then the middle square: as CLIP's own processor
            size={"shortest_edge": side},
            crop_size={"height": side, "width": side},
            image_mean=own.image_processor.image_mean,
            image_std=own.image_processor.image_std,
            do_convert_rgb=True,
        )
        return LlavaProcessor(
            image_processor=pictures,
            tokenizer=own.tokenizer,
            patch_size=config.vision_config.patch_size,
            vision_feature_select_strategy=config.vision_feature_select_strategy,
            # CLIP's class token, which "default" counts off again
            num_additional_image_tokens=1,
            chat_template=own.chat_template,
            image_token=own.image_token,
        )

    def image_tokens(self, config: Any, pictures: Mapping[str, int], height: int, width: int) -> int:
        """The whole picture once, and its tiles without the padding, with a separator behind every row."""
        side = config.vision_config.image_size // config.vision_config.patch_size
        best = select_best_resolution([height, width], config.image_grid_pinpoints)
        # patches of the best grid of tiles
        rows, columns = (side * (edge // config.vision_config.image_size) for edge in best)
        # wider than the grid: the picture is letterboxed, and rows of padding are taken off (as `unpad_image`)
        if width / height > columns / rows:
            padding = (rows - int(round(height * columns / width, 7))) // 2
            rows -= 2 * padding
        else:
            padding = (columns - int(round(width * rows / height, 7))) // 2
            columns -= 2 * padding
        # whole picture + tiles + one separator for each row of the tiles
        return int(side * side + rows * columns + rows)

    def unused_modules(self, config: Any) -> str | None:
        """Tower layers behind the last one that is read."""
        return unused_tower_layers(config)
