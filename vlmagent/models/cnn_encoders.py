"""The frozen encoders under the baseline ``cnn``: whose features of a picture and of a text it chooses by.

Knows nothing of what is done with features.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from PIL import Image
from torch import Tensor
from transformers import AutoImageProcessor, AutoModel, AutoTokenizer

from vlmagent.errors import UsageError
from vlmagent.models.encoders import BUILT_IN
from vlmagent.models.fitting import Fit, fingerprint, loading_fit
from vlmagent.types import ImageArray

Pooling = Literal["pooled", "patches"]


class VisionFeatures:
    """A frozen vision encoder.

    Args:
        model: takes ``pixel_values``; gives hidden states (B, tokens, width) and perhaps a pooled vector (B, width).
        processor: prepares pictures for it.
        pooling: which of the two is read.
        source: the folder it came from; None when it is to be saved with the network.

    Attributes:
        fingerprint: of the weights in ``source`` as they were when it was opened, or None.
    """

    def __init__(self, model: Any, processor: Any, pooling: Pooling, source: Path | None = None) -> None:
        self.model = model.eval().requires_grad_(False)
        self.processor = processor
        self.pooling = pooling
        self.source = source
        self.fingerprint = _fingerprint(source)

    @classmethod
    def open(cls, folder: Path, pooling: Pooling) -> VisionFeatures:
        """The vision part of a folder in Hugging Face format: CLIP, SigLIP, ViT, DINO, or a whole LLaVA.

        Raises:
            UsageError: it holds none.
        """
        try:
            model, info = _open_encoder(folder)
            processor: Any = AutoImageProcessor.from_pretrained(folder, local_files_only=True)
        except Exception as error:  # transformers raises many kinds; each means the same to the user
            raise _unusable("cnn.vision", folder, error) from error
        part, name = _part(model, ("vision_tower", "vision_model"))
        # ViT and DINO often come without their pooler, which transformers then fills with random numbers
        spared = ("pooler.",) if pooling == "patches" else ()
        todo = "Give a complete checkpoint, or read all its patches: --set cnn.pooling=patches."
        _encoder_fit(info, name, spared).check(f"cnn.vision = '{folder}'", todo)
        # float32: features are computed once, and go into a float32 network
        return cls(part.float(), processor, pooling, folder)

    @torch.no_grad()
    def __call__(self, image: ImageArray) -> Tensor:
        """Features of one picture, float32 (F,), on the CPU."""
        pixels = self.processor(images=[Image.fromarray(image)], return_tensors="pt")["pixel_values"]
        device = next(self.model.parameters()).device
        out = self.model(pixel_values=pixels.to(device))
        features: Tensor
        # some encoders have no pooled vector, or None for one
        pooled = getattr(out, "pooler_output", None)
        if self.pooling == "patches":
            # all patches side by side: a number's place in the vector is its place in the picture
            features = out.last_hidden_state.flatten()
        else:
            features = out.last_hidden_state.mean(1)[0] if pooled is None else pooled[0]
        return features.to("cpu", torch.float32)


class TextFeatures:
    """A frozen text encoder: the mean of its last hidden states.

    Args:
        model: takes ``input_ids`` and ``attention_mask``.
        source: the folder it came from; None when it is to be saved with the network.

    Attributes:
        fingerprint: of the weights in ``source`` as they were when it was opened, or None.
    """

    def __init__(self, model: Any, tokenizer: Any, source: Path | None = None) -> None:
        self.model = model.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.source = source
        self.fingerprint = _fingerprint(source)

    @classmethod
    def open(cls, folder: Path) -> TextFeatures:
        """The text encoder in a folder in Hugging Face format.

        Raises:
            UsageError: it holds none.
        """
        try:
            model, info = _open_encoder(folder)
            tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        except Exception as error:  # transformers raises many kinds; each means the same to the user
            raise _unusable("cnn.text", folder, error) from error
        part, name = _part(model, ("language_model", "text_model"))
        # hidden states are read, never the pooler, which masked language models come without
        _encoder_fit(info, name, ("pooler.",)).check(f"cnn.text = '{folder}'", "Give a complete checkpoint.")
        return cls(part.float(), tokenizer, folder)

    @torch.no_grad()
    def __call__(self, text: str) -> Tensor:
        """Features of one text, float32 (F,), on the CPU."""
        # an empty text has no ids, and a mean over nothing is no number
        ids = self.tokenizer(text, truncation=True)["input_ids"] or [self.tokenizer.eos_token_id or 0]
        device = next(self.model.parameters()).device
        hidden = self.model(input_ids=torch.tensor([ids], device=device)).last_hidden_state
        mean: Tensor = hidden[0].mean(0).to("cpu", torch.float32)
        return mean


def _open_encoder(folder: Path) -> tuple[Any, Mapping[str, Any]]:
    """A whole model, and what transformers says about how its files fit."""
    # ignore_mismatched_sizes: refused later by name, where they are in the part that is read
    model, info = AutoModel.from_pretrained(
        folder, local_files_only=True, output_loading_info=True, ignore_mismatched_sizes=True
    )
    return model, info


def _part(model: Any, names: Sequence[str]) -> tuple[Any, str]:
    """The encoder inside a model and the beginning of its tensors' names; the model itself if it has no such part."""
    for name in names:
        if hasattr(model, name):
            return getattr(model, name), f"{name}."
    return model, ""


def _encoder_fit(info: Mapping[str, Any], prefix: str, spared: Sequence[str]) -> Fit:
    """What is amiss in the part of a model that is read; its files may well hold more (heads, another tower)."""
    fit = loading_fit(info)

    def read(name: str) -> bool:
        return name.startswith(prefix) and not name.removeprefix(prefix).startswith(tuple(spared))

    return Fit(
        untouched=tuple(name for name in fit.untouched if read(name)),
        mismatched=tuple(name for name in fit.mismatched if read(name)),
    )


def _unusable(key: str, folder: Path, error: Exception) -> UsageError:
    first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return UsageError(f"{key} = '{folder}' could not be opened: {first}")


def _fingerprint(source: Path | None) -> str | None:
    """Of an encoder that stays in a folder of the user's; None of one that is saved beside the heads."""
    return None if source is None else fingerprint(source)


def encoder_folder(folder: Path, saved: Mapping[str, Any], kind: str, wanted: str | None) -> Path:
    """Where an encoder of a saved network is: beside it, or in a folder of the user's, which may have been moved.

    Args:
        kind: ``vision`` or ``text``.
        wanted: ``cnn.vision`` or ``cnn.text`` as it is set now, or None.

    Raises:
        UsageError: it is nowhere, or other weights are there.
    """
    if saved[kind] is None:
        return folder / kind
    place = Path(saved[kind])
    # a folder said now counts for more than the one that was written down, which may have been moved
    if wanted is not None and wanted not in BUILT_IN and Path(wanted).is_dir():
        place = Path(wanted).resolve()
    if not place.is_dir():
        raise UsageError(
            f"The encoder of {folder}, '{place}', is not there. If it was moved, say where it is now: "
            f"--set cnn.{kind}=NEW."
        )
    trained_on = saved.get(f"{kind}_fingerprint")  # earlier versions wrote none
    if trained_on is not None and trained_on != fingerprint(place):
        raise UsageError(
            f"The network in {folder} was trained on other weights than those of the encoder in {place}. Give the one "
            f"that it was trained on: --set cnn.{kind}=FOLDER."
        )
    return place
