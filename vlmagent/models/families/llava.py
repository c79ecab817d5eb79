"""LLaVA-1.5, the built-in model, and LLaVA-1.6 with one tile: features are put among the embeddings here.

The architecture adds nothing else to its picture tokens, so that the language model takes finished embeddings.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar

import torch
from torch import Tensor

from vlmagent.models.families.base import EncodedState, Family, collate, join_pictures, positions
from vlmagent.models.features import PictureFeatures


class Llava(Family):
    """CLIP-style tower, MLP projector, any decoder."""

    model_types: ClassVar[tuple[str, ...]] = ("llava",)
    finishes_embeddings: ClassVar[bool] = True

    def inputs(
        self,
        model: Any,
        states: Sequence[EncodedState],
        outputs: Sequence[Sequence[int]],
        pad_id: int,
        features: PictureFeatures,
    ) -> dict[str, Tensor]:
        """Embeddings instead of ids; each distinct picture is encoded once."""
        batch = collate(states, outputs, pad_id, self.output_type)
        ids, mask = batch["input_ids"].to(model.device), batch["attention_mask"].to(model.device)
        embeds = self.embed(model, ids.flatten(), states, features).view(*ids.shape, -1)
        return {"inputs_embeds": embeds, "attention_mask": mask, "position_ids": positions(mask)}

    def embed(
        self, model: Any, ids: Tensor, states: Sequence[EncodedState], features: PictureFeatures
    ) -> Tensor:
        """See ``Family.embed``."""
        embeds: Tensor = model.get_input_embeddings()(ids)
        if not states[0].picture:
            return embeds
        # frozen features are kept between batches; others need their gradients anew
        pictures = _kept_features(model, states, features) if features.frozen else _features(model, states)
        places = (ids == model.config.image_token_id).nonzero()[:, 0]
        # in the order of the states, whose placeholders come one after the other
        return embeds.index_copy(0, places, pictures.to(embeds.dtype))

    def serving(
        self, model: Any, states: Sequence[EncodedState], features: PictureFeatures
    ) -> AbstractContextManager[None]:
        """Nothing to serve: the inputs hold the features."""
        return nullcontext()

    def unused_modules(self, config: Any) -> str | None:
        """Tower layers behind the last one that is read."""
        return unused_tower_layers(config)


def _features(model: Any, states: Sequence[EncodedState]) -> Tensor:
    """Projected picture tokens of all rows in row order, (sum of image tokens, width)."""
    first: dict[bytes, int] = {}
    unique: list[Tensor] = []
    # equal pictures once: environments often show the same
    for state in states:
        if state.image_key not in first:
            first[state.image_key] = len(unique)
            unique.append(state.picture["pixel_values"])
    pixels = torch.cat(unique).to(model.device, model.dtype)
    features = model.get_image_features(pixel_values=pixels).pooler_output
    index = torch.tensor([first[state.image_key] for state in states], device=model.device)
    # (rows, tokens, width) to (rows * tokens, width)
    return torch.stack(list(features))[index].flatten(0, 1)


def _kept_features(model: Any, states: Sequence[EncodedState], features: PictureFeatures) -> Tensor:
    pieces = features.pieces(model.model, model.model.get_image_features, states, join_pictures)
    return torch.cat([piece.tokens.flatten(0, -2) for piece in pieces])


def unused_tower_layers(config: Any) -> str | None:
    """Names of the tower's layers behind those in ``vision_feature_layer``: they never get a gradient."""
    layers = config.vision_config.num_hidden_layers
    chosen = config.vision_feature_layer
    # negative layers count from the end of depth + 1 hidden states, the first of which is the embedding
    read = [layer % (layers + 1) for layer in ([chosen] if isinstance(chosen, int) else chosen)]
    unused = range(max(read), layers)  # hidden state n is what layer n - 1 wrote
    return rf".*vision_tower\.(.*\.)?layers\.({'|'.join(map(str, unused))})\..*" if unused else None
