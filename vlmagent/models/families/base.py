"""From a picture and a prompt to a model's inputs: what all families share, and what one family may do differently.

Knows nothing of sampling, scoring or training.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch
from PIL import Image
from torch import Tensor
from transformers import AutoModelForImageTextToText

from vlmagent.models.families.processors import load_processor
from vlmagent.models.features import PictureFeatures, to_model
from vlmagent.models.fitting import loading_fit


@dataclass(frozen=True, slots=True)
class EncodedState:
    """One (picture, prompt) as the model reads it.

    Attributes:
        input_ids: int64 (P,), image placeholders already expanded.
        picture: what the processor made of the picture, by the names of the model's arguments, batch axis first.
        image_key: digest of the picture; equal pictures are run through the vision encoder once per batch.
        token_types: int64 (P,) each: kinds of tokens that some families want to be told.
    """

    input_ids: Tensor
    picture: Mapping[str, Tensor]
    image_key: bytes
    token_types: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def key(self) -> tuple[bytes, bytes]:
        """Equal for equal pictures with equal prompts."""
        return self.image_key, self.input_ids.numpy().tobytes()

    @property
    def nbytes(self) -> int:
        """Memory that picture and prompt take."""
        prompt = (self.input_ids, *self.token_types.values())
        return sum(tensor.nbytes for tensor in (*self.picture.values(), *prompt))

    @property
    def tiles(self) -> int:
        """Tiles that the picture was cut into."""
        pixels = self.picture["pixel_values"]
        return (
            pixels.shape[1] if pixels.dim() == 5 else 1
        )  # (1, tiles, 3, H, W), or one picture without that axis


class Family:
    """One kind of architecture; this class does for most.

    Attributes:
        model_types: ``model_type`` of the configs it handles.
        output_type: token type of everything the model writes itself.
        first_position: position id of a row's first token, or None if the model counts for itself.
        finishes_embeddings: whether ``embed`` gives all that the decoder needs to know of pictures.
        unread_tensors: ends of names of tensors that checkpoints of this family hold and that nothing here reads.
    """

    model_types: ClassVar[tuple[str, ...]] = ()
    output_type: ClassVar[int] = 0
    first_position: ClassVar[int | None] = 0
    finishes_embeddings: ClassVar[bool] = False
    unread_tensors: ClassVar[tuple[str, ...]] = ()

    def model_config(self, config: Any, tiles: bool) -> Any:
        """The config to build the model with; ``tiles`` as in ``ModelConfig``."""
        return config

    def load_model(self, folder: Path, config: Any, **options: Any) -> Any:
        """The network in ``folder``; ``options`` go to ``from_pretrained``.

        Raises:
            UsageError: its files hold more, less or other tensors than the network has.
        """
        network, info = AutoModelForImageTextToText.from_pretrained(
            folder,
            config=config,
            local_files_only=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are refused below, by name; transformers' error names none
            **options,
        )
        loading_fit(info, self.unread_tensors).check(
            f"The model in {folder}",
            "Its config.json and its *.safetensors do not belong together: fetch or copy the checkpoint again, whole.",
        )
        return network

    def load_processor(self, folder: Path, config: Any, tiles: bool) -> Any:
        """The processor in ``folder``."""
        return load_processor(folder, config.model_type)

    def render(self, processor: Any, prompt: str, *, picture: bool = True) -> str:
        """The prompt with the picture's placeholder, in the processor's own chat template."""
        content = [{"type": "text", "text": prompt}]
        if picture:  # before the text, as in these families' own examples
            content.insert(0, {"type": "image"})
        conversation = [{"role": "user", "content": content}]
        text: str = processor.apply_chat_template(conversation, add_generation_prompt=True)
        return text

    def encode_text(self, processor: Any, prompt: str) -> EncodedState:
        """A prompt that comes without a picture."""
        text = self.render(processor, prompt, picture=False)
        # the template has written the start token already
        ids = processor.tokenizer(text, return_tensors="pt", add_special_tokens=False)["input_ids"]
        return EncodedState(ids[0], {}, b"")

    def encode(self, processor: Any, prompt: str, image: Image.Image, key: bytes) -> EncodedState:
        """A state as the model reads it."""
        features = processor(
            text=[self.render(processor, prompt)],
            images=[image],
            return_tensors="pt",
            add_special_tokens=False,  # the template wrote them; a second start token shifts every position
        )
        ids = features["input_ids"]
        others = {
            name: value
            for name, value in features.items()
            if isinstance(value, Tensor) and name not in ("input_ids", "attention_mask", "labels")
        }
        # by shape: what has a number for each id is a kind of token, the rest is of the picture
        token_types = {name: value[0] for name, value in others.items() if value.shape == ids.shape}
        picture = {name: value for name, value in others.items() if name not in token_types}
        return EncodedState(ids[0], picture, key, token_types)

    def inputs(
        self,
        model: Any,
        states: Sequence[EncodedState],
        outputs: Sequence[Sequence[int]],
        pad_id: int,
        features: PictureFeatures,
    ) -> dict[str, Tensor]:
        """Model inputs: prompts padded on the left, outputs on the right.

        Left padding puts every row's last prompt token into column P - 1. Explicit position ids keep a row's
        positions independent of its padding.

        Args:
            outputs: ids per state, or nothing when only the prompts are to be read.
        """
        batch = collate(states, outputs, pad_id, self.output_type)
        if self.first_position is not None:
            batch["position_ids"] = positions(batch["attention_mask"]) + self.first_position
        if not states[0].picture:
            return to_model(model, batch)
        batch |= join_pictures(states)
        # the model only has to see that there are pictures: their features come from ``serving``
        batch["pixel_values"] = states[0].picture["pixel_values"]
        return to_model(model, batch)

    def embed(
        self, model: Any, ids: Tensor, states: Sequence[EncodedState], features: PictureFeatures
    ) -> Tensor:
        """Embeddings of packed tokens with pictures among them, (N, width); where ``finishes_embeddings`` says so.

        Args:
            ids: int64 (N,), on the model's device.
            states: whose prompts are among them, in their order.
        """
        raise NotImplementedError(f"{type(self).__name__} finishes no embeddings")

    def serving(
        self, model: Any, states: Sequence[EncodedState], features: PictureFeatures
    ) -> AbstractContextManager[None]:
        """While it is open, the model takes picture features from ``features``."""
        return features.serving(model, states, join_pictures)

    def unused_modules(self, config: Any) -> str | None:
        """Regular expression over names of modules that never influence the output, or None."""
        return None

    def image_tokens(self, config: Any, pictures: Mapping[str, int], height: int, width: int) -> int:
        """Tokens that a picture becomes, to plan with: no processor is asked.

        Args:
            config: the model's.
            pictures: what else the processor's settings say about sizes, in pixels.
        """
        return patches(config.vision_config)


def patches(vision: Any) -> int:
    """Patches of a tower that reads squares of one size."""
    return int((vision.image_size // vision.patch_size) ** 2)


def collate(
    states: Sequence[EncodedState], outputs: Sequence[Sequence[int]], pad_id: int, output_type: int
) -> dict[str, Tensor]:
    """``input_ids``, ``attention_mask`` and token types, int64 (B, P + L), on the CPU."""
    longest = max(len(state.input_ids) for state in states)
    width = max((len(output) for output in outputs), default=0)
    shape = (len(states), longest + width)
    batch = {
        "input_ids": torch.full(shape, pad_id, dtype=torch.long),
        "attention_mask": torch.zeros(shape).long(),
    }
    for name in states[0].token_types:
        batch[name] = torch.zeros(shape, dtype=torch.long)
        # what is written has one type, whatever the prompt's tokens are
        batch[name][:, longest:] = output_type
    for row, state in enumerate(states):
        # the longest prompt ends in column P - 1, and all others with it
        start, end = longest - len(state.input_ids), longest
        batch["input_ids"][row, start:end] = state.input_ids
        for name, types in state.token_types.items():
            batch[name][row, start:end] = types
        if outputs:
            end += len(outputs[row])
            batch["input_ids"][row, longest:end] = torch.as_tensor(outputs[row], dtype=torch.long)
        batch["attention_mask"][row, start:end] = 1
    return batch


def positions(mask: Tensor) -> Tensor:
    """Position ids that count a row's own tokens from 0, (B, T)."""
    # cumsum counts the mask's ones; padding, which comes to -1, gets 0: it is masked anyway
    return (mask.cumsum(1) - 1).clamp(min=0)


def join_pictures(states: Sequence[EncodedState]) -> dict[str, Tensor]:
    """The pictures of several states as one batch; where one has fewer tiles than another, empty ones are added."""
    joined = {}
    for name in states[0].picture:
        tensors = [state.picture[name] for state in states]
        # the second axis may be tiles: (1, tiles, 3, H, W), or a mask (1, tiles, H, W)
        tiles = max(tensor.shape[1] for tensor in tensors) if tensors[0].dim() >= 4 else 0
        if any(tensor.dim() >= 4 and tensor.shape[1] != tiles for tensor in tensors):
            tensors = [_with_tiles(tensor, tiles) for tensor in tensors]
        joined[name] = torch.cat(tensors)
    return joined


def _with_tiles(tensor: Tensor, tiles: int) -> Tensor:
    """(1, n, ...) as (1, tiles, ...), zeros at the end: what processors pad a batch with."""
    missing = tiles - tensor.shape[1]
    return torch.cat([tensor, tensor.new_zeros((1, missing, *tensor.shape[2:]))], dim=1)
